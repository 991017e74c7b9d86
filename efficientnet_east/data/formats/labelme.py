"""LabelMe's JSON files, one for each image: polygons and rectangles.

The transcription is the description, where there is one, or the label.

See https://github.com/wkentaro/labelme.
"""

from __future__ import annotations

import re
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
)
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files

_EXPECTED = "a JSON file of LabelMe, with `shapes`"
_KEYS = ("shapes", "version", "flags", "imagePath", "imageData", "imageHeight", "imageWidth", "lineColor")
_BEGIN = re.compile(rf'\s*\{{\s*"(?:{"|".join(_KEYS)})"\s*:')
_OUTLINES = ("polygon", "rectangle", "rotation", "oriented_rectangle")
_IGNORING = ("difficult", "ignore", "ignored", "illegible")


def read(raw: bytes, where: str, errors: Errors = None) -> list[ImageAnnotation]:
    """Read the content of a file.

    Args:
      raw: the content.
      where: the name of the file for errors.
      errors: where given, a shape that cannot be used has its error appended here.

    Returns:
      One image: its texts, and the size that it had when they were drawn.

    Raises:
      UserError: the file is no file of LabelMe, or a shape cannot be used while `errors` is None.
    """
    tree = text_files.parse_json(text_files.decode(raw, where), where, _EXPECTED)
    shapes = tree.get("shapes") if isinstance(tree, dict) else None
    if not isinstance(shapes, list):
        raise UserError(where, "has no list `shapes`", f"expected {_EXPECTED}")
    found: list[TextAnnotation] = []
    for number, shape in enumerate(shapes):
        found += _parse_shape(shape, Location(where, part=f"shapes[{number}]"), errors)
    size = coordinates.size_in(tree.get("imageWidth"), tree.get("imageHeight"))
    return [ImageAnnotation(found, size=size)]


def _parse_shape(shape: Any, location: Location, errors: Errors) -> list[TextAnnotation]:
    values = shape if isinstance(shape, dict) else {}
    flags = found if isinstance(found := values.get("flags"), dict) else {}
    label = coordinates.text_in(values.get("label"))
    text = coordinates.text_in(values.get("description")) or label
    marked = any(flags.get(name) is True for name in _IGNORING) or values.get("difficult") is True
    ignore = marked or label in ILLEGIBLE or text in ILLEGIBLE
    return annotate(
        location,
        errors,
        lambda: _corners(values, location),
        lambda: coordinates.readable_json(values.get("points")),
        text=text,
        ignore=ignore,
    )


def _corners(shape: dict[str, Any], location: Location) -> np.ndarray:
    outline = shape.get("shape_type", "polygon")
    if outline not in _OUTLINES:
        raise location.error(
            f"is a {coordinates.text_in(outline) or 'thing'}",
            "expected a polygon or a rectangle around a text",
        )
    corners = coordinates.from_json(shape.get("points"), location.error)
    if outline == "rectangle" and len(corners) == 2:
        return coordinates.rectangle_quad(*corners.ravel())
    return corners


FORMAT = Format(
    name="LabelMe",
    files="`<image>.json`",
    sign="a JSON object that begins with a key of LabelMe (`version`, `flags`, `shapes`)",
    ignored="label or description `###` or `*`, or a flag `difficult`, `ignore` or `illegible`",
    suffix=".json",
    whole_set=False,
    recognizes=_BEGIN.match,
    read=read,
)
