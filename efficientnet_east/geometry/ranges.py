"""Ranges of integers, many at once."""

from __future__ import annotations

import numpy as np


def expand(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write out half-open ranges of integers.

    Args:
      first: int (n,), where each range begins.
      last: int (n,), one after its end; a range that ends before it begins is empty.

    Returns:
      Which range each integer comes from, and the integers, both int (k,), range by range.
    """
    lengths = np.maximum(last - first, 0)
    source = np.repeat(np.arange(len(lengths)), lengths)
    return source, np.arange(len(source)) + (first - np.cumsum(lengths) + lengths)[source]
