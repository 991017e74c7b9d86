"""Lines of annotation files: what the ICDAR competitions and their followers write about one text.

| written by | a line |
|---|---|
| ICDAR 2015, and most data sets since | `x1,y1,x2,y2,x3,y3,x4,y4,transcription` |
| ICDAR 2017 MLT | `x1,y1,x2,y2,x3,y3,x4,y4,script,transcription` |
| plain quadrilaterals | `x1,y1,x2,y2,x3,y3,x4,y4` |
| ICDAR 2013 | `left, top, right, bottom, "transcription"`, or without the commas |

Each line tells by itself which one it is. `###` marks a text that nobody can read; see
https://rrc.cvc.uab.es/?ch=4&com=tasks.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.geometry.quads import area, clockwise
from efficientnet_east.structures import Truth

_ILLEGIBLE = ("###", "*")
# ICDAR 2017 MLT writes the script between the corners and the transcription.
_SCRIPT = re.compile("^(Arabic|Latin|Chinese|Japanese|Korean|Bangla|Hindi|Symbols|Mixed|None),")
# ICDAR 2013: only with quotes around the transcription, so that half a quadrilateral is no rectangle.
_RECTANGLE = re.compile(r'^([^\s,"]+)' + r'(?:\s*,\s*|\s+)([^\s,"]+)' * 3 + r'(?:\s*,\s*|\s+)"(.*)"$')
_LINE = "x1,y1,x2,y2,x3,y3,x4,y4,transcription"
_MAX_COORDINATE = 1e6
# Also finds coordinates that somebody divided by the size of the image.
_MIN_AREA = 1.0
# Each corner with its two neighbours; two opposite ones of these triangles make up the quadrilateral.
_TURNS = np.array([(3, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 0)])


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """One text of an annotation file.

    Attributes:
      number: of the line, from 1.
      quad: float32 (4, 2), pixels, the corners as they are written.
      text: the transcription.
      script: as ICDAR 2017 MLT names it; empty where the line does not say.
    """

    number: int
    quad: np.ndarray
    text: str
    script: str

    @property
    def illegible(self) -> bool:
        """Whether nobody can read the text, by the annotator's word."""
        return self.text in _ILLEGIBLE


def parse_lines(raw: bytes | str, where: str, skipped: list[UserError] | None = None) -> list[Line]:
    """Reads the content of a ground-truth file, line by line.

    Args:
      raw: the content; UTF-8, with or without a byte order mark, or UTF-16 with one. Corners may run either
        way round and be fractions of pixels. Blank lines do not count.
      where: the name of the file for errors.
      skipped: where given, a line that cannot be used is left out and its error appended here.

    Returns:
      The texts in file order.

    Raises:
      UserError: a line cannot be used while `skipped` is None. It names the file and the line.
    """
    lines = []
    for number, line in enumerate(_encoded(raw).splitlines(), 1):
        try:
            content = text_of(line, f"{where}:{number}")
            if content.strip():
                lines.append(_parse_line(content, number, f"{where}:{number}"))
        except UserError as error:
            report(error, skipped)
    return lines


def parse_truth(raw: bytes | str, where: str, skipped: list[UserError] | None = None) -> Truth:
    """Reads the content of a ground-truth file.

    Args:
      raw: as for `parse_lines`. Corners are made clockwise; a line without a transcription is a legible text.
      where: the name of the file for errors.
      skipped: where given, a line that cannot be used is left out and its error appended here.

    Returns:
      The texts in file order; none where the file is empty.

    Raises:
      UserError: a line cannot be used while `skipped` is None. It names the file and the line.
    """
    return truth_of(parse_lines(raw, where, skipped))


def truth_of(lines: Sequence[Line]) -> Truth:
    """Returns the texts of one image.

    Args:
      lines: what `parse_lines` gave.
    """
    quads = np.array([line.quad for line in lines], np.float32).reshape(-1, 4, 2)
    ignore = np.array([line.illegible for line in lines], np.bool_)
    texts, scripts = tuple(line.text for line in lines), tuple(line.script for line in lines)
    return Truth(clockwise(quads), ignore, texts, scripts if any(scripts) else ())


