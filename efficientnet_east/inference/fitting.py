"""Between images and a network's inputs: scaling, padding, tiles, and their maps put together again."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import cv2
import numpy as np

PADDING = (124, 116, 104)  # ImageNet's mean colour: zero to the network


@dataclasses.dataclass(frozen=True)
class Tile:
    """One of the equally large parts of an image that the network sees, all in pixels of the input.

    Attributes:
      top, left: where it begins; multiples of the network's divisor.
      height, width: likewise.
      rows, columns: the half-open ranges (first, end) of it that count: to the middle of what it shares with
        its neighbours.
    """

    top: int
    left: int
    height: int
    width: int
    rows: tuple[int, int]
    columns: tuple[int, int]


def fit(image: np.ndarray, max_side: int, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scale an image down to a longest side, if it is larger.

    Args:
      image: uint8 (height, width, 3).
      max_side: in pixels.
      factor: by which it is scaled after that, up or down.

    Returns:
      The image, and the factors (2,) by which its width and height changed.
    """
    height, width = image.shape[:2]
    factor *= min(1.0, max_side / max(height, width))
    if factor == 1.0:
        return image, np.ones(2)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation), np.array(size) / (width, height)


def pad(image: np.ndarray, divisor: int = 32) -> np.ndarray:
    """Extend an image to the right and downwards, so that no pixel moves or is stretched.

    Args:
      image: uint8 (height, width, 3), RGB.
      divisor: what height and width become multiples of.

    Returns:
      uint8, filled up with the mean colour.
    """
    below, right = (-side % divisor for side in image.shape[:2])
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=PADDING)


def tiles(shape: tuple[int, int], size: int, overlap: float, divisor: int = 32) -> list[Tile]:
    """Divide a padded image into tiles that overlap.

    Args:
      shape: (height, width) of the image, multiples of `divisor`.
      size: of a tile in pixels, rounded up to a multiple of `divisor`; 0: one tile is the whole image.
      overlap: the least share of a tile that its neighbour repeats.
      divisor: see `pad`.

    Returns:
      The tiles, row by row. The ranges that count cover the image once.
    """
    side = -(-size // divisor) * divisor
    sides = [min(side, length) if size else length for length in shape]
    rows, columns = (
        _spans(length, side, overlap, divisor) for length, side in zip(shape, sides, strict=True)
    )
    return [
        Tile(top, left, *sides, inner_rows, inner_columns)
        for (top, inner_rows), (left, inner_columns) in itertools.product(rows, columns)
    ]


def stitch(
    maps: Iterable[tuple[np.ndarray, np.ndarray]], parts: list[Tile], shape: tuple[int, int], stride: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put the maps of tiles together.

    Args:
      maps: score (h, w) and geometry (h, w, channels) of each tile.
      parts: the tiles, in the same order.
      shape: (height, width) of the image in pixels; what lies beyond, the padding, is cut off.
      stride: pixels per cell.

    Returns:
      Score (ceil(height / stride), ceil(width / stride)) and geometry of the whole image.
    """
    cells = [-(-side // stride) for side in shape]
    whole: list[np.ndarray] = []
    for found, tile in zip(maps, parts, strict=True):
        if len(parts) == 1:
            return found[0][: cells[0], : cells[1]], found[1][: cells[0], : cells[1]]
        if not whole:
            whole = [np.zeros((*cells, *part.shape[2:]), part.dtype) for part in found]
        (top, bottom), (left, right) = (
            (first // stride, min(end // stride, limit))
            for (first, end), limit in zip((tile.rows, tile.columns), cells, strict=True)
        )
        above, before = tile.top // stride, tile.left // stride
        for target, part in zip(whole, found, strict=True):
            target[top:bottom, left:right] = part[top - above : bottom - above, left - before : right - before]
    return whole[0], whole[1]


def _spans(length: int, side: int, overlap: float, divisor: int) -> list[tuple[int, tuple[int, int]]]:
    """Where the tiles along one axis begin, and the range of each that counts."""
    step = max(divisor, int(side * (1 - overlap)) // divisor * divisor)
    count = -(-(length - side) // step) + 1
    # Evenly, rounded to whole divisors; half up, so that no two are farther apart than `step`.
    spread = np.arange(count) * (length - side) / max(1, count - 1)
    firsts = (np.floor(spread / divisor + 0.5) * divisor).astype(int).tolist()
    seams = [(second + first + side) // (2 * divisor) * divisor for first, second in itertools.pairwise(firsts)]
    return list(zip(firsts, itertools.pairwise([0, *seams, length]), strict=True))
