"""What all formats share: one text of an image, where it stands, and quadrilaterals from any corners."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.geometry.quads import area, enclosing_rectangle

ILLEGIBLE = ("###", "*")
MASKED = "###"  # the transcription of a region that is masked
MAX_COORDINATE = 1e6
# Also finds coordinates that somebody divided by the size of the image.
_MIN_AREA = 1.0
# Each corner with its two neighbors; two opposite ones of these triangles make up the quadrilateral.
_TURNS = np.array([(3, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 0)])


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in an annotation file something stands.

    Attributes:
      file: its name, for messages.
      line: of the file, from 1; None where lines mean nothing, as in JSON.
      part: of the line or file, such as `shapes[2]`; empty where the line says it all.
    """

    file: str
    line: int | None = None
    part: str = ""

    @property
    def where(self) -> str:
        """The file, with the line if there is one."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def told(self, problem: str) -> str:
        """Put the part of the file before a problem."""
        return f"{self.part}: {problem}" if self.part else problem

    def error(self, problem: str, expected: str) -> UserError:
        """Make the error for something wrong at this place."""
        return UserError(self.where, self.told(problem), f"expected {expected}")


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """One text of an image.

    Attributes:
      place: where it stands.
      quad: float32 (4, 2), pixels. Four corners are as they are written; of more, or of three, this is the
        rectangle of least area around them.
      text: the transcription; empty where there is none.
      ignore: whether the text is neither asked for nor punished.
      script: as ICDAR 2017 MLT names it; empty where the file does not say.
      corners: how many were annotated.
    """

    place: Place
    quad: np.ndarray
    text: str
    ignore: bool
    script: str = ""
    corners: int = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Annotated:
    """What a file says about one image.

    Attributes:
      annotations: its texts in file order.
      name: of the image, as the file has it; empty where the file is about one image only.
      size: width and height of the image in pixels, as the file has them; None where it does not say.
      split: the part of the data set that the image belongs to (`train`, `val`), where the file says so.
      place: where the image stands in the file; None for a file about one image.
    """

    annotations: Sequence[Annotation]
    name: str = ""
    size: tuple[int, int] | None = None
    split: str = ""
    place: Place | None = None


Errors = list[UserError] | None
"""Where errors go: into a list, and reading goes on; or None, and the first one is raised."""


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of annotations: a row of the table in `formats`.

    Attributes:
      name: for people.
      files: which files are looked at, in words.
      sign: by what a file is recognized, in words.
      ignored: which texts are ignored, in words.
      suffix: of its files.
      whole_set: whether one file holds many images.
      recognizes: says of the beginning of a file's text whether it is of this format.
      read: gives the images of a file's content (raw bytes, name for errors, errors).
    """

    name: str
    files: str
    sign: str
    ignored: str
    suffix: str
    whole_set: bool
    recognizes: Callable[[str], bool]
    read: Callable[[bytes, str, Errors], list[Annotated]]


def report(error: UserError, errors: Errors) -> None:
    """Raise an error, or append it to the list of what was left out, where there is one."""
    if errors is None:
        raise error
    errors.append(error)


def report_image(error: UserError, errors: Errors) -> None:
    """Report an error for which an image of a data set is left out."""
    error.costs_image = True
    report(error, errors)


def annotate(
    corners: np.ndarray, place: Place, errors: Errors, *, text: str, ignore: bool, script: str = ""
) -> list[Annotation]:
    """Make a text of its corners.

    Where the corners enclose no text and reading goes on, their region is masked: to leave it out would
    teach that there is no text.

    Args:
      corners: (k, 2), pixels, k of 3 or more in order around the text, in either direction.
      place: where they stand.
      errors: see `Errors`.
      text: the transcription.
      ignore: whether the text is ignored.
      script: as ICDAR 2017 MLT names it.

    Returns:
      One text; none where the corners have no region either.

    Raises:
      UserError: the corners cannot be used while `errors` is None.
    """
    try:
        quad = quad_of(corners, place)
    except UserError as error:
        report(error, errors)
        return mask(corners, place)
    return [Annotation(place, quad, text, ignore, script, len(corners))]


def mask(corners: np.ndarray, place: Place) -> list[Annotation]:
    """Mask the region of corners that make no text.

    Args:
      corners: (k, 2), pixels, any number of any form.
      place: where they stand.

    Returns:
      One ignored text: the rectangle of least area around the corners, or the upright one where those lie on
      a line; none where that has no area either.
    """
    if len(corners) < 2:
        return []
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    upright = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)
    for quad in (enclosing_rectangle(corners).astype(np.float32), upright):
        if area(quad) >= _MIN_AREA:
            return [Annotation(place, quad, MASKED, True)]
    return []


