"""Graphs that several test files read, each built once, and where the reference data lies."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientnet_east import backbones, scaling
from efficientnet_east.compat import tf

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(name: str) -> Path:
    """A file of weights, data or reference results; no part of the repository."""
    if not (SHARED / name).exists():
        pytest.skip(f"needs {name} in {SHARED}")
    return SHARED / name


def narrow_network(*rows: tuple[int, int, int, int]) -> scaling.Network:
    """Blocks of (expand, kernel, stride, outputs) behind a stem of 8 channels."""
    blocks: list[scaling.Block] = []
    inputs = 8
    for index, (expand, kernel, stride, outputs) in enumerate(rows):
        name = f"blocks_{index}"
        blocks.append(scaling.Block(name, 1, index, expand, kernel, stride, inputs, outputs, inputs // 4))
        inputs = outputs
    return scaling.Network(8, tuple(blocks), 32, scaling.VARIANTS["b0"])


# Every kind of block: with and without expansion, both kernels, both strides, with and without residual.
TINY = narrow_network(
    (1, 3, 1, 8), (1, 3, 1, 8), (6, 3, 2, 16), (6, 5, 2, 16), (6, 3, 2, 16), (6, 5, 2, 24), (6, 5, 1, 24)
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A backbone with head and classifier, as it is for inference."""

    graph: Any
    images: Any
    net: Any
    end_points: dict[str, Any]

    def shapes(self, collection: str, *, trunk: bool = False) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the variables; `trunk` leaves out the head and the classifier."""
        apart = ("/head/", "/logits/") if trunk else ()
        shapes = {v.op.name: tuple(v.shape.as_list()) for v in self.graph.get_collection(collection)}
        return {name: shape for name, shape in shapes.items() if not any(part in name for part in apart)}


@functools.cache
def classifier(name: str) -> Classifier:
    """Build a variant with swish at 224 x 224 pixels and with 1000 classes."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, 224, 224, 3])
        net, end_points = backbones.build(
            images, name, is_training=False, activation="swish", num_classes=1000
        )
    return Classifier(graph, images, net, end_points)


def gated_block(floor: Any) -> str:
    """The block whose branch a drawn factor multiplies."""
    (factor,) = floor.outputs[0].consumers()
    (product,) = factor.outputs[0].consumers()
    return product.name.split("/")[1]


def as_if_trained(variables: list[Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Batch norms that do something and let most values pass, and outputs far from their priors."""
    values = {}
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        leaf = name.rsplit("/", 1)[1]
        if "/BatchNorm/" in name:
            centre = {"gamma": 1.0, "moving_variance": 1.0, "beta": 0.3}.get(leaf, 0.0)
            values[name] = centre + rng.uniform(-0.2, 0.2, shape)
        elif leaf == "fusion":
            values[name] = rng.uniform(-0.5, 2, shape)
        elif name.startswith("feature_fusion/Conv_") and leaf == "weights":
            values[name] = rng.normal(0, 0.3, shape)
    return values
