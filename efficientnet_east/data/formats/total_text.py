"""Total-Text's own text files: `x: [[...]], y: [[...]], ornt: [u'c'], transcriptions: [u'word']` for a text.

A text's numbers may run over several lines. Orientation or transcription `#` marks a text that does not
count; see https://github.com/cs-chan/Total-Text-Dataset.
"""

from __future__ import annotations

import bisect
import re

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

_EXPECTED = "x: [[...]], y: [[...]], ornt: [u'c'], transcriptions: [u'word']"
_BEGIN = re.compile(r"^\s*x\s*:\s*\[\[", re.MULTILINE)
_NUMBERS = {axis: re.compile(rf"\b{axis}\s*:\s*\[\[([^\[\]]*)\]\]") for axis in "xy"}
_ORIENTATION = re.compile(r"\bornt\s*:\s*\[\s*u?(['\"])(.*?)\1\s*\]")
_TRANSCRIPTION = re.compile(r"\btranscriptions\s*:\s*\[\s*u?(['\"])(.*)\1\s*\]", re.DOTALL)
_UNCOUNTED = "#"


def read(raw: bytes, where: str, errors: Errors = None) -> list[ImageAnnotation]:
    """Read the content of a file.

    Args:
      raw: the content.
      where: the name of the file for errors.
      errors: where given, what cannot be used has its error appended here.

    Returns:
      One image with its texts in file order.

    Raises:
      UserError: a text cannot be used while `errors` is None.
    """
    lines = []
    for number, (line, problem) in enumerate(text_files.lines_leniently(raw), 1):
        if problem:
            hint = "expected a text file in UTF-8 (the corners count, even where this line is skipped)"
            report(Location(where, number).error(problem, hint), errors)
        lines.append(line)
    text = "\n".join(lines)
    starts = [found.start() for found in _BEGIN.finditer(text)]
    ends = [found.start() for found in re.finditer("\n", text)]
    found: list[TextAnnotation] = []
    if before := text[: starts[0] if starts else len(text)].strip():
        location = Location(where, bisect.bisect_left(ends, text.index(before)) + 1)
        report(location.error("is no text of Total-Text", f"expected {_EXPECTED}"), errors)
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        body = text[start:end]
        line_start = start + len(body) - len(body.lstrip())
        found += _parse_text(body, Location(where, bisect.bisect_left(ends, line_start) + 1), errors)
    return [ImageAnnotation(found)]


def _parse_text(body: str, location: Location, errors: Errors) -> list[TextAnnotation]:
    fields = {axis: _fields(body, axis) for axis in "xy"}
    transcription, orientation = _TRANSCRIPTION.search(body), _ORIENTATION.search(body)
    text = " ".join(transcription[2].split()) if transcription else ""
    ignore = text in (*ILLEGIBLE, _UNCOUNTED) or bool(orientation and orientation[2] == _UNCOUNTED)
    pairs = [value for pair in zip(fields["x"], fields["y"], strict=False) for value in pair]

    def corners() -> np.ndarray:
        x, y = (coordinates.from_text(fields[axis], location.where, _EXPECTED) for axis in "xy")
        if len(x) != len(y):
            raise location.error(f"{len(x)} x and {len(y)} y", f"expected as many of both in {_EXPECTED}")
        if transcription is None:
            raise location.error("has no transcription", f"expected {_EXPECTED}")
        return np.stack([x, y], axis=1)

    return annotate(
        location, errors, corners, lambda: coordinates.readable_numbers(pairs), text=text, ignore=ignore
    )


def _fields(body: str, axis: str) -> list[str]:
    found = _NUMBERS[axis].search(body)
    return re.split(r"[\s,]+", found[1].strip()) if found and found[1].strip() else []


FORMAT = Format(
    name="Total-Text",
    files="`poly_gt_<image>.txt`, `gt_<image>.txt`, `<image>.txt`",
    sign="a text file that begins with `x: [[`",
    ignored="orientation or transcription `#`, and `###`, `*`",
    suffix=".txt",
    whole_set=False,
    recognizes=_BEGIN.match,
    read=read,
)