def quad_of(corners: np.ndarray, place: Place) -> np.ndarray:
    """Make a quadrilateral of corners.

    Args:
      corners: (k, 2), pixels, k of 3 or more.
      place: where they stand.

    Returns:
      float32 (4, 2): the corners if they are four, else the rectangle of least area around them.

    Raises:
      UserError: too few corners, sides of a quadrilateral that cross, or no area.
    """
    if len(corners) < 3:
        raise place.error(f"{len(corners)} corners", "4 corners or more around the text")
    quad = (corners if len(corners) == 4 else enclosing_rectangle(corners)).astype(np.float32)
    turns = area(quad[_TURNS])
    # Walking around it, a quadrilateral whose sides cross turns left twice and right twice.
    if (turns > 0).sum() == 2 == (turns < 0).sum():
        raise place.error(f"the sides between {_shown(quad)} cross", "the corners in order around the text")
    if (size := abs(turns[0] + turns[2])) < _MIN_AREA:
        problem = f"the corners {_shown(corners)} enclose {size:.3g} square pixels"
        raise place.error(problem, "at least 1, with coordinates in pixels")
    return quad


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Give the corners of an upright rectangle.

    Args:
      left: pixels, as the others; the sides may be exchanged.
      top: see `left`.
      right: see `left`.
      bottom: see `left`.

    Returns:
      float64 (4, 2), from the top-left corner on, clockwise.
    """
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def numbers_of(fields: Sequence[str], where: str, expected: str) -> np.ndarray:
    """Turn decimal numbers into an array.

    Args:
      fields: the numbers as text.
      where: file and line for the error.
      expected: how the line should look.

    Returns:
      float64, as many.

    Raises:
      UserError: not numbers, or not finite and within a million.
    """
    try:
        numbers = np.array([float(field) for field in fields])
    except ValueError as error:
        raise UserError(where, _short(str(error)), f"expected {expected}") from None
    if not (np.abs(numbers) <= MAX_COORDINATE).all():
        problem = f"{_short(','.join(fields))} is not inside any image"
        raise UserError(where, problem, f"expected finite numbers up to {MAX_COORDINATE:.0f}")
    return numbers


def readable_corners(fields: Sequence[Any]) -> np.ndarray:
    """Give those corners that can be read, to mask what they stand around.

    Args:
      fields: x and y in turn, of any form.

    Returns:
      float64 (k, 2), finite; k may be 0.
    """
    pairs = zip(fields[::2], fields[1::2], strict=False)
    found = [corner for corner in (_corner(pair) for pair in pairs) if corner is not None]
    return np.array(found, np.float64).reshape(-1, 2)


def _corner(pair: tuple[Any, Any]) -> list[float] | None:
    try:
        corner = [float(value) for value in pair]
    except (TypeError, ValueError, OverflowError):
        return None
    return corner if all(abs(value) <= MAX_COORDINATE for value in corner) else None


def corners_of(value: Any, place: Place) -> np.ndarray:
    """Read corners from JSON.

    Args:
      value: `[[x, y], ...]` or `[x, y, x, y, ...]`, numbers.
      place: where they stand.

    Returns:
      float64 (k, 2), finite and within a million pixels.

    Raises:
      UserError: anything else.
    """
    expected = "corners such as [[x, y], ...], numbers"
    flat = flattened(value)
    if not flat or len(flat) % 2 or any(type(number) not in (int, float) for number in flat):
        raise place.error(f"the corners are {_short(repr(value))}", expected)
    corners = readable_corners(flat)
    if 2 * len(corners) != len(flat):
        problem = f"{_short(repr(value))} is not inside any image"
        raise place.error(problem, f"finite numbers up to {MAX_COORDINATE:.0f}")
    return corners


def flattened(value: Any) -> list[Any]:
    """Give the numbers of corners in JSON one after the other.

    Args:
      value: `[[x, y], ...]` or `[x, y, x, y, ...]`, or anything.

    Returns:
      x and y in turn; empty where `value` is no list of pairs.
    """
    if not isinstance(value, list):
        return []
    if all(isinstance(pair, list) for pair in value):
        return [number for pair in value for number in pair] if all(len(p) == 2 for p in value) else []
    return value


def text_in(value: Any) -> str:
    """Give a transcription from JSON as one line; what is no text counts as none."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def numbers_in(value: Any, count: int) -> np.ndarray | None:
    """Give numbers from JSON; None unless they are so many, finite and within a million."""
    if not isinstance(value, list) or len(value) != count:
        return None
    if any(type(number) not in (int, float) or not abs(number) <= MAX_COORDINATE for number in value):
        return None
    return np.array(value, np.float64)


def size_in(width: Any, height: Any) -> tuple[int, int] | None:
    """Give the size of an image from JSON; None unless both are whole numbers above 0."""
    if type(width) is int and type(height) is int and width > 0 and height > 0:
        return width, height
    return None


def _shown(corners: np.ndarray) -> str:
    return _short(",".join(f"{number:g}" for number in corners.ravel()))


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
