"""PaddleOCR's lists, which PPOCRLabel writes as `Label.txt`: an image a line, its texts as JSON behind a tab.

See https://github.com/PFCCLab/PPOCRLabel.
"""

from __future__ import annotations

import re
from typing import Any

from efficientnet_east.data.formats.shapes import (
    ILLEGIBLE,
    Annotated,
    Annotation,
    Errors,
    Format,
    Place,
    annotate,
    corners_of,
    flattened,
    mask,
    readable_corners,
    report,
    report_image,
    text_in,
)
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files

_EXPECTED = 'image, tab, [{"transcription": "word", "points": [[x, y], ...]}, ...]'
_BEGIN = re.compile(r"\s*[^\t\r\n]+\t[ \t]*\[")


def parse(raw: bytes, where: str, errors: Errors = None) -> list[Annotated]:
    """Read the content of a list.

    Args:
      raw: the content.
      where: the name of the file for errors.
      errors: where given, a line or a text that cannot be used has its error appended here. A line whose
        texts cannot be read has no image: it would be one without text.

    Returns:
      The images in file order.

    Raises:
      UserError: something cannot be used while `errors` is None.
    """
    found = []
    for number, (line, problem) in enumerate(text_files.lines_leniently(raw), 1):
        place = Place(where, number)
        if problem:
            report(place.error(problem, "a text file in UTF-8 (the corners count all the same)"), errors)
        if not line.strip():
            continue
        try:
            found.append(_parse_line(line, place, [] if problem else errors))
        except UserError as error:
            report_image(error, [] if problem else errors)
    return found


def _parse_line(line: str, place: Place, errors: Errors) -> Annotated:
    name, tab, rest = line.partition("\t")
    texts = text_files.parse_json(rest, place.where, _EXPECTED, is_line=True) if tab else None
    if not isinstance(texts, list) or not name.strip():
        raise place.error("is no image with its texts", _EXPECTED)
    found: list[Annotation] = []
    for number, text in enumerate(texts):
        found += _parse_text(text, Place(place.file, place.line, f"texts[{number}]"), errors)
    return Annotated(found, name.strip(), place=place)


def _parse_text(value: Any, place: Place, errors: Errors) -> list[Annotation]:
    values = value if isinstance(value, dict) else {}
    text = text_in(values.get("transcription"))
    try:
        corners = corners_of(values.get("points"), place)
    except UserError as error:
        report(error, errors)
        return mask(readable_corners(flattened(values.get("points"))), place)
    ignore = text in ILLEGIBLE or values.get("difficult") is True
    return annotate(corners, place, errors, text=text, ignore=ignore)


FORMAT = Format(
    name="PaddleOCR, PPOCRLabel",
    files="`Label.txt`, or any other name that ends in `.txt`",
    sign="lines of an image's name, a tab and `[`",
    ignored="transcription `###` or `*`; `difficult` true",
    suffix=".txt",
    whole_set=True,
    recognizes=lambda beginning: _BEGIN.match(beginning) is not None,
    read=parse,
)
