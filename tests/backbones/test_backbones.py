"""The graphs: what they hold, what they compute, and that nothing around them changes what they are."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.graphs import TINY, classifier, gated_block
from tf_slim.nets import resnet_utils

from efficientnet_east import backbones, scaling
from efficientnet_east.backbones import catalog, costs
from efficientnet_east.backbones.efficientnets import dense_initializer, drop_factors
from efficientnet_east.compat import slim, tf
from efficientnet_east.errors import UserError

RNG = np.random.default_rng(0)
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
IMAGES = RNG.normal(size=(4, 64, 64, 3)).astype(np.float32)

tiny = functools.partial(backbones.efficientnet, network=TINY, scope="tiny")


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(1)
        yield graph


@contextlib.contextmanager
def started() -> Iterator[Any]:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        yield session


def count(variables: list[Any]) -> int:
    return sum(math.prod(v.shape.as_list()) for v in variables)


def kinds(graph: Any) -> collections.Counter[str]:
    return collections.Counter(op.type for op in graph.get_operations())


@pytest.fixture
def quick_hashes() -> Iterator[None]:
    """TensorFlow hashes all variables at each new one, which is cheaper without tensor equality."""
    tf.disable_tensor_equality()
    yield
    tf.enable_tensor_equality()


@pytest.mark.parametrize(
    ("name", "total", "trunk"), [("b0", 5_288_548, 3_595_388), ("b4", 19_341_616, 16_742_216)]
)
def test_parameters_with_classifier(name: str, total: int, trunk: int, quick_hashes: None) -> None:
    built = classifier(name)
    trainable = built.shapes("trainable_variables")
    assert sum(map(math.prod, trainable.values())) == total
    assert sum(map(math.prod, built.shapes("trainable_variables", trunk=True).values())) == trunk
    statistics = built.shapes("variables").keys() - trainable.keys()
    assert {name.rsplit("/", 1)[1] for name in statistics} == {"moving_mean", "moving_variance"}
    assert built.net.shape.as_list() == [None, 1000]


@pytest.mark.parametrize("name", sorted(scaling.VARIANTS.keys() - {"b0", "b4"}))
def test_parameters_of_the_trunk(name: str, quick_hashes: None) -> None:
    """Repeats of a block are built once and counted as often as they occur; building takes long."""
    network = scaling.resolve(scaling.get_variant(name))
    rows: dict[scaling.Block, list[scaling.Block]] = {}
    for block in network.blocks:
        rows.setdefault(dataclasses.replace(block, name="", repeat=0), []).append(block)
    distinct = dataclasses.replace(network, blocks=tuple(blocks[0] for blocks in rows.values()))
    backbones.efficientnet(
        tf.placeholder(tf.float32, [None, 64, 64, 3]), distinct, is_training=False, scope="e"
    )
    total = count(tf.trainable_variables("e/stem/"))
    total += sum(
        len(blocks) * count(tf.trainable_variables(f"e/{blocks[0].name}/")) for blocks in rows.values()
    )
    assert total == costs.parameters(scaling.layers(network))


def test_resnet_is_what_the_catalogue_says() -> None:
    """Names as in slim's own graph; parameters, maps and their strides as announced."""
    described = catalog.get_backbone("resnet50", levels=6)
    net, end_points = backbones.build(tf.zeros([1, 96, 64, 3]), "resnet50", levels=6, is_training=False)
    assert net is end_points["f5"] is end_points["block4"]
    assert count(tf.trainable_variables()) == described.parameters == 23_508_032
    for feature in described.features:
        cells = [math.ceil(side / feature.stride) for side in (96, 64)]
        assert end_points[feature.name].shape.as_list() == [1, *cells, feature.channels]
    logits, _ = backbones.build(tf.zeros([1, 96, 64, 3]), "resnet50", num_classes=7, reuse=tf.AUTO_REUSE)
    assert logits.shape.as_list() == [1, 7]
    ours = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    with tf.Graph().as_default(), slim.arg_scope(resnet_utils.resnet_arg_scope()):
        slim.nets.resnet_v1.resnet_v1_50(tf.zeros([1, 96, 64, 3]), num_classes=7, is_training=False)
        assert ours == {v.op.name: v.shape.as_list() for v in tf.global_variables()}


def test_resnet_computes_what_slims_own_does() -> None:
    images = tf.constant(IMAGES)
    with slim.arg_scope(resnet_utils.resnet_arg_scope()):
        _, theirs = slim.nets.resnet_v1.resnet_v1_50(images, is_training=False, global_pool=False)
    _, ours = backbones.build(images, "resnet50", is_training=False, reuse=True)
    with started() as session:
        for block in ("block1", "block2", "block3", "block4"):
            a, b = session.run([ours[block], theirs[f"resnet_v1_50/{block}"]])
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


