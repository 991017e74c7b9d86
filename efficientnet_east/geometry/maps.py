"""Label maps and their inverse: `encode` turns quads into EAST's maps, `decode` turns maps into quads.

Both see the same cell the same way: cell (row i, column j) stands for the pixel x = j * stride,
y = i * stride, and holds the distances from there to the four sides of a rectangle, and its angle
(channels top, right, bottom, left, angle; axes and sign in `geometry/quads.py`).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from efficientnet_east.geometry.quads import area, axes, min_area_rectangle, rectangle
from efficientnet_east.geometry.quads import shrink as shrink_quads


@dataclasses.dataclass(frozen=True, eq=False)
class Maps:
    """The labels of one image, at the network's output size h x w.

    Attributes:
      score: float32 (h, w), 1 inside the texts' shrunk quads, else 0.
      geometry: float32 (h, w, 5): top, right, bottom, left in pixels of the image, angle in radians;
        0 where score is 0.
      mask: float32 (h, w), 0 where the loss must not look.
    """

    score: np.ndarray
    geometry: np.ndarray
    mask: np.ndarray


def encode(
    quads: np.ndarray,
    ignore: np.ndarray,
    shape: tuple[int, int],
    *,
    stride: int = 4,
    shrink: float = 0.3,
    min_side: float = 0.0,
    ring: bool = False,
) -> Maps:
    """RBOX labels (EAST, section 3.3), made at the output size, so that their cost is that of a few arrays.

    Large texts are painted first: a small text on top of a large one keeps its cells. A text whose shrunk
    quad falls between the cells gets the cell nearest to its centre, if that is in the image and no smaller
    text needs the same one.

    Args:
      quads: (n, 4, 2), pixels, in either direction; they may reach out of the image.
      ignore: bool (n,), True for illegible texts.
      shape: (height, width) of the image, pixels.
      stride: pixels per cell.
      shrink: see `quads.shrink`.
      min_side: texts whose rectangle has a shorter side than this (pixels) are masked like illegible ones.
      ring: also mask what lies between the shrunk and the full quad of every text.

    Returns:
      Maps of size ceil(height / stride) x ceil(width / stride).
    """
    cells = (-(-shape[0] // stride), -(-shape[1] // stride))
    by_size = np.argsort(-np.abs(area(quads)), kind="stable")
    quads = np.asarray(quads, np.float64)[by_size]
    corners, angles = min_area_rectangle(quads)
    sides = np.linalg.norm(corners[:, [1, 3]] - corners[:, :1], axis=2)
    masked = np.asarray(ignore, bool)[by_size] | (sides.min(axis=1) < min_side)
    inner = shrink_quads(quads, shrink)
    owner = _owners(inner, cells, stride)
    _give_a_cell(owner, inner, ~masked, shape, stride)
    mask = np.ones(cells, np.float32)
    mask[_owners(quads[masked], cells, stride) >= 0] = 0
    if ring:
        mask[_owners(quads, cells, stride) > owner] = 0
    return Maps((owner >= 0).astype(np.float32), _geometry(owner, corners, angles, stride), mask)


def decode(
    score: np.ndarray, geometry: np.ndarray, *, threshold: float = 0.8, stride: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """One rectangle per cell with a sufficient score; the formula of OpenCV's EAST decoder.

    Args:
      score: (h, w) in [0, 1].
      geometry: (h, w, 5): top, right, bottom, left in pixels of the image, angle in radians.
      threshold: the least score.
      stride: pixels per cell.

    Returns:
      quads: float32 (n, 4, 2), clockwise from each rectangle's own top-left, in row-major order of the
        cells (`nms.locality_aware` relies on it).
      scores: float32 (n,), the score of each quad's own cell.
    """
    if score.ndim != 2 or geometry.shape != (*score.shape, 5):
        raise ValueError(f"score (h, w), geometry (h, w, 5) needed, received {score.shape}, {geometry.shape}")
    rows, columns = _where(score >= threshold)
    found = geometry[rows, columns].astype(np.float32)
    pixels = np.stack([columns, rows], axis=1).astype(np.float32) * np.float32(stride)
    quads = rectangle(pixels, found[:, :4], found[:, 4])
    return quads, score[rows, columns].astype(np.float32)


def _where(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """np.nonzero of a map, at a third of its cost."""
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return rows, columns


def _owners(quads: np.ndarray, cells: tuple[int, int], stride: int) -> np.ndarray:
    """Int (h, w): the last of the quads that covers each cell, -1 for none.

    A scan line per quad and row of cells: its crossings with the four sides, sorted, are the ends of at most
    two spans of covered cells (even-odd rule, so that crooked quads need no special case).
    """
    owner = np.full(cells, -1, np.int32)
    first, last = (_cell_from(end, stride, cells[0]) for end in (quads[..., 1].min(1), quads[..., 1].max(1)))
    quad, row = _expand(first, last)
    ends = _cell_from(_crossings(quads[quad], row * float(stride)), stride, cells[1])
    span, column = _expand(ends[:, ::2].ravel(), ends[:, 1::2].ravel())
    owner[row[span // 2], column] = quad[span // 2]  # NumPy: of repeated cells, the last value stays
    return owner


def _crossings(quads: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sorted x where the sides of quads (k, 4, 2) cross the lines y (k,): (k, 4), infinite where fewer."""
    following, y = np.roll(quads, -1, axis=1), y[:, None]
    crossed = (quads[..., 1] <= y) != (following[..., 1] <= y)
    rise = np.where(crossed, following[..., 1] - quads[..., 1], 1)
    x = quads[..., 0] + (y - quads[..., 1]) / rise * (following[..., 0] - quads[..., 0])
    return np.sort(np.where(crossed, x, np.inf), axis=1)


