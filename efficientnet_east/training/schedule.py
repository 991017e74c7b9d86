"""The learning rate and the times for periodic work: plain functions of the step."""

from __future__ import annotations

import math

from efficientnet_east.config import Train

# Smith's one-cycle as fastai and PyTorch begin and end it: shares of the peak.
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1e-4


def learning_rate(step: int, train: Train) -> float:
    """Compute the learning rate of a step.

    Over the warm-up it rises linearly and is never above that line. The schedules, as shares of the peak:

    * cosine: from 1 at the end of the warm-up to `final_rate`, by half a cosine (Loshchilov and Hutter 2017);
    * step: times `step_factor` at each of the milestones;
    * exponential: times `decay_factor` in `decay_steps` steps, all at once or (`staircase` off) bit by bit;
    * one-cycle: from 1/25 to 1 over the share `rise` of the run, then to `final_rate`, both by half a cosine
      (Smith and Topin 2018);
    * constant: 1.

    Args:
      step: 0 for the first one.
      train: the schedule, its numbers, the peak rate and the number of steps.

    Returns:
      The rate.
    """
    share = _share(step, train)
    if step < train.warmup_steps:
        warm = (step + 1) / train.warmup_steps
        share = min(warm, share) if train.schedule == "one-cycle" else warm
    return train.learning_rate * share


def _share(step: int, train: Train) -> float:
    """Compute the rate as a share of its peak, without the warm-up."""
    if train.schedule == "cosine":
        return _fall(_progress(step, train.warmup_steps, train.steps), 1.0, train.final_rate or 0.0)
    if train.schedule == "step":
        return train.step_factor ** sum(step >= in_steps(when, train.steps) for when in train.milestones)
    if train.schedule == "exponential":
        periods = step // train.decay_steps if train.staircase else step / train.decay_steps
        return train.decay_factor**periods
    if train.schedule == "one-cycle":
        top = in_steps(train.rise, train.steps) if train.rise else 0
        if step < top:
            return _fall(step / top, ONE_CYCLE_START, 1.0)
        end = ONE_CYCLE_END if train.final_rate is None else train.final_rate
        return _fall(_progress(step, top, train.steps), 1.0, end)
    return 1.0


def _progress(step: int, begin: int, end: int) -> float:
    """Compute how far a step is from `begin` to `end`, in [0, 1]."""
    return min(1.0, max(0.0, (step - begin) / max(1, end - begin)))


def _fall(progress: float, start: float, end: float) -> float:
    """Go from `start` to `end` by half a cosine."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def in_steps(when: float, steps: int) -> int:
    """Convert a time of a run to steps.

    Args:
      when: a share of the run if below 1, else a number of steps.
      steps: of the run.

    Returns:
      The number of steps, rounded.
    """
    return round(when * steps) if when < 1 else round(when)


def is_due(step: int, every: int, last: int) -> bool:
    """Tell whether periodic work falls on a step.

    Args:
      step: number of steps done.
      every: the period.
      last: number of steps of the whole run, at which the work is done in any case.

    Returns:
      True at every multiple of the period and at the end.
    """
    return step % every == 0 or step == last
