"""Pictures of results: quads on images, heat maps, sheets of several pictures. NumPy and OpenCV only.

Every function takes RGB uint8 images and returns a new RGB uint8 image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from efficientnet_east.drawing.labels import draw_scores
from efficientnet_east.drawing.palette import BLUE, GREEN, LETTERS, PAPER, Color
from efficientnet_east.errors import one_line

SUBPIXEL = 4  # fractional bits of the corners that OpenCV gets
FAR = 2**21  # in those units, 131,072 pixels: corners beyond are drawn there, or OpenCV takes seconds
GAP = 6  # pixels between the pictures of a sheet
STRIP = 28  # pixels of a title's height


def draw_quads(
    image: np.ndarray,
    quads: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    color: Color = GREEN,
    thickness: int | None = None,
) -> np.ndarray:
    """Outline quads, each with a dark rim so that it shows on any ground.

    Args:
      image: uint8 RGB (height, width, 3), left as it is.
      quads: (n, 4, 2), (x, y) in pixels; may reach outside the image.
      scores: (n,) in [0, 1], written above the quads where there is room.
      color: RGB of the lines.
      thickness: of the lines in pixels; from the image's size where None.

    Returns:
      A new image of the same shape.

    Raises:
      ValueError: the image is not uint8 RGB, or the numbers of quads and scores differ.
    """
    picture = _checked(image).copy()
    line = thickness or max(1, round(math.sqrt(picture.shape[0] * picture.shape[1]) / 500))
    points = np.round(np.asarray(quads, np.float64).reshape(-1, 4, 2) * 2**SUBPIXEL).clip(-FAR, FAR)
    polygons = list(points.astype(np.int32))
    rim = tuple(int(channel * 0.12) for channel in color)
    cv2.polylines(picture, polygons, True, rim, line + 2, cv2.LINE_AA, SUBPIXEL)
    cv2.polylines(picture, polygons, True, color, line, cv2.LINE_AA, SUBPIXEL)
    if scores is not None:
        picture = draw_scores(picture, quads, scores, color)
    return picture


def _label(picture: np.ndarray, text: str, corner: np.ndarray, line: int, color: Color) -> None:
    """Write above a corner, or below it at the image's upper border, in place."""
    size = 0.3 + 0.12 * line
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x = int(np.clip(corner[0], 0, max(0, picture.shape[1] - wide)))
    y = int(np.clip(corner[1] - line - 2, high + 2, picture.shape[0] - 1))
    for shade, width in (((0, 0, 0), 3), (color, 1)):
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, shade, width, cv2.LINE_AA)


