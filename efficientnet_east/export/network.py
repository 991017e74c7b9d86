"""What is exported: the folded graph of a checkpoint's averaged weights, and the metadata of the file."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import efficientnet_east
from efficientnet_east.backbones import catalog
from efficientnet_east.checkpoints import model_file, tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.config import Config, folded
from efficientnet_east.export import folding
from efficientnet_east.geometry.label_maps import CHANNELS
from efficientnet_east.inference.graph import INPUT_NAME, freeze, load_session
from efficientnet_east.inference.runtimes import metadata
from efficientnet_east.inference.runtimes.metadata import Calibration, Input, Metadata

ATTRIBUTE = "_metadata"  # TensorFlow leaves attributes with an underscore alone
_TOOLS = ("tensorflow", "onnx", "onnxruntime", "ai-edge-litert", "opencv-python-headless")


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that is ready to be written.

    Attributes:
      graph: a GraphDef of constants, batch norms folded; it normalizes its pixels itself.
      inputs: name of the placeholder, float32 (batch, height, width, 3).
      outputs: names of score and geometry.
      config: of the run.
      prefix: of the checkpoint.
      mean: what is taken off the pixels before they come in, RGB.
    """

    graph: Any
    inputs: str
    outputs: tuple[str, str]
    config: Config
    prefix: str
    mean: tuple[float, float, float]

    @property
    def channels(self) -> tuple[int, int]:
        """The numbers of channels of score and geometry."""
        return 1, CHANNELS[self.config.model.geometry]


def load(prefix: str, config: Config, mean: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Network:
    """Build, freeze and fold a checkpoint's network.

    Args:
      prefix: of the checkpoint.
      config: its configuration.
      mean: what users take off the pixels before they feed them, which the graph then does not take off.

    Returns:
      The network.

    Raises:
      UserError: the checkpoint is damaged or of another architecture.
    """
    session, _, outputs = load_session(prefix, config)
    with session:
        names = (outputs.score.op.name, outputs.geometry.op.name)
        graph = folding.fold(freeze(session, names), list(names))
    if any(mean):
        _take_off_less(graph, mean)
    return Network(graph, INPUT_NAME, names, config, prefix, mean)


def _take_off_less(graph: Any, mean: tuple[float, float, float]) -> None:
    """Reduce the mean color that the first operation subtracts by what users subtract already."""
    nodes = {node.name: node for node in graph.node}
    first = next(node for node in graph.node if INPUT_NAME in node.input)
    color = nodes[first.input[1]]
    if first.op != "Sub" or color.op != "Const":
        raise ValueError(f"the graph begins with {first.op}, not by subtracting a mean color")
    folding.set_constant(color, (folding.constant(color) - np.array(mean)).astype(np.float32))


def describe(
    network: Network,
    kind: str,
    layout: str,
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    calibration: Calibration | None = None,
) -> Metadata:
    """Describe a file, for its metadata.

    Args:
      network: that it holds.
      kind: the format.
      layout: `NHWC` or `NCHW`.
      precision: `float32`, `float16` or `int8`.
      size: height and width, if it takes no others.
      batch: images at a time, if it takes no other number.
      calibration: of int8.

    Returns:
      The metadata, without a digest.
    """
    section = network.config.model
    backbone = catalog.get_backbone(section.backbone, pre_stride=section.pre_stride)
    known = section.normalization
    spec = Input.model_validate(
        {"name": network.inputs, "layout": layout, "mean": network.mean, "size": size, "batch": batch}
    )
    return Metadata.model_validate({
        "efficientnet_east": efficientnet_east.__version__, "format": kind, "precision": precision,
        "input": spec, "score": network.outputs[0], "geometry": network.outputs[1],
        "boxes": section.geometry, "stride": section.output_stride, "divisor": section.size_divisor,
        "normalization": backbone.normalization if known == "auto" else known,
        "detect": folded(network.config.detect).model_dump(mode="json"),
        "source": {"checkpoint": Path(network.prefix).name, "sha256": checkpoint_digest(network.prefix)},
        "versions": _versions(), "calibration": calibration,
    })  # fmt: skip


def described_graph(network: Network, described: Metadata) -> Any:
    """The graph with its metadata, an attribute of its placeholder."""
    graph = tf.GraphDef()
    graph.CopyFrom(network.graph)
    placeholder = next(node for node in graph.node if node.name == network.inputs)
    placeholder.attr[ATTRIBUTE].s = metadata.dump(described)
    return graph


def checkpoint_digest(prefix: str) -> str:
    """The SHA-256 of a checkpoint's files, one after the other."""
    state = hashlib.sha256()
    for part in [""] if model_file.is_model_file(prefix) else tf_checkpoints.PARTS:
        state.update(Path(prefix + part).read_bytes())
    return state.hexdigest()


def _versions() -> Mapping[str, str]:
    """Of what may have had a part in writing or checking the file."""
    found = {}
    for name in _TOOLS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
