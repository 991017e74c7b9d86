"""Scores beside boxes: small, above the box, and only where they cover no box and no other score."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 2  # pixels between a score and what is around it
_FAR = 2**17  # pixels; corners beyond are taken to be there


def draw_scores(
    image: np.ndarray, quads: np.ndarray, scores: np.ndarray, color: tuple[int, int, int]
) -> np.ndarray:
    """Write scores above boxes; a score that has no room is left out.

    Args:
      image: uint8 RGB (height, width, 3), left as it is.
      quads: (n, 4, 2), (x, y) in pixels, the first two corners above; may reach outside the image.
      scores: (n,).
      color: RGB of the digits.

    Returns:
      A new image of the same shape.
    """
    picture = image.copy()
    corners = np.nan_to_num(np.asarray(quads, np.float64).reshape(-1, 4, 2)).clip(-_FAR, _FAR)
    taken = np.zeros(picture.shape[:2], np.uint8)
    for quad in corners:  # one by one: where two overlap, `fillPoly` would leave a hole
        cv2.fillPoly(taken, [np.round(quad).astype(np.int32)], 1)
    line = max(1, round(math.sqrt(picture.shape[0] * picture.shape[1]) / 500))
    size = 0.36 + 0.08 * line
    for quad, score in zip(corners, scores, strict=True):
        text = f"{score:.2f}"
        (width, height), _ = cv2.getTextSize(text, _FONT, size, 1)
        place = _free_place(quad, taken, width, height, line + _GAP)
        if place is not None:
            x, y = place
            for shade, thick in (((0, 0, 0), 3), (color, 1)):
                cv2.putText(picture, text, (x, y), _FONT, size, shade, thick, cv2.LINE_AA)
    return picture


def _free_place(
    quad: np.ndarray, taken: np.ndarray, width: int, height: int, gap: int
) -> tuple[int, int] | None:
    """Find room for a text above a box, mark it as taken, and return where its baseline begins."""
    for x, y in _places(quad, width, gap):
        left, top, right, bottom = x - _GAP, y - height - _GAP, x + width + _GAP, y + _GAP
        inside = left >= 0 and top >= 0 and right <= taken.shape[1] and bottom <= taken.shape[0]
        if inside and not taken[top:bottom, left:right].any():
            taken[top:bottom, left:right] = 1
            return x, y
    return None


def _places(quad: np.ndarray, width: int, gap: int) -> Iterator[tuple[int, int]]:
    """Places along the upper side: its left end, its middle, its right end."""
    (x0, y0), (x1, y1) = sorted(quad[:2].tolist())
    for x in (x0, (x0 + x1 - width) / 2, x1 - width):
        ends = np.interp([x, x + width], [x0, x1], [y0, y1])
        yield int(x), int(ends.min()) - gap - _GAP
