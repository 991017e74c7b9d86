"""The pyramid against NumPy and against a graph worked out by hand; its size, its names, and what learns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from efficientnet_east.bifpn import bifpn
from efficientnet_east.compat import slim, tf
from efficientnet_east.east_head import east_head

CHANNELS = {1: 3, 2: 4, 3: 5, 4: 6, 5: 7, 6: 7, 7: 7}
RNG = np.random.default_rng(0)
# f6 and f7 of an image of 128 x 256 pixels are 2 x 4 and 1 x 2 cells.
HEIGHT, WIDTH = 128, 256


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(3)
        yield graph


def arrays(levels: Sequence[int], channels: Mapping[int, int] = CHANNELS) -> dict[str, np.ndarray]:
    return {
        f"f{n}": RNG.normal(size=(2, HEIGHT >> n, WIDTH >> n, channels[n])).astype(np.float32) for n in levels
    }


def maps(levels: Sequence[int], channels: Mapping[int, int] = CHANNELS) -> dict[str, Any]:
    return {name: tf.constant(value) for name, value in arrays(levels, channels).items()}


def kernels() -> list[Any]:
    return [v for v in tf.trainable_variables() if v.op.name.endswith("weights")]


def evaluate(fetches: Any, assigned: Mapping[str, np.ndarray] | None = None) -> Any:
    variables = {variable.op.name: variable for variable in tf.global_variables()}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for name, value in (assigned or {}).items():
            variables[name].load(value, session)
        return session.run(fetches)


# --- another implementation


class Numpy:
    """The cells by the paper's formulas, over the variables of a graph."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self.values, self.read = values, set[str]()

    def get(self, name: str) -> np.ndarray:
        self.read.add(name)
        return self.values[name].astype(np.float64)

    def normalise(self, net: np.ndarray, scope: str) -> np.ndarray:
        gamma, beta, mean, variance = (
            self.get(f"{scope}/BatchNorm/{leaf}")
            for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (net - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def lateral(self, net: np.ndarray, scope: str) -> np.ndarray:
        return self.normalise(net @ self.get(f"{scope}/weights")[0, 0], scope)

    def node(self, inputs: list[np.ndarray], scope: str) -> np.ndarray:
        raw = np.maximum(self.get(f"{scope}/fusion"), 0)
        assert len(raw) == len(inputs)
        net = sum(w * x for w, x in zip(raw, inputs, strict=True)) / (raw.sum() + 1e-4)
        rows, columns = net.shape[1:3]
        padded = np.pad(net, ((0, 0), (1, 1), (1, 1), (0, 0)))
        depthwise = self.get(f"{scope}/conv/depthwise_weights")[..., 0]
        net = sum(
            padded[:, i : i + rows, j : j + columns] * depthwise[i, j] for i in range(3) for j in range(3)
        )
        net = net @ self.get(f"{scope}/conv/pointwise_weights")[0, 0]
        return np.maximum(self.normalise(net, f"{scope}/conv"), 0)

    def bifpn(self, features: Mapping[str, np.ndarray], levels: Sequence[int], repeats: int) -> np.ndarray:
        first, *_, last = levels
        maps = {n: features[f"f{n}"] for n in levels}
        for cell in (f"fpn_{repeat}" for repeat in range(repeats)):
            own = dict(maps)
            again = dict(maps)
            if cell == "fpn_0":
                own = {n: self.lateral(maps[n], f"{cell}/f{n}_in") for n in levels}
                again = own | {
                    n: self.lateral(maps[n], f"{cell}/f{n}_in_again") for n in levels[1:-1] if repeats > 1
                }
            down = {last: own[last]}
            for n in range(last - 1, first - 1, -1):
                larger = down[n + 1].repeat(2, axis=1).repeat(2, axis=2)
                down[n] = self.node([own[n], larger], f"{cell}/f{n}_" + ("td" if n > first else "out"))
            if cell == f"fpn_{repeats - 1}":
                break
            maps = {first: down[first]}
            for n in levels[1:]:
                middle = [down[n]] if n < last else []
                maps[n] = self.node([again[n], *middle, max_pool(maps[n - 1])], f"{cell}/f{n}_out")
        return down[first]


def max_pool(net: np.ndarray) -> np.ndarray:
    """3 x 3, stride 2, over an even size: SAME pads below and to the right only."""
    padded = np.pad(net, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    rows, columns = net.shape[1:3]
    windows = [padded[:, i : i + rows : 2, j : j + columns : 2] for i in range(3) for j in range(3)]
    return np.max(windows, axis=0)


def as_if_trained(variables: list[Any]) -> dict[str, np.ndarray]:
    """Fusion weights of both signs, the first positive, and batch norms that let most values pass."""
    values = {}
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        if name.endswith("/fusion"):
            values[name] = np.array([RNG.uniform(0.2, 2), *RNG.uniform(-0.5, 2, shape[0] - 1)])
        elif "/BatchNorm/" in name:
            centre = {"gamma": 1.0, "moving_variance": 1.0, "beta": 0.4}.get(name.rpartition("/")[2], 0.0)
            values[name] = centre + RNG.uniform(-0.3, 0.3, shape)
        else:
            values[name] = RNG.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
    return values


@pytest.mark.parametrize(
    ("finest", "coarsest", "repeats"), [(2, 5, 3), (2, 5, 1), (1, 5, 2), (2, 6, 2), (2, 7, 2), (4, 5, 2)]
)
def test_against_numpy(finest: int, coarsest: int, repeats: int) -> None:
    levels = range(finest, coarsest + 1)
    features = arrays(levels)
    graph_maps = {name: tf.constant(value) for name, value in features.items()}
    out = bifpn(graph_maps, finest=finest, width=6, repeats=repeats, is_training=False)
    values = as_if_trained(tf.global_variables())
    numpy = Numpy(values)
    expected = numpy.bifpn(features, levels, repeats)
    assert numpy.read == values.keys(), "every variable stands for something"
    result = evaluate(out, values)
    assert result.shape == (2, HEIGHT >> finest, WIDTH >> finest, 6) and expected.std() > 0.02
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


# --- by hand


def test_which_node_feeds_which() -> None:
    """Every convolution hands on what it gets, every map is one number: the nodes are weighted means."""
    one = {f"f{n}": tf.fill([1, 64 >> n, 64 >> n, 1], 10.0 ** (n - 2)) for n in range(2, 6)}
    out = bifpn(one, finest=2, width=1, repeats=2, is_training=False)
    values = {}
    for variable in tf.global_variables():
        name, value = variable.op.name, np.zeros(variable.shape.as_list())
        if name.endswith("depthwise_weights"):
            value[1, 1] = 1  # the middle
        elif name.endswith(("weights", "gamma")):
            value += 1
        elif name.endswith("moving_variance"):
            value += 1 - 1e-3  # plus epsilon is 1
        values[name] = value
    for level, factor in ((3, 2), (4, 3)):  # so that the two ways into a middle level can be told apart
        values[f"fpn_0/f{level}_in_again/weights"] *= factor
    weights = {
        "fpn_0/f4_td": [1, 3], "fpn_0/f3_td": [3, 1], "fpn_0/f2_out": [1, 4],
        "fpn_0/f3_out": [1, 2, 5], "fpn_0/f4_out": [2, 1, 1], "fpn_0/f5_out": [1, 9],
        "fpn_1/f4_td": [1, 1], "fpn_1/f3_td": [2, 3], "fpn_1/f2_out": [7, 1],
    }  # fmt: skip
    assert {name.rpartition("/")[0] for name in values if name.endswith("fusion")} == weights.keys()
    result = evaluate(out, values | {f"{node}/fusion": np.array(w) for node, w in weights.items()})

    f2, f3, f4, f5 = 1, 10, 100, 1000
    f4_td = (1 * f4 + 3 * f5) / 4
    f3_td = (3 * f3 + 1 * f4_td) / 4
    f2_out = (1 * f2 + 4 * f3_td) / 5
    f3_out = (1 * (2 * f3) + 2 * f3_td + 5 * f2_out) / 8
    f4_out = (2 * (3 * f4) + 1 * f4_td + 1 * f3_out) / 4
    f5_out = (1 * f5 + 9 * f4_out) / 10
    f4_td = (f4_out + f5_out) / 2
    f3_td = (2 * f3_out + 3 * f4_td) / 5
    f2_out = (7 * f2_out + 1 * f3_td) / 8
    np.testing.assert_allclose(result, np.full((1, 16, 16, 1), f2_out), rtol=1e-3)


def test_a_level_whose_weight_is_negative_is_left_out() -> None:
    features = maps([4, 5])
    out = bifpn(features, finest=4, width=3, repeats=1, is_training=False)
    gradients = tf.gradients(out, [features["f4"], features["f5"]])
    fine, coarse = evaluate(gradients, {"fpn_0/f4_out/fusion": np.array([0.5, -2.0])})
    assert fine.any() and not coarse.any()


# --- size, names, what learns


def count(levels: Sequence[int], width: int, repeats: int, channels: Mapping[int, int] = CHANNELS) -> int:
    """Trainable parameters, counted node by node."""
    full = repeats - 1
    entries = [channels[n] for n in levels] + [channels[n] for n in levels[1:-1] if full]
    laterals = sum(c * width + 2 * width for c in entries)
    steps, middle = len(levels) - 1, len(levels) - 2
    nodes = repeats * steps + full * steps
    fusion = 2 * repeats * steps + full * (3 * middle + 2)
    return laterals + nodes * (9 * width + width * width + 2 * width) + fusion


@pytest.mark.parametrize(
    ("finest", "coarsest", "width", "repeats"), [(2, 5, 8, 3), (2, 5, 8, 1), (1, 5, 16, 2), (2, 7, 8, 2)]
)
def test_parameters(finest: int, coarsest: int, width: int, repeats: int) -> None:
    levels = range(finest, coarsest + 1)
    bifpn(maps(levels), finest=finest, width=width, repeats=repeats)
    found = sum(int(np.prod(variable.shape.as_list())) for variable in tf.trainable_variables())
    assert found == count(levels, width, repeats)


def test_parameters_of_d0_beside_b0() -> None:
    """By hand: laterals from 24, 40 (twice), 112 (twice) and 320 channels; 15 nodes, 4 of three inputs."""
    b0 = {2: 24, 3: 40, 4: 112, 5: 320}
    bifpn(maps(range(2, 6), b0), finest=2, width=64, repeats=3)
    found = sum(int(np.prod(variable.shape.as_list())) for variable in tf.trainable_variables())
    laterals = (24 + 2 * 40 + 2 * 112 + 320) * 64 + 6 * 128
    assert found == laterals + 15 * (576 + 4096 + 128) + 11 * 2 + 4 * 3 == 114_274


def test_names(graph: Any) -> None:
    """Node by node; the last cell ends with the finest level."""
    score, geometry = east_head(maps(range(2, 6)), merge="bifpn", width=8, repeats=2, is_training=False)
    assert score.op.name == "feature_fusion/Conv_7/Sigmoid"
    assert geometry.op.name == "feature_fusion/concat_3"
    scopes = {variable.op.name.split("/BatchNorm")[0] for variable in tf.model_variables()}
    expected = {f"fpn_0/f{n}_in/weights" for n in (2, 3, 4, 5)}
    expected |= {f"fpn_0/f{n}_in_again/weights" for n in (3, 4)}
    for node in ("fpn_0/f4_td", "fpn_0/f3_td", "fpn_0/f2_out", "fpn_0/f3_out", "fpn_0/f4_out", "fpn_0/f5_out",
                 "fpn_1/f4_td", "fpn_1/f3_td", "fpn_1/f2_out"):  # fmt: skip
        expected |= {f"{node}/{leaf}" for leaf in
                     ("fusion", "conv", "conv/depthwise_weights", "conv/pointwise_weights")}  # fmt: skip
    expected |= {name.removesuffix("/weights") for name in expected if "_in" in name} | {"merge_final"}
    expected |= {"merge_final/weights"}
    expected |= {f"Conv_{i}/{leaf}" for i in (7, 8, 9) for leaf in ("weights", "biases")}
    assert scopes == {f"feature_fusion/{name}" for name in expected}
    operations = {op.name for op in graph.get_operations()}
    assert not [name for name in operations if "fpn_0_" in name or "fpn_1_" in name], "one scope a cell"


@pytest.mark.parametrize(
    ("stride", "coarsest", "repeats", "is_training"),
    [(4, 5, 3, True), (4, 5, 1, True), (2, 5, 2, True), (4, 6, 2, False), (4, 7, 2, True), (2, 7, 2, False)],
)
def test_every_variable_and_every_map_learns(
    stride: int, coarsest: int, repeats: int, is_training: bool
) -> None:
    """Nothing is built that the outputs do not read."""
    finest = {2: 1, 4: 2}[stride]
    features = maps(range(1, coarsest + 1))
    score, geometry = east_head(
        features, merge="bifpn", width=8, repeats=repeats, output_stride=stride, is_training=is_training
    )
    assert score.shape.as_list() == [2, HEIGHT // stride, WIDTH // stride, 1]
    assert geometry.shape.as_list() == [2, HEIGHT // stride, WIDTH // stride, 5]
    loss = tf.reduce_sum(tf.square(geometry)) + tf.reduce_sum(score)
    targets = {f"f{n}": features[f"f{n}"] for n in range(finest, coarsest + 1)}
    targets |= {variable.op.name: variable for variable in tf.trainable_variables()}
    gradients = dict(zip(targets, tf.gradients(loss, list(targets.values())), strict=True))
    assert not [name for name, gradient in gradients.items() if gradient is None]
    for name, gradient in evaluate(gradients).items():
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, name


def test_kernels_decay_and_nothing_else() -> None:
    features = maps(range(2, 6))
    bifpn(features, finest=2, width=8, repeats=2, is_training=False, weight_decay=0.2)
    penalties = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    decayed, all_kernels = evaluate([tf.add_n(penalties), kernels()])
    assert decayed == pytest.approx(0.1 * sum((kernel**2).sum() for kernel in all_kernels), rel=1e-5)
    others = {v.op.name.split("/")[-1] for v in tf.trainable_variables()} - {
        name.split("/")[-1] for name in (v.op.name for v in kernels())
    }
    assert others == {"fusion", "gamma", "beta"}, "AdamW decays what ends with `weights`"


def test_a_foreign_arg_scope_changes_nothing(graph: Any) -> None:
    with slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d], normalizer_fn=None, padding="VALID", activation_fn=tf.tanh
    ):
        out = bifpn(maps(range(2, 6)), finest=2, width=8, repeats=2, weight_decay=0.0)
    kinds = [op.type for op in graph.get_operations()]
    assert out.shape.as_list() == [2, HEIGHT // 4, WIDTH // 4, 8]
    assert kinds.count("FusedBatchNormV3") == 6 + 9 and "Tanh" not in kinds
    assert not tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)


def test_what_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 1, received 0"):
        bifpn(maps(range(2, 6)), finest=2, width=8, repeats=0)
    for levels, received in (([3, 4, 5], "f3, f4, f5"), ([2, 4, 5], "f2, f4, f5"), ([], "none")):
        with pytest.raises(ValueError, match=f"f2 and f3 are needed, received {received}"):
            bifpn(maps(levels), finest=2, width=8, repeats=1)
    with pytest.raises(ValueError, match="merge must be one of u, bifpn, received 'fpn'"):
        east_head(maps(range(2, 6)), merge="fpn")
