"""Text files with one text a line, as the ICDAR competitions and their followers write them.

| written by | a line |
|---|---|
| ICDAR 2015, and most data sets since | `x1,y1,x2,y2,x3,y3,x4,y4,transcription` |
| ICDAR 2017 MLT | `x1,y1,x2,y2,x3,y3,x4,y4,script,transcription` |
| ICDAR 2017 RCTW | `x1,y1,x2,y2,x3,y3,x4,y4,difficult,"transcription"`, difficult 0 or 1 |
| plain quadrilaterals | `x1,y1,x2,y2,x3,y3,x4,y4` |
| polygons (CTW1500's test part, Total-Text as others hand it on) | `x1,y1,...,xk,yk,transcription` |
| CTW1500 | `left,top,right,bottom`, then 14 corners, counted from left and top |
| ICDAR 2013 | `left, top, right, bottom, "transcription"`, or without the commas |

Each line tells by itself which one it is. A transcription may stand in quotes, as CSV has it. `###` marks a
text that nobody can read; see https://rrc.cvc.uab.es/?ch=4&com=tasks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from efficientnet_east.data.formats import coordinates
from efficientnet_east.data.formats.annotation import (
    ILLEGIBLE,
    Errors,
    Format,
    ImageAnnotation,
    Location,
    TextAnnotation,
    annotate,
    report,
)
from efficientnet_east.files import text_files

# ICDAR 2017 MLT writes the script between the corners and the transcription.
_SCRIPT = re.compile("^(Arabic|Latin|Chinese|Japanese|Korean|Bangla|Hindi|Symbols|Mixed|None),")
# ICDAR 2013: only with quotes around the transcription, so that half a quadrilateral is no rectangle.
_RECTANGLE = re.compile(r'^([^\s,"]+)' + r'(?:\s*,\s*|\s+)([^\s,"]+)' * 3 + r'(?:\s*,\s*|\s+)"(.*)"$')
# RCTW: only before quotes, so that no transcription that begins with a number loses it.
_DIFFICULT = re.compile(r'^\s*([01])\s*,\s*(".*")$')
# A coordinate beyond the eighth. No leading zeros: "1,000" is a transcription.
_NUMBER = re.compile(r"[ \t]*-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[ \t]*")
_LINE = "x1,y1,x2,y2,x3,y3,x4,y4,transcription"
_RECTANGLE_LINE = 'left, top, right, bottom, "transcription"'
_CTW_NUMBERS, _CTW_SLACK = 32, 0.1
_POLYGON_BEYOND_DOUBT = 7  # corners: no transcription is six numbers between commas
_CTW_TEXT = "####"  # CTW1500's test part writes it before each transcription


def read(raw: bytes, where: str, errors: Errors = None) -> list[ImageAnnotation]:
    """Read the content of a ground-truth file, line by line.

    Args:
      raw: the content; UTF-8, with or without a byte order mark, or UTF-16 with one. Corners may run either
        way round and be fractions of pixels. Blank lines do not count.
      where: the name of the file for errors.
      errors: where given, a line that cannot be used has its error appended here. If its corners can be read,
        the text is kept, whatever its transcription is; if they make no text, their region is masked.

    Returns:
      One image with its texts in file order.

    Raises:
      UserError: a line cannot be used while `errors` is None. It names the file and the line.
    """
    found: list[TextAnnotation] = []
    for number, (line, problem) in enumerate(text_files.lines_leniently(raw), 1):
        location = Location(where, number)
        if problem:
            hint = "expected a text file in UTF-8 (its corners count, even where this line is skipped)"
            report(location.error(problem, hint), errors)
        if line.strip():
            # One error a line: what else is wrong with it may come of its encoding.
            found += _parse_line(line.strip(), location, [] if problem else errors)
    return [ImageAnnotation(found)]


def _parse_line(line: str, location: Location, errors: Errors) -> list[TextAnnotation]:
    if found := _RECTANGLE.match(line):
        *fields, text = found.groups()
        return _parse_rectangle(fields, text.strip(), location, errors)
    fields = line.split(",")
    count = next((n for n, field in enumerate(fields) if not _NUMBER.fullmatch(field)), len(fields))
    numbers = [float(field) for field in fields[:count]]
    if (corners := _ctw_corners(numbers)) is not None:
        return _polygon(corners, fields[_CTW_NUMBERS:], location, errors)
    corners = np.array(numbers[: count // 2 * 2]).reshape(-1, 2)
    if _is_polygon(corners) and (np.abs(corners) <= coordinates.LARGEST).all():
        return _polygon(corners, fields[2 * len(corners) :], location, errors)
    return _parse_quad(fields[:8], ",".join(fields[8:]), location, errors)


def _parse_rectangle(
    fields: Sequence[str], text: str, location: Location, errors: Errors
) -> list[TextAnnotation]:
    def corners() -> np.ndarray:
        return coordinates.rectangle_quad(*coordinates.from_text(fields, location.where, _RECTANGLE_LINE))

    return annotate(
        location,
        errors,
        corners,
        lambda: coordinates.readable_numbers(fields),
        text=text,
        ignore=text in ILLEGIBLE,
    )


def _parse_quad(fields: Sequence[str], rest: str, location: Location, errors: Errors) -> list[TextAnnotation]:
    def corners() -> np.ndarray:
        if len(fields) != 8:
            raise location.error(f"{len(fields)} coordinates instead of 8", f"expected {_LINE}")
        return coordinates.from_text(fields, location.where, _LINE).reshape(4, 2)

    script, text, ignore = _transcription(rest)
    return annotate(
        location,
        errors,
        corners,
        lambda: coordinates.readable_numbers(fields),
        text=text,
        ignore=ignore,
        script=script,
    )


def _polygon(
    corners: np.ndarray, rest: Sequence[str], location: Location, errors: Errors
) -> list[TextAnnotation]:
    _, text, ignore = _transcription(",".join(rest).strip().removeprefix(_CTW_TEXT))
    return annotate(location, errors, lambda: corners, lambda: corners, text=text, ignore=ignore)


def _transcription(rest: str) -> tuple[str, str, bool]:
    """Script, transcription, and whether the text is ignored, from what follows the corners."""
    found = _SCRIPT.match(rest)
    script, rest = (found[1], rest[found.end() :]) if found else ("", rest)
    difficult = False
    if column := _DIFFICULT.match(rest):
        difficult, rest = column[1] == "1", column[2]
    text = rest.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('""', '"').strip()
    return script, text, difficult or text in ILLEGIBLE


def _is_polygon(corners: np.ndarray) -> bool:
    """Whether the numbers of a line are more than four corners, and not four corners and a text of numbers.

    Of five or six corners, those beyond the fourth lie near the others: no farther than these are from each
    other.
    """
    if len(corners) < 5 or len(corners) >= _POLYGON_BEYOND_DOUBT:
        return len(corners) >= 5
    low, high = corners[:4].min(axis=0), corners[:4].max(axis=0)
    reach = (high - low).max() / 2
    return bool(((corners[4:] >= low - reach) & (corners[4:] <= high + reach)).all())


def _ctw_corners(numbers: Sequence[float]) -> np.ndarray | None:
    """The corners of a line of CTW1500: a rectangle, then 14 corners within it; None for other lines."""
    if len(numbers) != _CTW_NUMBERS:
        return None
    start, end = np.array(numbers[:2]), np.array(numbers[2:4])
    offsets, extent = np.array(numbers[4:]).reshape(-1, 2), end - start
    slack = _CTW_SLACK * np.maximum(extent, 1) + 2
    inside = (offsets >= -slack) & (offsets <= extent + slack)
    return start + offsets if (extent > 0).all() and inside.all() else None


FORMAT = Format(
    name="ICDAR text",
    files="`gt_<image>.txt`, `<image>.txt`",
    sign="any other text file",
    ignored="`###`, `*`, or difficult 1 (RCTW-17)",
    suffix=".txt",
    whole_set=False,
    recognizes=lambda beginning: True,
    read=read,
)
