"""Which boxes are the same text: intersection over union against a threshold, for many pairs at once.

Nearly all pairs are decided by bounds that cost a few additions: the rectangles around both boxes, and those
inside of both, in the frame of one of them. Only what lies between is clipped. So the answers are those of
exact intersections, at a tenth of their cost.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import numpy as np

from efficientnet_east.geometry.intersections import convex_intersection
from efficientnet_east.geometry.quads import area
from efficientnet_east.geometry.ranges import expand

_ROUNDING = 1e-9  # relative: bounds decide where they are surer than their own rounding
_PAIRS_AT_ONCE = 1 << 20


def exceed(a: np.ndarray, b: np.ndarray, iou: float) -> np.ndarray:
    """Tell whether pairs of boxes overlap by more than a threshold.

    Args:
      a: float64 (k, 4, 2), convex, clockwise on the screen, pixels.
      b: float64 (k, 4, 2), likewise; pair i is a[i] and b[i].
      iou: the threshold of the intersection over union, at least 0.

    Returns:
      Bool (k,).
    """
    # IoU > iou, as a condition on the common area: common > iou * (both areas - common).
    least = (area(a) + area(b)) * (iou / (1 + iou))
    x, y = np.empty((2, 2, 4, len(a)))  # of both boxes: long rows are several times faster than short ones
    x[0], y[0] = a.transpose(2, 1, 0)
    x[1], y[1] = b.transpose(2, 1, 0)
    outer = _around(x, y)
    result = np.zeros(len(a), bool)
    open_ = np.flatnonzero((outer > 0) & (outer > least * (1 - _ROUNDING)))
    if not len(open_):
        return result
    inner, outer = _bounds(x[..., open_], y[..., open_])
    sure = inner > least[open_] * (1 + _ROUNDING)
    unsure = open_[~sure & (outer > least[open_] * (1 - _ROUNDING))]
    result[open_[sure]] = True
    if len(unsure):
        result[unsure] = convex_intersection(a[unsure], b[unsure]) > least[unsure]
    return result


def bounds(quads: np.ndarray) -> np.ndarray:
    """Return the upright bounds of quads.

    Args:
      quads: (n, 4, 2), pixels.

    Returns:
      (4, n): left, top, right, bottom.
    """
    corners = np.ascontiguousarray(quads.transpose(1, 2, 0))  # long rows are faster
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def meeting(some: np.ndarray, others: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find all pairs of upright bounds that share more than a border.

    Args:
      some: (4, n), see `bounds`.
      others: (4, m), likewise.

    Yields:
      Indices into some and into others, int (k,) each, a limited number at a time.
    """
    # Of two that share some height, the other one begins within this one, or this one within the other.
    for i, j in _beginning_within(some, others, "left"):
        yield i, j
    for j, i in _beginning_within(others, some, "right"):
        yield i, j


def meeting_each_other(limits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find all pairs among upright bounds that share more than a border, each of them once.

    Args:
      limits: (4, n), see `bounds`.

    Yields:
      Indices, int (k,) each, the first one the lower; a limited number of pairs at a time.
    """
    for i, j in _beginning_within(limits, limits, "left"):
        once = (limits[1][i] < limits[1][j]) | (i < j)
        yield np.minimum(i, j)[once], np.maximum(i, j)[once]


def _beginning_within(
    upper: np.ndarray, lower: np.ndarray, side: Literal["left", "right"]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of bounds that meet, the second of which begins below the top (`left`: or at it) of the first."""
    order = np.argsort(lower[1], kind="stable")
    tops = lower[1][order]
    first, last = np.searchsorted(tops, upper[1], side), np.searchsorted(tops, upper[3], "left")
    ends = np.cumsum(np.maximum(last - first, 0))
    cuts = np.searchsorted(ends, np.arange(_PAIRS_AT_ONCE, ends[-1] if len(ends) else 0, _PAIRS_AT_ONCE))
    for start, end in itertools.pairwise([0, *cuts.tolist(), len(ends)]):
        i, j = expand(first[start:end], last[start:end])
        i, j = i + start, order[j]
        meet = (upper[0][i] < lower[2][j]) & (lower[0][j] < upper[2][i])
        yield i[meet], j[meet]


def _bounds(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas (k,) that the intersections have at least and at the most, of pairs of corners (2, 4, k)."""
    along_x, along_y = (axis[0, 1] - axis[0, 0] + axis[0, 2] - axis[0, 3] for axis in (x, y))
    length = np.maximum(np.hypot(along_x, along_y), np.finfo(np.float64).tiny)
    cos, sin = along_x / length, along_y / length
    x, y = x - x[0, 0], y - y[0, 0]
    x, y = x * cos + y * sin, y * cos - x * sin
    # Corners run from the top left: 0 and 3 are left, 0 and 1 above. Where they are not, nothing is inside.
    left, right = np.maximum(x[:, 0], x[:, 3]), np.minimum(x[:, 1], x[:, 2])
    top, bottom = np.maximum(y[:, 0], y[:, 1]), np.minimum(y[:, 2], y[:, 3])
    return _common(left, right, top, bottom), _around(x, y)


def _around(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The common areas (k,) of the upright rectangles around pairs of corners (2, 4, k)."""
    (left, right), (top, bottom) = (
        (
            np.minimum(np.minimum(axis[:, 0], axis[:, 1]), np.minimum(axis[:, 2], axis[:, 3])),
            np.maximum(np.maximum(axis[:, 0], axis[:, 1]), np.maximum(axis[:, 2], axis[:, 3])),
        )
        for axis in (x, y)
    )
    return _common(left, right, top, bottom)


def _common(left: np.ndarray, right: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The common areas (k,) of pairs of upright rectangles, each side (2, k)."""
    width = np.minimum(right[0], right[1]) - np.maximum(left[0], left[1])
    height = np.minimum(bottom[0], bottom[1]) - np.maximum(top[0], top[1])
    return np.maximum(width, 0) * np.maximum(height, 0)
