"""The files of a folder: which ones count, and in which order."""

from __future__ import annotations

import re
from pathlib import Path

from efficientnet_east.data.images import SUFFIXES
from efficientnet_east.errors import UserError, hint_of

_FOREIGN = ("__macosx", "thumbs.db", "desktop.ini")


def natural_key(name: str) -> tuple[str, str]:
    """Sort img_2 before img_10."""
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name), name


def is_foreign(name: str) -> bool:
    """Tell whether a file or folder was left by an operating system: `.DS_Store`, `._img_1.jpg`, `__MACOSX`.

    Args:
      name: without folders.
    """
    return name.startswith(".") or name.lower() in _FOREIGN


def is_image(name: str) -> bool:
    """Tell by its name whether a file is an image.

    Args:
      name: without folders.
    """
    return name.lower().endswith(SUFFIXES) and not is_foreign(name)


def list_files(folder: Path) -> list[Path]:
    """List the files of a folder in natural order, without those that an operating system left there.

    Args:
      folder: its folders are not listed.

    Raises:
      UserError: it cannot be listed.
    """
    try:
        files = [path for path in folder.iterdir() if not is_foreign(path.name) and path.is_file()]
    except OSError as error:
        raise UserError(folder, f"cannot be listed ({error.strerror})", hint_of(error, "a folder")) from None
    return sorted(files, key=lambda path: natural_key(path.name))
