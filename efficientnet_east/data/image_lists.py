"""Text files that list images, one file name a line: which ones to train on, or to validate on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files
from efficientnet_east.files.atomic import write_file


def read_image_list(path: str | os.PathLike[str]) -> list[str]:
    """Read a list of images. Blank lines and lines that begin with # do not count.

    Args:
      path: a text file in UTF-8, or in UTF-16 with a byte order mark. Names that are not UTF-8 stand in it in
        the bytes that they have on the disk.

    Returns:
      The names in file order.

    Raises:
      UserError: the file cannot be read, is empty, or names an image twice.
    """
    names: dict[str, int] = {}
    for number, line in enumerate(text_files.file_names(text_files.read_bytes(path), str(path)), 1):
        name = line.lstrip("\ufeff").strip()
        if not name or name.startswith("#"):
            continue
        if name in names:
            problem = f"{name!r} already stands in line {names[name]}"
            raise UserError(f"{path}:{number}", problem, "expected each name once")
        names[name] = number
    if not names:
        raise UserError(path, "names no image", "expected one image name a line")
    return list(names)


def write_image_lists(lists: Mapping[Path, Sequence[str]]) -> None:
    """Write lists that `read_image_list` reads. All errors are found before the first list is written.

    Args:
      lists: path of the file -> the image names in it.

    Raises:
      UserError: a list is there already and names other images, or a name cannot stand in a list.
    """
    contents = {path: b"".join(_line(name) for name in names) for path, names in lists.items()}
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise UserError(path, "is there already and names other images", "Choose another output folder.")
    for path, content in contents.items():
        write_file(path, content)


def _line(name: str) -> bytes:
    """A name as it stands in a list: in the bytes that it has on the disk."""
    line = os.fsencode(name)
    if line.splitlines() != [line] or name != name.strip() or name.startswith(("#", "\ufeff")):
        hint = "expected a name without line breaks and without spaces at its ends that does not begin with #"
        raise UserError(name, "cannot stand in a list of images", hint)
    return line + b"\n"
