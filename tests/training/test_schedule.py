"""The learning rate over a run, and the steps on which periodic work falls."""

import math
import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.config import Train
from efficientnet_east.training.schedule import in_steps, is_due, learning_rate

SCHEDULES = typing.get_args(Train.model_fields["schedule"].annotation)


def train(**fields: object) -> Train:
    return Train(**{"learning_rate": 0.01, "steps": 1000, "warmup_steps": 100} | fields)  # type: ignore[arg-type]


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    rates = [learning_rate(step, train()) for step in range(101)]
    assert rates[0] == pytest.approx(0.0001)  # the first step learns, too
    assert rates[:100] == pytest.approx([0.0001 * (step + 1) for step in range(100)])
    assert rates[99] == pytest.approx(0.01) and rates[100] == pytest.approx(0.01)


def test_no_warm_up() -> None:
    for schedule in set(SCHEDULES) - {"one-cycle"}:
        assert learning_rate(0, train(warmup_steps=0, schedule=schedule)) == 0.01


def test_cosine_halves_in_the_middle_and_ends_at_zero() -> None:
    options = train(schedule="cosine")
    assert learning_rate(550, options) == pytest.approx(0.005)
    assert learning_rate(325, options) == pytest.approx(0.01 * (2 + math.sqrt(2)) / 4)
    assert learning_rate(1000, options) == 0.0
    assert 0 < learning_rate(999, options) < 1e-7
    assert learning_rate(5000, options) == 0.0  # beyond the end it does not rise again


def test_cosine_to_a_final_rate() -> None:
    options = train(schedule="cosine", final_rate=0.2)
    rates = {step: learning_rate(step, options) for step in (100, 550, 1000, 5000)}
    assert rates == pytest.approx({100: 0.01, 550: 0.006, 1000: 0.002, 5000: 0.002})


def test_exponential_is_a_staircase() -> None:
    options = train(schedule="exponential", decay_steps=300, decay_factor=0.5)
    assert [learning_rate(step, options) for step in (299, 300, 599, 600)] == [0.01, 0.005, 0.005, 0.0025]


def test_exponential_without_stairs_meets_them_at_every_period() -> None:
    stairs = train(schedule="exponential", decay_steps=300, decay_factor=0.5)
    smooth = train(schedule="exponential", decay_steps=300, decay_factor=0.5, staircase=False)
    rates = np.array([learning_rate(step, smooth) for step in range(100, 3000)])
    np.testing.assert_allclose(rates[1:] / rates[:-1], 0.5 ** (1 / 300))
    for step in range(300, 3000, 300):
        assert learning_rate(step, smooth) == pytest.approx(learning_rate(step, stairs))


@pytest.mark.parametrize("milestones", ["0.6,0.85", "600,850", "0.6,850"])
def test_steps_at_milestones(milestones: str) -> None:
    options = train(schedule="step", milestones=milestones, step_factor=0.1)
    rates = {step: learning_rate(step, options) for step in (100, 599, 600, 849, 850, 5000)}
    expected = {100: 1e-2, 599: 1e-2, 600: 1e-3, 849: 1e-3, 850: 1e-4, 5000: 1e-4}
    assert rates == pytest.approx(expected)


def test_one_cycle_turns_at_its_peak_and_ends_far_below_its_start() -> None:
    options = train(schedule="one-cycle", warmup_steps=0, rise=0.25)
    rates = np.array([learning_rate(step, options) for step in range(1001)])
    assert rates[0] == pytest.approx(0.01 / 25) and rates[1000] == pytest.approx(0.01 / 1e4)
    assert rates.argmax() == 250 and rates[250] == 0.01
    assert (np.diff(rates[:251]) > 0).all() and (np.diff(rates[250:]) < 0).all()
    assert rates[125] == pytest.approx((0.01 + 0.01 / 25) / 2)  # a half cosine is symmetric
    assert rates[625] == pytest.approx((0.01 + 0.01 / 1e4) / 2)
    assert np.abs(np.diff(rates, 2)).max() < 0.01 * (math.pi / 250) ** 2, "no kink, at the peak neither"
    ends = train(schedule="one-cycle", warmup_steps=0, rise=0.0, final_rate=0.5)
    assert [learning_rate(step, ends) for step in (0, 1000)] == pytest.approx([0.01, 0.005])


def test_warm_up_caps_one_cycle() -> None:
    alone, capped = train(schedule="one-cycle", warmup_steps=0), train(schedule="one-cycle", warmup_steps=50)
    line = [0.01 * (step + 1) / 50 for step in range(50)]
    for step in range(1000):
        rate = learning_rate(step, alone)
        assert learning_rate(step, capped) == (min(rate, line[step]) if step < 50 else rate)
    assert learning_rate(0, capped) == line[0] < learning_rate(0, alone)


def test_constant() -> None:
    assert {learning_rate(step, train(schedule="constant")) for step in range(100, 3000, 7)} == {0.01}


@settings(deadline=None)
@given(
    step=st.integers(0, 10_000),
    steps=st.integers(1, 5000),
    warmup=st.integers(0, 6000),
    schedule=st.sampled_from(SCHEDULES),
    rise=st.floats(0, 0.99),
    staircase=st.booleans(),
)
def test_never_above_the_peak_nor_negative(
    step: int, steps: int, warmup: int, schedule: str, rise: float, staircase: bool
) -> None:
    options = train(steps=steps, warmup_steps=warmup, schedule=schedule, rise=rise, staircase=staircase)
    rate = learning_rate(step, options)
    assert 0 <= rate <= options.learning_rate
    assert rate > 0 or step >= steps
    later = learning_rate(step + 1, options)
    if schedule != "one-cycle":
        assert later >= rate if step + 1 < warmup else later <= rate
    elif step + 1 <= round(rise * steps):
        assert later >= rate
    elif step + 1 >= warmup:
        assert later <= rate or later == pytest.approx(rate)


def test_times_in_steps_or_shares() -> None:
    times = [in_steps(when, 1000) for when in (0.25, 0.9999, 1, 1.0, 250, 5000)]
    assert times == [250, 1000, 1, 1, 250, 5000]


def test_is_due_at_multiples_and_at_the_end() -> None:
    assert [step for step in range(1, 11) if is_due(step, 3, 10)] == [3, 6, 9, 10]
    assert [step for step in range(1, 5) if is_due(step, 100, 4)] == [4]
