"""Non-maximum suppression: locality-aware (EAST, section 3.4, algorithm 1) and standard."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from efficientnet_east.geometry.overlaps import bounds, exceed, meeting, meeting_each_other
from efficientnet_east.geometry.quads import (
    clockwise,
    convex,
    from_top_side,
    quarter_turns,
    rolled,
    thickness,
)
from efficientnet_east.system import installed

_LEAST_WEIGHT = 1e-3  # boxes of score 0 still have a mean, and the compiled merge, fixed-point, its digits
_NEAR = 0.25  # of a box's thickness, within which a cell's distance from a corner hardly matters
_SIGNS = np.array([1.0, -1.0, 1.0, -1.0])
_BLOCK = 1024  # boxes that are suppressed together
_PRODUCTS_AT_ONCE = 1 << 16  # which a processor's cache holds


def locality_aware(
    quads: np.ndarray,
    scores: np.ndarray,
    iou: float = 0.2,
    *,
    points: np.ndarray | None = None,
    compiled: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Merge neighboring boxes by weighted means, then keep the best of those that still overlap.

    The paper weighs each box by its score. In a long text a cell knows the near end well and takes the far
    one to be nearer than it is, so the mean is too short. With `points` each corner is weighed on its own, by
    score / (distance + thickness / 4)^2, and the nearest cells decide.

    Args:
      quads: (n, 4, 2) convex candidates in row-major order of their cells, as in `label_maps.Candidates`,
        pixels. Candidates that are not finite are left out.
      scores: (n,) in [0, 1].
      iou: two boxes are the same text if their intersection over union is greater than this.
      points: (n, 2), the pixels of the cells, as there; None: as in the paper.
      compiled: merge by the C++ of the package `lanms`, as most EAST programs do, to compare with; without
        `points`. It gives the same boxes for parallelograms, as those of RBOX are, and takes longer. Of other
        quads it takes means of corners and their mirror images where two short sides slant apart: the box is
        too thin.

    Returns:
      quads: float32 (m, 4, 2), convex, clockwise, each from the corner that begins its top side.
      scores: float32 (m,) in [0, 1], best first: the best of the candidates nearest to each box.

    Raises:
      ImportError: `compiled` is True, and `lanms` is not installed.
      ValueError: `compiled` is True, and there are `points`.
    """
    if compiled and points is not None:
        raise ValueError("the compiled merge weighs whole boxes; leave points out")
    module = lanms() if compiled else None
    quads, scores, *places = _finite(quads, scores, *(() if points is None else (points,)))
    if not len(quads):
        return np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32)
    quads = clockwise(quads)
    aligned, weights = _aligned(quads), np.maximum(scores, _LEAST_WEIGHT)
    if module:
        merged = _merge_compiled(module, aligned, weights, iou)
    else:
        merged = _merge(aligned, weights, _of_corners(aligned, weights, *places), iou)
    best = _best_scores(merged, quads, scores).astype(np.float32)
    best_first = _best_first(merged, best)
    return merged[best_first].astype(np.float32), best[best_first]


