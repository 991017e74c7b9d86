"""Between images and a network's inputs: scaling, padding, tiles, and their maps put together again."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import cv2
import numpy as np

from efficientnet_east.config import Detect

PADDING = (124, 116, 104)  # ImageNet's mean colour: zero to the network
LEAST_FACTOR = 0.5  # an image that a limit would shrink further is read in tiles
LONG = 3.0  # an image that is longer than so many times its width, as a screenshot of a whole page
TILE_SIZE = 1280  # of images that nobody asked to read in tiles
_USUAL_MAX_SIDE = Detect.model_fields["max_side"].default


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

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The tile's part of the padded image; a view."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """An image as a network is shown it.

    Attributes:
      pixels: uint8 (height, width, 3), RGB, padded.
      shape: height and width without the padding.
      scale: (2,), the factors by which width and height of the image changed.
      tiles: its parts.
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    scale: np.ndarray
    tiles: list[Tile]


def prepare(
    image: np.ndarray,
    max_side: int,
    factor: float = 1.0,
    tile_size: int = 0,
    overlap: float = 0.25,
    divisor: int = 32,
    size: tuple[int, int] | None = None,
) -> Fitted:
    """Scale, pad and divide an image for a network.

    Args:
      image: uint8 (height, width, 3), RGB.
      max_side: the longer side of larger images; not with tiles, see `factor_in_tiles`.
      factor: by which it is scaled after that.
      tile_size: side of the tiles of an image that keeps its size; 0: tiles only where `factor_in_tiles`
        says so.
      overlap: see `tiles`.
      divisor: see `pad`.
      size: height and width of the only input that a network takes; images are scaled down to fit, or read
        in tiles of that size.

    Returns:
      The image and its parts.
    """
    shape = image.shape[:2]
    in_tiles = None if tile_size else factor_in_tiles(shape, max_side, size)
    if in_tiles:
        factor, tile_size = factor * in_tiles, TILE_SIZE
    elif not tile_size:
        fits = _fit(shape, size or (max_side, max_side))
        factor *= min(1.0, fits)
        factor = min(factor, fits) if size else factor
    fitted, scale = rescale(image, factor)
    padded = pad(fitted, divisor, size or (0, 0))
    whole, side = padded.shape[:2], -(-tile_size // divisor) * divisor
    parts = tiles(whole, size or ((side, side) if tile_size else whole), overlap, divisor)
    return Fitted(padded, fitted.shape[:2], scale, parts)


def factor_in_tiles(
    shape: tuple[int, ...], max_side: int, size: tuple[int, int] | None = None
) -> float | None:
    """Decide whether an image is read in tiles although nobody asked for it, and how large it is then.

    Text is lost where a limit shrinks an image to less than half of its size. Instead of its longer side, its
    shorter one is then held to the limit. A `max_side` below the usual one, or a network of one size, is a
    wish for speed: it holds for all images but the long ones.

    Args:
      shape: (height, width) of the image.
      max_side: see `prepare`.
      size: see `prepare`.

    Returns:
      The factor of the image's size, at most 1; None if it is read as a whole.
    """
    limits, (shorter, longer) = size or (max_side, max_side), sorted(shape)
    if _fit(shape, limits) >= LEAST_FACTOR:
        return None
    for_speed = size is not None or max_side < _USUAL_MAX_SIDE
    if for_speed and longer <= LONG * shorter:
        return None
    factor = min(1.0, min(limits) / shorter)
    return factor if for_speed else max(LEAST_FACTOR, factor)


def _fit(shape: tuple[int, ...], limits: tuple[int, int]) -> float:
    """The largest factor at which height and width are within their limits."""
    return min(limit / side for limit, side in zip(limits, shape, strict=True))


def rescale(image: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale an image, its sides to whole pixels.

    Args:
      image: uint8 (height, width, 3).
      factor: of both sides.

    Returns:
      The image, and the factors (2,) by which its width and height really changed.
    """
    height, width = image.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size == (width, height):
        return image, np.ones(2)
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation), np.array(size) / (width, height)


def pad(image: np.ndarray, divisor: int = 32, least: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Extend an image to the right and downwards, so that no pixel moves or is stretched.

    Args:
      image: uint8 (height, width, 3), RGB.
      divisor: what height and width become multiples of.
      least: height and width that it has at least, multiples of `divisor`.

    Returns:
      uint8, filled up with the mean colour.
    """
    below, right = (
        max(-side % divisor, wanted - side) for side, wanted in zip(image.shape[:2], least, strict=True)
    )
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=PADDING)


def tiles(shape: tuple[int, int], sides: tuple[int, int], overlap: float, divisor: int = 32) -> list[Tile]:
    """Divide a padded image into tiles that overlap.

    Args:
      shape: (height, width) of the image, multiples of `divisor`.
      sides: height and width of a tile in pixels, multiples of `divisor`; a smaller image is one tile.
      overlap: the least share of a tile that its neighbour repeats.
      divisor: see `pad`.

    Returns:
      The tiles, row by row. The ranges that count cover the image once.
    """
    height, width = (min(side, length) for side, length in zip(sides, shape, strict=True))
    rows, columns = _spans(shape[0], height, overlap, divisor), _spans(shape[1], width, overlap, divisor)
    return [
        Tile(top, left, height, width, inner_rows, inner_columns)
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
            target[top:bottom, left:right] = part[
                top - above : bottom - above, left - before : right - before
            ]
    return whole[0], whole[1]


def _spans(length: int, side: int, overlap: float, divisor: int) -> list[tuple[int, tuple[int, int]]]:
    """Where the tiles along one axis begin, and the range of each that counts."""
    step = max(divisor, int(side * (1 - overlap)) // divisor * divisor)
    count = -(-(length - side) // step) + 1
    # Evenly, rounded to whole divisors; half up, so that no two are farther apart than `step`.
    spread = np.arange(count) * (length - side) / max(1, count - 1)
    firsts = (np.floor(spread / divisor + 0.5) * divisor).astype(int).tolist()
    seams = [
        (second + first + side) // (2 * divisor) * divisor for first, second in itertools.pairwise(firsts)
    ]
    return list(zip(firsts, itertools.pairwise([0, *seams, length]), strict=True))
