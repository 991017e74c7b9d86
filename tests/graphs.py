"""Graphs that several test files read, each built once, and where the reference data lies."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest

from efficientnet_east import backbones
from efficientnet_east.compat import tf

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(name: str) -> Path:
    """A file of weights, data or reference results; no part of the repository."""
    if not (SHARED / name).exists():
        pytest.skip(f"needs {name} in {SHARED}")
    return SHARED / name


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
