"""Pictures of images with what was found in them and what was not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from efficientnet_east.drawing.labels import draw_scores
from efficientnet_east.drawing.overlays import at_most, draw_quads, side_by_side, titled
from efficientnet_east.drawing.palette import BLUE, GRAY, GREEN, LETTERS, RED
from efficientnet_east.evaluation.icdar2015 import ImageResult
from efficientnet_east.structures import Sample

EXTREMES = 4  # best and worst images that are shown
PICTURE_SIDE = 2000  # pixels, at most


class AnyBoxes(Protocol):
    """Detections, best first or in a file's order; `scores` may be None."""

    @property
    def quads(self) -> np.ndarray: ...

    @property
    def scores(self) -> np.ndarray | None: ...


def extremes(images: Mapping[str, ImageResult], most: int = EXTREMES) -> dict[str, str]:
    """Choose the images that say most about a result.

    Args:
      images: name -> its score.
      most: so many of the worst and so many of the best.

    Returns:
      `worst_1` ... and `best_1` ... -> name: no image twice. Of equally good ones those
      with more legible texts come first.
    """
    worst = sorted(images, key=lambda name: (images[name].hmean, -images[name].care_truths))
    worst = worst[: min(most, (len(images) + 1) // 2)]
    best = sorted(
        images.keys() - set(worst),
        key=lambda name: (-images[name].hmean, -images[name].care_truths, name),
    )
    ranks = [("worst", worst), ("best", best[:most])]
    return {f"{kind}_{rank}": name for kind, names in ranks for rank, name in enumerate(names, start=1)}


def validation_picture(sample: Sample, found: AnyBoxes, result: ImageResult) -> np.ndarray:
    """Draw an image with its texts on the left and with what was found on the right.

    Args:
      sample: the image; its texts are blue if found, red if missed, grey if they do not count.
      found: the detections: green if right, red if wrong, grey if they do not count.
      result: the image's score, which says what is what.

    Returns:
      uint8 RGB, at most 2000 pixels wide and high, the name and the score in a strip above.
    """
    recalled, right_ones = ({pair[side] for pair in result.pairs} for side in (0, 1))
    left = right = sample.image
    for number, quad in enumerate(sample.truth.quads):
        color = GRAY if sample.truth.ignore[number] else BLUE if number in recalled else RED
        left = draw_quads(left, quad[None], color=color)
    for number, quad in enumerate(found.quads):
        color = GRAY if number in result.ignored else GREEN if number in right_ones else RED
        right = draw_quads(right, quad[None], color=color)
    if found.scores is not None:
        right = draw_scores(right, found.quads, found.scores, LETTERS)
    scores = f"hmean {result.hmean:.3f}, precision {result.precision:.3f}, recall {result.recall:.3f}"
    counts = f"{len(result.pairs)} of {result.care_truths} texts found, {result.care_detections} detections"
    return titled(at_most(side_by_side([left, right]), PICTURE_SIDE), f"{sample.name}   {scores}   {counts}")
