"""The knobs: which maps, which activation, what batch norm does, what is frozen, dropped, recomputed."""

import functools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.graphs import SHORT, TINY, gated_block
from helpers.layers import (
    IMAGES,
    RNG,
    SMALL_RESNET,
    UPDATES,
    everything_of_a_step,
    names,
    session_with_random_variables,
)

from efficientnet_east import backbones, model, scaling
from efficientnet_east.backbones import catalog
from efficientnet_east.backbones.batch_norm import is_statistic, reestimate, sync_batch_norm
from efficientnet_east.backbones.efficientnets import ACTIVATIONS
from efficientnet_east.backbones.families import resnet50
from efficientnet_east.backbones.recompute import recomputed
from efficientnet_east.compat import slim, tf
from efficientnet_east.errors import UserError

tiny = functools.partial(backbones.efficientnet, network=TINY, scope="tiny")


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(1)
        yield graph


# --- feature maps


@pytest.mark.parametrize("recompute", [False, True])
def test_expanded_maps_are_what_the_strided_convolutions_read(graph: Any, recompute: bool) -> None:
    _, end_points = tiny(tf.constant(IMAGES), pre_stride="expand", recompute=recompute, drop_connect=0.0)
    read = {}
    for op in graph.get_operations():
        if op.type == "DepthwiseConv2dNative" and op.get_attr("strides")[1] == 2:
            read[op.name.split("/")[1]] = op.inputs[0]
    strided = [block.name for block in TINY.blocks if block.stride == 2]
    for level, feature in enumerate(scaling.features(TINY, "expand"), start=1):
        found = end_points[f"f{level}"]
        side = math.ceil(64 / feature.stride)
        assert found.shape.as_list() == [4, side, side, feature.channels]
        if level < 5 and not recompute:
            assert found is read[strided[level - 1]] and found.op.type == "Relu"
    assert end_points["f5"] is end_points["head"]
    with session_with_random_variables() as session:
        values = session.run([end_points[f"f{level}"] for level in range(1, 6)])
        again = session.run([read[name] for name in strided])
    for value, expected in zip(values, again, strict=False):
        np.testing.assert_array_equal(value, expected)


def test_maps_of_b0_and_b4_by_either_reading() -> None:
    for name, channels in (("b0", (96, 144, 240, 672, 1280)), ("b4", (144, 192, 336, 960, 1792))):
        assert catalog.get_backbone(name, pre_stride="expand").channels == channels
    assert catalog.get_backbone("b4").channels == (24, 32, 56, 160, 448)


def test_coarser_maps_are_pooled() -> None:
    _, end_points = tiny(tf.constant(IMAGES[:, :, :48]), levels=7, is_training=False)
    assert "pool6" not in end_points
    with session_with_random_variables() as session:
        five, six, seven = session.run([end_points[f"f{level}"] for level in (5, 6, 7)])
    assert five.shape[1:3] == (2, 2) and six.shape[1:3] == seven.shape[1:3] == (1, 1)
    np.testing.assert_array_equal(six, five.max((1, 2), keepdims=True))
    np.testing.assert_array_equal(seven, six)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (225, 96)])
def test_sizes_known_late_give_the_same_maps(size: tuple[int, int]) -> None:
    """Odd ones, too, and those that leave a single cell at stride 32."""
    images = RNG.normal(size=(1, *size, 3)).astype(np.float32)
    late = tf.placeholder(tf.float32, [None, None, None, 3])
    _, static = tiny(tf.constant(images), is_training=False)
    _, dynamic = tiny(late, is_training=False, reuse=True)
    with session_with_random_variables() as session:
        for level in range(1, 6):
            a, b = session.run([static[f"f{level}"], dynamic[f"f{level}"]], {late: images})
            assert a.shape[1:3] == tuple(math.ceil(side / 2**level) for side in size)
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", [backbones.efficientnet_b0, model.build])
@pytest.mark.parametrize("shape", [(1, 64, 64, 1), (1, 64, 64, 4), (64, 64, 3), (1, 64, 64, None), None])
def test_images_without_three_channels(shape: tuple[int, ...] | None, build: Any) -> None:
    images = tf.placeholder(tf.float32, shape)
    with pytest.raises(UserError, match=r"images: have the shape .*expected \(batch, height, width, 3\)"):
        build(images)


