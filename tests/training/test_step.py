"""What one training step computes: averages, decay, clipping. On a network of four layers."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from helpers.graphs import toy
from helpers.steps import Toy, crops, trainable

from efficientnet_east import model
from efficientnet_east.config import Config
from efficientnet_east.options import ModelOptions
from efficientnet_east.training import step as training_step


def test_averages_equal_a_recomputation(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_run = Toy(monkeypatch, ema_decay=0.3)
    averages = {name: value.astype(np.float64) for name, value in toy_run.values().items()}
    assert {name.split("/")[-1] for name in averages} == {
        "weights", "depthwise_weights", "biases", "gamma", "beta", "moving_mean", "moving_variance",
    }  # fmt: skip
    for step in (1, 2, 3, 4):
        toy_run.run(rate=0.1)
        decay = min(0.3, (1 + step) / (10 + step))  # 2/11, 3/12, then the full one
        for name, value in toy_run.values().items():
            averages[name] = decay * averages[name] + (1 - decay) * value
        for name, value in toy_run.values("/ExponentialMovingAverage").items():
            np.testing.assert_allclose(value, averages[name], rtol=1e-5, atol=1e-6, err_msg=f"{name} {step}")


def test_adamw_decays_kernels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step with and without decay differ by the factor 1 - rate x decay, on kernels and nowhere else."""
    ends = []
    for weight_decay in (0.0, 0.5):
        toy_run = Toy(monkeypatch, optimizer="adamw", weight_decay=weight_decay)
        start = toy_run.values()
        scalars, _ = toy_run.run(rate=0.1)
        assert scalars["loss/total"] == scalars["loss/model"], "no L2 in the loss"
        ends.append(toy_run.values())
    for name, plain in ends[0].items():
        factor = 1 - 0.1 * 0.5 if name.endswith("weights") else 1.0
        np.testing.assert_allclose(ends[1][name], plain * factor, rtol=1e-6, err_msg=name)
        assert (plain != start[name]).any(), f"{name} does not learn"


def test_adam_has_l2_in_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_run = Toy(monkeypatch, optimizer="adam", weight_decay=0.2)
    kernels = [value for name, value in toy_run.values().items() if name.endswith("weights")]
    scalars, _ = toy_run.run()
    expected = 0.2 * 0.5 * sum((kernel**2).sum() for kernel in kernels)
    assert scalars["loss/total"] - scalars["loss/model"] == pytest.approx(expected, rel=1e-4)


def test_first_step_of_adam_and_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's first step is the rate, with the gradient's sign; its first moment a tenth of the gradient."""
    for clip, limit in ((0.01, 0.01), (1e6, np.inf), (0.0, np.inf)):
        toy_run = Toy(monkeypatch, clip_norm=clip)
        before = trainable(toy_run.values())
        scalars, _ = toy_run.run(rate=0.01)
        after = trainable(toy_run.values())
        moments = toy_run.values("/Adam", before)
        norm = 10 * np.sqrt(sum((moment**2).sum() for moment in moments.values()))
        assert scalars["gradient_norm"] > 0.1
        assert norm == pytest.approx(min(scalars["gradient_norm"], limit), rel=1e-3)
        for name, gradient in ((name, 10 * moment) for name, moment in moments.items()):
            expected = before[name] - 0.01 * gradient / (np.abs(gradient) + 1e-8 / np.sqrt(0.001))
            np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_step_counts_and_sees_what_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_run = Toy(monkeypatch)
    assert toy_run.run()[1] and toy_run.session.run(toy_run.step.global_step) == 1
    scalars, finite = toy_run.run(spoil=np.nan)
    assert not finite and not np.isfinite(scalars["loss/total"])


def test_dropped_blocks_are_drawn_from_seed_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a resumed run drops the same blocks, and no two steps do."""
    seeds = []

    def toy_and_tell(images: Any, **options: Any) -> model.Outputs:
        seeds.append(options["seed"])
        return toy(images, **options)

    toy_run = Toy(monkeypatch, network=toy_and_tell, seed=5)
    assert toy_run.session.run(seeds[0]).tolist() == [5, 0]
    toy_run.run()
    assert toy_run.session.run(seeds[0]).tolist() == [5, 1]


