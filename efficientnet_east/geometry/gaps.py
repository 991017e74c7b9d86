"""The gaps between neighboring words, where a network easily joins two words into one."""

from __future__ import annotations

import numpy as np

from efficientnet_east.geometry.overlaps import bounds, meeting_each_other
from efficientnet_east.geometry.quads import clockwise, convex, thickness


def between_words(quads: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Find the regions between words that are closer to each other than the lower one is high.

    Args:
      quads: (n, 4, 2), the words, pixels, in either direction.
      inner: (n, 4, 2), their shrunk quads, corner by corner.

    Returns:
      float64 (k, 4, 2), convex: for each such pair what lies between the facing sides of the shrunk quads,
      as far as these lie beside each other.
    """
    quads, inner = clockwise(np.asarray(quads, np.float64)), clockwise(np.asarray(inner, np.float64))
    heights = thickness(quads)
    limits = bounds(quads) + np.array([-1, -1, 1, 1])[:, None] * heights
    pairs = list(meeting_each_other(limits))
    one, other = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    near = _distances(quads[one], quads[other]) < np.minimum(heights[one], heights[other])
    one, other = one[near], other[near]
    first, second = (_facing(inner[a], inner[b].mean(axis=1)) for a, b in ((one, other), (other, one)))
    return convex(np.concatenate([_beside(first, second), _beside(second, first)], axis=1))


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The distance (k,) of pairs of quads (k, 4, 2) from each other: from a corner to a side."""
    return np.minimum(_to_sides(a, b).min(axis=(1, 2)), _to_sides(b, a).min(axis=(1, 2)))


def _to_sides(points: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """The distances (k, p, 4) of points (k, p, 2) from the sides of quads (k, 4, 2)."""
    start = quads[:, None]
    side = np.roll(quads, -1, axis=1)[:, None] - start
    offset = points[:, :, None] - start
    length = np.maximum((side**2).sum(axis=-1), np.finfo(np.float64).tiny)
    along = np.clip((offset * side).sum(axis=-1) / length, 0, 1)[..., None]
    return np.linalg.norm(offset - along * side, axis=-1)


def _facing(quads: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The side (k, 2, 2) of each quad (k, 4, 2) that is nearest to a point (k, 2)."""
    first = _to_sides(points[:, None], quads)[:, 0].argmin(axis=1)
    corners = np.stack([first, (first + 1) % 4], axis=1)
    return np.take_along_axis(quads, corners[..., None], axis=1)


def _beside(side: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The part (k, 2, 2) of each side (k, 2, 2) that lies beside another one."""
    start, run = side[:, :1], side[:, 1:] - side[:, :1]
    length = np.maximum((run**2).sum(axis=-1), np.finfo(np.float64).tiny)
    along = np.clip(((other - start) * run).sum(axis=-1) / length, 0, 1)
    return start + along[..., None] * run