def test_end_points_at_224() -> None:
    for name, channels in (("b0", (16, 24, 40, 112, 320)), ("b4", (24, 32, 56, 160, 448))):
        end_points = classifier(name).end_points
        for level, (side, depth) in enumerate(zip((112, 56, 28, 14, 7), channels, strict=True), start=1):
            assert end_points[f"f{level}"].shape.as_list() == [None, side, side, depth]
            assert end_points[f"pool{level}"] is end_points[f"f{level}"]


@pytest.mark.parametrize("size", [(512, 288), (225, 301)])
def test_end_points_round_up(size: tuple[int, int]) -> None:
    net, end_points = tiny(tf.placeholder(tf.float32, [None, *size, 3]), is_training=False)
    assert net is end_points["f5"]
    for level, feature in enumerate(scaling.features(TINY), start=1):
        expected = [None, *(math.ceil(side / feature.stride) for side in size), feature.channels]
        assert end_points[f"f{level}"].shape.as_list() == expected
        assert end_points[f"pool{level}"] is end_points[f"f{level}"]
    blocks = {f"blocks_{i}" for i in range(len(TINY.blocks))}
    inside = {f"{block}/depthwise" for block in blocks}
    inside |= {f"{block.name}/expand" for block in TINY.blocks if block.expand != 1}
    maps = {f"{k}{i}" for k in ("f", "pool") for i in range(1, 6)}
    assert end_points.keys() == blocks | inside | maps | {"stem"}


def test_calling_convention_inside_a_resnet_arg_scope(graph: Any) -> None:
    """The call of a slim EAST fork, which wraps its backbone so. Neither constants nor layers may leak in."""
    images = tf.placeholder(tf.float32, [2, 64, 64, 3])
    with slim.arg_scope(foreign_arg_scope()):
        net, end_points = backbones.efficientnet_b0(
            images, is_training=True, activation="relu", scope="efficientnet-b0", reuse=None
        )
    assert net.shape.as_list() == [2, 2, 2, 320] and end_points["pool2"].shape.as_list() == [2, 16, 16, 24]
    assert count(tf.trainable_variables()) == 3_595_388
    assert all(v.op.name.startswith("efficientnet-b0/") for v in tf.global_variables())
    normalised = [op for op in graph.get_operations() if op.type == "FusedBatchNormV3"]
    assert len(normalised) == 1 + 15 * 3 + 2
    assert {round(op.get_attr("epsilon"), 9) for op in normalised} == {1e-3}
    assert {op.get_attr("is_training") for op in normalised} == {True}
    assert_drop_rates(graph, scaling.resolve(scaling.VARIANTS["b0"]))


def foreign_arg_scope() -> dict:
    return resnet_utils.resnet_arg_scope(
        batch_norm_decay=0.5, batch_norm_epsilon=1e-5, batch_norm_scale=False
    )  # fmt: skip


def assert_drop_rates(graph: Any, network: scaling.Network) -> None:
    floors = [op for op in graph.get_operations() if op.type == "Floor"]
    kept = {gated_block(op): float(tf.get_static_value(op.inputs[0].op.inputs[1])) for op in floors}
    expected = {
        block.name: 1 - 0.2 * index / len(network.blocks)
        for index, block in enumerate(network.blocks)
        if block.residual
    }
    assert kept.keys() == expected.keys() and len(floors) == len(kept)
    assert [kept[name] for name in kept] == pytest.approx([expected[name] for name in kept])


