"""Pictures that a run leaves: crops with their labels, and images with what was found in them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np

from efficientnet_east.data.loader import Batch, TextBatch
from efficientnet_east.draw import (
    contact_sheet,
    draw_quads,
    heat_overlay,
    maps_picture,
    masked,
    side_by_side,
    titled,
)
from efficientnet_east.evaluation.icdar import ImageResult
from efficientnet_east.geometry.maps import angles, decode
from efficientnet_east.geometry.nms import locality_aware
from efficientnet_east.structures import Detections, Sample

CROPS = 16  # of a mosaic, at most
SHEET_ROWS = 4  # crops of a batch whose maps are shown
MOSAIC_SIDE, PICTURE_SIDE = 1600, 2000  # pixels, at most
EXTREMES = 4  # best and worst images that are shown
BLUE, GREEN, RED, GREY = (70, 130, 255), (60, 230, 90), (255, 70, 60), (160, 160, 160)


def mosaic(batch: Batch | TextBatch) -> np.ndarray:
    """Draw a batch with its labels as the network gets them.

    Args:
      batch: of maps: boxes are read back from them, the score map glows, what the loss must not look at is
        dark. Of texts: these, the ignored ones in grey.

    Returns:
      uint8 RGB of at most 1600 x 1600 pixels: the first crops, up to 16, in a square.
    """
    count = min(len(batch.images), CROPS)
    draw = _crop_with_maps if isinstance(batch, Batch) else _crop_with_texts
    panels = [draw(batch, number) for number in range(count)]  # type: ignore[arg-type]
    return _at_most(contact_sheet(panels, math.ceil(math.sqrt(count))), MOSAIC_SIDE)


def _crop_with_maps(batch: Batch, number: int) -> np.ndarray:
    image, score = batch.images[number], batch.score[number, ..., 0]
    stride = image.shape[0] // score.shape[0]
    boxes = decode(score, batch.geometry[number], threshold=0.5, stride=stride)
    glowing = heat_overlay(masked(image, batch.mask[number, ..., 0]), 0.5 * score)
    return draw_quads(glowing, locality_aware(*boxes)[0], colour=GREEN)


def _crop_with_texts(batch: TextBatch, number: int) -> np.ndarray:
    count = batch.count[number]
    quads, ignore = batch.quads[number, :count], batch.ignore[number, :count]
    return draw_quads(
        draw_quads(batch.images[number], quads[ignore], colour=GREY), quads[~ignore], colour=GREEN
    )


def maps_sheet(batch: Batch, score: np.ndarray, geometry: np.ndarray) -> np.ndarray:
    """Put crops, true maps and predicted maps side by side.

    Args:
      batch: with the true maps.
      score: float32 (b, h, w, 1), predicted.
      geometry: float32 (b, h, w, 5 or 8), predicted.

    Returns:
      uint8 RGB; a row for each of the first crops: the truth on the left, the prediction on the right.
    """
    panels = []
    for i in range(min(SHEET_ROWS, len(batch.images))):
        image, mask = batch.images[i], batch.mask[i, ..., 0]
        panels.append(maps_picture(image, batch.score[i, ..., 0], angles(batch.geometry[i]), mask))
        panels.append(maps_picture(image, score[i, ..., 0], angles(geometry[i])))
    return contact_sheet(panels, columns=2)


def extremes(images: Mapping[str, ImageResult]) -> dict[str, str]:
    """Choose the images that a validation shows.

    Args:
      images: name -> its score.

    Returns:
      `worst_1` ... and `best_1` ... -> name: up to four of each, no image twice. Of equally good ones those
      with more legible texts come first.
    """
    worst = sorted(images, key=lambda name: (images[name].hmean, -images[name].care_truths))
    worst = worst[: min(EXTREMES, (len(images) + 1) // 2)]
    best = sorted(
        images.keys() - set(worst),
        key=lambda name: (-images[name].hmean, -images[name].care_truths, name),
    )
    ranks = [("worst", worst), ("best", best[:EXTREMES])]
    return {f"{kind}_{rank}": name for kind, names in ranks for rank, name in enumerate(names, start=1)}


def validation_picture(sample: Sample, found: Detections, result: ImageResult) -> np.ndarray:
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
        colour = GREY if sample.truth.ignore[number] else BLUE if number in recalled else RED
        left = draw_quads(left, quad[None], colour=colour)
    for number, quad in enumerate(found.quads):
        colour = GREY if number in result.ignored else GREEN if number in right_ones else RED
        right = draw_quads(right, quad[None], scores=found.scores[number : number + 1], colour=colour)
    scores = f"hmean {result.hmean:.3f}, precision {result.precision:.3f}, recall {result.recall:.3f}"
    counts = f"{len(result.pairs)} of {result.care_truths} texts found, {result.care_detections} detections"
    return titled(_at_most(side_by_side([left, right]), PICTURE_SIDE), f"{sample.name}   {scores}   {counts}")


def _at_most(image: np.ndarray, side: int) -> np.ndarray:
    """Scaled down to a longer side, if it is larger."""
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
