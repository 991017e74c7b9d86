"""The values that the package passes around: frozen, and validated where they are made.

Corner order, axes and units of every `quads` array are drawn in `geometry/quads.py`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Protocol

import numpy as np

from efficientnet_east.geometry.lines import Line, find_lines
from efficientnet_east.geometry.quads import clockwise
from efficientnet_east.geometry.rectify import upright


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """The texts of one image.

    Attributes:
      quads: float32 (n, 4, 2), (x, y) in pixels, clockwise on the screen.
      ignore: bool (n,), True where a text is illegible (`###`): training and scores leave it out.
      texts: n transcriptions.
      scripts: n names such as `Latin`; none where the annotation does not say.
    """

    quads: np.ndarray
    ignore: np.ndarray
    texts: tuple[str, ...]
    scripts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.texts)
        _check("Truth.quads", self.quads, np.float32, (n, 4, 2))
        _check("Truth.ignore", self.ignore, np.bool_, (n,))
        if len(self.scripts) not in (0, n):
            raise ValueError(f"Truth.scripts must be {n} names or none, received {len(self.scripts)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One image with its texts.

    Attributes:
      name: the image's file name (or the number of a synthetic scene), for messages and results.
      image: uint8 (height, width, 3), RGB, as a viewer shows it.
      truth: the texts, in pixels of `image`.
      focus: float32 (4, 2), the quad that a crop must show, in pixels of `image`; None: crops fall anywhere.
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

    def lines(self) -> tuple[Line, ...]:
        """Group the words into lines of text, by their geometry alone; see `geometry.lines` for the rule.

        Returns:
          The lines in the order in which they are read, each with the indices of its words, in that order,
          and the rectangle around them. Every word is in exactly one line.
        """
        return find_lines(self.quads)

    def as_dict(self, *, lines: bool = False, **about: Any) -> dict[str, Any]:
        """Return the detections as plain Python values.

        Args:
          lines: add the lines of text.
          **about: what stands beside them, such as `image="photo.jpg"`.

        Returns:
          `about`, then `words`: best first, each with `corners`, four pairs [x, y] in hundredths of a pixel,
          and `score`, in ten-thousandths. With `lines` also `lines`, in the order in which they are read:
          each with `corners`, and with `words`, their numbers from 0 in the list of words.
        """
        scores = np.round(self.scores.astype(np.float64), 4)
        pairs = zip(_rounded(self.quads), scores.tolist(), strict=True)
        result = about | {"words": [{"corners": quad, "score": score} for quad, score in pairs]}
        if lines:
            result["lines"] = [
                {"corners": _rounded(one.quad), "words": list(one.words)} for one in self.lines()
            ]
        return result

    def to_json(self, *, lines: bool = False, **about: Any) -> str:
        """Write the detections as a JSON object on one line.

        Args:
          lines: see `as_dict`.
          **about: see `as_dict`.

        Returns:
          The text, without a line end.
        """
        return json.dumps(self.as_dict(lines=lines, **about), ensure_ascii=False, allow_nan=False)

    def to_icdar(self, *, decimals: int = 0, scores: bool = False) -> str:
        """Write the detections as ICDAR text: eight comma-separated coordinates a line.

        Args:
          decimals: of the coordinates; 0 gives the whole pixels that a submission needs.
          scores: append each score with four decimals; a submission has none.

        Returns:
          A line for each detection, best first; empty if there is none.
        """
        corners = clockwise(np.round(self.quads.astype(np.float64), decimals)).reshape(-1, 8) + 0.0  # no -0
        lines = [[f"{value:.{decimals}f}" for value in row] for row in corners.tolist()]
        if scores:
            lines = [[*line, f"{score:.4f}"] for line, score in zip(lines, self.scores.tolist(), strict=True)]
        return "".join(",".join(line) + "\n" for line in lines)

    def draw(
        self, image: np.ndarray, *, scores: bool = True, lines: bool = False, bgr: bool = False
    ) -> np.ndarray:
        """Outline the detections in their image.

        Args:
          image: uint8 (height, width, 3), the one they were found in; left as it is.
          scores: whether to write each score beside its box.
          lines: outline the lines of text, too, each with its number in the order of reading.
          bgr: the channels are in OpenCV's order.

        Returns:
          A new image of the same channel order.

        Raises:
          ValueError: another shape or type.
        """
        from efficientnet_east.drawing.overlays import draw_lines, draw_quads

        picture = draw_quads(
            image[..., ::-1] if bgr else image, self.quads, scores=self.scores if scores else None
        )
        if lines:
            picture = draw_lines(picture, [line.quad for line in self.lines()])
        return np.ascontiguousarray(picture[..., ::-1]) if bgr else picture

    def crops(
        self,
        image: np.ndarray,
        *,
        height: int | None = None,
        margin: float = 0.0,
        turn_tall: float | None = None,
    ) -> list[np.ndarray]:
        """Cut out the words, straightened and upright, for a recognizer.

        Args:
          image: uint8 (rows, columns, 3), the one they were found in, of any channel order.
          height: of the crops in pixels, their widths in proportion; None: as high as the words are.
          margin: what is added on every side, as a share of the word's height.
          turn_tall: rotate a crop by 90 degrees counter-clockwise if its height over its width is larger than
            this (1.5 is usual); None: rotate none.

        Returns:
          An image for each detection, in their order and in the image's channel order.
        """
        return upright(image, self.quads, height=height, margin=margin, turn_tall=turn_tall)


def _rounded(corners: np.ndarray) -> Any:
    """Corners in hundredths of a pixel, as nested lists."""
    return (np.round(corners.astype(np.float64), 2) + 0.0).tolist()  # no -0


def _check(name: str, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, received {found}")
