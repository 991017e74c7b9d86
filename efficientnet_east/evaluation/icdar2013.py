"""The ICDAR 2013 protocol for text localisation (Challenge 2, Task 1): upright rectangles, DetEval.

A text may be found by several detections together, and a detection may find several texts. A match asks that
80 % of the text's area be covered and that 40 % of the detection's area be text:

* one to one: a text and a detection that match each other, nothing else, and overlap nothing else: 1;
* one to many: the detections of which 40 % lie on one text cover 80 % of it together: the text counts 0.8
  and so does each detection; a single such detection beside others that only touch the text counts 1;
* many to one: the texts of which 80 % lie in one detection fill 40 % of it together: each counts 1.

A detection of which more than 40 % lies on one illegible text does not count. Pixels at the border belong
to a rectangle: from 3 to 5 is 3 pixels. Quads are taken as the upright rectangles around them.

See Wolf and Jolion, "Object count/area graphs for the evaluation of object detection and segmentation
algorithms", IJDAR 2006; Karatzas et al., "ICDAR 2013 Robust Reading Competition"; https://rrc.cvc.uab.es/?ch=2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from efficientnet_east.evaluation.icdar2015 import ImageResult, Result, combined, harmonic_mean, of_all_images
from efficientnet_east.structures import Truth

_LEAST_RECALL, _LEAST_PRECISION = 0.8, 0.4
_SPLIT = 0.8  # what a text counts that several detections share, and each of these
_SAME_PLACE = 1.0  # centers are nearer than the mean diagonal
_DIGITS = 4  # sums of shares are rounded to, so that 0.5 + 0.3 is 0.8


@dataclasses.dataclass(eq=False)
class _Matching:
    """What is matched so far in one image; `recalls` and `precisions` (truths, detections) are given.

    Attributes:
      recalls: share of each truth's area that each detection covers.
      precisions: share of each detection's area that lies on each truth.
      care_truths, care_detections: bool, which ones count.
    """

    recalls: np.ndarray
    precisions: np.ndarray
    care_truths: np.ndarray
    care_detections: np.ndarray

    def __post_init__(self) -> None:
        self.free_truths, self.free_detections = self.care_truths.copy(), self.care_detections.copy()
        self.recalled, self.precise = 0.0, 0.0
        self.pairs: list[tuple[int, int]] = []
        touch = self.recalls > 0
        self.touching_detections = (touch & self.care_detections).sum(axis=1)
        self.touching_truths = (touch & self.care_truths[:, None]).sum(axis=0)

    def take(self, truths: list[int], detections: list[int], weight: float) -> None:
        """Match these with each other; every one of them counts `weight`."""
        self.free_truths[truths], self.free_detections[detections] = False, False
        self.recalled += weight * len(truths)
        self.precise += weight * len(detections)
        self.pairs += [(truth, detection) for truth in truths for detection in detections]


def score(detections: Mapping[str, np.ndarray], truths: Mapping[str, Truth]) -> Result:
    """Score detections against the ground truth.

    Args:
      detections: image name to quads (n, 4, 2) in pixels. An image that is missing has none.
      truths: image name to its texts; decides which images there are.

    Returns:
      The result; its `images` are in the order of `truths`.

    Raises:
      UserError: detections for an image without ground truth.
    """
    found = of_all_images(detections, truths)
    scored = {name: _score_image(quads, truths[name]) for name, quads in found.items()}
    images = {name: image for name, (image, _, _) in scored.items()}
    recalled = sum(recalled for _, recalled, _ in scored.values())
    precise = sum(precise for _, _, precise in scored.values())
    return combined(images, recalled, precise)


def _score_image(quads: np.ndarray, truth: Truth) -> tuple[ImageResult, float, float]:
    texts, boxes = _rectangles(truth.quads), _rectangles(quads)
    common = _common_areas(texts, boxes)
    precisions = common / _areas(boxes)
    ignored = (precisions[truth.ignore] > _LEAST_PRECISION).any(axis=0)
    matching = _Matching(common / _areas(texts)[:, None], precisions, ~truth.ignore, ~ignored)
    _one_to_one(matching, texts, boxes)
    _one_to_many(matching)
    _many_to_one(matching)
    care_truths, care_detections = int((~truth.ignore).sum()), int((~ignored).sum())
    recall = matching.recalled / care_truths if care_truths else 1.0
    precision = matching.precise / care_detections if care_detections else float(not care_truths)
    image = ImageResult(
        precision=precision,
        recall=recall,
        hmean=harmonic_mean(precision, recall),
        care_truths=care_truths,
        care_detections=care_detections,
        pairs=tuple(sorted(matching.pairs)),
        ignored=tuple(np.flatnonzero(ignored).tolist()),
    )
    return image, matching.recalled, matching.precise


def _one_to_one(matching: _Matching, texts: np.ndarray, boxes: np.ndarray) -> None:
    match = (matching.recalls >= _LEAST_RECALL) & (matching.precisions >= _LEAST_PRECISION)
    alone = (match.sum(axis=1) == 1)[:, None] & (match.sum(axis=0) == 1)
    single = (matching.touching_detections == 1)[:, None] & (matching.touching_truths == 1)
    cared = matching.care_truths[:, None] & matching.care_detections
    for truth, detection in np.argwhere(match & alone & single & cared).tolist():
        if _distance(texts[truth], boxes[detection]) < _SAME_PLACE:
            matching.take([truth], [detection], 1.0)


def _one_to_many(matching: _Matching) -> None:
    for truth in np.flatnonzero(matching.free_truths).tolist():
        parts = matching.free_detections & (matching.precisions[truth] >= _LEAST_PRECISION)
        covered = round(float(matching.recalls[truth, parts].sum()), _DIGITS)
        if covered >= _LEAST_RECALL and matching.touching_detections[truth] >= 2:
            chosen = np.flatnonzero(parts).tolist()
            matching.take([truth], chosen, 1.0 if len(chosen) == 1 else _SPLIT)


def _many_to_one(matching: _Matching) -> None:
    for detection in np.flatnonzero(matching.free_detections).tolist():
        parts = matching.free_truths & (matching.recalls[:, detection] >= _LEAST_RECALL)
        filled = round(float(matching.precisions[parts, detection].sum()), _DIGITS)
        if filled >= _LEAST_PRECISION and matching.touching_truths[detection] >= 2:
            matching.take(np.flatnonzero(parts).tolist(), [detection], 1.0)


def _rectangles(quads: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom, float64 (n, 4)."""
    corners = np.asarray(quads, np.float64).reshape(-1, 4, 2)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _areas(rectangles: np.ndarray) -> np.ndarray:
    return np.prod(rectangles[:, 2:] - rectangles[:, :2] + 1, axis=1)


def _common_areas(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    return np.prod(np.maximum(high - low + 1, 0), axis=2)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Between two centers, in mean diagonals."""
    centers = [(box[:2] + box[2:] + 1) / 2 for box in (a, b)]
    diagonals = [np.linalg.norm(box[2:] - box[:2] + 1) for box in (a, b)]
    return float(2 * np.linalg.norm(centers[0] - centers[1]) / sum(diagonals))
