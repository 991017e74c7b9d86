"""The learning rate and the times for periodic work: plain functions of the step."""

from __future__ import annotations

import math

from efficientnet_east.config import Train


def learning_rate(step: int, train: Train) -> float:
    """The learning rate of a step.

    Args:
      step: 0 for the first one.
      train: peak rate, warm-up, schedule, number of steps.

    Returns:
      The rate: it rises linearly over the warm-up, then follows the schedule.
    """
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    if train.schedule == "constant":
        return train.learning_rate
    if train.schedule == "exponential":
        return train.learning_rate * train.decay_factor ** (step // train.decay_steps)
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    return train.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def is_due(step: int, every: int, last: int) -> bool:
    """Whether periodic work falls on a step.

    Args:
      step: number of steps done.
      every: the period.
      last: number of steps of the whole run, at which the work is done in any case.

    Returns:
      True at every multiple of the period and at the end.
    """
    return step % every == 0 or step == last
