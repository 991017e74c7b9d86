"""Write any data set that can be read as ICDAR text files: a file for each image, a text on each line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.datasets import Record
from efficientnet_east.data.formats.annotation import MASKED
from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import replacing, write_file
from efficientnet_east.structures import Truth

IMAGES, GTS = "images", "gts"  # a layout that is read, see `layouts.LAYOUTS`


def write_icdar(folder: str | os.PathLike[str], records: Sequence[Record], *, copy_images: bool) -> None:
    """Write a data set in the layout `images` + `gts`.

    Args:
      folder: gets `gts/gt_<image>.txt` for each image. Files that are there already are replaced.
      records: from `datasets.find_records`.
      copy_images: also copy the images to `images/`, as they are.

    Raises:
      UserError: a file cannot be written, or the folder is that of the data set.
    """
    folder = Path(folder)
    expect_apart(folder, records)
    for record in records:
        name = f"gt_{record.image.stem}.txt"
        write_file(folder / GTS / name, as_icdar(record.truth).encode("utf-8", "replace"))
        if copy_images:
            with open(record.image, "rb") as source, replacing(folder / IMAGES / record.image.name) as copy:
                shutil.copyfileobj(source, copy)


def expect_apart(folder: Path, records: Sequence[Record]) -> None:
    """Refuse to write into the folders that a data set is read from.

    Args:
      folder: to write into.
      records: of the data set.

    Raises:
      UserError: a file of the data set would be replaced, or what is written would count as a part of it.
    """
    read = {path.parent for record in records for path in (record.image, record.truth_file) if path}
    for part in (IMAGES, GTS):
        below = {(folder / part).resolve(), *(folder / part).resolve().parents}
        if below & {path.resolve() for path in read}:
            problem = "is a folder of the data set itself, or below one"
            raise UserError(folder, problem, "Choose another output folder.")


def as_icdar(truth: Truth) -> str:
    """Write the texts of an image as in ICDAR 2015; with scripts, as in ICDAR 2017 MLT.

    Args:
      truth: the texts. Ignored ones become `###`.

    Returns:
      A line for each text, which `parse_truth` reads as the same corners, transcription and ignore mark.
    """
    lines = []
    scripts = truth.scripts or ("",) * len(truth.texts)
    for quad, ignore, text, script in zip(truth.quads, truth.ignore, truth.texts, scripts, strict=True):
        numbers = [_number(value) for value in quad.ravel()]
        shown = MASKED if ignore else " ".join(text.split())
        head = ",".join([*numbers, script] if script else numbers)
        lines.append(f"{head},{_transcription(head, shown, bool(ignore))}\r\n")
    return "".join(lines)


def _number(value: np.float32) -> str:
    """The shortest decimal number that is read as this one."""
    return np.format_float_positional(value + np.float32(0), trim="-")


def _transcription(head: str, text: str, ignore: bool) -> str:
    """A text in the first of these forms that is read as it is meant: plain, in quotes, or left out."""
    quoted = '"' + text.replace('"', '""') + '"'
    for shown in (text, quoted):
        read = parse_truth(f"{head},{shown}", "", [])
        if len(read.texts) == 1 and (read.texts[0], bool(read.ignore[0])) == (text, ignore):
            return shown
    return ""  # a legible text that is called ### or *: the sign of an illegible one
