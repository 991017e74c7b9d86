"""Scores that mean something: a scale and an offset of the score's logit, and how well scores can be trusted.

A network trained with dice says .9 of whatever it takes for text. A rising line through its logits keeps the
order of scores, but brings the best threshold to where users expect it, and a box's score near the share of
such boxes that are right (Platt 1999; Guo et al. 2017). Both numbers are folded into the score's last layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

KERNEL, BIAS = "feature_fusion/Conv_7/weights", "feature_fusion/Conv_7/biases"
BINS = 10
# Scores nearer to 0 or 1 than this have the logit of this.
_LEAST = 1e-6
# Newton's steps, which are few, and a small pull towards a scale of 1, without which scores that part right
# from wrong without a mistake would make it infinite.
_STEPS, _SMOOTHING = 50, 1e-3


@dataclasses.dataclass(frozen=True)
class ScoreBin:
    """Boxes of about the same score.

    Attributes:
      low: the least score of the bin.
      high: the first score above it.
      count: number of boxes that count.
      score: their mean score; 0 if there are none.
      right: the share of them that are right; 0 if there are none.
    """

    low: float
    high: float
    count: int
    score: float
    right: float


def logit(scores: np.ndarray) -> np.ndarray:
    """Invert the sigmoid: float64 of the same shape, finite."""
    scores = np.clip(np.asarray(scores, np.float64), _LEAST, 1 - _LEAST)
    return np.log(scores / (1 - scores))


def apply(scores: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """Calibrate scores.

    Args:
      scores: in [0, 1], any shape.
      scale: of the logit, above 0.
      offset: added to the scaled logit.

    Returns:
      float32 of the same shape.
    """
    return (1 / (1 + np.exp(-(scale * logit(scores) + offset)))).astype(np.float32)


def fold(weights: Mapping[str, np.ndarray], scale: float, offset: float) -> dict[str, np.ndarray]:
    """Put a calibration into the score's last layer.

    Args:
      weights: name -> array, of a whole network.
      scale: see `apply`.
      offset: see `apply`.

    Returns:
      The same arrays, the last layer's replaced.
    """
    if (scale, offset) == (1.0, 0.0):
        return dict(weights)
    kernel, bias = weights[KERNEL] * np.float32(scale), weights[BIAS] * np.float32(scale) + np.float32(offset)
    return dict(weights) | {KERNEL: kernel, BIAS: bias}


def fit(scores: np.ndarray, right: np.ndarray, fixed: float | None = None) -> tuple[float, float]:
    """Find the calibration that makes scores the probability of being right (logistic regression).

    Args:
      scores: (n,) of boxes, in [0, 1].
      right: bool (n,), whether each is right.
      fixed: the score that becomes .5; None leaves that to the fit.

    Returns:
      Scale and offset. If the scores say nothing, or the wrong thing, the scale is small, but above 0.
    """
    x, y = logit(scores), np.asarray(right, np.float64)
    shift = 0.0 if fixed is None else float(logit(np.array(fixed)))
    features = np.stack([x - shift, np.full_like(x, float(fixed is None))], 1)  # (n, 2)
    weights = np.array([1.0, 0.0])
    penalty = _SMOOTHING * np.array([1.0, 1.0 if fixed is not None else 0.0])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-features @ weights))
        slope = features.T @ (y - p) - penalty * (weights - (1.0, 0.0))
        curvature = (features * (p * (1 - p))[:, None]).T @ features + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, slope)
        weights = weights + step / max(1.0, float(np.abs(step).max()))  # never far at once
    scale = max(float(weights[0]), 1e-2)
    return scale, float(weights[1]) - scale * shift


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[ScoreBin]:
    """Divide boxes by their score.

    Args:
      scores: (n,), in [0, 1].
      right: bool (n,).
      bins: number of equally wide bins from 0 to 1.

    Returns:
      The bins, by rising score.
    """
    number = np.minimum((np.asarray(scores) * bins).astype(int), bins - 1)
    table = []
    for index in range(bins):
        inside = number == index
        count = int(inside.sum())
        means = [float(np.mean(part[inside])) if count else 0.0 for part in (scores, right)]
        table.append(ScoreBin(index / bins, (index + 1) / bins, count, *means))
    return table


def expected_error(bins: Sequence[ScoreBin]) -> float:
    """Compute the expected calibration error: how far score and share are apart, a mean over all boxes."""
    total = sum(part.count for part in bins)
    return sum(part.count * abs(part.score - part.right) for part in bins) / total if total else 0.0
