"""What one training step computes: averages, decay, clipping. On a network of four layers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from efficientnet_east import model
from efficientnet_east.compat import slim, tf
from efficientnet_east.config import Config, load
from efficientnet_east.training import session
from efficientnet_east.training import step as training_step


def toy(images: Any, *, weight_decay: float, **options: Any) -> model.Outputs:
    """A small stand-in for `model.build` with every kind of variable."""
    regularizer = slim.l2_regularizer(weight_decay) if weight_decay else None
    with slim.arg_scope([slim.conv2d, slim.separable_conv2d], weights_regularizer=regularizer):
        net = tf.cast(images, tf.float32) / 255.0
        batch_norm = {"scale": True, "is_training": True, "decay": 0.5}
        net = slim.conv2d(
            net, 4, 3, stride=4, normalizer_fn=slim.batch_norm, normalizer_params=batch_norm, scope="stem"
        )
        net = slim.separable_conv2d(net, None, 3, 1, scope="depthwise")
        score = slim.conv2d(net, 1, 1, activation_fn=tf.sigmoid, scope="score")
        geometry = slim.conv2d(net, 5, 1, activation_fn=tf.sigmoid, scope="geometry")
    return model.Outputs(score, geometry * [100.0, 100.0, 100.0, 100.0, 0.7])


class Toy:
    """Steps of the toy, from the same first weights whatever the options."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, network: Any = toy, **fields: Any) -> None:
        monkeypatch.setattr(model, "build", network)
        self.config = load(None, {"crop_size": 64, "batch_size": 2} | fields)
        with tf.Graph().as_default() as graph:
            tf.set_random_seed(3)
            self.feeds, self.step = session.build(self.config)
            self.names = [variable.op.name for variable in tf.model_variables()]
            self.variables = {variable.op.name: variable for variable in tf.global_variables()}
            self.session = tf.Session(graph=graph)
            self.session.run(tf.global_variables_initializer())

    def run(self, rate: float = 0.01, spoil: float = 1.0) -> tuple[dict[str, float], bool]:
        rng = np.random.default_rng(int(self.session.run(self.step.global_step)))
        values = {
            "images": rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8),
            "score": (rng.random((2, 16, 16, 1)) > 0.5) * spoil,
            "geometry": rng.uniform(1, 50, (2, 16, 16, 5)),
            "mask": np.ones((2, 16, 16, 1)),
            "learning_rate": rate,
        }
        feed = {self.feeds[name]: value for name, value in values.items()}
        _, scalars, finite = self.session.run([self.step.update, self.step.scalars, self.step.finite], feed)
        return scalars, bool(finite)

    def values(self, suffix: str = "", names: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """The model's variables, or what stands beside them under a suffix."""
        return self.session.run({name: self.variables[name + suffix] for name in names or self.names})


def trainable(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in values.items() if "moving" not in name}


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


def test_the_step_is_the_models(tiny: None) -> None:
    """The toy stands in for this: the step hands the whole section `model` and its own options on."""
    assert training_step.model is model
    assert Config().model.model_dump().keys() <= model.build.__kwdefaults__.keys()
