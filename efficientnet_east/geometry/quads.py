r"""Quadrilaterals: the conventions of the whole package, and plain geometry on arrays of corners.

Conventions, stated here and nowhere else::

    (0, 0) ----> x (right, pixels)         p0 ___________ p1        corners clockwise on the screen,
      |                                      |   text    |          first the text's own top-left
      v                                    p3 ----------- p2
      y (down, pixels)

A corner is (x, y). Pixel centers lie at integers, as in OpenCV: the top-left pixel's center is (0, 0).
Quads are arrays (n, 4, 2). `area` is positive for quads that run clockwise on the screen.

The angle of a rectangle is in radians, positive counter-clockwise on the screen (text that rises to the
right), and in (-pi/4, pi/4], so that its "right" is the more horizontal one of its axes::

              _- p1
         _--    \           u = (cos angle, -sin angle)   along the text, from p0 to p1
    p0 -    text \          v = (sin angle,  cos angle)   across the text, from p0 to p3
      \         _- p2
       \   _--              drawn: angle = +25 degrees
       p3 -
"""

from __future__ import annotations

import cv2
import numpy as np

# Every pair of corners: the least rectangle lies along a side of the convex hull, and each is one of these.
_STARTS, _ENDS = np.triu_indices(4, k=1)
# Two sides that meet in a slightly acute corner have rectangles of exactly the same area. Rounding, which is
# another one in `labels`, must not choose between them: areas this near to each other, as a share, are equal.
EQUAL_AREAS = 1e-5


def area(quads: np.ndarray) -> np.ndarray:
    """Compute the signed area: positive where the corners run clockwise on the screen.

    Args:
      quads: (..., k, 2) polygons of k corners, pixels.

    Returns:
      float64 (...), square pixels. For a self-crossing quad the lobes cancel out.
    """
    corners = np.asarray(quads, np.float64)
    if corners.shape[-2] == 4:  # half the product of the diagonals, which is several times faster
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (np.moveaxis(corners[..., i, :], -1, 0) for i in range(4))
        return 0.5 * ((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0))
    corners = corners - corners[..., :1, :]  # far from the origin the products would lose digits
    x, y = corners[..., 0], corners[..., 1]
    return 0.5 * (x * np.roll(y, -1, axis=-1) - np.roll(x, -1, axis=-1) * y).sum(axis=-1)


def clockwise(quads: np.ndarray) -> np.ndarray:
    """Make quads run clockwise on the screen; the first corner of each stays the first.

    Args:
      quads: (n, 4, 2), pixels.

    Returns:
      (n, 4, 2) of the same dtype.
    """
    turned = area(quads) < 0
    if not turned.any():
        return quads.copy()
    return np.where(turned[:, None, None], quads[:, [0, 3, 2, 1]], quads)


def convex(quads: np.ndarray) -> np.ndarray:
    """Compute the convex hulls of quads, each with four corners again.

    Args:
      quads: (n, 4, 2), pixels, of any form and direction.

    Returns:
      float64 (n, 4, 2), clockwise on the screen; those that are convex have their corners as before. Where
      sides cross, the corners are put into the order in which they lie around their mean; a corner inside of
      the other three is moved to the nearest point of the line between its neighbors.
    """
    quads = clockwise(np.asarray(quads, np.float64))
    left_turns = (corner_turns(quads) < 0).sum(axis=1)
    quads[left_turns > 1] = _in_order(quads[left_turns > 1])
    quads[left_turns > 0] = _flattened(quads[left_turns > 0])
    return quads


def _in_order(quads: np.ndarray) -> np.ndarray:
    """The corners clockwise around their mean."""
    x, y = np.moveaxis(quads - quads.mean(axis=1, keepdims=True), 2, 0)
    return np.take_along_axis(quads, np.argsort(np.arctan2(y, x), axis=1)[..., None], axis=1)


def _flattened(quads: np.ndarray) -> np.ndarray:
    """Simple clockwise quads whose reflex corner, if there is one, is moved to the line that it cuts off."""
    turns = corner_turns(quads)
    first = np.argmin(turns, axis=1)
    quads = rolled(quads, first)
    reflex, start, end = quads[:, 0], quads[:, 3], quads[:, 1]
    side = end - start
    length = np.maximum((side**2).sum(axis=1), np.finfo(np.float64).tiny)
    along = np.clip(((reflex - start) * side).sum(axis=1) / length, 0, 1)[:, None]
    quads[:, 0] = np.where(turns.min(axis=1, keepdims=True) < 0, start + along * side, reflex)
    return rolled(quads, -first)