# --- accumulation


def test_the_passes_of_a_step_are_one_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three passes of two crops and one of six: weights, moments, averages, scalars, over three steps.

    Where batch norm is frozen and the loss is a mean over crops, as it is here, with text in every cell.
    """
    options = {"batch_norm": "frozen", "score_loss": "balanced_cross_entropy"}
    whole = Toy(monkeypatch, batch_size=6, **options)
    parts = Toy(monkeypatch, batch_size=2, accumulate=3, **options)
    assert not whole.of_passes and whole.step.add is None
    assert parts.variables.keys() == whole.variables.keys(), "nothing of the passes is saved"
    rng = np.random.default_rng(0)
    for step in range(3):
        batch = crops(rng, 6) | {"score": np.ones((6, 16, 16, 1))}
        thirds = [{name: value[i : i + 2] for name, value in batch.items()} for i in (0, 2, 4)]
        parts.add(thirds[0])
        parts.add(thirds[1])
        assert parts.session.run(parts.step.global_step) == step
        scalars, finite = parts.pass_of(thirds[2])
        expected, _ = whole.pass_of(batch)
        assert finite and scalars == pytest.approx(expected, rel=1e-5)
        assert parts.session.run(parts.step.global_step) == step + 1
        for value in parts.session.run(parts.of_passes):
            assert not value.any()
    found, wanted = (run.values(names=run.variables) for run in (parts, whole))
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_mean_over_passes_is_that_of_their_own_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """With batch statistics and the dice loss, which a pass takes over its own crops. And those of a pass's
    statistics are averaged in every pass."""
    batches = [crops(np.random.default_rng(seed), 2) for seed in (1, 2)]
    alone = []
    for batch in batches:
        toy_run = Toy(monkeypatch, clip_norm=0)
        toy_run.pass_of(batch)
        alone.append(toy_run.values("/Adam", trainable(toy_run.values())))
    toy_run = Toy(monkeypatch, clip_norm=0, accumulate=2)
    toy_run.add(batches[0])
    between = toy_run.values()
    toy_run.pass_of(batches[1])
    for name, moment in toy_run.values("/Adam", alone[0]).items():
        expected = (alone[0][name] + alone[1][name]) / 2
        np.testing.assert_allclose(moment, expected, rtol=1e-4, atol=1e-7, err_msg=name)
    start = Toy(monkeypatch).values()
    for name, value in between.items():
        assert (value != start[name]).any() == ("moving" in name), name


def test_every_pass_must_be_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = crops(np.random.default_rng(0), 2)
    spoiled = batch | {"score": batch["score"] * np.nan}
    toy_run = Toy(monkeypatch, accumulate=3)
    for order, expected in (((batch, batch, batch), True), ((spoiled, batch, batch), False)):
        toy_run.add(order[0])
        toy_run.add(order[1])
        scalars, finite = toy_run.pass_of(order[2])
        assert finite == expected == np.isfinite(scalars["loss/total"])


def test_every_pass_drops_its_own_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def toy_and_tell(images: Any, **options: Any) -> model.Outputs:
        seeds.append(options["seed"])
        return toy(images, **options)

    toy_run = Toy(monkeypatch, network=toy_and_tell, seed=5, accumulate=2)
    batch, found = crops(np.random.default_rng(0), 2), []
    for run in (toy_run.add, toy_run.pass_of, toy_run.add, toy_run.pass_of):
        found.append(toy_run.session.run(seeds[0]).tolist())
        run(batch)
    assert found == [[5, 0], [5, 1], [5, 2], [5, 3]]


def test_the_step_is_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy stands in for this: the step hands the whole section `model` and its own options on."""
    assert training_step.model is model
    known = {field.name for field in dataclasses.fields(ModelOptions)} | model.build.__kwdefaults__.keys()
    given: set[str] = set()

    def toy_and_tell(images: Any, **options: Any) -> model.Outputs:
        given.update(options)
        return toy(images, **options)

    Toy(monkeypatch, network=toy_and_tell)
    assert Config().model.model_dump().keys() <= given <= known
