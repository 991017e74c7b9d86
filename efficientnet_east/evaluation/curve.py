"""Precision and recall against the score from which a detection counts, and the average precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from efficientnet_east.evaluation import icdar2015
from efficientnet_east.evaluation.icdar2015 import Result, harmonic_mean
from efficientnet_east.structures import Truth

Score = Callable[[Mapping[str, np.ndarray], Mapping[str, Truth]], Result]

STEPS = 50  # thresholds of a curve that is not exact


@dataclasses.dataclass(frozen=True)
class Point:
    """The score of all detections from a threshold on.

    Attributes:
      threshold: detections with this score and those above it count.
      precision, recall, hmean: of these, in [0, 1].
    """

    threshold: float
    precision: float
    recall: float
    hmean: float


@dataclasses.dataclass(frozen=True)
class Curve:
    """Precision against recall.

    Attributes:
      points: by falling threshold; none where nothing was found.
      average_precision: see `precision_recall`; None where it is not defined.
    """

    points: tuple[Point, ...]
    average_precision: float | None

    @property
    def best(self) -> Point | None:
        """The point with the highest hmean; of several, that with the highest threshold."""
        return max(self.points, key=lambda point: point.hmean, default=None)


def precision_recall(
    found: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    truths: Mapping[str, Truth],
    *,
    iou: float = 0.5,
) -> Curve:
    """Compute the whole curve by the ICDAR 2015 protocol.

    In each image the better detection is matched first. Then those that a threshold leaves are matched as
    they are without it, so one matching gives the whole curve exactly.

    The average precision is that of the ICDAR scripts: with all detections that count ranked by their score,
    the mean over all legible texts of the precision at the rank at which the text was found, 0 where it was
    not. Nothing is interpolated; detections on illegible texts are left out of the ranking.

    Args:
      found: image name to quads (n, 4, 2).
      scores: image name to scores (n,).
      truths: image name to its texts.
      iou: a match must be above it.

    Returns:
      The curve, with a point for every score that a detection has.

    Raises:
      UserError: detections for an image without ground truth.
    """
    ranked, right, texts = judged(found, scores, truths, iou=iou)
    return _curve(ranked, right, texts)


def judged(
    found: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    truths: Mapping[str, Truth],
    *,
    iou: float = 0.5,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Rank all detections that count, and mark the right ones, by the ICDAR 2015 protocol.

    Args:
      found: image name to quads (n, 4, 2).
      scores: image name to scores (n,).
      truths: image name to its texts.
      iou: a match must be above it.

    Returns:
      Falling scores (m,); 1.0 for each that is right, else 0.0 (m,); and the number of legible texts.

    Raises:
      UserError: detections for an image without ground truth.
    """
    order = {name: np.argsort(-scores[name], kind="stable") for name in found}
    result = icdar2015.score({name: quads[order[name]] for name, quads in found.items()}, truths, iou=iou)
    ranked = [np.zeros((0, 2))]
    for name in [name for name in truths if name in found]:
        image, right = result.images[name], np.zeros(len(found[name]))
        right[[detection for _, detection in image.pairs]] = 1
        rows = np.column_stack([scores[name][order[name]], right])
        ranked.append(np.delete(rows, list(image.ignored), axis=0))
    table = np.concatenate(ranked)
    table = table[np.argsort(-table[:, 0], kind="stable")]
    return table[:, 0], table[:, 1], result.care_truths


def _curve(scores: np.ndarray, right: np.ndarray, texts: int) -> Curve:
    """Build the curve from all detections that count, best first."""
    matched, count = np.cumsum(right), np.arange(1, len(right) + 1)
    precision, recall = matched / count, matched / max(1, texts)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], len(scores) > 0))
    points = [
        Point(float(scores[i]), float(precision[i]), float(recall[i]), _hmean(precision[i], recall[i]))
        for i in last
    ]
    return Curve(tuple(points), float((precision * right).sum() / max(1, texts)))


def _hmean(precision: float, recall: float) -> float:
    return float(harmonic_mean(precision, recall))


def sampled(
    score: Score,
    found: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    truths: Mapping[str, Truth],
) -> Curve:
    """Compute a curve by any protocol, by scoring what each of some thresholds leaves.

    Args:
      score: the protocol.
      found: image name to quads (n, 4, 2).
      scores: image name to scores (n,).
      truths: image name to its texts.

    Returns:
      The curve, with at most `STEPS` points, which share the detections evenly; no average precision, which
      is not defined where several detections may find one text.
    """
    every = np.concatenate([np.zeros(0), *scores.values()])
    if not len(every):
        return Curve((), None)
    thresholds = np.unique(np.quantile(every, np.linspace(0, 1, STEPS), method="nearest"))
    points = []
    for threshold in thresholds[::-1].tolist():
        result = score(above(found, scores, threshold), truths)
        points.append(Point(threshold, result.precision, result.recall, result.hmean))
    return Curve(tuple(points), None)


def above(
    found: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray], threshold: float
) -> dict[str, np.ndarray]:
    """Return the detections from a score on, image name to quads, in their order.

    Args:
      found: image name to quads (n, 4, 2).
      scores: image name to scores (n,).
      threshold: the least score that counts.
    """
    return {name: quads[scores[name] >= threshold] for name, quads in found.items()}


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most so many points, evenly spread, the first, the last and the best one among them.

    Args:
      points: of a curve.
      most: 3 or more.
    """
    if len(points) <= most:
        return list(points)
    best = max(range(len(points)), key=lambda index: points[index].hmean)
    chosen = {*np.linspace(0, len(points) - 1, most - 1).round().astype(int).tolist(), best}
    return [points[index] for index in sorted(chosen)]
