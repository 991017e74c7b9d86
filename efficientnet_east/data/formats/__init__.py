"""The formats of annotations that are read.

To add one, write a file beside this one (`labelme.py` is a short example) and add its row to the table.
The first format that recognizes a file reads it. `docs/data.md` shows the same table.
"""

from __future__ import annotations

from efficientnet_east.data.formats import coco_text, label_list, labelme, lines, total_text
from efficientnet_east.data.formats.annotation import Errors, Format, ImageAnnotation, Location
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files

__all__ = ["FORMATS", "Errors", "Format", "ImageAnnotation", "Location", "read_annotations", "recognize"]

FORMATS: tuple[Format, ...] = (
    total_text.FORMAT,
    labelme.FORMAT,
    label_list.FORMAT,
    coco_text.FORMAT,
    lines.FORMAT,  # any text file, so it comes last
)
MAX_SET_BYTES = 1 << 30  # of one file about many images: TextOCR's has 300 MB
SIGN_BYTES = 4096  # in which a file shows its sign


def recognize(raw: bytes, suffix: str, *, whole_set: bool) -> Format | None:
    """Tell the format of a file.

    Args:
      raw: its content, or the beginning of it.
      suffix: of its name, with the dot, in any case.
      whole_set: whether formats of many images are meant, or those of one image a file.

    Returns:
      The format; None where the file bears no sign of one.
    """
    # A cut through a letter does not hide the sign.
    beginning = "\n".join(line for line, _ in text_files.lines_leniently(raw[:SIGN_BYTES]))
    for format in FORMATS:
        fits = format.suffix == suffix.lower() and format.whole_set == whole_set
        if fits and format.recognizes(beginning):
            return format
    return None


def read_annotations(
    raw: bytes, where: str, errors: Errors, *, suffix: str, whole_set: bool
) -> list[ImageAnnotation]:
    """Read the content of an annotation file of any format.

    Args:
      raw: the content.
      where: the name of the file for errors.
      errors: where given, what cannot be used has its error appended here, and reading goes on.
      suffix: of its name, with the dot, in any case.
      whole_set: whether formats of many images are meant, or those of one image a file.

    Returns:
      What it says about each image: about one, unless `whole_set`.

    Raises:
      UserError: the file is of no known format, or damaged as a whole; or something in it cannot be used
        while `errors` is None.
    """
    format = recognize(raw, suffix, whole_set=whole_set)
    if format is None:
        names = ", ".join(format.name for format in FORMATS if format.whole_set == whole_set)
        raise UserError(where, "is of no known format", f"expected a file of one of these: {names}")
    return format.read(raw, where, errors)
