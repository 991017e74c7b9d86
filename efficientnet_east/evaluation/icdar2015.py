"""The ICDAR 2015 protocol for text localisation (Challenge 4, Task 1), from its description.

A detection of which more than half lies on one illegible text (`###`) is neither right nor wrong. The rest
are matched with the legible texts one to one, in file order, wherever the intersection over union is
above 0.5. Precision and recall are taken over the sums of all images, not averaged over them.

See Karatzas et al., "ICDAR 2015 Competition on Robust Reading", and https://rrc.cvc.uab.es/?ch=4&com=tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.geometry.intersections import intersection_matrix
from efficientnet_east.structures import Truth

# Share of a detection that must lie on an illegible text for it not to count.
_ON_ILLEGIBLE = 0.5


@dataclasses.dataclass(frozen=True)
class ImageResult:
    """The score of one image, and what became of each detection.

    Attributes:
      precision, recall, hmean: of this image alone, in [0, 1]; what there is nothing of counts as perfect.
      care_truths: number of legible texts.
      care_detections: number of detections that count.
      pairs: (index of the truth, index of the detection) for every match, each truth and each detection once
        (in `deteval`, where one may match several, more than once).
      ignored: indices of the detections that do not count, because they lie on an illegible text.
    """

    precision: float
    recall: float
    hmean: float
    care_truths: int
    care_detections: int
    pairs: tuple[tuple[int, int], ...]
    ignored: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Result:
    """The score of a data set.

    Attributes:
      precision, recall, hmean: over all images together, in [0, 1].
      matched: number of legible texts found; in `deteval` what their matches count together.
      care_truths: number of legible texts.
      care_detections: number of detections that count.
      images: the same for each image.
    """

    precision: float
    recall: float
    hmean: float
    matched: float
    care_truths: int
    care_detections: int
    images: dict[str, ImageResult]

    def as_dict(self) -> dict[str, float]:
        """The three scores, then the three counts, without the single images."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)[:-1]}


def score(detections: Mapping[str, np.ndarray], truths: Mapping[str, Truth], *, iou: float = 0.5) -> Result:
    """Score detections against the ground truth.

    Args:
      detections: image name to quads (n, 4, 2) in pixels. An image that is missing has none.
      truths: image name to its texts; decides which images there are.
      iou: a match must be above it.

    Returns:
      The result; its `images` are in the order of `truths`.

    Raises:
      UserError: detections for an image without ground truth.
    """
    found = of_all_images(detections, truths)
    images = {name: _score_image(found[name], truths[name], iou) for name in truths}
    matched = sum(len(image.pairs) for image in images.values())
    return combined(images, matched, matched)


def combined(images: dict[str, ImageResult], recalled: float, precise: float) -> Result:
    """Sum up images.

    Args:
      images: image name to its score.
      recalled: what the texts that were found count together.
      precise: what the detections that are right count together.

    Returns:
      The result over all of them.
    """
    care_truths = sum(image.care_truths for image in images.values())
    care_detections = sum(image.care_detections for image in images.values())
    precision = precise / care_detections if care_detections else 0.0
    recall = recalled / care_truths if care_truths else 0.0
    hmean = harmonic_mean(precision, recall)
    return Result(precision, recall, hmean, round(recalled, 9), care_truths, care_detections, images)


def of_all_images(detections: Mapping[str, np.ndarray], truths: Mapping[str, Truth]) -> dict[str, np.ndarray]:
    """Pair every image with its detections.

    Args:
      detections: image name to quads (n, 4, 2).
      truths: image name to its texts; decides which images there are.

    Returns:
      Image name to quads, in the order of `truths`; no quads for an image without detections.

    Raises:
      UserError: detections for an image without ground truth.
    """
    if unknown := sorted(set(detections) - set(truths)):
        raise UserError(
            unknown[0], "detections for an image without ground truth", f"expected {_example(truths)}"
        )
    nothing = np.zeros((0, 4, 2), np.float32)
    return {name: detections.get(name, nothing) for name in truths}


def _score_image(quads: np.ndarray, truth: Truth, threshold: float) -> ImageResult:
    common, truth_areas, areas = intersection_matrix(truth.quads, quads)
    covered = _ratio(common[truth.ignore], areas)
    ignored = (covered > _ON_ILLEGIBLE).any(axis=0)
    close = _ratio(common, truth_areas[:, None] + areas - common) > threshold
    pairs = _match(close & ~truth.ignore[:, None] & ~ignored)
    care_truths, care_detections = int((~truth.ignore).sum()), int((~ignored).sum())
    recall = len(pairs) / care_truths if care_truths else 1.0
    precision = len(pairs) / care_detections if care_detections else float(not care_truths)
    return ImageResult(
        precision=precision,
        recall=recall,
        hmean=harmonic_mean(precision, recall),
        care_truths=care_truths,
        care_detections=care_detections,
        pairs=pairs,
        ignored=tuple(np.flatnonzero(ignored).tolist()),
    )


def _match(candidates: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Give every truth (row) the first free detection (column), in file order and not best first."""
    free = np.ones(candidates.shape[1], np.bool_)
    pairs = []
    for row, candidate in enumerate(candidates):
        chosen = np.flatnonzero(candidate & free)[:1]
        free[chosen] = False
        pairs += [(row, int(column)) for column in chosen]
    return tuple(pairs)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    whole = np.broadcast_to(whole, part.shape)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def harmonic_mean(precision: float, recall: float) -> float:
    """Return 2PR / (P + R), 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _example(truths: Mapping[str, Truth]) -> str:
    return f"names like {next(iter(truths))}" if truths else "a ground truth that is not empty"
