"""The state of a run on disk: `state-STEP.npz`, an array for each variable under its checkpoint's name."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.files.archives import read_arrays
from efficientnet_east.files.atomic import replacing
from efficientnet_east.pjrt.manifest import STEP_NAME, TensorSpec, check_arrays

logger = logging.getLogger(__name__)
PREFIX, SUFFIX = "state-", ".npz"


def save(folder: Path, arrays: Mapping[str, np.ndarray], keep: int) -> Path:
    """Save a state whole or not at all, then remove the oldest ones of the folder.

    Args:
      folder: made if it is not there.
      arrays: variable name -> array, the step counter among them.
      keep: number of states to keep, at least 1.

    Returns:
      The file.

    Raises:
      UserError: the folder cannot be written.
    """
    path = folder / f"{PREFIX}{int(arrays[STEP_NAME])}{SUFFIX}"
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes every name for an option
    older = [old for old in found_in(folder) if _step(old) < _step(path)]
    for old in older[keep - 1 :]:
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def found_in(folder: Path) -> list[Path]:
    """List the states of a folder, newest first; none if there is no such folder."""
    return sorted((path for path in folder.glob(f"{PREFIX}*{SUFFIX}") if _step(path) >= 0), key=_step)[::-1]


def _step(path: Path) -> int:
    digits = path.name.removeprefix(PREFIX).removesuffix(SUFFIX)
    return int(digits) if digits.isdecimal() else -1


def load(path: Path, tensors: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """Read a state.

    Args:
      path: of the file.
      tensors: what it must hold, from the manifest.

    Returns:
      Variable name -> array.

    Raises:
      UserError: the file is damaged, or a state of another program.
    """
    arrays = _read(path)
    check_arrays(path, tensors, arrays)
    return arrays


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_arrays(path)
    except UserError:
        raise
    # A damaged archive makes zipfile, zlib and NumPy raise almost anything.
    except Exception as error:
        problem = f"cannot be read ({str(error) or type(error).__name__})"
        raise UserError(path, problem, "expected an undamaged state") from None


def newest(folder: Path, tensors: Sequence[TensorSpec]) -> tuple[Path, dict[str, np.ndarray]] | None:
    """Read a folder's newest state. If it is damaged, the one before is read, with a warning.

    Args:
      folder: need not be there.
      tensors: what it must hold, from the manifest.

    Returns:
      The file and its arrays, or None if the folder has no state.

    Raises:
      UserError: every state is damaged, or the newest sound one is of another program.
    """
    problem: UserError | None = None
    for path in found_in(folder):
        try:
            arrays = _read(path)
        except UserError as error:
            problem = problem or error
            logger.warning("passed over: %s", error)
            continue
        check_arrays(path, tensors, arrays)
        return path, arrays
    if problem:
        raise problem
    return None
