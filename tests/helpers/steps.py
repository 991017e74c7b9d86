"""Training steps of a network of four layers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from helpers.graphs import toy

from efficientnet_east import model
from efficientnet_east.compat import tf
from efficientnet_east.config import load
from efficientnet_east.training import session


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
            self.of_passes = tf.local_variables()
            self.session = tf.Session(graph=graph)
            self.session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])

    def run(self, rate: float = 0.01, spoil: float = 1.0) -> tuple[dict[str, float], bool]:
        rng = np.random.default_rng(int(self.session.run(self.step.global_step)))
        batch = crops(rng, 2)
        return self.pass_of(batch | {"score": batch["score"] * spoil}, rate)

    def pass_of(self, batch: dict[str, np.ndarray], rate: float = 0.01) -> tuple[dict[str, float], bool]:
        """The pass that ends a step."""
        fetches = [self.step.update, self.step.scalars, self.step.finite]
        _, scalars, finite = self.session.run(fetches, self.feed(batch) | {self.feeds["learning_rate"]: rate})
        return scalars, bool(finite)

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """A pass before that."""
        self.session.run(self.step.add, self.feed(batch))

    def feed(self, batch: dict[str, np.ndarray]) -> dict[Any, Any]:
        return {self.feeds[name]: value for name, value in batch.items()}

    def values(self, suffix: str = "", names: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """The model's variables, or what stands beside them under a suffix."""
        return self.session.run({name: self.variables[name + suffix] for name in names or self.names})


def crops(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """A batch of noise."""
    return {
        "images": rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8),
        "score": (rng.random((count, 16, 16, 1)) > 0.5) * 1.0,
        "geometry": rng.uniform(1, 50, (count, 16, 16, 5)),
        "mask": np.ones((count, 16, 16, 1)),
    }


def trainable(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in values.items() if "moving" not in name}
