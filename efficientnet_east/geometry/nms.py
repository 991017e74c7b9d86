"""Locality-aware non-maximum suppression (EAST, section 3.4, algorithm 1), compiled or in NumPy."""

from __future__ import annotations

import cv2
import numpy as np

from efficientnet_east.geometry.quads import clockwise, convex, from_top_side, quarter_turns, rolled

try:
    import lanms
except ImportError:  # the package is optional: without it the same boxes are found, more slowly
    lanms = None

_LEAST_WEIGHT = 1e-3  # boxes of score 0 still have a mean, and the compiled merge, fixed-point, its digits
_PAIRS_AT_ONCE = 1 << 22

_Corners = list[tuple[float, float]]  # or lists of two, as ndarray.tolist gives them


def locality_aware(
    quads: np.ndarray, scores: np.ndarray, iou: float = 0.2, *, compiled: bool | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Merge neighbouring boxes by weighted means, then keep the best of those that still overlap.

    Args:
      quads: (n, 4, 2) convex candidates in row-major order of their cells, as `maps.decode` makes them,
        pixels. Candidates that are not finite are left out.
      scores: (n,) in [0, 1].
      iou: two boxes are the same text if their intersection over union is greater than this.
      compiled: True for the compiled merge of the `lanms` package, False for the one written here, None for
        the compiled one where it is installed and all candidates are parallelograms, as those of RBOX are.
        Both give the same boxes then. Of other quads the compiled one takes means of corners and their mirror
        images where two short sides slant apart, which makes the box too thin.

    Returns:
      quads: float32 (m, 4, 2), convex, clockwise, each from the corner that begins its top side.
      scores: float32 (m,) in [0, 1], best first: the mean score of the candidates nearest to each box.

    Raises:
      ImportError: `compiled` is True, and `lanms` is not installed.
    """
    if compiled and lanms is None:
        raise ImportError("compiled=True needs the package lanms-neo")
    usable = np.isfinite(quads).all(axis=(1, 2)) & np.isfinite(scores)
    quads, scores = clockwise(np.asarray(quads, np.float64)[usable]), np.asarray(scores, np.float64)[usable]
    if not len(quads):
        return np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32)
    if compiled is None:
        compiled = lanms is not None and _are_parallelograms(quads)
    merge = _merge_compiled if compiled else _merge
    # A mean of convex quads is convex again if they are rectangles, but not for any form.
    merged = from_top_side(convex(merge(_aligned(quads), np.maximum(scores, _LEAST_WEIGHT), iou)))
    means = _mean_scores(merged, quads, scores).astype(np.float32)
    best_first = _best_first(merged, means, np.arange(len(merged)))
    return merged[best_first].astype(np.float32), means[best_first]


def standard(quads: np.ndarray, scores: np.ndarray, iou: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Keep the best of overlapping boxes as they are, by OpenCV's suppression of rotated boxes.

    Args:
      quads: (n, 4, 2), pixels, in any order. Those that are not finite are left out.
      scores: (n,) in [0, 1].
      iou: of two boxes with a greater intersection over union of their least rectangles, one is kept.

    Returns:
      quads: float32 (m, 4, 2), clockwise, each from the corner that begins its top side.
      scores: float32 (m,), best first: each box's own.
    """
    usable = np.isfinite(quads).all(axis=(1, 2)) & np.isfinite(scores)
    quads = from_top_side(clockwise(np.asarray(quads, np.float32)[usable]))
    scores = np.asarray(scores, np.float32)[usable]
    if not len(quads):
        return quads, scores
    # OpenCV leaves out what has no score.
    weights = np.maximum(scores, _LEAST_WEIGHT).tolist()
    kept = np.ravel(cv2.dnn.NMSBoxesRotated([cv2.minAreaRect(quad) for quad in quads], weights, 0.0, iou))
    kept = _best_first(quads, scores, kept)
    return quads[kept], scores[kept]


def _best_first(quads: np.ndarray, scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Indices with falling scores; equal ones from the top of the image to its bottom."""
    x, y = np.rint(quads[chosen, 0]).T
    return chosen[np.lexsort((x, y, -scores[chosen]))]


def _are_parallelograms(quads: np.ndarray) -> bool:
    """Whether they all are, up to single precision."""
    return np.allclose(quads[:, 0] + quads[:, 2], quads[:, 1] + quads[:, 3], rtol=1e-5, atol=0.01)


def _aligned(quads: np.ndarray) -> np.ndarray:
    """Every quad from the corner that matches the first one of the quad before it.

    The angle of a text near 45 degrees jumps between +45 and -45 from cell to cell, and with it the first
    corner. A mean of corners that do not match would be no box of that text.
    """
    turns = quarter_turns(quads)
    return rolled(quads, np.cumsum(np.rint(np.diff(turns, prepend=turns[:1])).astype(np.intp)))


def _merge_compiled(quads: np.ndarray, weights: np.ndarray, iou: float) -> np.ndarray:
    table = np.concatenate([quads.reshape(-1, 8), weights[:, None]], axis=1)
    merged = np.asarray(lanms.merge_quadrangle_n9(table, iou), np.float64)
    return merged[:, :8].reshape(-1, 4, 2)


def _merge(quads: np.ndarray, weights: np.ndarray, iou: float) -> np.ndarray:
    """Algorithm 1: weighted means of consecutive boxes, then standard suppression by summed weights."""
    merged, sums = _merge_neighbours(quads, weights, iou)
    order = np.argsort(-sums, kind="stable")
    return merged[order][_suppress(merged[order], iou)]


def _merge_neighbours(quads: np.ndarray, weights: np.ndarray, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """One pass in the given order: each box joins the running mean before it, or starts the next one."""
    weighted = quads * weights[:, None, None]
    starts: list[int] = []
    mean: _Corners = []
    total, weight = np.zeros((4, 2)), 0.0
    for i, quad in enumerate(quads.tolist()):
        if mean and _iou(mean, quad) > iou:
            total, weight = total + weighted[i], weight + weights[i]
        else:
            starts.append(i)
            total, weight = weighted[i], weights[i]
        mean = (total / weight).tolist()
    sums = np.add.reduceat(weights, starts)
    return np.add.reduceat(weighted, starts) / sums[:, None, None], sums


def _suppress(quads: np.ndarray, iou: float) -> list[int]:
    """Indices of the quads (best first) that no better kept one overlaps."""
    low, high, corners = quads.min(axis=1), quads.max(axis=1), quads.tolist()
    kept, rest = [], np.arange(len(quads))
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        lost = np.all((low[rest] < high[best]) & (low[best] < high[rest]), axis=1)
        lost[lost] = [_iou(corners[best], corners[i]) > iou for i in rest[lost]]
        rest = rest[~lost]
    return kept


def _iou(a: _Corners, b: _Corners) -> float:
    """`quads.iou` of convex clockwise quads; plain numbers are much faster than arrays for a single pair."""
    common = _area(_clipped(a, b))
    union = _area(a) + _area(b) - common
    return common / union if union > 0 else 0.0


def _area(corners: _Corners) -> float:
    """Area of a convex polygon, as triangles around its first corner."""
    if len(corners) < 3:
        return 0.0
    (x, y), (before_x, before_y) = corners[:2]
    double = 0.0
    for next_x, next_y in corners[2:]:
        double += (before_x - x) * (next_y - y) - (next_x - x) * (before_y - y)
        before_x, before_y = next_x, next_y
    return 0.5 * double


def _clipped(subject: _Corners, window: _Corners) -> _Corners:
    """What of one convex polygon lies in another (Sutherland and Hodgman)."""
    start_x, start_y = window[-1]
    for end_x, end_y in window:
        side_x, side_y = end_x - start_x, end_y - start_y
        depths = [side_x * (y - start_y) - side_y * (x - start_x) for x, y in subject]
        subject = _cut(subject, depths)
        start_x, start_y = end_x, end_y
    return subject


def _cut(corners: _Corners, depths: list[float]) -> _Corners:
    """The part of a polygon where the depth, known at the corners, is not negative."""
    if not depths or min(depths) >= 0:
        return corners
    kept = []
    (x, y), depth = corners[-1], depths[-1]
    for (next_x, next_y), next_depth in zip(corners, depths, strict=True):
        if (depth >= 0) != (next_depth >= 0):
            share = depth / (depth - next_depth)
            kept.append((x + share * (next_x - x), y + share * (next_y - y)))
        if next_depth >= 0:
            kept.append((next_x, next_y))
        x, y, depth = next_x, next_y, next_depth
    return kept


def _mean_scores(merged: np.ndarray, quads: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Mean score of the candidates whose upright bounds are nearest to those of each merged box.

    Taken outside of the merge, so that it does not depend on which merge was used. A box that is nearest to
    no candidate has the score of the candidate nearest to it.
    """
    texts, candidates = _bounds(merged), _bounds(quads)
    nearest = _nearest(candidates, texts)
    count = np.bincount(nearest, minlength=len(texts))
    means = np.bincount(nearest, scores, minlength=len(texts)) / np.maximum(count, 1)
    means[count == 0] = scores[_nearest(texts[count == 0], candidates)]
    return means


def _bounds(quads: np.ndarray) -> np.ndarray:
    return np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)


def _nearest(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Index of the target (m, 4) nearest to each point (n, 4), a block of points at a time."""
    rows = max(1, _PAIRS_AT_ONCE // len(targets))
    squares = (targets**2).sum(axis=1)
    blocks = [points[i : i + rows] for i in range(0, len(points), rows)]
    found = [np.argmin(squares - 2 * block @ targets.T, axis=1) for block in blocks]
    return np.concatenate(found) if found else np.zeros(0, np.intp)
