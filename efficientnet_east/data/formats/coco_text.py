"""COCO-Text and TextOCR: one JSON file of many images, `imgs`, and their texts, `anns`.

COCO-Text says `legibility`, and has polygons as `mask` (version 2) or `polygon`; TextOCR has `points`, and
the transcription `.` for what nobody can read. See https://bgshih.github.io/cocotext and
https://textvqa.org/textocr.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
    report_image,
)
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files

_EXPECTED = "a JSON file of COCO-Text or TextOCR, with `imgs` and `anns`"
_BEGIN = re.compile(r'\s*\{\s*"(?:cats|anns|imgs|imgToAnns|info)"\s*:')
_OUTLINES = ("points", "mask", "polygon")
_ILLEGIBLE_IN_TEXTOCR = "."


def read(raw: bytes, where: str, errors: Errors = None) -> list[ImageAnnotation]:
    """Read the content of a file.

    Args:
      raw: the content.
      where: the name of the file for errors.
      errors: where given, an image or a text that cannot be used has its error appended here.

    Returns:
      The images in file order.

    Raises:
      UserError: the file is no such file, or something in it cannot be used while `errors` is None.
    """
    tree = text_files.parse_json(text_files.decode(raw, where), where, _EXPECTED)
    images, texts = (tree.get("imgs"), tree.get("anns")) if isinstance(tree, dict) else (None, None)
    if not isinstance(images, dict) or not isinstance(texts, dict):
        raise UserError(where, "has no `imgs` and `anns`", f"expected {_EXPECTED}")
    by_image: dict[str, list[TextAnnotation]] = {str(key): [] for key in images}
    for key, value in texts.items():
        location = Location(where, part=f"anns[{key!r}]")
        owner = str(value.get("image_id")) if isinstance(value, dict) else ""
        if owner not in by_image:
            problem = f"is of image {owner!r}, which is not there"
            report(location.error(problem, "expected an `image_id` of `imgs`"), errors)
            continue
        by_image[owner] += _parse_text(value, location, errors)
    return _images(images, by_image, where, errors)


def _images(
    images: Mapping[str, Any], texts: Mapping[str, list[TextAnnotation]], where: str, errors: Errors
) -> list[ImageAnnotation]:
    found = []
    for key, value in images.items():
        location = Location(where, part=f"imgs[{key!r}]")
        values = value if isinstance(value, dict) else {}
        name = coordinates.text_in(values.get("file_name")) or coordinates.text_in(values.get("filename"))
        if not name:
            report_image(location.error("has no `file_name`", "expected the name of an image"), errors)
            continue
        size = coordinates.size_in(values.get("width"), values.get("height"))
        found.append(
            ImageAnnotation(texts[key], name, size, coordinates.text_in(values.get("set")), location)
        )
    return found


def _parse_text(values: Mapping[str, Any], location: Location, errors: Errors) -> list[TextAnnotation]:
    text = coordinates.text_in(values.get("utf8_string"))
    legibility = values.get("legibility")
    unreadable = text in ILLEGIBLE if legibility is None else legibility != "legible"
    ignore = unreadable or (legibility is None and text == _ILLEGIBLE_IN_TEXTOCR)
    return annotate(
        location,
        errors,
        lambda: _corners(values, location),
        lambda: _readable(values),
        text=text,
        ignore=ignore,
    )


def _readable(values: Mapping[str, Any]) -> np.ndarray:
    """The box of a text whose corners cannot be read; without one, what can be read of the corners."""
    box = coordinates.numbers_in(values.get("bbox"), 4)
    return coordinates.readable_json(_outline(values)) if box is None else _box_corners(box)


def _corners(values: Mapping[str, Any], location: Location) -> np.ndarray:
    outline, box = _outline(values), coordinates.numbers_in(values.get("bbox"), 4)
    if outline in (None, []) and box is not None:
        return _box_corners(box)
    return coordinates.from_json(outline, location.error)


def _outline(values: Mapping[str, Any]) -> Any:
    found = next((values[name] for name in _OUTLINES if values.get(name)), None)
    nested = isinstance(found, list) and len(found) == 1 and isinstance(found[0], list)
    return found[0] if nested else found  # type: ignore[index]


def _box_corners(box: np.ndarray) -> np.ndarray:
    left, top, width, height = box
    return coordinates.rectangle_quad(left, top, left + width, top + height)


FORMAT = Format(
    name="COCO-Text, TextOCR",
    files="any name that ends in `.json`",
    sign="a JSON object that begins with `cats`, `anns`, `imgs`, `imgToAnns` or `info`",
    ignored="`legibility` other than `legible`; without it, `utf8_string` `.`, `###` or `*`",
    suffix=".json",
    whole_set=True,
    recognizes=_BEGIN.match,
    read=read,
)