def test_drop_rate_of_the_last_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the scaled number of blocks: B0's 16 end at .1875, B4's 32 at .19375. (No graph is built here.)"""
    for name, last in (("b0", 0.1875), ("b4", 0.19375)):
        rates: list[float] = []

        def block(inputs: Any, row: Any, *_: Any) -> Any:
            return {row.name: inputs}

        def factors(net: Any, rate: float, *_: Any, rates: list[float] = rates) -> None:
            rates.append(rate)

        module = sys.modules[backbones.efficientnet.__module__]
        monkeypatch.setattr(module, "mbconv", block)
        monkeypatch.setattr(module, "_drop_factors", factors)
        network = scaling.resolve(scaling.VARIANTS[name])
        backbones.efficientnet(tf.zeros([1, 32, 32, 3]), network, is_training=True, scope=name)
        count = len(network.blocks)
        expected = [0.2 * i / count if block.residual else 0 for i, block in enumerate(network.blocks)]
        assert rates == pytest.approx(expected) and 0.2 * (count - 1) / count == pytest.approx(last)
        assert rates[-1] == (0 if name == "b0" else pytest.approx(last))  # B0's last block has no residual


def test_batch_norm_constants_hold_under_a_foreign_arg_scope() -> None:
    """Read off what one training step does to the statistics, not off the arguments."""
    with slim.arg_scope(foreign_arg_scope()):
        _, end_points = tiny(tf.constant(IMAGES))
    values = {v.op.name: v for v in tf.global_variables()}
    for layer in ("stem", "blocks_2/expand", "blocks_2/depthwise", "blocks_2/project"):
        assert {f"tiny/{layer}/BatchNorm/{leaf}" for leaf in BATCH_NORM} <= values.keys()
    kernel = values["tiny/stem/weights"]
    before = tf.nn.conv2d(IMAGES, kernel, 2, "SAME")
    with started() as session:
        raw, stem = session.run([before, end_points["stem"]])
        mean, variance = raw.mean((0, 1, 2)), raw.var((0, 1, 2))
        np.testing.assert_allclose(stem, np.maximum((raw - mean) / np.sqrt(variance + 1e-3), 0), atol=2e-5)
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        moving = session.run([values[f"tiny/stem/BatchNorm/moving_{leaf}"] for leaf in ("mean", "variance")])
    np.testing.assert_allclose(moving[0], 0.01 * mean, rtol=1e-3, atol=1e-6)
    unbiased = variance * raw[..., 0].size / (raw[..., 0].size - 1)
    np.testing.assert_allclose(moving[1], 0.99 + 0.01 * unbiased, rtol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_activation_reaches_every_place(activation: str, graph: Any) -> None:
    images, seed = tf.constant(IMAGES), tf.constant([1, 2])
    tiny(images, is_training=False, activation=activation, num_classes=10, seed=seed)
    # Stem, head, and in each block after the expansion, after the depthwise convolution and within the gate.
    places = 2 + sum(3 if block.expand != 1 else 2 for block in TINY.blocks)
    gates = len(TINY.blocks)
    found = kinds(graph)
    relu, sigmoid = (places, gates) if activation == "relu" else (0, places + gates)
    assert (found["Relu"], found["Sigmoid"]) == (relu, sigmoid)
    assert not any(kind.startswith(("swish", "IdentityN")) for kind in found)  # plain, for exporters
    draws = [op.name for op in graph.get_operations() if "Random" in op.type and "/Initial" not in op.name]
    assert draws == [] and found["Floor"] == 0  # nothing is dropped at inference


def test_b0_activations() -> None:
    found = kinds(classifier("b0").graph)
    assert found["Relu"] == 0 and found["Sigmoid"] == 2 + 15 * 3 + 2 + 16


def test_unknown_names() -> None:
    images = tf.zeros([1, 32, 32, 3])
    with pytest.raises(UserError, match="unknown 'gelu'; expected one of relu, relu6, swish"):
        backbones.efficientnet_b0(images, activation="gelu")
    with pytest.raises(UserError, match="unknown variant 'b9'; expected one of b0"):
        backbones.build(images, "b9")


def test_named_builders_and_scopes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    graphs = sys.modules[backbones.efficientnet.__module__]
    monkeypatch.setattr(graphs, "efficientnet", lambda _, network, **given: calls.append((network, given)))
    for name in ("b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b4-modified"):
        getattr(backbones, f"efficientnet_{name.replace('-', '_')}")(
            tf.zeros([1, 32, 32, 3]), is_training=False
        )
        assert calls.pop() == (
            scaling.resolve(scaling.VARIANTS[name]), {"scope": f"efficientnet-{name}", "is_training": False}
        )  # fmt: skip
    backbones.build(tf.zeros([1, 32, 32, 3]), "phi=1.5", scope="mine")
    assert calls.pop()[1] == {"scope": "mine"} and backbones.scope_of("phi=1.5") == "efficientnet-phi1.5"


def test_modes_share_variables() -> None:
    """One function with reuse: training switched by a tensor, batch norm frozen, blocks dropped or not."""
    images, seed, switch = tf.constant(IMAGES), tf.constant([7, 3]), tf.placeholder(tf.bool, [])
    options = {"seed": seed, "drop_connect": 0.9}
    still, end_points = tiny(images, is_training=False, **options)
    names = [v.op.name for v in tf.global_variables()]
    with pytest.raises(ValueError, match="already exists"):
        tiny(images, is_training=False)
    frozen, _ = tiny(images, is_training=True, batch_norm="frozen", drop_connect=0.0, reuse=True)
    dropped, _ = tiny(images, is_training=True, batch_norm="frozen", reuse=True, **options)
    assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == []
    moving, _ = tiny(images, is_training=True, reuse=True, **options)
    switched, _ = tiny(images, is_training=switch, reuse=True, **options)
    assert [v.op.name for v in tf.global_variables()] == names
    with started() as session:
        a, b, c, d = session.run([still, frozen, dropped, moving])
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert min(np.abs(a - c).max(), np.abs(a - d).max(), np.abs(c - d).max()) > 1e-3
        np.testing.assert_allclose(session.run(switched, {switch: False}), a, atol=1e-5)
        np.testing.assert_allclose(session.run(switched, {switch: True}), d, atol=2e-4)
        maps = session.run([end_points[f"f{level}"] for level in range(1, 6)])
    assert all(m.min() < 0 < m.max() for m in maps)  # projections are linear


def test_blocks_are_dropped_whole_and_repeatably() -> None:
    """Each sample's branch is 0 or scaled up; a seed gives the same mask, another step another."""
    branch = tf.placeholder(tf.float32, [None, 2, 3, 4])
    seed = tf.placeholder(tf.int32, [2])
    values = RNG.uniform(1, 2, (4000, 2, 3, 4)).astype(np.float32)
    for rate in (0.1875, 0.6):
        out = branch * drop_factors(tf.shape(branch)[0], rate, seed)
        with tf.Session() as session:
            step1, again, step2 = (session.run(out, {branch: values, seed: [5, s]}) for s in (1, 1, 2))
        kept = step1 != 0
        assert (kept.reshape(4000, -1).any(1) == kept.reshape(4000, -1).all(1)).all()
        np.testing.assert_allclose(step1[kept], values[kept] / (1 - rate), rtol=1e-5)
        assert kept.mean() == pytest.approx(1 - rate, abs=4 * math.sqrt(0.25 / 4000))
        np.testing.assert_allclose(step1.mean(), values.mean(), rtol=0.07)
        np.testing.assert_array_equal(step1, again)
        assert (step1 != step2).any()


