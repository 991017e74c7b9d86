"""The whole detector's graph: normalisation, options that arrive where they belong, eager use, freezing."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from efficientnet_east import checkpoints, model, scaling
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError

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
        result = session.run(model.normalise(tf.constant(IMAGES)))
    expected = (IMAGES / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


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


def test_options_arrive(graph: Any) -> None:
    out = model.build(
        tf.placeholder(tf.uint8, [None, None, None, 3]),
        backbone="tiny", activation="swish", is_training=True, output_stride=2, text_scale=800.0,
        drop_connect=0.5, freeze_batch_norm=True, weight_decay=1e-3, seed=tf.constant([1, 2]),
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


def as_if_trained(variables: list[Any]) -> dict[str, np.ndarray]:
    """Batch norms that do something, and outputs far from their priors."""
    values = {}
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        leaf = name.rsplit("/", 1)[1]
        if "/BatchNorm/" in name:
            values[name] = (leaf in ("gamma", "moving_variance")) + RNG.uniform(-0.2, 0.2, shape)
        elif name.startswith("feature_fusion/Conv_") and leaf == "weights":
            values[name] = RNG.normal(0, 0.3, shape)
    return values


def test_frozen_graph_in_opencv(graph: Any, tmp_path: Any) -> None:
    """B0 by the names that OpenCV's EAST users ask for; its importer and TensorFlow agree."""
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromTensorflow"):
        pytest.skip("this OpenCV reads no TensorFlow graphs")
    images = tf.placeholder(tf.float32, [None, None, None, 3], "input_images")
    outputs = model.build(images, backbone="b0")
    names = ["feature_fusion/Conv_7/Sigmoid", "feature_fusion/concat_3"]
    assert [tensor.op.name for tensor in outputs] == names
    pixels = IMAGES[:1].astype(np.float32)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        checkpoints.assign(session, as_if_trained(tf.global_variables()), tf.global_variables())
        expected = session.run(outputs, {images: pixels})
        frozen = tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), names)
    path = tmp_path / "frozen.pb"
    path.write_bytes(frozen.SerializeToString())
    net = cv2.dnn.readNetFromTensorflow(str(path))
    net.setInput(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    for theirs, ours, atol in zip(net.forward(names), expected, (1e-5, 1e-2), strict=True):
        assert theirs.shape == ours.transpose(0, 3, 1, 2).shape
        np.testing.assert_allclose(theirs.transpose(0, 2, 3, 1), ours, atol=atol)
        assert ours.std() > 1000 * atol
