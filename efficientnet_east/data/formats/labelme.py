"""LabelMe's JSON files, one for each image: polygons and rectangles.

The transcription is the description, where there is one, or the label.

See https://github.com/wkentaro/labelme.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

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
    rectangle,
    report,
    size_in,
    text_in,
)
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files

_EXPECTED = "a JSON file of LabelMe, with `shapes`"
_KEYS = ("shapes", "version", "flags", "imagePath", "imageData", "imageHeight", "imageWidth", "lineColor")
_BEGIN = re.compile(rf'\s*\{{\s*"(?:{"|".join(_KEYS)})"\s*:')
_OUTLINES = ("polygon", "rectangle", "rotation", "oriented_rectangle")
_IGNORING = ("difficult", "ignore", "ignored", "illegible")


def parse(raw: bytes, where: str, errors: Errors = None) -> Annotated:
    """Read the content of a file.

    Args:
      raw: the content.
      where: the name of the file for errors.
      errors: where given, a shape that cannot be used has its error appended here.

    Returns:
      The texts, and the size of the image that they were drawn on.

    Raises:
      UserError: the file is no file of LabelMe, or a shape cannot be used while `errors` is None.
    """
    tree = text_files.parse_json(text_files.decode(raw, where), where, _EXPECTED)
    shapes = tree.get("shapes") if isinstance(tree, dict) else None
    if not isinstance(shapes, list):
        raise UserError(where, "has no list `shapes`", f"expected {_EXPECTED}")
    found: list[Annotation] = []
    for number, shape in enumerate(shapes):
        found += _parse_shape(shape, Place(where, part=f"shapes[{number}]"), errors)
    return Annotated(found, size=size_in(tree.get("imageWidth"), tree.get("imageHeight")))


def _parse_shape(shape: Any, place: Place, errors: Errors) -> list[Annotation]:
    values = shape if isinstance(shape, dict) else {}
    flags = found if isinstance(found := values.get("flags"), dict) else {}
    label = text_in(values.get("label"))
    text = text_in(values.get("description")) or label
    marked = any(flags.get(name) is True for name in _IGNORING) or values.get("difficult") is True
    ignore = marked or label in ILLEGIBLE or text in ILLEGIBLE
    try:
        corners = _corners(values, place)
    except UserError as error:
        report(error, errors)
        return mask(readable_corners(flattened(values.get("points"))), place)
    return annotate(corners, place, errors, text=text, ignore=ignore)


def _corners(shape: dict[str, Any], place: Place) -> np.ndarray:
    outline = shape.get("shape_type", "polygon")
    if outline not in _OUTLINES:
        raise place.error(f"is a {text_in(outline) or 'thing'}", "a polygon or a rectangle around a text")
    corners = corners_of(shape.get("points"), place)
    if outline == "rectangle" and len(corners) == 2:
        return rectangle(*corners.ravel())
    return corners


def _read(raw: bytes, where: str, errors: Errors) -> list[Annotated]:
    return [parse(raw, where, errors)]


FORMAT = Format(
    name="LabelMe",
    files="`<image>.json`",
    sign="a JSON object that begins with a key of LabelMe (`version`, `flags`, `shapes`)",
    ignored="label or description `###` or `*`; a flag `difficult`, `ignore` or `illegible`",
    suffix=".json",
    whole_set=False,
    recognizes=lambda beginning: _BEGIN.match(beginning) is not None,
    read=_read,
)