def quarter_turns(quads: np.ndarray) -> np.ndarray:
    """Compute the direction in which quads run along their first side, as the mean over all four sides.

    Every side, turned back by as many right angles as lie before it, counts with its length; so the next
    corner as the first one makes exactly one quarter turn less, in a trapezium too.

    Args:
      quads: (..., 4, 2), pixels, clockwise on the screen.

    Returns:
      (...), in (-2, 2] right angles, counter-clockwise from "right"; upright text has 0.
    """
    p0, p1, p2, p3 = np.moveaxis(quads, -2, 0)
    along, across = (p1 - p0) + (p2 - p3), (p3 - p0) + (p2 - p1)
    x, y = along[..., 0] + across[..., 1], along[..., 1] - across[..., 0]
    return np.arctan2(-y, x) / (np.pi / 2)


def rolled(quads: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Begin quads at others of their corners.

    Args:
      quads: (n, 4, 2).
      by: int (n,), how many corners later each quad begins.

    Returns:
      (n, 4, 2) of the same dtype.
    """
    result, later = quads.copy(), np.flatnonzero(by % 4)
    corners = (np.arange(4) + by[later, None]) % 4
    result[later] = quads[later[:, None], corners]
    return result


def from_top_side(quads: np.ndarray) -> np.ndarray:
    """Begin quads at the corner that begins their top side, whichever corner was the first.

    Args:
      quads: (n, 4, 2), pixels, clockwise on the screen.

    Returns:
      (n, 4, 2) of the same dtype; their `quarter_turns` are within half a right angle.
    """
    return rolled(quads, np.ceil(quarter_turns(quads) - 0.5).astype(np.intp))


def thickness(quads: np.ndarray) -> np.ndarray:
    """Measure the thickness of quads: area over longest side, the height of a parallelogram.

    Args:
      quads: (n, 4, 2), pixels, clockwise on the screen.

    Returns:
      float64 (n,), pixels.
    """
    longest = np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2).max(axis=1)
    return area(quads) / np.maximum(longest, np.finfo(np.float64).tiny)


def bounding(quads: np.ndarray) -> np.ndarray:
    """Return the upright rectangles around quads.

    Args:
      quads: (n, 4, 2), pixels.

    Returns:
      (n, 4, 2) of the same dtype, clockwise from the top-left corner.
    """
    (left, top), (right, bottom) = quads.min(axis=1).T, quads.max(axis=1).T
    return np.stack([left, top, right, top, right, bottom, left, bottom], axis=1).reshape(-1, 4, 2)


def tilt(quads: np.ndarray) -> np.ndarray:
    """Compute the angle between the longer sides of quads and the horizontal.

    Args:
      quads: (n, 4, 2), pixels, in either direction.

    Returns:
      float64 (n,), degrees from 0, level, to 90, upright; the same whichever corner is the first.
    """
    p0, p1, p2, p3 = np.moveaxis(np.asarray(quads, np.float64), -2, 0)
    along, across = (p1 - p0) + (p2 - p3), (p3 - p0) + (p2 - p1)
    level = np.linalg.norm(along, axis=-1) >= np.linalg.norm(across, axis=-1)
    x, y = np.moveaxis(np.abs(np.where(level[..., None], along, across)), -1, 0)
    return np.degrees(np.arctan2(y, x))


def transform(quads: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move quads by an affine or projective map.

    Args:
      quads: (n, 4, 2), pixels.
      matrix: (2, 3) or (3, 3), acting on columns (x, y, 1) as OpenCV's warps do.

    Returns:
      float32 (n, 4, 2).
    """
    matrix = np.asarray(matrix, np.float64)
    moved = quads @ matrix[:, :2].T + matrix[:, 2]
    if len(matrix) == 3:
        moved = moved[..., :2] / moved[..., 2:]
    return moved.astype(np.float32)


def axes(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vectors u (to the text's right) and v (to its bottom) of the drawing above.

    Args:
      angles: (...), radians.

    Returns:
      u and v, each (..., 2).
    """
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)


def rectangle(point: np.ndarray, distances: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Make the rectangles whose sides lie at given distances from a point.

    Args:
      point: (..., 2), pixels.
      distances: (..., 4) from the point to the top, right, bottom and left side, pixels.
      angles: (...), radians.

    Returns:
      (..., 4, 2), clockwise from the rectangle's own top-left.
    """
    u, v = (axis[..., None, :] for axis in axes(angles))
    top, right, bottom, left = np.moveaxis(distances[..., None], -2, 0)
    along = np.stack([-left, right, right, -left], axis=-2)
    across = np.stack([-top, -top, bottom, bottom], axis=-2)
    return point[..., None, :] + along * u + across * v


def min_area_rectangle(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the rectangle of least area around a quad; of several such, that along the first of its sides.

    Args:
      quads: (..., 4, 2), one quad or many, pixels.

    Returns:
      corners: float64 (..., 4, 2), clockwise from the rectangle's own top-left: turned by -angle, its sides
        are parallel to the axes and that corner is the top-left one.
      angles: float64 (...), radians in (-pi/4, pi/4].
    """
    quads = np.asarray(quads, np.float64)
    return _least_rectangle(quads, quads[..., _ENDS, :] - quads[..., _STARTS, :])


def enclosing_rectangle(corners: np.ndarray) -> np.ndarray:
    """Find the rectangle of least area around any number of points.

    Args:
      corners: (k, 2), k of 1 or more, pixels, in any order.

    Returns:
      float64 (4, 2), clockwise from the rectangle's own top-left, see `min_area_rectangle`.
    """
    points = np.asarray(corners, np.float32).reshape(-1, 1, 2) + 0.0  # -0 beside 0 has no hull for OpenCV
    hull = cv2.convexHull(points)[:, 0].astype(np.float64)
    return _least_rectangle(hull, np.roll(hull, -1, axis=0) - hull)[0]


def _least_rectangle(points: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least of the rectangles around points (..., k, 2) that lie along given sides (..., s, 2)."""
    angles = np.arctan2(-side[..., 1], side[..., 0])
    angles -= np.pi / 2 * np.ceil(angles / (np.pi / 2) - 0.5)
    u, v = axes(angles)
    along, across = points @ np.moveaxis(u, -1, -2), points @ np.moveaxis(v, -1, -2)
    extents = np.stack([across.min(-2), along.max(-2), across.max(-2), along.min(-2)], axis=-1)
    top, right, bottom, left = np.moveaxis(extents, -1, 0)
    size = (right - left) * (bottom - top)
    best = np.argmax(size <= size.min(axis=-1, keepdims=True) * (1 + EQUAL_AREAS), axis=-1)[..., None]
    angles = np.take_along_axis(angles, best, axis=-1)[..., 0]
    extents = np.take_along_axis(extents, best[..., None], axis=-2)[..., 0, :]
    return rectangle(np.zeros_like(points[..., 0, :]), extents * (-1, 1, 1, -1), angles), angles


def shrink(quads: np.ndarray, ratio: float = 0.3, core: float = 0.0) -> np.ndarray:
    """Move every corner of quads inwards, the two longer sides of each first (EAST, section 3.3.1).

    Args:
      quads: (n, 4, 2), pixels, in either direction.
      ratio: a corner moves along each of its sides by this share of the shorter one, 0 to 0.5.
      core: pixels of the two shorter sides that are kept if they are there: thin quads move their longer
        sides less far, or not at all.

    Returns:
      float64 (n, 4, 2).
    """
    quads = np.asarray(quads, np.float64)
    lengths = np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2)
    upright = (lengths[:, 0] + lengths[:, 2] < lengths[:, 1] + lengths[:, 3])[:, None]
    steps = ratio * np.minimum(lengths, np.roll(lengths, 1, axis=1))
    # Turned by one corner where needed, so that sides 0-1 and 2-3 are the longer pair in every quad.
    quads = np.where(upright[..., None], np.roll(quads, -1, axis=1), quads)
    steps = np.where(upright, np.roll(steps, -1, axis=1), steps)
    quads = _shorten(quads, steps, [0, 2], [1, 3])
    if core:
        across = np.linalg.norm(quads[:, [3, 2, 1, 0]] - quads, axis=2)
        steps = np.minimum(steps, np.maximum(across - core, 0) / 2)
    quads = _shorten(quads, steps, [1, 3], [2, 0])
    return np.where(upright[..., None], np.roll(quads, 1, axis=1), quads)


def _shorten(quads: np.ndarray, steps: np.ndarray, starts: list[int], ends: list[int]) -> np.ndarray:
    """Move both ends of the named sides towards each other, at most until they meet."""
    side = quads[:, ends] - quads[:, starts]
    length = np.maximum(np.linalg.norm(side, axis=2), np.finfo(np.float64).tiny)
    quads = quads.copy()
    quads[:, starts] += side * np.minimum(steps[:, starts] / length, 0.5)[..., None]
    quads[:, ends] -= side * np.minimum(steps[:, ends] / length, 0.5)[..., None]
    return quads


def corner_turns(quads: np.ndarray) -> np.ndarray:
    """Compute which way quads turn at their corners.

    Args:
      quads: (n, 4, 2), pixels.

    Returns:
      (n, 4): the cross products of the two sides at each corner, positive for a turn to the right.
    """
    after = np.roll(quads, -1, axis=1) - quads
    before = np.roll(after, 1, axis=1)
    return before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
