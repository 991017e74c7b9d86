"""Ground truth by hand."""

import numpy as np

from efficientnet_east.structures import Truth


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def truth_of(*quads: np.ndarray, ignore: bool = False) -> Truth:
    n = len(quads)
    return Truth(np.array(quads, np.float32).reshape(n, 4, 2), np.full(n, ignore), ("text",) * n)
