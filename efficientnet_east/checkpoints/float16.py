"""Round a network's kernels to half precision, so that what a kernel sums up to stays the same.

Rounded one by one, the taps of a kernel that tells bright from dark no longer cancel: on an even surface
something is left where zero should be. In EfficientNet's first depthwise convolution this alone moves scores
by 0.01. So the error of each tap is carried on to the next smaller one, as in error diffusion, and the
smallest, which has the finest steps, takes what is left.
"""

from __future__ import annotations

import numpy as np


def round_kernel(kernel: np.ndarray) -> np.ndarray:
    """Round a kernel to half precision; each pair of input and output keeps the sum of its taps.

    Args:
      kernel: (height, width, ...), of a convolution, full or depthwise.

    Returns:
      float32 of the same shape, exact in half precision.
    """
    return round_columns(kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)).reshape(kernel.shape)


def round_columns(values: np.ndarray) -> np.ndarray:
    """Round to half precision, and keep the sum of each column.

    Args:
      values: (n, columns).

    Returns:
      float32 of the same shape, each exact in half precision and within a step or so of what it was.
    """
    order = np.argsort(-np.abs(values), axis=0)
    falling = np.take_along_axis(values.astype(np.float64), order, axis=0)
    carried = np.zeros(values.shape[1])
    for row in falling:
        exact = row + carried
        row[:] = exact.astype(np.float16)
        carried = exact - row
    rounded = np.zeros(values.shape, np.float32)
    np.put_along_axis(rounded, order, falling.astype(np.float32), axis=0)
    return rounded