def heat_overlay(image: np.ndarray, score_map: np.ndarray) -> np.ndarray:
    """Lay a map over an image: nothing where it is 0, yellow to red-hot colors where it is 1.

    Args:
      image: uint8 RGB (height, width, 3).
      score_map: (h, w), values in [0, 1], any resolution.

    Returns:
      A new image of the image's shape.
    """
    large = _grown(score_map, _checked(image).shape)
    heat = cv2.cvtColor(cv2.applyColorMap(_gray(large), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    share = 0.75 * np.clip(large, 0, 1)[..., None]
    return np.round(image * (1 - share) + heat * share).astype(np.uint8)


def angle_picture(image: np.ndarray, score: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Lay the angle of the text over a darkened image.

    Args:
      image: uint8 RGB (height, width, 3).
      score: (h, w) in [0, 1], any resolution; the colors are as strong as it is.
      angle: (h, w), radians in (-pi/4, pi/4]; blue falls, red rises.

    Returns:
      A new image of the image's shape.
    """
    level = _gray(_grown(angle, _checked(image).shape) / (np.pi / 2) + 0.5)
    colors = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    share = np.clip(_grown(score, image.shape), 0, 1)[..., None]
    return np.round(image * 0.3 * (1 - share) + colors * share).astype(np.uint8)


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Put pictures in one row, scaled to the height of the first."""
    return contact_sheet(images, len(images))


def contact_sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Put pictures in rows; each is fitted into a cell of the first one's size.

    Args:
      images: uint8 RGB images, at least one, of any sizes.
      columns: pictures in a row, at least 1.

    Returns:
      The sheet, with a narrow dark gap between the cells.

    Raises:
      ValueError: no image, or columns below 1.
    """
    if not images or columns < 1:
        raise ValueError(f"contact_sheet takes images and columns >= 1, received {len(images)} and {columns}")
    high, wide = _checked(images[0]).shape[:2]
    rows = math.ceil(len(images) / columns)
    columns = min(columns, len(images))
    sheet = np.full((rows * (high + GAP) - GAP, columns * (wide + GAP) - GAP, 3), PAPER, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * (high + GAP), number % columns * (wide + GAP)
        fitted = _fitted(_checked(image), high, wide)
        y, x = top + (high - fitted.shape[0]) // 2, left + (wide - fitted.shape[1]) // 2
        sheet[y : y + fitted.shape[0], x : x + fitted.shape[1]] = fitted
    return sheet


def maps_picture(
    image: np.ndarray, score: np.ndarray, angle: np.ndarray | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """Make one row for TensorBoard: image | score | angle | mask, the last two where given.

    Args:
      image: uint8 RGB (height, width, 3).
      score: (h, w) in [0, 1].
      angle: (h, w), radians in (-pi/4, pi/4]; blue falls, red rises; shown as strong as the score is.
      mask: (h, w), 1 where the loss looks, 0 where it does not (shown dark).

    Returns:
      uint8 RGB (height, n * width + gaps, 3).
    """
    panels = [image, heat_overlay(image, score)]
    if angle is not None:
        panels.append(angle_picture(image, score, angle))
    if mask is not None:
        panels.append(masked(image, mask))
    return side_by_side(panels)


def at_most(image: np.ndarray, side: int) -> np.ndarray:
    """Scale an image down to a longer side, if it is larger."""
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def masked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Darken an image where a mask (h, w), of any resolution, is 0 rather than 1."""
    return (_checked(image) * (0.15 + 0.85 * np.clip(_grown(mask, image.shape), 0, 1)[..., None])).astype(
        np.uint8
    )


def titled(image: np.ndarray, title: str) -> np.ndarray:
    """Put a dark strip with a line of text above an image; it is cut off where the image ends."""
    strip = np.full((STRIP, _checked(image).shape[1], 3), PAPER, np.uint8)
    shown = one_line(title).encode("ascii", "replace").decode()  # OpenCV's letters
    cv2.putText(strip, shown, (6, STRIP - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.55, LETTERS, 1, cv2.LINE_AA)
    return np.concatenate([strip, image])


def _fitted(image: np.ndarray, high: int, wide: int) -> np.ndarray:
    """Scaled to fit into a cell, sides in proportion."""
    scale = min(high / image.shape[0], wide / image.shape[1])
    if scale == 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _grown(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map (h, w) at the resolution of an image, cells kept as squares."""
    flat = np.nan_to_num(np.ascontiguousarray(field, np.float32))
    if flat.ndim != 2:
        raise ValueError(f"a map must be (h, w), received {flat.shape}")
    return cv2.resize(flat, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)


def _gray(field: np.ndarray) -> np.ndarray:
    return (np.clip(field, 0, 1) * 255).astype(np.uint8)


def _checked(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 (h, w, 3), received {image.dtype} {image.shape}")
    return image


def draw_lines(image: np.ndarray, quads: Sequence[np.ndarray], *, color: Color = BLUE) -> np.ndarray:
    """Outline lines of text, each with its number in the order of reading.

    Args:
      image: uint8 RGB (height, width, 3), left as it is.
      quads: (4, 2) each, in the order of reading, (x, y) in pixels.
      color: RGB of the lines.

    Returns:
      A new image of the same shape.

    Raises:
      ValueError: the image is not uint8 RGB.
    """
    picture = draw_quads(image, np.asarray(quads, np.float64).reshape(-1, 4, 2), color=color)
    line = max(1, round(math.sqrt(picture.shape[0] * picture.shape[1]) / 500))
    for number, quad in enumerate(quads, 1):
        _label(picture, str(number), quad[0], line, color)
    return picture
