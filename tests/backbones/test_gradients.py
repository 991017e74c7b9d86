"""The gradients that CPUs are quick at are the standard ones, and are used where they are quicker."""

import contextlib
import subprocess
import sys
from collections.abc import Callable
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
    kernels = [block.kernel for block in TINY.blocks]
    assert (kernels.count(3), kernels.count(5)) == (4, 3)
    with tf.Graph().as_default() as graph:
        net, _ = backbones.efficientnet(tf.zeros([1, 32, 32, 3]), TINY, is_training=True)
        assert tf.gradients(net, tf.trainable_variables())
        assert pieces(graph) == [(3, 3)] * 4 + [(5, 2)] * 3 + [(5, 3)] * 3
        full = [op for op in graph.get_operations() if op.type == "Conv2DBackpropFilter"]
        assert [op.outputs[0].shape.as_list()[:2] for op in full] == [[3, 3]]  # the stem's


def test_a_graph_for_inference_is_left_plain() -> None:
    with tf.Graph().as_default() as graph:
        backbones.efficientnet(tf.zeros([1, 32, 32, 3]), TINY, is_training=False)
        assert not [op for op in graph.get_operations() if op._gradient_function]


IMPORTED = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf

for folder in sys.argv[1:]:
    with tf.Graph().as_default() as graph:
        saver = tf.train.import_meta_graph(folder + "/model.ckpt-1.meta")
        trained = tf.trainable_variables()
        gradients = tf.gradients(graph.get_tensor_by_name("loss:0"), trained)
        with tf.Session() as session:
            saver.restore(session, folder + "/model.ckpt-1")
            np.savez(folder + "/found.npz", **{v.op.name: g for v, g in zip(trained, session.run(gradients))})
assert not [name for name in sys.modules if name.startswith("efficientnet_east")]
"""
SAVED = {
    "plain": (backbones.efficientnet, {"network": TINY}),
    "recomputed": (backbones.efficientnet, {"network": TINY, "recompute": True}),
    "resnet": (backbones.build, {"name": "resnet50", "recompute": True}),
}


def save_graph(folder: Path, build: Callable[..., Any], options: dict[str, Any]) -> dict[str, np.ndarray]:
    """Save a network with its weights, and give the gradients of a loss by the names of the variables."""
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        net, _ = build(tf.constant(images), drop_connect=0.0, **options)
        loss = tf.reduce_mean(tf.square(net), name="loss")
        saver = tf.train.Saver()
        saver.export_meta_graph(str(folder / "model.ckpt-1.meta"))
        assert not [node for node in graph.as_graph_def().node if "_gradient_op_type" in node.attr]
        trained = tf.trainable_variables()
        gradients = dict(zip([v.op.name for v in trained], tf.gradients(loss, trained), strict=True))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            saver.save(session, str(folder / "model.ckpt"), 1, write_meta_graph=False)
            return session.run(gradients)


def test_another_program_can_differentiate_a_saved_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fine-tuning from a `.meta` file, with a loss of one's own and without this package."""
    monkeypatch.setattr(resnet50, "ROWS", SMALL_RESNET)
    expected = {}
    for name, (build, options) in SAVED.items():
        (tmp_path / name).mkdir()
        expected[name] = save_graph(tmp_path / name, build, options)
    command = [sys.executable, "-c", IMPORTED, *SAVED]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, gradients in expected.items():
        found = np.load(tmp_path / name / "found.npz")
        assert set(found) == gradients.keys()
        largest = max(np.abs(value).max() for value in gradients.values())  # some are 0 but for rounding
        for variable, value in gradients.items():
            np.testing.assert_allclose(
                found[variable], value, rtol=1e-3, atol=1e-5 * largest, err_msg=f"{name} {variable}"
            )


def test_a_function_has_the_standard_gradient() -> None:
    """It may be compiled, or exported to a device of another kind."""
    images = tf.TensorSpec([2, 8, 8, 16], tf.float32)
    with tf.Graph().as_default():
        function = tf.wrap_function(lambda images: gradients(images, 5, 1, True), [images])
    assert pieces(function.graph) == [(5, 5)]
