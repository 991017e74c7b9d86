"""Kinds of text, by size and by angle, in bins that every report shares."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from efficientnet_east.geometry.quads import clockwise, thickness

SIZES = (0.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 96.0, math.inf)  # pixels of the image
ANGLES = (0.0, 5.0, 15.0, 30.0, 60.0, 90.0)  # degrees, see `quads.tilt`


def text_heights(quads: np.ndarray) -> np.ndarray:
    """Measure the thickness of texts: area over longest side, the height of a line of letters.

    Args:
      quads: (n, 4, 2), pixels, in either direction.

    Returns:
      float64 (n,), pixels.
    """
    return thickness(clockwise(quads))


def bin_labels(edges: Sequence[float]) -> list[str]:
    """Name each bin between the edges, such as `8–12`, the last one `96+` if it has no end.

    Args:
      edges: rising.
    """
    pairs = itertools.pairwise(edges)
    return [f"{low:g}+" if math.isinf(high) else f"{low:g}–{high:g}" for low, high in pairs]


def bin_of(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Return the number of each value's bin; a value at an edge belongs to the upper bin, but for the last.

    Args:
      values: (n,), from the first edge to the last.
      edges: rising.
    """
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
