"""Label maps and their inverse: `encode` turns quads into EAST's maps, `decode` turns maps into quads.

Both see the same cell the same way: cell (row i, column j) stands for the pixel x = j * stride,
y = i * stride, and holds, in one of the two forms of EAST (sections 3.3.2 and 3.4.2):

* RBOX, 5 channels: the distances from there to the sides of a rectangle, and its angle (top, right, bottom,
  left, angle; axes and sign in `geometry/quads.py`);
* QUAD, 8 channels: the offsets from there to the corners of a convex quad (x0, y0, ... x3, y3), clockwise
  from the corner that begins its top side.

How many channels a map has says which form it is in.

Large texts are painted first: a small text on top of a large one keeps its cells. A text whose shrunk quad
falls between the cells gets the cell nearest to its center, if that is in the image and no smaller text needs
the same one.

Texts may be balanced: a cell of a text whose shrunk quad has the area of n cells weighs
(BALANCED_CELLS / n) ** balance. At 0 every cell weighs 1, at 1 every text weighs the same; between them, as
in PixelLink (Deng et al. 2018, section 4.1), it depends on size less.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from efficientnet_east.geometry.gaps import between_words
from efficientnet_east.geometry.quads import (
    area,
    axes,
    convex,
    from_top_side,
    min_area_rectangle,
    quarter_turns,
    rectangle,
    thickness,
)
from efficientnet_east.geometry.quads import shrink as shrink_quads
from efficientnet_east.geometry.ranges import expand

CHANNELS = {"rbox": 5, "quad": 8}
# Cells of the text whose cells weigh 1 where texts are balanced: a word of about 100 x 30 pixels.
BALANCED_CELLS = 64.0
# Pixels. Corners farther from their cell, quads thinner and rectangles with a shorter side than this are no
# text; it leaves single precision its digits.
_FARTHEST, _THINNEST, _SHORTEST = 1e5, 0.1, 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Maps:
    """The labels of one image, at the network's output size h x w.

    Attributes:
      score: float32 (h, w), 1 inside the texts' shrunk quads, else 0.
      geometry: float32 (h, w, 5 or 8), see above: pixels of the image, the angle in radians; 0 where score
        is 0.
      mask: float32 (h, w), what each cell counts in the loss: 0 where it must not look, else 1, or the weight
        of the cell's text or gap.
    """

    score: np.ndarray
    geometry: np.ndarray
    mask: np.ndarray


class Candidates(NamedTuple):
    """Boxes of single cells.

    Attributes:
      quads: float32 (n, 4, 2), convex, clockwise from the corner that begins each box's top side.
      scores: float32 (n,), the score of each quad's own cell.
      points: float64 (n, 2), the pixel (x, y) that the cell stands for.
    """

    quads: np.ndarray
    scores: np.ndarray
    points: np.ndarray


def encode(
    quads: np.ndarray,
    ignore: np.ndarray,
    shape: tuple[int, int],
    *,
    stride: int = 4,
    shrink: float = 0.3,
    min_side: float = 0.0,
    ring: bool = False,
    geometry: str = "rbox",
    core: float = 0.0,
    balance: float = 0.0,
    between: float = 1.0,
) -> Maps:
    """Make the label maps of texts (EAST, section 3.3), at the output size.

    Args:
      quads: (n, 4, 2), pixels, in either direction; they may reach out of the image.
      ignore: bool (n,), True for illegible texts.
      shape: (height, width) of the image, pixels.
      stride: pixels per cell.
      shrink: see `quads.shrink`.
      min_side: texts whose rectangle has a shorter side than this (pixels) are masked like illegible ones.
      ring: also mask what lies between the shrunk and the full quad of every text.
      geometry: a key of `CHANNELS`; score and mask are the same for all.
      core: see `quads.shrink`.
      balance: how far texts weigh the same whatever their size, 0 to 1; see above.
      between: what a background cell between two neighboring words weighs, see `gaps.between_words`: more
        than 1 teaches to keep them apart.

    Returns:
      Maps of size ceil(height / stride) x ceil(width / stride).

    Raises:
      ValueError: another geometry.
    """
    if geometry not in CHANNELS:
        raise ValueError(f"geometry must be one of {', '.join(CHANNELS)}, received {geometry!r}")
    cells = (-(-shape[0] // stride), -(-shape[1] // stride))
    by_size = np.argsort(-np.abs(area(quads)), kind="stable")
    quads = np.asarray(quads, np.float64)[by_size]
    corners, angles = min_area_rectangle(quads)
    sides = np.linalg.norm(corners[:, [1, 3]] - corners[:, :1], axis=2)
    masked = np.asarray(ignore, bool)[by_size] | (sides.min(axis=1) < min_side)
    inner = shrink_quads(quads, shrink, core)
    owner = _owners(inner, cells, stride)
    _give_a_cell(owner, inner, ~masked, shape, stride)
    mask = _mask(owner, quads, inner, masked, stride, between)
    if ring:
        mask[_owners(quads, cells, stride) > owner] = 0
    rows, columns = _where(owner >= 0)
    text, pixels = owner[rows, columns], _pixels(rows, columns, stride)
    if balance:
        mask[rows, columns] *= text_weights(inner, stride, balance)[text]
    values = np.zeros((*cells, CHANNELS[geometry]), np.float32)
    if geometry == "rbox":
        values[rows, columns] = _to_rbox(pixels, corners[text], angles[text])
    else:
        values[rows, columns] = _to_quad(pixels, from_top_side(convex(quads))[text])
    return Maps((owner >= 0).astype(np.float32), values, mask)


def _mask(
    owner: np.ndarray, quads: np.ndarray, inner: np.ndarray, masked: np.ndarray, stride: int, between: float
) -> np.ndarray:
    """What each cell counts before texts are balanced, but for their rings; float32 (h, w)."""
    mask = np.ones(owner.shape, np.float32)
    mask[_owners(quads[masked], owner.shape, stride) >= 0] = 0
    if between != 1:
        gaps = _owners(between_words(quads[~masked], inner[~masked]), owner.shape, stride)
        mask[(gaps >= 0) & (owner < 0)] *= between
    return mask


def decode(
    score: np.ndarray,
    geometry: np.ndarray,
    *,
    threshold: float = 0.8,
    stride: int = 4,
    most: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make one box for each cell with a sufficient score: `candidates` without their points.

    Args:
      score: (h, w) in [0, 1].
      geometry: (h, w, 5 or 8), see above.
      threshold: the least score.
      stride: pixels per cell.
      most: so many cells, those with the best scores, have a box; None: all.

    Returns:
      quads: float32 (n, 4, 2), see `Candidates`.
      scores: float32 (n,).

    Raises:
      ValueError: the maps are no pair, or have another number of channels.
    """
    found = candidates(score, geometry, threshold=threshold, stride=stride, most=most)
    return found.quads, found.scores