def standard(quads: np.ndarray, scores: np.ndarray, iou: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Keep the best of overlapping boxes as they are, as OpenCV's NMSBoxesRotated does for rectangles.

    To OpenCV a box that lies inside of another is the same text, however small it is; here it is one more
    pair of boxes with an intersection and a union.

    Args:
      quads: (n, 4, 2), convex, pixels, in any order. Those that are not finite are left out.
      scores: (n,) in [0, 1]; of equal ones, the upper box is the better one.
      iou: of two boxes with a greater intersection over union, the better one is kept.

    Returns:
      quads: float32 (m, 4, 2), clockwise, each from the corner that begins its top side.
      scores: float32 (m,), best first: each box's own.
    """
    quads, scores = _finite(quads, scores)
    if not len(quads):
        return quads.astype(np.float32), scores.astype(np.float32)
    quads = from_top_side(clockwise(quads))
    best_first = _best_first(quads, scores)
    kept = best_first[_suppress(quads[best_first], iou)]
    return quads[kept].astype(np.float32), scores[kept].astype(np.float32)


def _finite(*arrays: np.ndarray) -> list[np.ndarray]:
    """Those rows, of all arrays together, that are finite in each, as float64."""
    columns = [np.asarray(array, np.float64) for array in arrays]
    finite = np.all([np.isfinite(c).all(axis=tuple(range(1, c.ndim))) for c in columns], axis=0)
    return columns if finite.all() else [column[finite] for column in columns]


def _best_first(quads: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of falling scores; equal ones from the top of the image to its bottom."""
    x, y = np.rint(quads[:, 0]).T
    return np.lexsort((x, y, -scores))


def _aligned(quads: np.ndarray) -> np.ndarray:
    """Every quad from the corner that matches the first one of the quad before it.

    The angle of a text near 45 degrees jumps between +45 and -45 from cell to cell, and with it the first
    corner. A mean of corners that do not match would be no box of that text.
    """
    turns = quarter_turns(quads)
    return rolled(quads, np.cumsum(np.rint(np.diff(turns, prepend=turns[:1])).astype(np.intp)))


def lanms() -> ModuleType:
    """Import the compiled merge, to compare with.

    Raises:
      ImportError: `lanms-neo` is not installed, whatever lies in the working folder.
    """
    return installed.load("lanms", "lanms-neo")


def _merge_compiled(module: ModuleType, quads: np.ndarray, weights: np.ndarray, iou: float) -> np.ndarray:
    table = np.concatenate([quads.reshape(-1, 8), weights[:, None]], axis=1)
    merged = np.asarray(module.merge_quadrangle_n9(table, iou), np.float64)
    return _in_form(merged[:, :8].reshape(-1, 4, 2))


def _merge(quads: np.ndarray, weights: np.ndarray, of_corners: np.ndarray, iou: float) -> np.ndarray:
    """Algorithm 1: weighted means of consecutive boxes, then standard suppression by summed weights."""
    means, starts = _merge_neighbors(quads, of_corners, iou)
    sums = np.add.reduceat(weights, starts)
    twists = np.add.reduceat(_twist(quads) * weights[:, None], starts) / sums[:, None]
    # A mean of parallelograms, as those of RBOX are, stays one though its corners weigh differently.
    means -= (_twist(means) - twists)[:, None] * _SIGNS[:, None]
    merged = _in_form(means)[np.argsort(-sums, kind="stable")]
    return merged[_suppress(merged, iou)]


def _twist(quads: np.ndarray) -> np.ndarray:
    """How far corners (n, 4, 2) are from those of a parallelogram: (n, 2), added and taken off in turns."""
    return np.einsum("nkd,k->nd", quads, _SIGNS / 4)


def _of_corners(quads: np.ndarray, weights: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
    """What each corner weighs in a mean: (n, 1), or (n, 4) where the points of the cells are known."""
    if points is None:
        return weights[:, None]
    distances = np.linalg.norm(quads - points[:, None], axis=2) + _NEAR * thickness(quads)[:, None]
    return weights[:, None] / np.maximum(distances, _LEAST_WEIGHT) ** 2


def _in_form(means: np.ndarray) -> np.ndarray:
    """A mean of convex quads is convex again if they are rectangles, but not for any form."""
    return from_top_side(convex(means))


def _merge_neighbors(quads: np.ndarray, weights: np.ndarray, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """One pass in the given order: each box joins the running mean before it, or starts the next one.

    Returns the means, and the indices (m,) of the boxes that start them. Weights are (n, 1) or (n, 4).

    Whether a box starts a new mean depends on all such decisions before it, but on the last start alone: sums
    of the boxes since then are differences of running sums. So all starts are guessed, all decisions are made
    as if the guess were right, and those whose last start was another one are made again. Each round at least
    the first wrong guess becomes right, in practice all of a row do; what no decision contradicts is what
    one decision after the other would give.
    """
    weighted = quads * weights[..., None]
    sums, masses = np.cumsum(weighted, axis=0), np.cumsum(weights, axis=0)
    starts = np.concatenate([[True], ~_consecutive_meet(bounds(quads))])
    index = np.arange(len(quads))
    last = np.maximum.accumulate(np.where(starts, index, 0))
    open_ = index[1:]
    while len(open_):
        first = last[open_ - 1]
        mass = masses[open_ - 1] - masses[first] + weights[first]
        means = (sums[open_ - 1] - sums[first] + weighted[first]) / mass[..., None]
        starts[open_] = ~exceed(means, quads[open_], iou)
        before, last = last, np.maximum.accumulate(np.where(starts, index, 0))
        open_ = np.flatnonzero(last[:-1] != before[:-1]) + 1
    begun = np.flatnonzero(starts)
    return np.add.reduceat(weighted, begun) / np.add.reduceat(weights, begun)[..., None], begun


def _consecutive_meet(limits: np.ndarray) -> np.ndarray:
    """Bool (n - 1,): whether the bounds (4, n) of each box and of the one before it overlap."""
    before, after = limits[:, :-1], limits[:, 1:]
    return np.all((before[:2] < after[2:]) & (after[:2] < before[2:]), axis=0)


def _suppress(quads: np.ndarray, iou: float) -> np.ndarray:
    """Indices of the quads (best first) that no better kept one overlaps, a block of the best at a time."""
    limits, kept, rest = bounds(quads), [np.zeros(0, np.intp)], np.arange(len(quads))
    while len(rest):
        block, rest = rest[:_BLOCK], rest[_BLOCK:]
        kept.append(block[_unbeaten(quads[block], limits[:, block], iou)])
        if len(rest):
            pairs = meeting(limits[:, kept[-1]], limits[:, rest])
            lost = [j[exceed(quads[kept[-1][i]], quads[rest[j]], iou)] for i, j in pairs]
            rest = np.delete(rest, np.concatenate(lost))
    return np.concatenate(kept)


def _unbeaten(quads: np.ndarray, limits: np.ndarray, iou: float) -> list[bool]:
    """For each quad (best first), whether no better unbeaten one overlaps it."""
    alive = [True] * len(quads)
    pairs = [(i, j, exceed(quads[i], quads[j], iou)) for i, j in meeting_each_other(limits)]
    better, worse = (np.concatenate([pair[side][pair[2]] for pair in pairs]) for side in (0, 1))
    by_rank = np.argsort(better, kind="stable")
    for i, j in zip(better[by_rank].tolist(), worse[by_rank].tolist(), strict=True):
        if alive[i]:  # all that could beat it have been looked at
            alive[j] = False
    return alive


def _best_scores(merged: np.ndarray, quads: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Best score of the candidates whose upright bounds are nearest to those of each merged box.

    Taken outside of the merge, so that it does not depend on which merge was used. A box that is nearest to
    no candidate has the score of the candidate nearest to it.
    """
    texts, candidates = bounds(merged).T, bounds(quads).T
    nearest = _nearest(candidates, texts)
    best = np.full(len(texts), -np.inf)
    np.maximum.at(best, nearest, scores)
    lonely = np.isneginf(best)
    best[lonely] = scores[_nearest(texts[lonely], candidates)]
    return best


def _nearest(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Index of the target (m, 4) nearest to each point (n, 4), a block of points at a time."""
    # The point's own square is the same for all targets; the rest is one product of matrices.
    factors = np.concatenate([-2 * targets.T, (targets**2).sum(axis=1)[None]])
    points = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    rows = max(1, _PRODUCTS_AT_ONCE // len(targets))
    blocks = [points[i : i + rows] for i in range(0, len(points), rows)]
    found = [np.argmin(block @ factors, axis=1) for block in blocks]
    return np.concatenate(found) if found else np.zeros(0, np.intp)
