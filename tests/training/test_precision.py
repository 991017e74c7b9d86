"""The loss's scale in float16: what a gradient that is not finite does to it, to weights and to the run."""

from typing import Any

import numpy as np
import pytest
from helpers.graphs import toy
from helpers.steps import Toy, crops

from efficientnet_east import model
from efficientnet_east.compat import tf
from efficientnet_east.training import loss_scale


def brittle(images: Any, **options: Any) -> model.Outputs:
    """The toy, with a finite loss and a gradient of 0 / 0 where all images are black."""
    outputs = toy(images, **options)
    brightness = tf.reduce_mean(tf.cast(images, tf.float32))
    weight = next(v for v in tf.trainable_variables() if v.op.name == "score/weights")
    return outputs._replace(geometry=outputs.geometry + tf.sqrt(tf.reduce_sum(weight * brightness) ** 2))


GOOD = crops(np.random.default_rng(0), 2)
BAD = GOOD | {"images": GOOD["images"] * 0}


def values_of(run: Toy) -> dict[str, np.ndarray]:
    kept = {"loss_scale", "loss_scale_good_steps", "global_step"}
    averages = "/ExponentialMovingAverage"
    return run.values(names=[n for n in run.variables if n not in kept and not n.endswith(averages)])


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_scaled_step_is_the_plain_one(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale is a power of two, so that it changes no digit; weights and moments are those of float32."""
    ends = []
    for precision in ("float32", "float16"):
        toy_run = Toy(monkeypatch, precision=precision, optimizer=optimizer, accumulate=2)
        assert ("loss_scale" in toy_run.variables) == (precision == "float16")
        toy_run.add(GOOD)
        scalars, finite = toy_run.pass_of(GOOD)
        assert finite
        ends.append(values_of(toy_run))
    assert scalars["loss_scale"] == loss_scale.FIRST and ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_gradient_that_is_not_finite_costs_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and moments stand still, nothing decays, the scale halves, and the run goes on."""
    toy_run = Toy(monkeypatch, network=brittle, precision="float16", optimizer="adamw", weight_decay=0.5)
    toy_run.pass_of(GOOD)
    before = values_of(toy_run)
    scalars, finite = toy_run.pass_of(BAD)
    assert finite and np.isfinite(scalars["loss/total"]) and not np.isfinite(scalars["gradient_norm"])
    for name, value in values_of(toy_run).items():
        if "moving" not in name:
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert toy_run.session.run(toy_run.step.global_step) == 2, "the batch has been seen"
    scalars, finite = toy_run.pass_of(GOOD)
    assert finite and scalars["loss_scale"] == loss_scale.FIRST / 2 and np.isfinite(scalars["gradient_norm"])
    assert (toy_run.values(names=["stem/weights"])["stem/weights"] != before["stem/weights"]).any()


def test_the_scale_grows_and_stops_the_run_at_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scale, "FIRST", 4.0)
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 2)
    toy_run = Toy(monkeypatch, network=brittle, precision="float16")
    batches = [GOOD, GOOD, GOOD, BAD, GOOD, BAD, BAD, BAD]
    seen = [toy_run.pass_of(batch) for batch in batches]
    assert [scalars["loss_scale"] for scalars, _ in seen] == [4, 4, 8, 8, 4, 4, 2, 1]
    assert [finite for _, finite in seen] == [True] * 7 + [False]


def test_a_loss_that_is_not_finite_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scale of the gradients could help what was computed before them."""
    toy_run = Toy(monkeypatch, precision="float16")
    assert not toy_run.pass_of(GOOD | {"score": GOOD["score"] * np.nan})[1]