def candidates(
    score: np.ndarray,
    geometry: np.ndarray,
    *,
    threshold: float = 0.8,
    stride: int = 4,
    most: int | None = None,
) -> Candidates:
    """Make one box for each cell with a sufficient score; for RBOX by the formula of OpenCV's EAST decoder.

    A network may say QUAD corners that are in no order, run the wrong way, or lie inside of the others: the
    box is then their convex hull. Boxes of either form that enclose next to nothing, are not finite, or reach
    far beyond any image are left out.

    Args:
      score: (h, w) in [0, 1]; what is more, as eight bits may round it, is 1, and NaN is background.
      geometry: (h, w, 5 or 8), see above.
      threshold: the least score.
      stride: pixels per cell.
      most: so many cells, those with the best scores, have a box; None: all.

    Returns:
      The boxes of n cells, in row-major order (`nms.locality_aware` relies on it).

    Raises:
      ValueError: the maps are no pair, or have another number of channels.
    """
    if score.ndim != 2 or geometry.shape not in {(*score.shape, channels) for channels in CHANNELS.values()}:
        received = f"{score.shape}, {geometry.shape}"
        raise ValueError(f"score (h, w), geometry (h, w, 5 or 8) needed, received {received}")
    rows, columns = _where(score >= threshold)
    if most is not None and len(rows) > most:
        best = np.sort(np.argsort(-score[rows, columns], kind="stable")[:most])
        rows, columns = rows[best], columns[best]
    found, pixels = geometry[rows, columns].astype(np.float32), _pixels(rows, columns, stride)
    scores = np.minimum(score[rows, columns], 1).astype(np.float32)
    read = _from_rbox if geometry.shape[-1] == CHANNELS["rbox"] else _from_quad
    quads, usable = read(pixels, found)
    return Candidates(quads, scores[usable], pixels[usable])