def test_each_block_draws_for_itself() -> None:
    seed = tf.constant([5, 1])
    tiny(tf.constant(IMAGES), seed=seed, drop_connect=0.9)
    graph = tf.get_default_graph()
    draws = [op.outputs[0] for op in graph.get_operations() if op.type == "Floor"]
    with started() as session:
        masks, twice = (session.run(draws) for _ in range(2))
    for mask, same in zip(masks, twice, strict=True):
        np.testing.assert_array_equal(mask, same)
    with tf.Session() as session:
        noises = session.run([draw.op.inputs[0].op.inputs[0] for draw in draws])
    assert all(not np.allclose(a, b) for a, b in itertools.combinations(noises, 2))


def test_no_seed_draws_anew() -> None:
    out = drop_factors(tf.constant(256), 0.5)
    with tf.Session() as session:
        assert (session.run(out) != session.run(out)).any()


def test_kernels_begin_as_in_the_official_code_and_decay() -> None:
    """Within a foreign scope, too, the classifier is linear and its initialiser its own."""
    foreign = {"activation_fn": tf.nn.relu, "weights_initializer": tf.ones_initializer()}
    with (
        slim.arg_scope([slim.fully_connected, slim.conv2d], **foreign),
        slim.arg_scope(backbones.efficientnet_arg_scope(weight_decay=1e-2)),
    ):
        logits, _ = tiny(tf.constant(IMAGES), is_training=False, num_classes=40)
    penalties = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    with started() as session:
        assert session.run(logits).min() < 0
        values = {v.op.name: session.run(v) for v in tf.trainable_variables()}
        penalty = session.run(tf.add_n(penalties))
    kernels = {name: value for name, value in values.items() if name.endswith("weights")}
    for name in values.keys() - kernels.keys():
        assert (values[name] == (1 if name.endswith("gamma") else 0)).all(), name
    assert len(penalties) == len(kernels) == 2 + 1 + sum(5 if b.expand != 1 else 4 for b in TINY.blocks)
    squares = sum((v.astype(float) ** 2).sum() for v in kernels.values())
    assert penalty == pytest.approx(0.5e-2 * squares, rel=1e-4)
    dense = kernels.pop("tiny/logits/weights")
    assert np.abs(dense).max() <= 40**-0.5 and dense.std() == pytest.approx(120**-0.5, rel=0.05)
    deviations = {name: math.sqrt(2 / math.prod((*v.shape[:2], v.shape[3]))) for name, v in kernels.items()}
    for name, value in kernels.items():
        assert value.size < 1000 or value.std() == pytest.approx(deviations[name], rel=0.15), name
    pooled = np.concatenate([value.ravel() / deviations[name] for name, value in kernels.items()])
    assert pooled.size > 10_000 and pooled.std() == pytest.approx(1, abs=0.03)
    assert np.mean(np.abs(pooled) > 2) == pytest.approx(0.0455, rel=0.2)  # not truncated


def test_initialisers_depend_on_fan_out_alone() -> None:
    draws = {
        backbones.conv_initializer: (([5, 5, 400, 1], math.sqrt(2 / 25)), ([1, 1, 100, 200], 0.1)),
        dense_initializer: (([500, 10], math.sqrt(1 / 30)),),
    }
    with tf.Session() as session:
        for initializer, cases in draws.items():
            for shape, deviation in cases:
                assert session.run(initializer(shape)).std() == pytest.approx(deviation, rel=0.05)