def parse_corners(fields: Sequence[str], where: str, expected: str) -> np.ndarray:
    """Turns eight decimal numbers into one quadrilateral.

    Args:
      fields: the numbers, x first.
      where: file and line for the error.
      expected: how the line should look.

    Returns:
      float32 (4, 2), corners in the order given.

    Raises:
      UserError: not eight, not numbers, or not finite and within a million pixels.
    """
    if len(fields) != 8:
        raise UserError(where, f"{len(fields)} coordinates instead of 8", expected)
    return parse_numbers(fields, where, expected).reshape(4, 2).astype(np.float32)


def parse_rectangle(fields: Sequence[str], where: str, expected: str) -> np.ndarray:
    """Turns `left, top, right, bottom` into one quadrilateral.

    Args:
      fields: the four numbers.
      where: file and line for the error.
      expected: how the line should look.

    Returns:
      float32 (4, 2), from the top-left corner on, clockwise.

    Raises:
      UserError: not numbers, or not finite and within a million pixels.
    """
    left, top, right, bottom = parse_numbers(fields, where, expected)
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def parse_numbers(fields: Sequence[str], where: str, expected: str) -> np.ndarray:
    """Turns decimal numbers into an array.

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
        raise UserError(where, _short(str(error)), expected) from None
    if not (np.abs(numbers) <= _MAX_COORDINATE).all():
        problem = f"{_short(','.join(fields))} is not inside any image"
        raise UserError(where, problem, f"finite numbers up to {_MAX_COORDINATE:.0f}")
    return numbers


def text_of(line: bytes, where: str) -> str:
    """Decodes a line of a text file.

    Args:
      line: UTF-8, with a byte order mark or without.
      where: file and line for the error.

    Raises:
      UserError: it is not UTF-8.
    """
    try:
        return line.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        problem = f"byte 0x{line[error.start]:02x} is not UTF-8"
        raise UserError(where, problem, "a text file in UTF-8") from None


def report(error: UserError, skipped: list[UserError] | None) -> None:
    """Raises an error, or appends it to the list of what was left out, where there is one."""
    if skipped is None:
        raise error
    skipped.append(error)


def _parse_line(content: str, number: int, where: str) -> Line:
    if rectangle := _RECTANGLE.match(content.strip()):
        *fields, text = rectangle.groups()
        corners, script = parse_rectangle(fields, where, 'left, top, right, bottom, "transcription"'), ""
    else:
        *fields, text = content.split(",", 8) if content.count(",") >= 8 else [*content.split(","), ""]
        corners = parse_corners(fields, where, _LINE)
        found = _SCRIPT.match(text)
        script, text = (found[1], text[found.end() :]) if found else ("", text)
    _check_shape(corners, where)
    return Line(number, corners, text.strip(), script)


def _check_shape(corners: np.ndarray, where: str) -> None:
    turns = area(corners[_TURNS])
    size = abs(turns[0] + turns[2])
    # Walking around it, a quadrilateral whose sides cross turns left twice and right twice.
    crossed = (turns > 0).sum() == 2 == (turns < 0).sum()
    if size >= _MIN_AREA and not crossed:
        return
    shown = ",".join(f"{number:g}" for number in corners.ravel())
    if crossed:
        raise UserError(where, f"the sides between {shown} cross", "the corners in order around the text")
    problem = f"the corners {shown} enclose {size:.3g} square pixels"
    raise UserError(where, problem, "at least 1, with coordinates in pixels")


def _encoded(raw: bytes | str) -> bytes:
    """UTF-8 whatever came in; splitting bytes, unlike str, only breaks lines at CR and LF."""
    if isinstance(raw, str):
        return raw.encode("utf-8", "surrogatepass")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace").encode()
    return raw


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
