"""The only values that cross rooms: frozen, and validated where they are made.

Corner order, axes and units of every `quads` array are drawn in `geometry/quads.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """The texts of one image.

    Attributes:
      quads: float32 (n, 4, 2), (x, y) in pixels, clockwise on the screen.
      ignore: bool (n,), True where a text is illegible (`###`): neither asked for nor punished.
      texts: n transcriptions.
    """

    quads: np.ndarray
    ignore: np.ndarray
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.texts)
        _check("Truth.quads", self.quads, np.float32, (n, 4, 2))
        _check("Truth.ignore", self.ignore, np.bool_, (n,))


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One image with its texts.

    Attributes:
      name: the image's file name (or the number of a synthetic scene), for messages and results.
      image: uint8 (height, width, 3), RGB, as a viewer shows it.
      truth: the texts, in pixels of `image`.
      focus: float32 (4, 2), the quad that a crop must show, in pixels of `image`; None leaves it to chance.
    """

    name: str
    image: np.ndarray
    truth: Truth
    focus: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check("Sample.image", self.image, np.uint8, (*self.image.shape[:2], 3))
        if self.focus is not None:
            _check("Sample.focus", self.focus, np.float32, (4, 2))


class Source(Protocol):
    """A sequence of samples; picklable where worker processes read it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The texts found in one image.

    Attributes:
      quads: float32 (n, 4, 2), (x, y) in pixels of the image as a viewer shows it (EXIF applied),
        clockwise from the text's top-left corner. Nothing found: shape (0, 4, 2).
      scores: float32 (n,) in [0, 1], best first.
    """

    quads: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.scores)
        _check("Detections.quads", self.quads, np.float32, (n, 4, 2))
        _check("Detections.scores", self.scores, np.float32, (n,))
        if n and not (0 <= self.scores[-1] <= self.scores[0] <= 1 and np.all(np.diff(self.scores) <= 0)):
            raise ValueError(f"Detections.scores must fall from 1 to 0, received {self.scores}")
        if not np.isfinite(self.quads).all():
            raise ValueError("Detections.quads must be finite")

    def __len__(self) -> int:
        return len(self.scores)


def _check(name: str, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, received {found}")
