"""The merge and the outputs: names, sizes, channels, ranges, first guesses, and where gradients go."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tf_slim.nets import resnet_utils

from efficientnet_east.compat import slim, tf
from efficientnet_east.east_head import MERGES, east_head

CHANNELS = {"f1": 16, "f2": 24, "f3": 40, "f4": 112, "f5": 320}  # of B0
HEIGHT, WIDTH = 64, 96
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(3)
        yield graph


def features(height: int = HEIGHT, width: int = WIDTH, batch: int = 2) -> dict[str, Any]:
    sizes = {
        name: (batch, height >> i, width >> i, CHANNELS[name]) for i, name in enumerate(CHANNELS, start=1)
    }
    rng = np.random.default_rng(0)
    return {name: tf.constant(rng.normal(size=size), tf.float32) for name, size in sizes.items()}


def evaluate(fetches: Any, **assigned: Any) -> Any:
    """Run after initialisation, some variables of the head set by scope and leaf, as in Conv_8_biases."""
    variables = {v.op.name: v for v in tf.global_variables()}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for name, value in assigned.items():
            scope, leaf = name.rsplit("_", 1)
            variable = variables[f"feature_fusion/{scope}/{leaf}"]
            session.run(variable.assign(np.broadcast_to(value, variable.shape.as_list())))
        return session.run(fetches)


@pytest.mark.parametrize("stride", [4, 2])
def test_names_shapes_and_channels(stride: int) -> None:
    score, geometry = east_head(features(), is_training=False, output_stride=stride)
    assert score.op.name == "feature_fusion/Conv_7/Sigmoid"
    assert geometry.op.name == "feature_fusion/concat_3"
    levels = [("f4", 128, 112 + 320), ("f3", 64, 40 + 128), ("f2", 32, 24 + 64), ("f1", 32, 16 + 32)]
    kernels = {
        v.op.name: v.shape.as_list() for v in tf.trainable_variables() if v.op.name.endswith("weights")
    }
    expected = {}
    for level, outputs, inputs in levels[: 3 if stride == 4 else 4]:
        expected[f"feature_fusion/merge_{level}_1x1/weights"] = [1, 1, inputs, outputs]
        expected[f"feature_fusion/merge_{level}_3x3/weights"] = [3, 3, outputs, outputs]
    expected["feature_fusion/merge_final/weights"] = [3, 3, 32, 32]
    expected |= {f"feature_fusion/Conv_{i}/weights": [1, 1, 32, n] for i, n in ((7, 1), (8, 4), (9, 1))}
    assert kernels == expected
    a, b = evaluate([score, geometry])
    size = (2, HEIGHT // stride, WIDTH // stride)
    assert (a.shape, b.shape) == ((*size, 1), (*size, 5))


def test_quad_has_the_names_of_rbox_and_eight_linear_channels() -> None:
    score, geometry = east_head(features(), is_training=False, geometry="quad")
    assert score.op.name == "feature_fusion/Conv_7/Sigmoid"
    assert geometry.op.name == "feature_fusion/concat_3"
    kernels = {v.op.name: v.shape.as_list() for v in tf.trainable_variables() if "/Conv_" in v.op.name}
    assert kernels == {
        "feature_fusion/Conv_7/weights": [1, 1, 32, 1], "feature_fusion/Conv_7/biases": [1],
        "feature_fusion/Conv_8/weights": [1, 1, 32, 8], "feature_fusion/Conv_8/biases": [8],
    }  # fmt: skip
    # Far beyond text_scale on both sides, and 512 / 8 pixels for each unit.
    biases = np.array([-30.0, 0, 0.5, 1, 2, 3, 30, -1])
    result = evaluate(geometry, Conv_8_weights=0.0, Conv_8_biases=biases)
    np.testing.assert_allclose(result, np.broadcast_to(biases * 64, (2, 16, 24, 8)), rtol=1e-6)


@pytest.mark.parametrize("text_scale", [512.0, 128.0])
def test_first_guesses_of_quad_are_the_box_of_rbox(text_scale: float) -> None:
    """Upright, 20 pixels to every side of the cell, everywhere."""
    _, geometry = east_head(features(), is_training=True, geometry="quad", text_scale=text_scale)
    offsets = evaluate(geometry)
    expected = np.array([-20, -20, 20, -20, 20, 20, -20, 20])
    np.testing.assert_allclose(offsets.mean(axis=(0, 1, 2)), expected, atol=8)
    assert np.abs(offsets - expected).max() < 20, "every corner on its own side of the cell"


def test_other_geometries_are_refused() -> None:
    with pytest.raises(ValueError, match="geometry must be one of rbox, quad, received 'box'"):
        east_head({}, geometry="box")


@pytest.mark.parametrize("stride", [0, 1, 8, 3])
def test_other_strides_are_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"output_stride must be 2 or 4, received {stride}"):
        east_head({}, output_stride=stride)


def test_channels_are_top_right_bottom_left_then_angle() -> None:
    """Conv_8 gives the distances in its own order; the range is text_scale. Conv_9 ends at +-45 degrees."""
    _, geometry = east_head(features(), is_training=False, text_scale=640.0)
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    biases = np.log(shares / (1 - shares))
    for bias, angle in ((60.0, math.pi / 4), (0.0, 0.0), (-60.0, -math.pi / 4)):
        result = evaluate(
            geometry, Conv_8_weights=0.0, Conv_8_biases=biases, Conv_9_weights=0.0, Conv_9_biases=bias
        )
        np.testing.assert_allclose(result[..., :4], np.broadcast_to(640 * shares, (2, 16, 24, 4)), rtol=1e-5)
        np.testing.assert_allclose(result[..., 4], angle, atol=1e-6)


def test_values_stay_in_their_ranges() -> None:
    score, geometry = east_head(features(), text_scale=300.0)
    score, geometry = evaluate(
        [score, geometry],
        **{f"Conv_{i}_weights": RNG.normal(0, 3, (1, 1, 32, n)) for i, n in ((7, 1), (8, 4), (9, 1))},
    )
    distances, angle = geometry[..., :4], geometry[..., 4]
    assert 0 <= score.min() < 0.01 and 0.99 < score.max() <= 1
    assert 0 <= distances.min() < 3 and 297 < distances.max() <= 300
    assert -math.pi / 4 - 1e-6 <= angle.min() < -0.75 and 0.75 < angle.max() <= math.pi / 4 + 1e-6


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("is_training", [True, False])
def test_first_guesses_are_the_priors(is_training: bool, merge: str) -> None:
    """Everywhere, not only on average: a saturated output has no gradient to learn from."""
    score, geometry = evaluate(list(east_head(features(), is_training=is_training, merge=merge)))
    assert score.min() > 0.025 and score.max() < 0.1
    assert geometry[..., :4].min() > 10 and geometry[..., :4].max() < 40
    assert np.abs(geometry[..., 4]).max() < math.radians(8)


@pytest.mark.parametrize(
    ("stride", "form", "read"),
    [(4, "rbox", {"f2", "f3", "f4", "f5"}), (2, "rbox", set(CHANNELS)), (2, "quad", set(CHANNELS))],
)
def test_gradients_reach_the_maps_that_are_read(stride: int, form: str, read: set[str]) -> None:
    maps = features()
    score, geometry = east_head(maps, output_stride=stride, geometry=form)
    loss = tf.reduce_sum(tf.square(geometry)) + tf.reduce_sum(score)
    gradients = dict(zip(maps, tf.gradients(loss, list(maps.values())), strict=True))
    reached = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    assert reached.keys() == read
    assert all(np.abs(gradient).max() > 0 for gradient in evaluate(reached).values())


@pytest.mark.parametrize("merge", MERGES)
def test_cells_lie_where_their_features_lie(merge: str) -> None:
    """A spot in one corner of any input map changes that corner of the output, and not the opposite one."""
    maps = {
        name: np.zeros((1, 256 >> i, 256 >> i, c), np.float32)
        for i, (name, c) in enumerate(CHANNELS.items(), 1)
    }
    feeds = {name: tf.placeholder(tf.float32, value.shape) for name, value in maps.items()}
    score, _ = east_head(feeds, is_training=False, merge=merge, repeats=1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        base = session.run(score, {feeds[name]: maps[name] for name in maps})[0, ..., 0]
        for name in ("f2", "f3", "f4", "f5"):
            spot = {key: value.copy() for key, value in maps.items()}
            spot[name][0, 0, -1] = 5.0
            changed = np.abs(session.run(score, {feeds[key]: spot[key] for key in spot})[0, ..., 0] - base)
            row, column = np.unravel_index(changed.argmax(), changed.shape)
            assert row < 20 and column >= 44, (name, row, column)
            assert changed[32:, :32].max() == 0


@pytest.mark.parametrize(("merge", "kernels"), [("u", 10), ("bifpn", 6 + 2 * 15 + 4)])
def test_twice_in_one_graph_shares_weights_and_decays_kernels(merge: str, kernels: int) -> None:
    maps = features()
    first = east_head(maps, merge=merge, is_training=False, weight_decay=1e-2)
    names = [v.op.name for v in tf.global_variables()]
    penalties = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    assert len(penalties) == sum(name.endswith("weights") for name in names) == kernels
    second = east_head(maps, merge=merge, is_training=False, weight_decay=0.0, reuse=True)
    assert [v.op.name for v in tf.global_variables()] == names
    assert len(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == kernels
    for a, b in zip(*evaluate([list(first), list(second)]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("merge", MERGES)
def test_the_mode_of_batch_norm_reaches_all_of_the_head(merge: str, graph: Any) -> None:
    east_head(features(), merge=merge, repeats=2, is_training=True, batch_norm="frozen")
    modes = [op.get_attr("is_training") for op in graph.get_operations() if op.type == "FusedBatchNormV3"]
    assert len(modes) >= 7 and not any(modes)
    assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)


def test_batch_norm_constants_hold_under_a_foreign_arg_scope(graph: Any) -> None:
    foreign = {"batch_norm_decay": 0.5, "batch_norm_epsilon": 1e-5, "batch_norm_scale": False}
    with slim.arg_scope(resnet_utils.resnet_arg_scope(**foreign)):
        east_head(features(), bn_decay=0.9, weight_decay=0.0)
    normalised = [op for op in graph.get_operations() if op.type == "FusedBatchNormV3"]
    assert len(normalised) == 7 and {round(op.get_attr("epsilon"), 9) for op in normalised} == {1e-3}
    assert sum(v.op.name.endswith("gamma") for v in tf.trainable_variables()) == 7
    assert tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES) == []
    moving = [
        v for v in tf.global_variables() if v.op.name == "feature_fusion/merge_final/BatchNorm/moving_mean"
    ]
    batch_mean = next(op for op in normalised if "merge_final" in op.name).outputs[1]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        mean = session.run(batch_mean)
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        np.testing.assert_allclose(session.run(moving)[0], 0.1 * mean, rtol=1e-3, atol=1e-6)
