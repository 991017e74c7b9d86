"""What the loop needs from whatever computes the steps, in TensorFlow or without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, SupportsFloat

import numpy as np

from efficientnet_east.data.loader import Batch
from efficientnet_east.structures import Detections

FINITE = "finite"  # the scalar that is 0 if the loss or a gradient is not finite
DetectImage = Callable[[np.ndarray], Detections]


class Engine(Protocol):
    """A network with its optimizer and its checkpoints, at some step of a run.

    Attributes:
      lag: for so many steps the scalars may stay on their way while the next step is prepared; 0 for an
        engine whose steps are over when `advance` returns.
      shares: this process's number among those that train together, and how many they are; it is given its
        share of each batch.
    """

    lag: int
    shares: tuple[int, int]

    @property
    def done(self) -> int:
        """Number of steps done."""

    def advance(self, batches: Sequence[Batch], rate: float) -> Mapping[str, SupportsFloat]:
        """Do one step.

        Args:
          batches: one for each pass of the network in the step.
          rate: the learning rate.

        Returns:
          The step's scalars by name: `loss/model`, `loss/total`, `gradient_norm` and others, and `FINITE`.
          Asking for a value may wait for the step.
        """

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Predict the maps of a training batch.

        Args:
          images: uint8 (b, s, s, 3), RGB.

        Returns:
          float32 score (b, h, w, 1) and geometry (b, h, w, 5 or 8), or None if the engine has no such graph.
        """

    def detector(self) -> DetectImage | None:
        """Return a detector with the averaged weights of this step, which is saved, or None."""

    def save(self) -> None:
        """Save everything that the run needs to go on from this step."""

    def save_if_best(self, hmean: float) -> bool:
        """Save for detection, unless an earlier validation was better; return whether it was saved."""
