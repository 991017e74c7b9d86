"""PaddleOCR's lists, which PPOCRLabel writes as `Label.txt`: an image a line, its texts as JSON behind a tab.

See https://github.com/PFCCLab/PPOCRLabel.
"""

from __future__ import annotations

import re
from typing import Any

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
    report_image,
)
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files

_EXPECTED = 'image, tab, [{"transcription": "word", "points": [[x, y], ...]}, ...]'
_BEGIN = re.compile(r"\s*[^\t\r\n]+\t[ \t]*\[")


def read(raw: bytes, where: str, errors: Errors = None) -> list[ImageAnnotation]:
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
        location = Location(where, number)
        if problem:
            report(
                location.error(problem, "expected a text file in UTF-8 (the corners count all the same)"),
                errors,
            )
        if not line.strip():
            continue
        try:
            found.append(_parse_line(line, location, [] if problem else errors))
        except UserError as error:
            report_image(error, [] if problem else errors)
    return found


def _parse_line(line: str, location: Location, errors: Errors) -> ImageAnnotation:
    name, tab, rest = line.partition("\t")
    texts = text_files.parse_json(rest, location.where, _EXPECTED, is_line=True) if tab else None
    if not isinstance(texts, list) or not name.strip():
        raise location.error("is no image with its texts", f"expected {_EXPECTED}")
    found: list[TextAnnotation] = []
    for number, text in enumerate(texts):
        found += _parse_text(text, Location(location.file, location.line, f"texts[{number}]"), errors)
    return ImageAnnotation(found, name.strip(), location=location)


def _parse_text(value: Any, location: Location, errors: Errors) -> list[TextAnnotation]:
    values = value if isinstance(value, dict) else {}
    text = coordinates.text_in(values.get("transcription"))
    points = values.get("points")
    return annotate(
        location,
        errors,
        lambda: coordinates.from_json(points, location.error),
        lambda: coordinates.readable_json(points),
        text=text,
        ignore=text in ILLEGIBLE or values.get("difficult") is True,
    )


FORMAT = Format(
    name="PaddleOCR, PPOCRLabel",
    files="`Label.txt`, or any other name that ends in `.txt`",
    sign="lines of an image's name, a tab and `[`",
    ignored="transcription `###` or `*`, or `difficult` true",
    suffix=".txt",
    whole_set=True,
    recognizes=_BEGIN.match,
    read=read,
)
