"""Files that are there as a whole or not at all, whenever the program or the machine stops.

What is being written stands under a name of its own beside its final one, reaches the disk, and is then
moved into place. A killed program leaves such a file behind; `remove_leftovers` knows it from one that is
still being written by the lock on it, which the kernel takes away with the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from efficientnet_east.errors import WriteError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and a partial file counts as left over
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial-"


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file in one move, so that a crash leaves the old one.

    Args:
      path: the file to write. Missing folders are made.
      data: its new content.

    Raises:
      WriteError: the folder or the file cannot be written.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that replaces another one when the block ends. If the block raises, nothing changes.

    Args:
      path: the file to write. Missing folders are made.

    Yields:
      A new binary file, to write, read and seek in.

    Raises:
      WriteError: the folder or the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(PARTIAL + secrets.token_hex(8))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as locked:
            with open(partial, "x+b") as file:
                _lock(file.fileno(), locked)
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)  # closed, as Windows asks for, but still locked where files can be
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_be_written(path, error.strerror or str(error)) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for files that other code writes by name. It is removed when the block ends.

    Args:
      parent: the final folder of the files; made if it is missing.

    Yields:
      The folder.

    Raises:
      OSError: it cannot be made.
    """
    folder = parent / (PARTIAL + secrets.token_hex(8))
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as locked:
        locked.callback(shutil.rmtree, folder, ignore_errors=True)
        if fcntl:
            descriptor = os.open(folder, os.O_RDONLY)
            locked.callback(os.close, descriptor)
            _lock(descriptor, locked)
        yield folder


def move_into_place(files: Sequence[Path], folder: Path) -> None:
    """Move complete files from a partial folder to their final one.

    Args:
      files: in the order of the moves. The file that makes the others valid comes last.
      folder: on the same disk.

    Raises:
      OSError: a file cannot be written or moved.
    """
    for file in files:
        with open(file, "r+b") as opened:
            os.fsync(opened.fileno())
    for file in files:
        file.replace(folder / file.name)
        _sync_folder(folder)  # so that no later move reaches the disk before this one


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed program was writing in a folder, and nothing else.

    Args:
      folder: may be missing.
    """
    for path in folder.glob(PARTIAL + "*"):
        with contextlib.suppress(OSError):
            if not _is_locked(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def cannot_be_written(path: object, why: str) -> WriteError:
    """Make the error for a full disk, missing permission, and whatever else stops a file.

    Args:
      path: the file, or what it stands for.
      why: the system's words.
    """
    return WriteError(path, f"cannot be written ({why})", "expected a writable folder with free space")


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, on systems that can do so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, until: contextlib.ExitStack) -> None:
    """Lock an open file or folder until the stack is closed, even if the descriptor is closed before."""
    if fcntl:
        kept = os.dup(descriptor)  # a lock goes with the last descriptor that shares it
        until.callback(os.close, kept)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_locked(path: Path) -> bool:
    if not fcntl:
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return False
