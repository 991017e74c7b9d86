"""Common areas of quads, and intersection over union, of exact polygons."""

from __future__ import annotations

import numpy as np

from efficientnet_east.geometry.quads import area, clockwise, corner_turns

_PAIRS_AT_ONCE = 100_000  # of quads that are cut with each other: some hundred megabytes


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the intersection over union of two quads of any form; see `iou_matrix`.

    Args:
      a: (4, 2), pixels.
      b: (4, 2), pixels.

    Returns:
      A share in [0, 1].
    """
    return float(iou_matrix(np.asarray(a)[None], np.asarray(b)[None])[0, 0])


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of every quad in `a` with every quad in `b`.

    Args:
      a: (n, 4, 2), pixels, in either direction. Self-crossing quads count as the area of all their lobes.
      b: (m, 4, 2), likewise.

    Returns:
      float64 (n, m) in [0, 1]; 0 for a pair without area.
    """
    common, a_areas, b_areas = intersection_matrix(a, b)
    union = a_areas[:, None] + b_areas[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0).clip(0, 1)


def intersection_matrix(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the common area of every quad in `a` with every quad in `b`, and their own areas.

    Args:
      a: (n, 4, 2), pixels, of any form and direction.
      b: (m, 4, 2), likewise.

    Returns:
      Square pixels, float64: common (n, m), areas of a (n,), areas of b (m,).
    """
    (a_parts, a_owners), (b_parts, b_owners) = _convex_parts(a), _convex_parts(b)
    common = np.zeros((len(a), len(b)))
    step = max(1, _PAIRS_AT_ONCE // max(1, len(b_parts)))
    for start in range(0, len(a_parts), step):
        parts, owners = a_parts[start : start + step], a_owners[start : start + step]
        rows, columns = np.nonzero(_boxes_meet(parts, b_parts))
        shares = convex_intersection(parts[rows], b_parts[columns])
        np.add.at(common, (owners[rows], b_owners[columns]), shares)
    a_areas = np.bincount(a_owners, area(a_parts), minlength=len(a))
    return common, a_areas, np.bincount(b_owners, area(b_parts), minlength=len(b))


def convex_intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the common areas of pairs of convex quads, all at once (Sutherland and Hodgman's clipping).

    Args:
      a: (k, 4, 2), convex, clockwise on the screen.
      b: (k, 4, 2), likewise; pair i is a[i] and b[i].

    Returns:
      float64 (k,), square pixels.
    """
    polygons = a
    for start, end in zip(np.moveaxis(b, 1, 0), np.moveaxis(np.roll(b, -1, axis=1), 1, 0), strict=True):
        polygons = _clip(polygons, start, end - start)
    return np.abs(area(polygons))


def _clip(polygons: np.ndarray, start: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Cut off what lies to the left of a directed line; `polygons` (k, c, 2), `start` and `side` (k, 2)."""
    if not polygons.size:
        return polygons
    offset = polygons - start[:, None]
    depth = side[:, None, 0] * offset[..., 1] - side[:, None, 1] * offset[..., 0]
    following, next_depth = np.roll(polygons, -1, axis=1), np.roll(depth, -1, axis=1)
    inside = depth >= 0
    crossed = inside != np.roll(inside, -1, axis=1)
    share = np.divide(depth, depth - next_depth, out=np.zeros_like(depth), where=crossed)
    points = np.stack([polygons, polygons + share[..., None] * (following - polygons)], axis=2)
    points = points.reshape(len(points), -1, 2)
    kept = np.stack([inside, crossed], axis=2).reshape(len(points), -1)
    # Kept points first, in their order; the last of them fills the places left over, which adds no area.
    order, count = np.argsort(~kept, axis=1, kind="stable"), kept.sum(axis=1, keepdims=True)
    place = np.minimum(np.arange(max(1, count.max())), np.maximum(count - 1, 0))
    return np.take_along_axis(points, np.take_along_axis(order, place, axis=1)[..., None], axis=1)


def _boxes_meet(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bool (n, m): whether the upright bounding boxes of two quads share more than a border."""
    low = np.maximum(a.min(axis=1)[:, None], b.min(axis=1)[None])
    high = np.minimum(a.max(axis=1)[:, None], b.max(axis=1)[None])
    return np.all(low < high, axis=2)


def _convex_parts(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clockwise convex quads (k, 4, 2) that cover what the given ones enclose, and whose each one is (k,)."""
    quads = clockwise(np.asarray(quads, np.float64).reshape(-1, 4, 2))
    crooked = np.flatnonzero((corner_turns(quads) < 0).any(axis=1))  # four corners cannot wind around twice
    whole = np.setdiff1d(np.arange(len(quads)), crooked)
    parts = np.concatenate([quads[whole], *(_triangles(quad) for quad in quads[crooked])])
    return clockwise(parts), np.concatenate([whole, np.repeat(crooked, 2)])


def _triangles(quad: np.ndarray) -> np.ndarray:
    """The two triangles of a crooked quad, (2, 4, 2) with one corner repeated.

    The lobes where two sides cross, else the parts on either side of the diagonal from the reflex corner.
    """
    for p, q, r, s in (quad, np.roll(quad, -1, axis=0)):
        sides = np.stack([q - p, r - s], axis=1)
        if np.linalg.det(sides):
            along = np.linalg.solve(sides, r - p)
            if np.all((along > 0) & (along < 1)):
                crossing = p + along[0] * (q - p)
                return np.array([[crossing, q, r, r], [crossing, s, p, p]])
    p, q, r, s = np.roll(quad, -int(np.argmin(corner_turns(quad[None])[0])), axis=0)
    return np.array([[p, q, r, r], [p, r, s, s]])
