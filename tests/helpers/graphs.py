"""Graphs that several test files read, each built once, and where the reference data lies."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientnet_east import backbones, model, scaling
from efficientnet_east.backbones.efficientnets import drop_factors
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import slim, tf

SHARED = Path(__file__).resolve().parents[3] / "shared"


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

# With and without expansion and residual.
SHORT = narrow_network((1, 3, 1, 8), (6, 5, 2, 16), (6, 3, 1, 16))


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


@contextlib.contextmanager
def quick_hashes() -> Iterator[None]:
    """TensorFlow hashes all variables at each new one, which is cheaper without tensor equality."""
    tf.disable_tensor_equality()
    try:
        yield
    finally:
        tf.enable_tensor_equality()


@functools.cache
def classifier(name: str) -> Classifier:
    """Build a variant with swish at 224 x 224 pixels and with 1000 classes."""
    with quick_hashes(), tf.Graph().as_default() as graph:
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


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A backbone up to its head convolution, for images of any size."""

    graph: Any
    images: Any
    end_points: dict[str, Any]
    variables: list[Any]

    def run(self, values: dict[str, np.ndarray], images: list[np.ndarray], names: list[str]) -> list[Any]:
        """End points for each image, (1, height, width, 3), with weights that must be all there are."""
        assert values.keys() == {variable.op.name for variable in self.variables}
        with self.graph.as_default(), tf.Session() as session:
            tf_checkpoints.assign(session, values, self.variables)
            fetches = [self.end_points[name] for name in names]
            return [session.run(fetches, {self.images: image}) for image in images]


@functools.cache
def trunk(name: str, activation: str) -> Trunk:
    """Build a variant for inference."""
    with quick_hashes(), tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [1, None, None, 3])
        _, end_points = backbones.build(
            images, name, is_training=False, activation=activation, pre_stride="expand"
        )
        return Trunk(graph, images, end_points, tf.global_variables())


def random_weight(rng: np.random.Generator, leaf: str, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """A weight or statistic for which maps neither die away nor grow until they magnify every rounding.

    `leaf` is the variable's name in this project.
    """
    if leaf in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    deviation = 1.2 * fan_in**-0.5 if leaf.endswith("weights") else 0.2
    return rng.normal(0, deviation, shape).astype(np.float32)


def assert_same_maps(mine: list[np.ndarray], theirs: list[np.ndarray], names: list[str]) -> None:
    """Within 1e-4 of the largest value; and what is compared varies from cell to cell."""
    for a, b, name in zip(mine, theirs, names, strict=True):
        assert a.shape == b.shape, name
        largest = np.abs(b).max()
        assert b.std(axis=(1, 2)).mean() > 0.01 * largest > 0, f"{name} hardly varies"
        assert np.abs(a - b).max() < 1e-4 * largest, name


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


def toy(
    images: Any, *, is_training: bool = False, batch_norm: str = "train", **options: Any
) -> model.Outputs:
    """A small stand-in for `model.build` with every kind of variable; what else that takes is ignored."""
    del options
    net = tf.cast(images, tf.float32) * (1 / 255)
    norm = {"scale": True, "is_training": is_training and batch_norm != "frozen", "decay": 0.5}
    net = slim.conv2d(
        net, 4, 3, stride=4, normalizer_fn=slim.batch_norm, normalizer_params=norm, scope="stem"
    )
    net = slim.separable_conv2d(net, None, 3, 1, scope="depthwise")
    score = slim.conv2d(net, 1, 1, activation_fn=tf.sigmoid, scope="score")
    geometry = slim.conv2d(net, 5, 1, activation_fn=tf.sigmoid, scope="geometry")
    return model.Outputs(score, geometry * [100.0, 100.0, 100.0, 100.0, 0.7])


def toy_with_draws(images: Any, *, seed: Any = None, **options: Any) -> model.Outputs:
    """The toy, with draws that hang on the step, as stochastic depth has them."""
    net = tf.cast(images, tf.float32)
    if seed is not None:
        net *= drop_factors(tf.shape(net)[0], 0.5, tf.random.experimental.stateless_fold_in(seed, 0))
    return toy(net, **options)
