"""Folders for results."""

from __future__ import annotations

import os
from pathlib import Path

from efficientnet_east.errors import UserError


def make_folder(path: str | os.PathLike[str], where: str) -> Path:
    """Make a folder for results, before any work is done for them.

    Args:
      path: the folder, which may be there already.
      where: the field or option that named it, for the error.

    Returns:
      The path.

    Raises:
      UserError: it is a file, or cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"{path} cannot be made ({error.strerror})"
        raise UserError(where, problem, "Name a folder that you can write to.") from None
    return Path(path)
