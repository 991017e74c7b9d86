"""Words cut out of an image and made upright, as a recognizer reads them."""

from __future__ import annotations

import cv2
import numpy as np

from efficientnet_east.geometry.quads import rolled

_MOST_SAMPLES = 4.0  # a crop has at most so many pixels for each pixel of its image, however far it reaches
_LARGEST = 2**15 - 2  # pixels, the longest side that OpenCV warps


def upright(
    image: np.ndarray,
    quads: np.ndarray,
    *,
    height: int | None = None,
    margin: float = 0.0,
    turn_tall: float | None = None,
) -> list[np.ndarray]:
    """Cut out words, each turned and straightened into an upright rectangle by a projective map.

    Args:
      image: uint8 (rows, columns, 3), of any channel order.
      quads: (n, 4, 2), pixels, clockwise from each word's top-left corner. They may reach out of the image,
        whose border is repeated there.
      height: of the crops in pixels, their widths in proportion; None: as high as the words are.
      margin: what is added on every side, as a share of the word's height.
      turn_tall: words that are more than so many times as high as wide are turned a quarter to the left, so
        that what was written downwards runs to the right; None: none are.

    Returns:
      n images, uint8 (rows, columns, 3), in the order of the quads; at least one pixel each.
    """
    quads = np.asarray(quads, np.float64).reshape(-1, 4, 2)
    sides = _sides(quads)
    if turn_tall is not None:
        tall = sides[:, 1] > turn_tall * sides[:, 0]
        quads = rolled(quads, tall.astype(np.intp))
        sides = np.where(tall[:, None], sides[:, ::-1], sides)
    return [_cut(image, quad, size, height, margin) for quad, size in zip(quads, sides, strict=True)]


def _sides(quads: np.ndarray) -> np.ndarray:
    """Width and height (n, 2) of words, the longer one of each pair of sides."""
    lengths = np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2)
    return np.maximum(lengths[:, :2], lengths[:, 2:])


def _cut(
    image: np.ndarray, quad: np.ndarray, size: np.ndarray, height: int | None, margin: float
) -> np.ndarray:
    """One word: straightened at its own resolution, then brought to the height asked for."""
    around = margin * size[1]
    full = np.maximum(size + 2 * around, 1)
    reduced = full * min(1.0, (_MOST_SAMPLES * image.shape[0] * image.shape[1] / full.prod()) ** 0.5)
    shape = np.clip(np.rint(reduced), 1, _LARGEST)
    word = _warp(image, quad, shape, around * shape / full)
    if height is None or height == len(word):
        return word
    width = min(max(1, round(height * float(full[0] / full[1]))), _LARGEST)
    return cv2.resize(
        word, (width, height), interpolation=cv2.INTER_AREA if height < len(word) else cv2.INTER_CUBIC
    )


def _warp(image: np.ndarray, quad: np.ndarray, shape: np.ndarray, around: np.ndarray) -> np.ndarray:
    """A quad as an image of `shape` (width, height), which goes on for `around` (x, y) beyond its sides."""
    beyond = around * (quad.max(axis=0) - quad.min(axis=0)).max() / shape.max()
    window, origin, factors = _window(image, quad, np.ceil(beyond).max())
    # Pixel centers lie at integers: an image's edges are half a pixel further out.
    low, high = around, shape - around
    flat = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]]) - 0.5
    seen = (quad + 0.5 - origin) * factors - 0.5
    matrix = cv2.getPerspectiveTransform(seen.astype(np.float32), flat.astype(np.float32))
    size = int(shape[0]), int(shape[1])
    return cv2.warpPerspective(window, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _window(image: np.ndarray, quad: np.ndarray, around: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of an image that a word needs, small enough for OpenCV to warp; its origin, and its scale."""
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(quad.min(axis=0) - around) - 2, 0, limit - 1).astype(int)
    high = np.clip(np.ceil(quad.max(axis=0) + around) + 3, low + 1, limit).astype(int)
    window = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    size = np.minimum(high - low, _LARGEST)
    if (size < high - low).any():
        window = cv2.resize(window, size.tolist(), interpolation=cv2.INTER_AREA)
    return window, low.astype(np.float64), size / (high - low)
