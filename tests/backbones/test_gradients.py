"""The gradients that CPUs are quick at are the standard ones, and are used where they are quicker."""

import contextlib
import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.graphs import TINY
from helpers.layers import SMALL_RESNET

from efficientnet_east import backbones
from efficientnet_east.backbones.families import resnet50
from efficientnet_east.backbones.gradients import quick_gradients
from efficientnet_east.compat import tf


def gradients(images: Any, size: int, stride: int, quick: bool) -> list[Any]:
    """With respect to images and kernel, of a sum of squares, so that every cell of the result counts."""
    kernel = tf.constant(np.random.default_rng(1).normal(size=(size, size, 16, 1)), tf.float32)
    with quick_gradients() if quick else contextlib.nullcontext():
        net = tf.nn.depthwise_conv2d_native(images, kernel, [1, stride, stride, 1], "SAME")
    return tf.gradients(tf.reduce_sum(tf.square(net)), [images, kernel])


def pieces(graph: Any) -> list[tuple[int, int]]:
    """Rows and columns of the filters whose gradients a graph computes."""
    found = [op for op in graph.get_operations() if op.type == "DepthwiseConv2dNativeBackpropFilter"]
    return sorted(tuple(op.outputs[0].shape.as_list()[:2]) for op in found)


@pytest.mark.parametrize(
    ("height", "width", "size", "stride"),
    [(12, 9, 5, 1), (8, 12, 5, 2), (9, 7, 5, 2), (7, 8, 3, 2), (3, 2, 7, 1)],
)
@pytest.mark.parametrize("known", [True, False])
def test_the_gradients_are_the_standard_ones(
    height: int, width: int, size: int, stride: int, known: bool
) -> None:
    values = np.random.default_rng(0).normal(size=(2, height, width, 16)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, values.shape if known else [None, None, None, 16])
        both = [gradients(images, size, stride, quick) for quick in (False, True)]
        standard, quick = session.run(both, {images: values})
    for one, other in zip(standard, quick, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(("size", "stride", "products"), [(1, 1, True), (1, 2, False), (3, 1, False)])
@pytest.mark.parametrize("known", [True, False])
def test_pointwise_gradients_are_the_standard_ones(
    size: int, stride: int, products: bool, known: bool
) -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(2, 7, 6, 8)), rng.normal(size=(size, size, 8, 5))
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.float32, values.shape if known else [None, None, None, 8])
        kernel, both = tf.constant(weights, tf.float32), []
        for quick in (True, False):
            with quick_gradients() if quick else contextlib.nullcontext():
                net = tf.nn.conv2d(images, kernel, stride, "SAME")
            both.append(tf.gradients(tf.reduce_sum(tf.square(net)), [images, kernel]))
            if quick:
                assert products == ("MatMul" in {op.type for op in graph.get_operations()})
        quickly, standard = session.run(both, {images: values})
    for one, other in zip(standard, quickly, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-4)


def test_gradients_of_means_over_maps_are_the_standard_ones() -> None:
    values = np.random.default_rng(0).normal(size=(2, 7, 6, 8)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, None, None, 8])
        with quick_gradients():
            mean = tf.reduce_mean(images, [1, 2], keepdims=True)
        quickly = session.run(tf.gradients(tf.reduce_sum(mean**3), images)[0], {images: values})
    expected = 3 * values.mean((1, 2), keepdims=True) ** 2 / (7 * 6)  # by hand
    np.testing.assert_allclose(quickly, np.broadcast_to(expected, values.shape), rtol=1e-4)


def test_a_training_graph_has_the_pieces() -> None:
    with tf.Graph().as_default() as graph:
        net, _ = backbones.build(tf.zeros([1, 32, 32, 3]), "b0", is_training=True)
        assert tf.gradients(net, tf.trainable_variables())
        assert pieces(graph) == [(3, 3)] * 7 + [(5, 2)] * 9 + [(5, 3)] * 9
        full = [op for op in graph.get_operations() if op.type == "Conv2DBackpropFilter"]
        assert [op.outputs[0].shape.as_list()[:2] for op in full] == [[3, 3]]  # the stem's


def test_a_graph_for_inference_is_left_plain() -> None:
    with tf.Graph().as_default() as graph:
        backbones.build(tf.zeros([1, 32, 32, 3]), "b0", is_training=False)
        assert not [op for op in graph.get_operations() if op._gradient_function]


IMPORTED = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_eager_execution()
saver = tf.train.import_meta_graph("model.ckpt-1.meta")
trained = tf.trainable_variables()
gradients = tf.gradients(tf.get_default_graph().get_tensor_by_name("loss:0"), trained)
with tf.Session() as session:
    saver.restore(session, "model.ckpt-1")
    np.savez("found.npz", **{v.op.name: g for v, g in zip(trained, session.run(gradients))})
assert not [name for name in sys.modules if name.startswith("efficientnet_east")]
"""


@pytest.mark.parametrize("options", [{}, {"recompute": True}, {"name": "resnet50", "recompute": True}])
def test_another_program_can_differentiate_a_saved_graph(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fine-tuning from a `.meta` file, with a loss of one's own and without this package."""
    monkeypatch.setattr(resnet50, "ROWS", SMALL_RESNET)
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    build = backbones.build if "name" in options else functools.partial(backbones.efficientnet, network=TINY)
    with tf.Graph().as_default() as graph:
        net, _ = build(tf.constant(images), drop_connect=0.0, **options)
        loss = tf.reduce_mean(tf.square(net), name="loss")
        saver = tf.train.Saver()
        saver.export_meta_graph(str(tmp_path / "model.ckpt-1.meta"))
        assert not [node for node in graph.as_graph_def().node if "_gradient_op_type" in node.attr]
        trained = tf.trainable_variables()
        wanted = dict(zip([v.op.name for v in trained], tf.gradients(loss, trained), strict=True))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            saver.save(session, str(tmp_path / "model.ckpt"), 1, write_meta_graph=False)
            expected = session.run(wanted)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=tmp_path, text=True, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(tmp_path / "found.npz")
    assert set(found) == expected.keys()
    largest = max(np.abs(value).max() for value in expected.values())  # some are 0 but for rounding
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5 * largest, err_msg=name)


def test_a_function_has_the_standard_gradient() -> None:
    """It may be compiled, or exported to a device of another kind."""
    images = tf.TensorSpec([2, 8, 8, 16], tf.float32)
    with tf.Graph().as_default():
        function = tf.wrap_function(lambda images: gradients(images, 5, 1, True), [images])
    assert pieces(function.graph) == [(5, 5)]
