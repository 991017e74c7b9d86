"""The learning rate over a run, and the steps on which periodic work falls."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.config import Train
from efficientnet_east.training.schedule import is_due, learning_rate


def train(**fields: object) -> Train:
    return Train(**{"learning_rate": 0.01, "steps": 1000, "warmup_steps": 100} | fields)  # type: ignore[arg-type]


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    rates = [learning_rate(step, train()) for step in range(101)]
    assert rates[0] == pytest.approx(0.0001)  # the first step learns, too
    assert rates[:100] == pytest.approx([0.0001 * (step + 1) for step in range(100)])
    assert rates[99] == pytest.approx(0.01) and rates[100] == pytest.approx(0.01)


def test_no_warm_up() -> None:
    for schedule in ("cosine", "exponential", "constant"):
        assert learning_rate(0, train(warmup_steps=0, schedule=schedule)) == 0.01


def test_cosine_halves_in_the_middle_and_ends_at_zero() -> None:
    options = train(schedule="cosine")
    assert learning_rate(550, options) == pytest.approx(0.005)
    assert learning_rate(325, options) == pytest.approx(0.01 * (2 + math.sqrt(2)) / 4)
    assert learning_rate(1000, options) == 0.0
    assert 0 < learning_rate(999, options) < 1e-7
    assert learning_rate(5000, options) == 0.0  # beyond the end it does not rise again


def test_exponential_is_a_staircase() -> None:
    options = train(schedule="exponential", decay_steps=300, decay_factor=0.5)
    assert [learning_rate(step, options) for step in (299, 300, 599, 600)] == [0.01, 0.005, 0.005, 0.0025]


def test_constant() -> None:
    assert {learning_rate(step, train(schedule="constant")) for step in range(100, 3000, 7)} == {0.01}


@settings(deadline=None)
@given(
    step=st.integers(0, 10_000),
    steps=st.integers(1, 5000),
    warmup=st.integers(0, 6000),
    schedule=st.sampled_from(["cosine", "exponential", "constant"]),
)
def test_never_above_the_peak_nor_negative(step: int, steps: int, warmup: int, schedule: str) -> None:
    options = train(steps=steps, warmup_steps=warmup, schedule=schedule)
    rate = learning_rate(step, options)
    assert 0 <= rate <= options.learning_rate
    assert rate > 0 or step >= steps
    later = learning_rate(step + 1, options)
    assert later >= rate if step + 1 < warmup else later <= rate


def test_is_due_at_multiples_and_at_the_end() -> None:
    assert [step for step in range(1, 11) if is_due(step, 3, 10)] == [3, 6, 9, 10]
    assert [step for step in range(1, 5) if is_due(step, 100, 4)] == [4]
