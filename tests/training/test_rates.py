"""Rates by depth, parts that begin late, steps that are left out: by name, in Adam, and in the whole step."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.graphs import toy, trunk
from helpers.steps import Toy, trainable

from efficientnet_east import backbones, model
from efficientnet_east.backbones import catalog
from efficientnet_east.compat import tf
from efficientnet_east.config import load
from efficientnet_east.errors import UserError
from efficientnet_east.training import rates
from efficientnet_east.training.optimizer import Adam

GRADIENTS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


def names_of(backbone: str) -> list[str]:
    if backbone != "resnet50":
        with trunk(backbone, "swish").graph.as_default():
            return [variable.op.name for variable in tf.trainable_variables()]
    with tf.Graph().as_default():
        backbones.build(tf.zeros([1, 32, 32, 3]), backbone, is_training=False)
        return [variable.op.name for variable in tf.trainable_variables()]


def depth_of_b0(name: str) -> int:
    """Blocks between this one and the last of sixteen."""
    found = re.match(r"efficientnet-b0/(stem|blocks_(\d+)|head)/", name)
    assert found, name
    return {"stem": 16, "head": 0}.get(found[1], 15 - int(found[2] or 0))


def depth_of_resnet(name: str) -> int:
    """Units between this one and the last of 3 + 4 + 6 + 3."""
    if name.startswith("resnet_v1_50/conv1/"):
        return 16
    found = re.match(r"resnet_v1_50/block([1-4])/unit_(\d)/", name)
    assert found, name
    return 15 - (0, 3, 7, 13)[int(found[1]) - 1] - (int(found[2]) - 1)


@pytest.mark.parametrize(("backbone", "depth"), [("b0", depth_of_b0), ("resnet50", depth_of_resnet)])
def test_factors_of_a_backbone(backbone: str, depth: Callable[[str], int]) -> None:
    names = names_of(backbone)
    factor, plain = rates.factors(backbone, 0.5, 0.8), rates.factors(backbone, 1.0, 1.0)
    found = {name: factor(name) for name in names}
    assert found == pytest.approx({name: 0.5 * 0.8 ** depth(name) for name in names})
    assert len(set(found.values())) == 17 and {plain(name) for name in names} == {1.0}
    assert factor("feature_fusion/Conv_7/weights") == factor("efficientnet-b00/stem/weights") == 1.0


@pytest.mark.parametrize(("backbone", "frozen"), [("b0", "stage3"), ("tiny", "stem"), ("resnet50", "block2")])
def test_parts_that_are_frozen(backbone: str, frozen: str, tiny: None) -> None:
    """What `in_parts` names is what a graph with that part frozen does not train."""
    within = rates.in_parts(backbone, frozen)
    with tf.Graph().as_default():
        backbones.build(tf.zeros([1, 32, 32, 3]), backbone, is_training=True, frozen=frozen)
        trained = {variable.op.name for variable in tf.trainable_variables()}
        every = {variable.op.name for variable in tf.model_variables() if "moving" not in variable.op.name}
    assert {name for name in every if not within(name)} == trained
    assert not any(rates.in_parts(backbone, None)(name) for name in every)
    assert catalog.parts(backbone)[0] in ("stem", "conv1")


# --- Adam


def optimized(gradients: np.ndarray, live: np.ndarray | None = None, **options: Any) -> list[np.ndarray]:
    """A variable "v" and its moments after each of some steps with given gradients."""
    with tf.Graph().as_default():
        v = tf.get_variable("v", [5], initializer=tf.zeros_initializer())
        gradient, alive = tf.placeholder(tf.float32, [5]), tf.placeholder(tf.bool, [])
        step = tf.train.get_or_create_global_step()
        if "late_from" in options:
            options["late_steps"] = tf.cast(tf.maximum(step + 1 - options.pop("late_from"), 1), tf.float32)
        optimizer = Adam(tf.constant(0.1), live=None if live is None else alive, **options)
        update = optimizer.apply_gradients([(gradient, v)], step)
        wanted = [v, optimizer.get_slot(v, "m"), optimizer.get_slot(v, "v")]
        values = []
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for number, row in enumerate(gradients):
                session.run(update, {gradient: row, alive: live is None or live[number]})
                values.append(np.stack(session.run(wanted)))
            assert session.run(step) == len(gradients)
        return values


def test_without_options_it_is_adam() -> None:
    m, v, x = np.zeros(5), np.zeros(5), np.zeros(5)
    for t, (g, found) in enumerate(zip(GRADIENTS, optimized(GRADIENTS), strict=True), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x -= 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
        np.testing.assert_allclose(found, [x, m, v], rtol=1e-4, atol=1e-6)


def test_a_factor_scales_the_way_and_leaves_the_moments() -> None:
    for plain, scaled in zip(optimized(GRADIENTS), optimized(GRADIENTS, factor=lambda n: 0.3), strict=True):
        np.testing.assert_allclose(scaled, plain * [[0.3], [1], [1]], rtol=1e-5)


def test_a_step_left_out_is_as_if_it_had_not_been() -> None:
    """Weights, moments and the correction of later steps."""
    live = np.array([True, False, True, True, False, True])
    found = optimized(GRADIENTS, live)
    expected = optimized(GRADIENTS[live])
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_allclose([found[i] for i in np.flatnonzero(live)], expected, rtol=1e-5)


def test_what_begins_late_begins_as_a_first_step_does() -> None:
    """Not with the correction of the run's own age, which is another."""
    late = np.array([g * (number >= 3) for number, g in enumerate(GRADIENTS)])
    found = optimized(late, late=lambda name: name == "v", late_from=3)[3:]
    fresh = optimized(GRADIENTS[3:])
    np.testing.assert_allclose(found, fresh, rtol=1e-4)
    assert not np.allclose(optimized(late)[3:], fresh, rtol=0.1)


# --- the step


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_updates_are_in_the_ratio_of_the_factors(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW's decay, too; at factor 0 neither weights nor moments move: there are none."""
    given = {"stem": 0.25, "depthwise": 0.0}
    moved = []
    for share in (lambda name: 1.0, lambda name: given.get(name.split("/")[0], 1.0)):
        monkeypatch.setattr(rates, "factors", lambda *_, share=share: share)
        toy_run = Toy(monkeypatch, optimizer=optimizer, weight_decay=0.3, learning_rate=0.5)
        start = trainable(toy_run.values())
        toy_run.run(rate=0.01)
        moved.append({name: value - start[name] for name, value in trainable(toy_run.values()).items()})
    for name, whole in moved[0].items():
        assert whole.any()
        expected = whole * given.get(name.split("/")[0], 1.0)
        np.testing.assert_allclose(moved[1][name], expected, rtol=1e-3, atol=1e-5, err_msg=name)
    slots = {name.split("/")[0] for name in toy_run.variables if name.endswith("/Adam_1")}
    assert slots == {"stem", "score", "geometry"}


def test_the_step_reads_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(images: Any, **options: Any) -> model.Outputs:
        with tf.variable_scope("efficientnet-b0/blocks_14"):
            return toy(images, **options)

    toy_run = Toy(monkeypatch, network=deep, backbone_rate=0.5, layer_decay=0.5)
    start = trainable(toy_run.values())
    toy_run.run(rate=0.01)
    for name, value in trainable(toy_run.values()).items():
        assert np.abs(value - start[name]).max() == pytest.approx(0.01 * 0.5 * 0.5, rel=0.01), name


def test_unfreezing_needs_something_frozen() -> None:
    with pytest.raises(UserError, match=r"expected train\.unfreeze_at needs train\.frozen"):
        load(None, {"unfreeze_at": 5})
