"""The ground truth of one image, from the content of its file in any format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from efficientnet_east.data import formats
from efficientnet_east.data.formats.annotation import TextAnnotation
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.quads import clockwise
from efficientnet_east.structures import Truth


def parse_truth(
    raw: bytes | str, where: str, skipped: list[UserError] | None = None, suffix: str = ".txt"
) -> Truth:
    """Read the content of a ground-truth file.

    Args:
      raw: the content, in a format of one image a file; see the table in `formats`.
      where: the name of the file for errors.
      skipped: where given, what cannot be used has its error appended here. A text whose corners can be read
        is kept even if its transcription is damaged. Corners that make no text are masked.
      suffix: of the file's name.

    Returns:
      The texts in file order, their corners clockwise; none where the file is empty.

    Raises:
      UserError: the file is damaged as a whole, or a text cannot be used while `skipped` is None. It names
        the file, and the line or the place in it.
    """
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    (found,) = formats.read_annotations(data, where, skipped, suffix=suffix, whole_set=False)
    return truth_of(found.texts)


def truth_of(annotations: Sequence[TextAnnotation]) -> Truth:
    """Return the ground truth of one image.

    Args:
      annotations: its texts.
    """
    quads = np.array([text.quad for text in annotations], np.float32).reshape(-1, 4, 2)
    ignore = np.array([text.ignore for text in annotations], np.bool_)
    texts, scripts = tuple(text.text for text in annotations), tuple(text.script for text in annotations)
    return Truth(clockwise(quads), ignore, texts, scripts if any(scripts) else ())
