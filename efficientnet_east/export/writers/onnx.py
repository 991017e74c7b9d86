"""ONNX, in float32, with half-precision weights, or in int8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from efficientnet_east.export import folding, int8, onnx_graph
from efficientnet_east.export.network import Network
from efficientnet_east.inference.runtimes import feed, metadata
from efficientnet_east.inference.runtimes.metadata import Metadata


def write(network: Network, described: Metadata, images: Sequence[np.ndarray]) -> bytes:
    """Write ONNX, see `onnx_graph`; int8 as `int8.quantize` does, half precision for the weights only.

    Args:
      network: to be written.
      described: its metadata: precision and size are read.
      images: to calibrate int8 on, uint8 (height, width, 3), RGB, of sides that the network takes.

    Returns:
      The file.
    """
    model = onnx_graph.write(
        folding.accurate(network.graph, described.precision), network.inputs, network.outputs,
        network.channels, described.stride, described.input.size,
    )  # fmt: skip
    if described.precision == "float16":
        onnx_graph.halve_weights(model)
    if described.precision == "int8":
        shown = [feed.to_input(image[None], described.input) for image in images]
        model = int8.quantize(model, shown, described.float_below)
    entry = model.metadata_props.add()
    entry.key, entry.value = "efficientnet_east", metadata.dump(described).decode()
    return metadata.seal(model.SerializeToString(deterministic=True))


def share_of_int8(path: Path) -> float:
    """Measure the share of the weights that has eight bits."""
    import onnx as library

    return int8.share_of_int8(library.load(path))