def test_images_of_another_kind() -> None:
    with pytest.raises(UserError, match="images: are uint8; expected float32 or"):
        backbones.efficientnet_b0(tf.zeros([1, 32, 32, 3], tf.uint8))
    for build in (backbones.efficientnet_b0, model.build):
        with pytest.raises(UserError, match="images: are of type ndarray; expected a tensor"):
            build(np.zeros((1, 32, 32, 3), np.float32))
        with pytest.raises(UserError, match="images: are float64; expected"):
            build(tf.zeros([1, 32, 32, 3], tf.float64))
    with pytest.raises(UserError, match="levels: is 8; expected 5, 6 or 7"):
        model.build(tf.zeros([1, 128, 128, 3]), levels=8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pre_stride": "after"}, "pre_stride: unknown 'after'; expected one of block, expand"),
        ({"levels": 8}, "levels: is 8; expected 5, 6 or 7"),
        ({"activation": "elu"}, "activation: unknown 'elu'; expected one of relu, relu6, swish, hard-swish"),
        ({"batch_norm": "off"}, "batch_norm: unknown mode 'off'; expected one of train, frozen, sync"),
        ({"frozen": "stage8"}, "frozen: unknown part 'stage8'; expected one of stem, stage1, stage2"),
        ({"name": "b9"}, "unknown variant 'b9'; expected one of b0, .*mnasnet-a1, resnet50, or phi=NUMBER"),
        ({"name": "resnet50", "pre_stride": "expand"}, "pre_stride: 'expand' with resnet50; expected block"),
        ({"name": "resnet50", "activation": "swish"}, "activation: 'swish' with resnet50; expected relu"),
        (
            {"name": "resnet50", "frozen": "stem"},
            "frozen: unknown part 'stem'; expected one of conv1, block1",
        ),
    ],
)
def test_options_that_cannot_be_had(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        backbones.build(tf.zeros([1, 32, 32, 3]), **{"name": "b0"} | options)


# --- activations


def test_activations_by_hand() -> None:
    x = np.linspace(-8, 8, 101).astype(np.float32)
    gate = 1 / (1 + np.exp(-x))
    expected = {"relu": np.maximum(x, 0), "relu6": np.clip(x, 0, 6), "swish": x * gate,
                "hard-swish": x * np.clip(x + 3, 0, 6) / 6}  # fmt: skip
    assert expected.keys() == ACTIVATIONS.keys()
    with tf.Session() as session:
        for name, values in expected.items():
            np.testing.assert_allclose(session.run(ACTIVATIONS[name](tf.constant(x))), values, atol=1e-6)


def test_lite_has_no_gates_and_is_made_for_relu6(graph: Any) -> None:
    lite = catalog.get_backbone("lite0")
    assert lite.activation == "relu6" and lite.normalization == "lite"
    backbones.build(tf.zeros([1, 32, 32, 3]), "lite0", is_training=False, activation="relu6")
    kinds = [op.type for op in graph.get_operations()]
    assert kinds.count("Relu6") == 1 + 15 * 2 + 1 and "Sigmoid" not in kinds and "Mean" not in kinds


# --- batch norm


def test_frozen_statistics_stay_bit_for_bit() -> None:
    """Through training steps that move every weight; the gradients use the moving statistics."""
    net, _ = tiny(tf.constant(IMAGES), batch_norm="frozen", activation="swish")
    # Adam's first step has the size of the rate, however small a gradient is.
    step = tf.train.AdamOptimizer(0.01, epsilon=1e-30).minimize(tf.reduce_mean(net**2))
    assert tf.get_collection(UPDATES) == []
    statistics = [v for v in tf.global_variables() if is_statistic(v.op.name)]
    with session_with_random_variables() as session:
        session.run(tf.variables_initializer([v for v in tf.global_variables() if "Adam" in v.op.name]))
        before, weights = session.run([statistics, tf.trainable_variables()])
        session.run([step, tf.get_collection(UPDATES)])
        after, moved = session.run([statistics, tf.trainable_variables()])
    assert len(statistics) == 2 * (1 + sum(3 if b.expand != 1 else 2 for b in TINY.blocks))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all((a != b).any() for a, b in zip(weights, moved, strict=True))


def test_synchronised_on_one_replica_is_plain() -> None:
    """Outputs, gradients, statistics; and at inference the same operations."""
    results = {}
    for mode in ("train", "sync"):
        with tf.Graph().as_default():
            # Without ReLU's kink, where a last digit may decide about a whole gradient.
            net, _ = tiny(tf.constant(IMAGES), batch_norm=mode, drop_connect=0.0, activation="swish")
            gradients = tf.gradients(tf.reduce_mean(net**2), tf.trainable_variables())
            statistics = [v for v in tf.global_variables() if is_statistic(v.op.name)]
            with session_with_random_variables() as session:
                values = session.run([net, *gradients])
                session.run(tf.get_collection(UPDATES))
                results[mode] = (names(tf.model_variables()), [*values, *session.run(statistics)])
    assert results["train"][0] == results["sync"][0]
    for a, b in zip(results["train"][1], results["sync"][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    tiny(tf.constant(IMAGES), batch_norm="sync", is_training=False)
    assert "FusedBatchNormV3" in {op.type for op in tf.get_default_graph().get_operations()}


def test_synchronised_needs_a_plain_answer() -> None:
    with pytest.raises(ValueError, match="is_training as a bool"):
        sync_batch_norm(tf.zeros([1, 2, 2, 3]), is_training=tf.constant(True), decay=0.9, epsilon=1e-3)


TWO_REPLICAS = """
import sys
import numpy as np
from efficientnet_east import backbones
from efficientnet_east.compat import tf
from helpers import sessions
from helpers.graphs import SHORT

sessions.let_tests_choose()
sessions.REWRITES[:] = [False]
tf.disable_v2_behavior()
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
given = np.load(sys.argv[1])
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def step(images):
    net = backbones.efficientnet(images, SHORT, scope="short", batch_norm="sync", recompute=True,
                                 drop_connect=0.0, activation="swish")[1]["blocks_2"]
    return net, [*tf.gradients(tf.reduce_mean(net**2), tf.trainable_variables())]


with tf.Graph().as_default(), strategy.scope():
    data = tf.data.Dataset.from_tensor_slices(given["images"]).batch(4, drop_remainder=True)
    iterator = strategy.experimental_distribute_dataset(data).make_initializable_iterator()
    of_all = strategy.experimental_local_results
    net, gradients = strategy.run(step, args=(iterator.get_next(),))
    wanted = {"net": tf.concat(of_all(net), 0)}
    for variable, gradient in zip(tf.trainable_variables(), gradients):
        wanted["gradient/" + variable.op.name] = tf.add_n([*of_all(gradient)]) / 2
    copies = {variable.op.name: of_all(variable) for variable in tf.global_variables()}
    with tf.Session() as session:
        session.run(iterator.initializer)
        for name, each in copies.items():
            session.run([copy.assign(given[name]) for copy in each])
        found = session.run(wanted)
        session.run(iterator.initializer)
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        found |= session.run({name: tf.stack(each) for name, each in copies.items() if "moving" in name})
np.savez(sys.argv[2], **found)
"""


def test_synchronised_over_two_replicas_is_one_batch(tmp_path: Path) -> None:
    """Two devices with half of the batch each, blocks recomputed, against fused kernels with all of it."""
    options = {"scope": "short", "drop_connect": 0.0, "activation": "swish"}
    net = backbones.efficientnet(tf.constant(IMAGES), SHORT, **options)[1]["blocks_2"]
    trained = tf.trainable_variables()
    wanted = {"net": net}
    for variable, gradient in zip(trained, tf.gradients(tf.reduce_mean(net**2), trained), strict=True):
        wanted[f"gradient/{variable.op.name}"] = gradient
    with session_with_random_variables() as session:
        np.savez(tmp_path / "given.npz", images=IMAGES,
                 **session.run({v.op.name: v for v in tf.global_variables()}))  # fmt: skip
        expected = session.run(wanted)
        session.run(tf.get_collection(UPDATES))
        averages = session.run({v.op.name: v for v in tf.global_variables() if is_statistic(v.op.name)})
    (tmp_path / "two.py").write_text(TWO_REPLICAS)
    tests = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    command = [sys.executable, "two.py", "given.npz", "found.npz"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(tmp_path / "found.npz")
    assert set(found) == expected.keys() | averages.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=2e-5, err_msg=name)
    for name, value in averages.items():
        np.testing.assert_allclose(found[name], np.stack([value, value]), rtol=1e-4, atol=1e-5, err_msg=name)


def test_statistics_are_estimated_anew_over_all_batches() -> None:
    """Against NumPy on all the cells together; afterwards inference sees what training saw."""
    images = tf.placeholder(tf.float32, [None, 64, 64, 3])
    trained = tiny(images, bn_decay=0.0, drop_connect=0.0)[1]["f2"]
    still = tiny(images, is_training=False, reuse=True)[1]["f2"]
    raw = tf.nn.conv2d(images, tf.trainable_variables("tiny/stem/weights")[0], 2, "SAME")
    statistics = [v for v in tf.global_variables() if is_statistic(v.op.name)]
    batches = [RNG.normal(i, 1 + i, (2, 64, 64, 3)).astype(np.float32) for i in range(3)]
    updates = tf.get_collection(UPDATES)
    with session_with_random_variables() as session:
        found = reestimate(session, updates, statistics, ({images: batch} for batch in batches))
        cells = np.concatenate([session.run(raw, {images: batch}) for batch in batches]).astype(np.float64)
        expected = cells.mean((0, 1, 2)), cells.var((0, 1, 2))
        for leaf, value in zip(("moving_mean", "moving_variance"), expected, strict=True):
            np.testing.assert_allclose(found[f"tiny/stem/BatchNorm/{leaf}"], value, rtol=1e-3, atol=1e-5)
        one = reestimate(session, updates, statistics, [{images: batches[0]}])
        for variable in statistics:
            variable.load(one[variable.op.name], session)
        a, b = session.run([trained, still], {images: batches[0]})
        np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02 * np.abs(a).max())
        with pytest.raises(ValueError, match="at least one batch"):
            reestimate(session, updates, statistics, [])


# --- freezing


@pytest.mark.parametrize("part", ["stem", "blocks_2", "blocks_6"])
def test_frozen_up_to_a_part(part: str, graph: Any) -> None:
    net, end_points = tiny(tf.constant(IMAGES), frozen=part, drop_connect=0.9)
    until = 0 if part == "stem" else int(part.rpartition("_")[2]) + 1
    still = {"stem"} | {block.name for block in TINY.blocks[:until]}
    trained = {name.split("/")[1] for name in names(tf.trainable_variables())}
    assert trained == {block.name for block in TINY.blocks} - still
    assert names(tf.model_variables()) == names(tf.global_variables())
    updated = {op.name.split("/")[1] for op in tf.get_collection(UPDATES)}
    assert updated == trained
    drawn = {gated_block(op) for op in graph.get_operations() if op.type == "Floor"}
    # The rate of the very first block is 0.
    assert drawn == {block.name for block in TINY.blocks[1:] if block.residual} - still
    if until < len(TINY.blocks):
        gradients = tf.gradients(tf.reduce_mean(net**2), tf.trainable_variables())
        assert None not in gradients and end_points["stem"].shape[3] == TINY.stem


def test_names_of_parts() -> None:
    """Stages are counted as in the Keras and PyTorch ports: B0's second ends with blocks_2."""
    for name, expected in (("b0", [1, 3, 5, 8, 11, 15, 16]), ("b4", [2, 6, 10, 16, 22, 30, 32])):
        found = [catalog.frozen_parts(name, f"stage{stage}") for stage in range(1, 8)]
        assert [len(parts) - 1 for parts in found] == expected
        assert catalog.frozen_parts(name, "stem") == ("stem",)
    assert catalog.frozen_parts("b0", "blocks_4")[-1] == "blocks_4"
    assert catalog.frozen_parts("resnet50", "conv1") == ("conv1",)
    assert catalog.frozen_parts("resnet50", "block2")[-1] == "block2/unit_4"


# --- stochastic depth


def test_survival_of_every_block_follows_the_schedule(graph: Any) -> None:
    """Measured on B0: how often each block's branch was kept, over thousands of images."""
    count, runs = 400, 10
    images = tf.placeholder(tf.float32, [None, 32, 32, 3])
    seed = tf.placeholder(tf.int32, [2])
    backbones.efficientnet_b0(images, is_training=True, drop_connect=0.2, seed=seed)
    floors = [op.outputs[0] for op in graph.get_operations() if op.type == "Floor"]
    batch = np.zeros((count, 32, 32, 3), np.float32)
    with session_with_random_variables() as session:
        drawn = [session.run(floors, {images: batch, seed: [1, run]}) for run in range(runs)]
    kept = np.mean([[mask.mean() for mask in masks] for masks in drawn], axis=0)
    blocks = scaling.resolve(scaling.VARIANTS["b0"]).blocks
    expected = np.array([1 - 0.2 * i / len(blocks) for i, block in enumerate(blocks) if block.residual])
    assert len(kept) == 9
    deviations = np.sqrt(expected * (1 - expected) / (count * runs))
    assert np.abs((kept - expected) / deviations).max() < 4


# --- recomputation


@pytest.mark.parametrize(
    "options",
    [{}, {"pre_stride": "expand"}, {"batch_norm": "sync", "frozen": "blocks_1"}, {"name": "resnet50"}],
)
def test_recomputed_gradients_are_the_same(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet50, "ROWS", SMALL_RESNET)
    build = backbones.build if "name" in options else tiny
    results = []
    for recompute in (False, True):
        with tf.Graph().as_default():
            given = {"recompute": recompute, "seed": tf.constant([1, 2]), "drop_connect": 0.9} | options
            with slim.arg_scope(backbones.efficientnet_arg_scope(1e-3)):
                _, maps = build(tf.constant(IMAGES[:2]), **given)
            results.append(everything_of_a_step(maps))
    assert results[0][0] == results[1][0]
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())


def test_nothing_inside_a_recomputed_block_is_kept(graph: Any) -> None:
    """No operation of the backward pass reads what lies inside of a block of the forward pass."""
    net, _ = tiny(tf.constant(IMAGES), recompute=True, drop_connect=0.0)
    forward = {op.name for op in graph.get_operations()}
    tf.gradients(tf.reduce_mean(net**2), tf.trainable_variables())
    backward = [op for op in graph.get_operations() if op.name not in forward]
    inside = {
        tensor.op.name
        for op in backward
        for tensor in op.inputs
        if tensor.op.name in forward and "/blocks_" in tensor.op.name and (tensor.shape.rank or 0) == 4
        and not tensor.op.type.startswith(("IdentityN", "ReadVariable", "VarHandle"))
    }  # fmt: skip
    assert inside == set() and any("DepthwiseConv2dNative" in op.type for op in backward)


def test_recomputed_part_by_hand() -> None:
    """d(w x^2)/dx = 2 w x, d/dw = x^2; the second building sees `again`."""
    seen = []

    def square(x: Any, *, again: bool) -> list[Any]:
        seen.append(again)
        return [tf.get_variable("w", [], tf.float32, tf.constant_initializer(5.0)) * x * x]

    x = tf.constant([3.0, -2.0])
    (y,) = recomputed(square, x)
    gradients = tf.gradients(y, [x, *tf.trainable_variables()])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        value, dx, dw = session.run([y, *gradients])
    assert seen == [False, True]
    assert (value.tolist(), dx.tolist(), dw) == ([45.0, 20.0], [30.0, -20.0], 13.0)
