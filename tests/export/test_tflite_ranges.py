"""The ranges that TensorFlow Lite's eight bits are spread over."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from efficientnet_east.compat import lite_files, tf
from efficientnet_east.export import tflite_ranges

Ranges = dict[str, tuple[float, float]]


def ranges(network: bytes) -> Ranges:
    """The range of each map by its name."""
    tensors = lite_files()[0].read_model_from_bytearray(bytearray(network)).subgraphs[0].tensors
    kept = {t.name.decode(): t.quantization for t in tensors if t.quantization is not None}
    return {name: (float(q.min[0]), float(q.max[0])) for name, q in kept.items() if q.min is not None}


def measured(build: Callable[[Any], Any], images: list[np.ndarray]) -> tuple[Ranges, Ranges]:
    """The converter's ranges, and this project's."""

    def examples() -> Iterator[list[np.ndarray]]:
        return ([image] for image in images)

    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        fed = tf.placeholder(tf.float32, [1, None, None, 3], name="fed")
        converter = tf.lite.TFLiteConverter.from_session(session, [fed], [build(fed)])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = examples
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=examples)
    network = debugger.calibrated_model
    return ranges(network), ranges(tflite_ranges.mean_of_images(network, examples()))


def scaled(x: Any, factor: float, name: str) -> Any:
    """A convolution that multiplies by a factor."""
    kernel = np.eye(3, dtype=np.float32)[None, None] * np.float32(factor)
    return tf.nn.conv2d(x, kernel, strides=1, padding="SAME", name=name)


def ramp(least: float, most: float, height: int = 8) -> np.ndarray:
    """An image from one value to another, (1, height, 4, 3)."""
    return np.linspace(least, most, height * 12, dtype=np.float32).reshape(1, height, 4, 3)


def test_the_mean_of_images_of_any_size() -> None:
    images = [ramp(-1, 1), ramp(-2, 5, height=16), ramp(-3, 9)]
    theirs, ours = measured(lambda x: scaled(tf.nn.relu(scaled(x, 2, "first")), 3, "second"), images)
    assert theirs["second"] == pytest.approx((0, 54))
    assert ours["second"] == pytest.approx((0, 30))
    assert ours["fed"] == pytest.approx((-2, 5))


def test_a_sum_is_not_its_first_part() -> None:
    """The converter takes a sum for its part, in whose memory it was written."""
    theirs, ours = measured(
        lambda x: scaled(scaled(scaled(x, 3, "first"), 2, "part") + x, 1, "last"), [ramp(-1, 1)]
    )
    assert theirs["part1"] == pytest.approx((-7, 7))
    assert ours["part1"] == pytest.approx((-6, 6))
    assert ours["add"] == ours["last"] == pytest.approx((-7, 7))


def test_zero_is_inside() -> None:
    _, ours = measured(lambda x: scaled(x, 1, "only"), [ramp(3, 5)])
    assert ours["only"] == pytest.approx((0, 5))


@pytest.mark.parametrize("swish", [True, False])
def test_swish_reads_from_minus_eight_on(swish: bool) -> None:
    def build(x: Any) -> Any:
        read = scaled(x, 1, "read")
        return scaled(tf.sigmoid(read) * (read if swish else x), 1, "last")

    _, ours = measured(build, [ramp(-50, 5)])
    assert ours["read"] == pytest.approx((-8 if swish else -50, 5))
