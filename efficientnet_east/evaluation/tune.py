"""Choose a detector's thresholds and the calibration of its scores, on images that it was not trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from efficientnet_east.evaluation import curve
from efficientnet_east.evaluation.curve import Point
from efficientnet_east.inference import calibration
from efficientnet_east.structures import Detections, Truth

# What the best box threshold becomes; users of EAST expect it about there.
BOX_THRESHOLD = 0.5
LEAST_THRESHOLD = 1e-3  # on cells; nothing would be background below it


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Thresholds and calibration that were chosen, and their quality.

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
        """Return the figures, including those of `best`."""
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
    curves = {
        threshold: curve.precision_recall(*_parts(found), truths) for threshold, found in by_threshold.items()
    }
    cells = max(curves, key=lambda threshold: (_hmean(curves[threshold]), -threshold))
    best = curves[cells].best or Point(BOX_THRESHOLD, 0.0, 0.0, 0.0)
    scores, right, _ = curve.judged(*_parts(by_threshold[cells]), truths)
    scale, offset = calibration.fit(scores, right, fixed=best.threshold)
    after = calibration.apply(scores, scale, offset)
    errors = [calibration.expected_error(calibration.reliability(part, right)) for part in (scores, after)]
    threshold = round(float(calibration.apply(np.array(cells), scale, offset)), 4)
    threshold = min(max(threshold, LEAST_THRESHOLD), BOX_THRESHOLD)
    return Tuned(scale, offset, threshold, BOX_THRESHOLD, best, *errors)


def _parts(found: Mapping[str, Detections]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return image name to quads, and to scores."""
    quads = {name: part.quads for name, part in found.items()}
    return quads, {name: part.scores for name, part in found.items()}


def _hmean(of: curve.Curve) -> float:
    return of.best.hmean if of.best else 0.0