def angles(geometry: np.ndarray) -> np.ndarray:
    """Compute the angles of the boxes in a map, for pictures.

    Args:
      geometry: (..., 5 or 8), see above; finite.

    Returns:
      (...), radians in [-pi/4, pi/4] (RBOX: as they stand there), positive for text that rises to the right.
    """
    if geometry.shape[-1] == CHANNELS["rbox"]:
        return geometry[..., 4]
    turns = quarter_turns(geometry.reshape(*geometry.shape[:-1], 4, 2))
    return (turns - np.ceil(turns - 0.5)) * (np.pi / 2)


def text_weights(inner: np.ndarray, stride: int, balance: float) -> np.ndarray:
    """Compute what a cell of each text weighs, see `encode`.

    Args:
      inner: (n, 4, 2), the shrunk quads, pixels.
      stride: pixels per cell.
      balance: 0 to 1.

    Returns:
      float64 (n,).
    """
    cells = np.maximum(np.abs(area(inner)) / stride**2, 1)
    return (BALANCED_CELLS / cells) ** balance


def _to_rbox(pixels: np.ndarray, corners: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Channels (n, 5) of pixels (n, 2) in rectangles (n, 4, 2) with angles (n,)."""
    inwards = np.stack([pixels - corners[:, 0], corners[:, 2] - pixels], axis=1)
    (left, right), (top, bottom) = (np.einsum("nkd,nd->kn", inwards, axis) for axis in axes(angles))
    # A given cell may lie just outside of a very small text, where no network can say a negative distance.
    distances = np.maximum(np.stack([top, right, bottom, left], axis=1), 0)
    return np.concatenate([distances, angles[:, None]], axis=1)


def _from_rbox(pixels: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rectangles of those cells where there is one, and which cells (n,) these are."""
    usable = (np.abs(found) <= _FARTHEST).all(axis=1)
    usable &= np.minimum(found[:, 0] + found[:, 2], found[:, 1] + found[:, 3]) >= _SHORTEST
    if not usable.all():
        pixels, found = pixels[usable], found[usable]
    return rectangle(pixels.astype(np.float32), found[:, :4], found[:, 4]), usable


def _to_quad(pixels: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Channels (n, 8) of pixels (n, 2) in quads (n, 4, 2)."""
    return (quads - pixels[:, None]).reshape(-1, 8)


def _from_quad(pixels: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quads of those cells where there is one, and which cells (n,) these are."""
    usable = (np.abs(found) <= _FARTHEST).all(axis=1)
    quads = convex(pixels[usable, None] + found[usable].reshape(-1, 4, 2))
    thick = thickness(quads) >= _THINNEST
    usable[usable] = thick
    return from_top_side(quads[thick]).astype(np.float32), usable


def _pixels(rows: np.ndarray, columns: np.ndarray, stride: int) -> np.ndarray:
    """The pixels (n, 2), as (x, y), that cells stand for."""
    return np.stack([columns, rows], axis=1) * float(stride)


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
    quad, row = expand(first, last)
    ends = _cell_from(_crossings(quads[quad], row * float(stride)), stride, cells[1])
    span, column = expand(ends[:, ::2].ravel(), ends[:, 1::2].ravel())
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


def _give_a_cell(
    owner: np.ndarray, inner: np.ndarray, usable: np.ndarray, shape: tuple[int, int], stride: int
) -> None:
    """Give each usable text without a cell the cell nearest to its center, small texts last."""
    x, y = inner.mean(axis=1).T
    usable = usable & (x >= -0.5) & (y >= -0.5) & (x < shape[1] - 0.5) & (y < shape[0] - 0.5)
    usable[owner[owner >= 0]] = False
    missing = np.flatnonzero(usable)
    row, column = (np.rint(axis[missing] / stride).astype(np.intp) for axis in (y, x))
    row, column = np.minimum(row, owner.shape[0] - 1), np.minimum(column, owner.shape[1] - 1)
    larger = owner[row, column] < missing  # the cell's text so far, or none
    owner[row[larger], column[larger]] = missing[larger]
