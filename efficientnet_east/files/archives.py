"""Arrays out of .npz files of anybody: no objects, and no more memory than such a file is worth."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from efficientnet_east.errors import UserError

# Weights hardly shrink when packed; zeros, of which an optimiser's state may hold many, do.
ALWAYS_FINE = 1 << 30  # bytes, unpacked
MOST_GROWTH = 20


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read every array of an .npz file.

    Args:
      path: of the file. What its directory claims to hold is looked at before anything is unpacked.

    Returns:
      Name -> array.

    Raises:
      UserError: it would unpack to far more than its own size.
      Exception: of a damaged file almost any other, from zipfile, zlib or NumPy; or it holds objects.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    most = max(ALWAYS_FINE, MOST_GROWTH * path.stat().st_size)
    if size > most:
        problem = f"would unpack from {path.stat().st_size} to {size} bytes"
        raise UserError(path, problem, f"expected at most {most}, as weights do")
    with np.load(path, allow_pickle=False) as file:
        return dict(file.items())
