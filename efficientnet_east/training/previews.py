"""Pictures that a run leaves: crops with their labels, and images with what was found in them."""

from __future__ import annotations

import math

import numpy as np

from efficientnet_east.data.loader import Batch, TextBatch
from efficientnet_east.drawing.overlays import (
    at_most,
    contact_sheet,
    draw_quads,
    heat_overlay,
    maps_picture,
    masked,
)
from efficientnet_east.drawing.palette import GRAY, GREEN
from efficientnet_east.geometry.label_maps import angles, candidates
from efficientnet_east.geometry.nms import locality_aware

CROPS = 16  # of a mosaic, at most
SHEET_ROWS = 4  # crops of a batch whose maps are shown
MOSAIC_SIDE = 1600  # pixels, at most


def crops_sheet(batch: Batch | TextBatch) -> np.ndarray:
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
    return at_most(contact_sheet(panels, math.ceil(math.sqrt(count))), MOSAIC_SIDE)


def _crop_with_maps(batch: Batch, number: int) -> np.ndarray:
    image, score = batch.images[number], batch.score[number, ..., 0]
    stride = image.shape[0] // score.shape[0]
    found = candidates(score, batch.geometry[number], threshold=0.5, stride=stride)
    glowing = heat_overlay(masked(image, batch.mask[number, ..., 0]), 0.5 * score)
    quads, _ = locality_aware(found.quads, found.scores, points=found.points)
    return draw_quads(glowing, quads, color=GREEN)


def _crop_with_texts(batch: TextBatch, number: int) -> np.ndarray:
    count = batch.count[number]
    quads, ignore = batch.quads[number, :count], batch.ignore[number, :count]
    return draw_quads(
        draw_quads(batch.images[number], quads[ignore], color=GRAY), quads[~ignore], color=GREEN
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
