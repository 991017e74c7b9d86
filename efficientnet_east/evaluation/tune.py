"""Choose a detector's thresholds and the calibration of its scores, on images that it was not trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from efficientnet_east import calibration
from efficientnet_east.evaluation import curve, icdar
from efficientnet_east.evaluation.curve import Point
from efficientnet_east.structures import Detections, Truth

# What the best box threshold becomes; users of EAST expect it about there.
BOX_THRESHOLD = 0.5
LEAST_THRESHOLD = 1e-3  # on cells; nothing would be background below it


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
      scale: of the score's logit.
      offset: added to it.
      score_threshold: for cells, after calibration.
      box_threshold: for boxes, after calibration.
      best: precision, recall and hmean at the thresholds; its threshold is that of boxes before calibration.
      error_before: expected calibration error of all boxes that counted.
      error_after: the same after calibration.
    """

    scale: float
    offset: float
    score_threshold: float
    box_threshold: float
    best: Point
    error_before: float
    error_after: float

    def as_dict(self) -> dict[str, float]:
        """The figures, those of `best` among them."""
        values = dataclasses.asdict(self)
        return (
            values
            | {name: values["best"][name] for name in ("precision", "recall", "hmean")}
            | {"best": self.best.threshold}
        )


def tune(by_threshold: Mapping[float, Mapping[str, Detections]], truths: Mapping[str, Truth]) -> Tuned:
    """Choose thresholds by the highest hmean, and the calibration by what is right.

    The best box threshold becomes `BOX_THRESHOLD`; the scale is fitted to all boxes that the chosen threshold
    on cells leaves.

    Args:
      by_threshold: threshold on the score map to image name to detections, whatever their score.
      truths: image name to its texts, the same images.

    Returns:
      Thresholds and calibration.
    """
    curves = {threshold: _curve(found, truths) for threshold, found in by_threshold.items()}
    cells = max(curves, key=lambda threshold: (_hmean(curves[threshold]), -threshold))
    best = curves[cells].best or Point(BOX_THRESHOLD, 0.0, 0.0, 0.0)
    scores, right = judged(by_threshold[cells], truths)
    scale, offset = calibration.fit(scores, right, fixed=best.threshold)
    after = calibration.apply(scores, scale, offset)
    errors = [calibration.expected_error(calibration.reliability(part, right)) for part in (scores, after)]
    threshold = round(float(calibration.apply(np.array(cells), scale, offset)), 4)
    threshold = min(max(threshold, LEAST_THRESHOLD), BOX_THRESHOLD)
    return Tuned(scale, offset, threshold, BOX_THRESHOLD, best, *errors)


def judged(found: Mapping[str, Any], truths: Mapping[str, Truth]) -> tuple[np.ndarray, np.ndarray]:
    """Collect the scores of all detections that count, and which are right, by the ICDAR 2015 protocol.

    Args:
      found: image name to what has `quads` (n, 4, 2) and `scores` (n,).
      truths: image name to its texts.

    Returns:
      scores (n,), and bool (n,).
    """
    order = {name: np.argsort(-part.scores, kind="stable") for name, part in found.items()}
    result = icdar.score({name: part.quads[order[name]] for name, part in found.items()}, truths)
    scores: list[np.ndarray] = [np.zeros(0)]
    right: list[np.ndarray] = [np.zeros(0, bool)]
    for name, part in found.items():
        image, matched = result.images[name], np.zeros(len(part.quads), bool)
        matched[[detection for _, detection in image.pairs]] = True
        scores.append(np.delete(part.scores[order[name]], list(image.ignored)))
        right.append(np.delete(matched, list(image.ignored)))
    return np.concatenate(scores), np.concatenate(right)


def _curve(found: Mapping[str, Detections], truths: Mapping[str, Truth]) -> curve.Curve:
    quads = {name: part.quads for name, part in found.items()}
    return curve.precision_recall(quads, {name: part.scores for name, part in found.items()}, truths)


def _hmean(of: curve.Curve) -> float:
    return of.best.hmean if of.best else 0.0
