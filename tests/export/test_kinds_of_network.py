"""Folding, and writing ONNX, for every kind of network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.programs import make_workdir
from helpers.project import TINY

from efficientnet_east import scaling
from efficientnet_east.checkpoints import float16
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError
from efficientnet_east.export import folding, formats, int8, network, onnx_graph
from efficientnet_east.inference import runtimes


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_what_is_written_for_older_readers_computes_the_same() -> None:
    """Attributes that say something stay, those of this project's own, too."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, None, None, 3], "images")
        net = tf.nn.conv2d(images - [1.5, 2.25, 3.0], tf.ones([3, 3, 3, 4]), 1, "SAME", dilations=2)
        tf.add(net, tf.reduce_mean(net, [1, 2], keepdims=True), name="out")
        written = graph.as_graph_def()
        written.node[0].attr["_mine"].s = b"kept"
        pixels = np.random.default_rng(0).uniform(0, 255, (2, 7, 9, 3))
        expected = session.run("out:0", {images: pixels})
    found = folding.for_older_readers(folding.with_mean_as_bias(written, "images"))
    kinds = {node.op: node for node in found.node}
    assert kinds["Placeholder"].attr["_mine"].s == b"kept"
    assert list(kinds["Conv2D"].attr["dilations"].list.i) == [1, 2, 2, 1]
    assert "data_format" not in kinds["Conv2D"].attr and kinds["Mean"].attr["keep_dims"].b
    assert {"AddV2", "Sub"}.isdisjoint(kinds)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(found, name="")
        np.testing.assert_array_equal(session.run("out:0", {"images:0": pixels}), expected)


def test_half_precision_keeps_what_a_kernel_sums_up_to() -> None:
    """Values are exact in half precision, near what they were, and their sums are much nearer."""
    values = np.random.default_rng(0).normal(size=(25, 40)).astype(np.float32)
    values -= values.mean(axis=0)
    values[:, 0] = 0
    rounded = float16.round_columns(values)
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
    np.testing.assert_allclose(rounded, values, rtol=2**-9, atol=2**-9)
    plain = values.astype(np.float16).astype(np.float64)
    sums, others = (np.abs(part.astype(np.float64).sum(axis=0)) for part in (rounded, plain))
    assert sums.max() < others.max() / 10


def test_what_int8_leaves_in_float32() -> None:
    """The first layers and the outputs; on demand the backbone's maps up to a stride, never the head's."""
    layers = [
        ("sub", 1), ("net/stem/conv", 2), ("net/blocks_0/depthwise/conv", 1), ("net/blocks_1/expand/conv", 1),
        ("net/blocks_1/depthwise/conv", 2), ("net/blocks_2/depthwise/conv", 2),
        ("feature_fusion/merge_f2_3x3/conv", 1), ("feature_fusion/Conv_7/conv", 1),
        ("feature_fusion/mul_6", 1),
    ]  # fmt: skip
    names = [name for name, _ in layers]
    assert int8.kept(layers, 0) == [*names[:3], *names[-2:]]
    assert int8.kept(layers, 8) == [*names[:5], *names[-2:]]


def test_swish_is_found() -> None:
    """x sigmoid(x), but no other product with a sigmoid."""
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["i", "w"], ["x"], name="conv"),
        helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"]),
        helper.make_node("Conv", ["y", "w"], ["e"], name="excite"),
        helper.make_node("Sigmoid", ["e"], ["g"]), helper.make_node("Mul", ["y", "g"], ["z"]),
    ]  # fmt: skip
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert int8.swish_inputs(model, []) == ["x"]
    assert int8.swish_inputs(model, ["conv"]) == []


@pytest.mark.parametrize(
    ("options", "operations"),
    [
        (
            {
                "activation": "hard-swish",
                "merge": "bifpn",
                "levels": 6,
                "geometry": "quad",
                "fpn_width": 8,
                "fpn_repeats": 2,
            },
            {"MaxPool", "Clip"},
        ),
        ({"activation": "relu6", "output_stride": 2}, {"Clip", "Resize"}),
        pytest.param(
            {"backbone": "resnet50", "normalization": "vgg"}, {"MaxPool", "Relu"}, marks=pytest.mark.slow
        ),
    ],
)
def test_every_kind_of_network(options: dict[str, Any], operations: set[str], tmp_path: Path) -> None:
    """The folded graph has no batch norm, and TensorFlow, ONNX Runtime and OpenCV compute the same of it."""
    from efficientnet_east import config as configuration
    from efficientnet_east.checkpoints import tf_checkpoints

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scaling.VARIANTS, "tiny", TINY)
        make_workdir(tmp_path / "run", **{"backbone": "tiny", **options})
        config = configuration.load(str(tmp_path / "run" / "config.yaml"))
        prefix = tf_checkpoints.find(tmp_path / "run")
        written = network.load(prefix, config)
        assert "FusedBatchNormV3" not in {node.op for node in written.graph.node}
        path = tmp_path / "b.onnx"
        path.write_bytes(formats.encode(written, "onnx")[1])
        image = noise(128, 192)[None]
        expected = runtimes.open_runtime(tmp_path / "run").run(image)
        for runtime in ("onnxruntime", "opencv"):
            opened = runtimes.open_runtime(path, 1, runtime)
            assert (opened.stride, opened.divisor) == (config.model.output_stride, config.model.size_divisor)
            for ours, theirs in zip(expected, opened.run(image), strict=True):
                scale = np.abs(ours).max()
                np.testing.assert_allclose(theirs / scale, ours / scale, atol=1e-4)
    import onnx

    assert operations <= {node.op_type for node in onnx.load(path).graph.node}


def test_unknown_operation_is_refused() -> None:
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3], name="images")
        tf.nn.elu(images, name="out")
    with pytest.raises(UserError, match="out: is a Elu, which cannot be written as ONNX"):
        onnx_graph.write(graph.as_graph_def(), "images", ["out"], [3], 1)


def test_shared_batch_norm_is_not_folded() -> None:
    """A convolution that something else reads must stay as it is."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, None, None, 3], name="images")
        conv = tf.nn.conv2d(images, rng.normal(size=(3, 3, 3, 4)).astype(np.float32), 1, "SAME")
        parts = [tf.constant(rng.uniform(0.5, 2, 4), tf.float32) for _ in range(4)]
        normal = tf.compat.v1.nn.fused_batch_norm(conv, *parts, is_training=False)[0]
        out = tf.add(conv, normal, name="out")
        graph, fed = session.graph.as_graph_def(), {"images:0": rng.normal(size=(1, 8, 8, 3))}
        expected = session.run(out, fed)
    folded = folding.fold(graph, ["out"])
    assert "FusedBatchNormV3" in {node.op for node in folded.node}
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(folded, name="")
        np.testing.assert_allclose(session.run("out:0", fed), expected, atol=1e-5)
