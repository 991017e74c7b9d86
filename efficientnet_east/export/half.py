"""Rounds a network's kernels to half precision, so that what a kernel sums up to stays the same.

Rounded one by one, the taps of a kernel that tells bright from dark no longer cancel: on an even surface
something is left where zero should be. In EfficientNet's first depthwise convolution this alone moves scores
by 0.01. So the error of each tap is carried on to the next smaller one, as in error diffusion, and the
smallest, which has the finest steps, takes what is left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from efficientnet_east.compat import tf
from efficientnet_east.export.folding import CONVOLUTIONS, constant, set_constant


def with_kernels_rounded(graph: Any) -> Any:
    """Round every convolution's kernel to half precision; the type stays float32.

    Args:
      graph: a GraphDef, from `folding.fold`.

    Returns:
      Another graph, whose kernels are the same in half precision.
    """
    rounded = tf.GraphDef()
    rounded.CopyFrom(graph)
    nodes = {node.name: node for node in rounded.node}
    for name in {node.input[1] for node in rounded.node if node.op in CONVOLUTIONS}:
        kernel = constant(nodes[name])
        taps = kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)  # of each pair of input and output
        set_constant(nodes[name], round_columns(taps).reshape(kernel.shape))
    return rounded


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
        wanted = row + carried
        row[:] = wanted.astype(np.float16)
        carried = wanted - row
    rounded = np.zeros(values.shape, np.float32)
    np.put_along_axis(rounded, order, falling.astype(np.float32), axis=0)
    return rounded
