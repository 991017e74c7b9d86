"""Numbers and corners as annotation files write them, and quadrilaterals made of any corners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.geometry.quads import area, enclosing_rectangle

LARGEST = 1e6  # pixels: no coordinate of an image is larger
# Also finds coordinates that somebody divided by the size of the image.
_MIN_AREA = 1.0
# Each corner with its two neighbors; two opposite ones of these triangles make up the quadrilateral.
_TURNS = np.array([(3, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 0)])

MakeError = Callable[[str, str], UserError]
"""Makes an error of a problem and a hint."""


def quad_around(corners: np.ndarray, error: MakeError) -> np.ndarray:
    """Make a quadrilateral of corners.

    Args:
      corners: (k, 2), pixels.
      error: makes the error.

    Returns:
      float32 (4, 2): the corners if they are four, else the rectangle of least area around them.

    Raises:
      UserError: too few corners, sides of a quadrilateral that cross, or no area.
    """
    if len(corners) < 3:
        raise error(f"{len(corners)} corners", "expected 4 corners or more around the text")
    quad = (corners if len(corners) == 4 else enclosing_rectangle(corners)).astype(np.float32)
    turns = area(quad[_TURNS])
    # Walking around it, a quadrilateral whose sides cross turns left twice and right twice.
    if (turns > 0).sum() == 2 == (turns < 0).sum():
        raise error(
            f"the sides between {_shown(quad)} cross", "expected the corners in order around the text"
        )
    if (size := abs(turns[0] + turns[2])) < _MIN_AREA:
        problem = f"the corners {_shown(corners)} enclose {size:.3g} square pixels"
        raise error(problem, "expected at least 1, with coordinates in pixels")
    return quad


def region_of(corners: np.ndarray) -> np.ndarray | None:
    """Find the region to mask around corners that make no text.

    Args:
      corners: (k, 2), pixels, any number of any form.

    Returns:
      float32 (4, 2): the rectangle of least area around the corners, or the upright one where those lie on a
      line; None where that has no area either.
    """
    if len(corners) < 2:
        return None
    upright = rectangle_quad(*corners.min(axis=0), *corners.max(axis=0)).astype(np.float32)
    quads = (enclosing_rectangle(corners).astype(np.float32), upright)
    return next((quad for quad in quads if area(quad) >= _MIN_AREA), None)


def rectangle_quad(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return the corners of an upright rectangle, float64 (4, 2), clockwise from the top-left one.

    Args:
      left: pixels, as the others; the sides may be exchanged.
      top: see `left`.
      right: see `left`.
      bottom: see `left`.
    """
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def from_text(fields: Sequence[str], where: str, expected: str) -> np.ndarray:
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
    if not (np.abs(numbers) <= LARGEST).all():
        problem = f"{_short(','.join(fields))} is not inside any image"
        raise UserError(where, problem, f"expected finite numbers up to {LARGEST:.0f}")
    return numbers


def readable_numbers(fields: Sequence[Any]) -> np.ndarray:
    """Return those corners that can be read, to mask what they stand around.

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
    return corner if all(abs(value) <= LARGEST for value in corner) else None


def from_json(value: Any, error: MakeError) -> np.ndarray:
    """Read corners from JSON.

    Args:
      value: `[[x, y], ...]` or `[x, y, x, y, ...]`, numbers.
      error: makes the error.

    Returns:
      float64 (k, 2), finite and within a million pixels.

    Raises:
      UserError: anything else.
    """
    flat = flattened(value)
    if not flat or len(flat) % 2 or any(type(number) not in (int, float) for number in flat):
        raise error(
            f"the corners are {_short(repr(value))}", "expected corners such as [[x, y], ...], numbers"
        )
    corners = readable_numbers(flat)
    if 2 * len(corners) != len(flat):
        problem = f"{_short(repr(value))} is not inside any image"
        raise error(problem, f"expected finite numbers up to {LARGEST:.0f}")
    return corners


def readable_json(value: Any) -> np.ndarray:
    """Return those corners in JSON that can be read, float64 (k, 2), see `readable_numbers`."""
    return readable_numbers(flattened(value))


def flattened(value: Any) -> list[Any]:
    """Return the numbers of corners in JSON one after the other.

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
    """Return a transcription from JSON as one line; what is no text counts as none."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def numbers_in(value: Any, count: int) -> np.ndarray | None:
    """Return numbers from JSON; None unless they are so many, finite and within a million."""
    if not isinstance(value, list) or len(value) != count:
        return None
    if any(type(number) not in (int, float) or not abs(number) <= LARGEST for number in value):
        return None
    return np.array(value, np.float64)


def size_in(width: Any, height: Any) -> tuple[int, int] | None:
    """Return the size of an image from JSON; None unless both are whole numbers above 0."""
    if type(width) is int and type(height) is int and width > 0 and height > 0:
        return width, height
    return None


def _shown(corners: np.ndarray) -> str:
    return _short(",".join(f"{number:g}" for number in corners.ravel()))


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
