"""The one shape that all runtimes have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from efficientnet_east.config import Detect

# uint8 (n, height, width, 3) RGB -> float32 score (n, h, w, 1), geometry (n, h, w, 5 or 8).
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A network that is ready to run.

    Attributes:
      run: uint8 (n, height, width, 3), RGB, sides multiples of `divisor`, to the score map (n, h, w, 1) and
        the geometry map (n, h, w, 5 or 8), float32, see `geometry.maps`.
      stride: pixels per cell of the maps.
      divisor: what the sides of the input are multiples of.
      detect: the thresholds that the network was written with.
      name: of the runtime, a key of `runtimes.RUNTIMES`.
      precision: `float32`, `float16` or `int8`.
      threads: of the processor, as asked for.
      size: height and width, where the network takes one size only.
    """

    run: Run
    stride: int
    divisor: int
    detect: Detect
    name: str
    precision: str = "float32"
    threads: int = 0
    size: tuple[int, int] | None = None