def _cell_from(coordinate: np.ndarray, stride: int, count: int) -> np.ndarray:
    """The first cell at or after a coordinate, within 0 and `count`."""
    return np.clip(np.ceil(coordinate / stride), 0, count).astype(np.intp)


def _expand(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The range each integer of the half-open ranges [first, last) comes from, and those integers."""
    lengths = np.maximum(last - first, 0)
    source = np.repeat(np.arange(len(lengths)), lengths)
    return source, np.arange(len(source)) + (first - np.cumsum(lengths) + lengths)[source]


def _give_a_cell(
    owner: np.ndarray, inner: np.ndarray, wanted: np.ndarray, shape: tuple[int, int], stride: int
) -> None:
    """Write those wanted texts that own no cell into the cell nearest to their centre, small ones last."""
    x, y = inner.mean(axis=1).T
    wanted = wanted & (x >= -0.5) & (y >= -0.5) & (x < shape[1] - 0.5) & (y < shape[0] - 0.5)
    wanted[owner[owner >= 0]] = False
    missing = np.flatnonzero(wanted)
    row, column = (np.rint(axis[missing] / stride).astype(np.intp) for axis in (y, x))
    owner[np.minimum(row, owner.shape[0] - 1), np.minimum(column, owner.shape[1] - 1)] = missing


def _geometry(owner: np.ndarray, corners: np.ndarray, angles: np.ndarray, stride: int) -> np.ndarray:
    rows, columns = _where(owner >= 0)
    text = owner[rows, columns]
    u, v = (axis[text] for axis in axes(angles))
    pixels = np.stack([columns, rows], axis=1) * float(stride)
    inwards = np.stack([pixels - corners[text, 0], corners[text, 2] - pixels], axis=1)
    (left, right), (top, bottom) = (np.einsum("nkd,nd->kn", inwards, axis) for axis in (u, v))
    geometry = np.zeros((*owner.shape, 5), np.float32)
    # A given cell may lie just outside of a very small text, where no network can say a negative distance.
    geometry[rows, columns, :4] = np.maximum(np.stack([top, right, bottom, left], axis=1), 0)
    geometry[rows, columns, 4] = angles[text]
    return geometry
