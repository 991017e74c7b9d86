"""The whole detector's graph: normalisation, options that arrive where they belong, eager use, freezing."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.graphs import as_if_trained

from efficientnet_east import config, model, scaling
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.east_head import MERGES
from efficientnet_east.errors import UserError
from efficientnet_east.inference.graph import freeze
from efficientnet_east.options import ModelOptions

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """`backbone="tiny"`: seven narrow blocks."""
    monkeypatch.setitem(scaling.VARIANTS, "tiny", scaling.Variant(0.25, 0.25, 64, 0.2))


@pytest.fixture
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(2)
        yield graph


def test_normalise_against_published_statistics(graph: Any) -> None:
    with tf.Session() as session:
        result = session.run(model.normalize(tf.constant(IMAGES)))
    expected = (IMAGES / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_normalising_row_by_row_changes_no_value(graph: Any) -> None:
    with tf.Session() as session:
        both = [model.normalize(tf.constant(IMAGES), by_row=by_row) for by_row in (False, True)]
        plain, by_row = session.run(both)
    np.testing.assert_array_equal(by_row, plain)


def test_bytes_and_floats_give_the_same(graph: Any) -> None:
    a = model.build(tf.constant(IMAGES), backbone="tiny")
    b = model.build(tf.constant(IMAGES, tf.float32), backbone="tiny", reuse=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        a, b = session.run([a, b])
    assert (a.score.shape, a.geometry.shape) == ((2, 16, 24, 1), (2, 16, 24, 5))
    np.testing.assert_array_equal(a.score, b.score)
    np.testing.assert_array_equal(a.geometry, b.geometry)
    # One image's maps do not depend on its neighbours in the batch.
    assert np.abs(a.geometry[0] - a.geometry[1]).max() > 0


@pytest.mark.parametrize("merge", MERGES)
def test_options_arrive(graph: Any, merge: str) -> None:
    out = model.build(
        tf.placeholder(tf.uint8, [None, None, None, 3]),
        backbone="tiny", activation="swish", is_training=True, output_stride=2, text_scale=800.0, merge=merge,
        drop_connect=0.5, batch_norm="frozen", weight_decay=1e-3, seed=tf.constant([1, 2]),
    )  # fmt: skip
    ops = graph.get_operations()
    modes = {True: [], False: []}
    for op in ops:
        if op.type == "FusedBatchNormV3":
            modes[op.get_attr("is_training")].append(op.name.split("/")[0])
    assert set(modes[False]) == {"efficientnet-tiny"} and set(modes[True]) == {"feature_fusion"}
    assert {op.name.split("/")[0] for op in ops if op.type == "Relu"} == {"feature_fusion"}
    penalised = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    kernels = [v for v in tf.trainable_variables() if v.op.name.endswith("weights")]
    assert len(penalised) == len(kernels) and {v.op.name.split("/")[0] for v in kernels} == {
        "efficientnet-tiny", "feature_fusion"
    }  # fmt: skip
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        far = {variable.op.name: variable for variable in tf.global_variables()}[
            "feature_fusion/Conv_8/biases"
        ]
        session.run(far.assign([50.0] * 4))
        result = session.run(out, {ops[0].outputs[0]: IMAGES})
    assert result.score.shape == (2, 32, 48, 1)
    np.testing.assert_allclose(result.geometry[..., :4], 800)


@pytest.mark.parametrize(("backbone", "width", "repeats"), [("b4", 224, 7), ("phi=1.25", 96, 4)])
def test_bifpn_is_sized_by_the_backbone(
    backbone: str, width: int, repeats: int, graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(model.backbones, "build", lambda *_, **options: (None, asked.append(options)))
    monkeypatch.setattr(model, "east_head", lambda *_, **options: asked.append(options) or (1, 2))
    images = tf.placeholder(tf.uint8, [None, 128, None, 3])
    model.build(images, backbone=backbone, merge="bifpn", levels=7)
    model.build(images, backbone=backbone, merge="bifpn", levels=6, fpn_width=24, fpn_repeats=5)
    found = [(o.get("levels"), o.get("merge"), o.get("width"), o.get("repeats")) for o in asked]
    assert found[0::2] == [(7, None, None, None), (6, None, None, None)]
    assert found[1::2] == [(None, "bifpn", width, repeats), (None, "bifpn", 24, 5)]


def test_images_fit_the_coarsest_map(graph: Any) -> None:
    with pytest.raises(UserError, match="are 64 x 96 pixels; expected sides that are multiples of 64"):
        model.build(tf.constant(IMAGES), backbone="tiny", merge="bifpn", levels=6)


def test_geometry_and_its_scale_arrive(graph: Any) -> None:
    out = model.build(tf.constant(IMAGES), backbone="tiny", geometry="quad", text_scale=800.0)
    assert out.geometry.shape.as_list() == [2, 16, 24, 8]
    variables = {variable.op.name: variable for variable in tf.global_variables()}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(variables["feature_fusion/Conv_8/weights"].assign(np.zeros((1, 1, 32, 8))))
        session.run(variables["feature_fusion/Conv_8/biases"].assign([50.0] * 8))
        np.testing.assert_allclose(session.run(out.geometry), 5000)


def test_unknown_options_name_themselves(graph: Any) -> None:
    images = tf.zeros([1, 64, 64, 3])
    with pytest.raises(UserError, match="unknown variant 'b77'"):
        model.build(images, backbone="b77")
    with pytest.raises(UserError, match="unknown 'mish'"):
        model.build(images, activation="mish")


def test_under_wrap_function() -> None:
    """The way into eager code; the same weights give the same maps in a session."""
    wrapped = tf.wrap_function(
        lambda images: tuple(model.build(images, backbone="tiny")),
        [tf.TensorSpec([None, 64, 96, 3], tf.uint8)],
    )
    eager = [np.asarray(map_) for map_ in wrapped(tf.convert_to_tensor(IMAGES))]
    values = {variable.name: np.asarray(variable) for variable in wrapped.graph.variables}
    with tf.Graph().as_default(), tf.Session() as session:
        outputs = model.build(tf.constant(IMAGES), backbone="tiny")
        assert values.keys() == {variable.name for variable in tf.global_variables()}
        for variable in tf.global_variables():
            variable.load(values[variable.name], session)
        for a, b in zip(session.run(outputs), eager, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_freezing_computes_what_follows_from_variables_alone(graph: Any) -> None:
    with tf.variable_scope("a"):
        weights = tf.get_variable("weights", [3], initializer=tf.constant_initializer([1.0, 2.0, 5.0]))
        shares = tf.identity(weights / tf.reduce_sum(weights), "shares")
    noise = tf.random_uniform([3])
    images = tf.placeholder(tf.float32, [None, 3], "input_images")
    out = tf.add(images * shares + shares[1], 0.0 * noise, "out")
    tf.add(images, 1.0, "unused")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        frozen = freeze(session, ["out"])
    found = {node.name: node.op for node in frozen.node}
    assert found["a/shares"] == "Const" and found["out"] == out.op.type
    assert "RandomUniform" in found.values(), "a draw is none"
    assert not {"a/weights", "a/Sum", "a/truediv", "unused"} & found.keys()
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(frozen, name="")
        result = session.run("out:0", {"input_images:0": [[8.0, 8.0, 8.0]]})
    np.testing.assert_allclose(result, [[1.25, 2.25, 5.25]])


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "b0"},
        {"backbone": "tiny", "merge": "bifpn", "fpn_width": 8, "fpn_repeats": 2},
        {"backbone": "tiny", "merge": "bifpn", "fpn_width": 8, "fpn_repeats": 2, "levels": 7},
    ],
    ids=["u", "bifpn", "bifpn-7-levels"],
)
def test_frozen_graph_in_opencv(options: dict[str, Any], graph: Any, tmp_path: Any) -> None:
    """B0, and the other merge, by the names that OpenCV's EAST users ask for; it and TensorFlow agree."""
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromTensorflow"):
        pytest.skip("this OpenCV reads no TensorFlow graphs")
    images = tf.placeholder(tf.float32, [None, None, None, 3], "input_images")
    outputs = model.build(images, **options)
    size = 2 ** options.get("levels", 5) * np.array([2, 3])
    names = ["feature_fusion/Conv_7/Sigmoid", "feature_fusion/concat_3"]
    assert [tensor.op.name for tensor in outputs] == names
    pixels = RNG.integers(0, 256, (1, *size, 3)).astype(np.float32)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        tf_checkpoints.assign(session, as_if_trained(tf.global_variables(), RNG), tf.global_variables())
        expected = session.run(outputs, {images: pixels})
        frozen = freeze(session, names)
    path = tmp_path / "frozen.pb"
    path.write_bytes(frozen.SerializeToString())
    net = cv2.dnn.readNetFromTensorflow(str(path))
    net.setInput(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    for theirs, ours, atol in zip(net.forward(names), expected, (1e-5, 1e-2), strict=True):
        assert theirs.shape == ours.transpose(0, 3, 1, 2).shape
        np.testing.assert_allclose(theirs.transpose(0, 2, 3, 1), ours, atol=atol)
        assert ours.std() > 300 * atol


def test_options_have_one_source_of_defaults() -> None:
    """The configuration's section and the options of the graph have the same fields and defaults."""
    assert config.Model().model_dump() == dataclasses.asdict(ModelOptions())
    assert config.Model(levels=7).size_divisor == ModelOptions(levels=7).size_divisor == 128


def test_options_come_as_a_whole_or_one_by_one(graph: Any) -> None:
    """Keywords win; the earlier spelling still counts; what does not exist is refused."""
    options = ModelOptions(backbone="tiny", geometry="quad", normalization="vgg")
    whole = model.build(tf.constant(IMAGES), options, output_stride=2)
    fields = {"backbone": "tiny", "geometry": "quad", "output_stride": 2}
    again = model.build(tf.constant(IMAGES), normalisation="vgg", **fields, reuse=True)
    assert whole.geometry.shape.as_list() == [2, 32, 48, 8]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        a, b = session.run([whole, again])
    np.testing.assert_array_equal(a.geometry, b.geometry)
    with pytest.raises(TypeError, match="backbones"):
        model.build(tf.constant(IMAGES), backbones="tiny")
