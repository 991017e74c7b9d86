"""The folder of a run: one process at a time writes in it, and finds it tidy."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from efficientnet_east.errors import UserError
from efficientnet_east.files import atomic
from efficientnet_east.files.folders import make_folder

logger = logging.getLogger(__name__)
LOCK = ".lock"  # there while a run goes on; holds the process and its machine
PATIENCE = 1.0  # seconds; a run that ends removes its lock file, and who has just opened it must open another
BEST = "best"  # folder of the best checkpoint
# What systems answer where a file system, such as NFS without its lock service, knows no locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Keep other processes from training in a folder, and clear what a killed one was writing.

    The lock is the system's own. It ends with the process, however that ends.

    Args:
      workdir: made if it is not there.

    Yields:
      Nothing.

    Raises:
      UserError: another process holds the folder, or it cannot be written.
    """
    make_folder(workdir, "train.workdir")
    path = workdir / LOCK
    lock = FileLock(path, timeout=PATIENCE, fallback_to_soft=False, on_acquired=_write_holder)
    _acquire(lock, path)
    try:
        for folder in (workdir, workdir / BEST):
            atomic.remove_leftovers(folder)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def expect_posix() -> None:
    """Refuse Windows, where the moves that make a checkpoint whole or absent do not work.

    Raises:
      UserError: this is Windows.
    """
    if sys.platform == "win32":
        raise UserError("training", "runs on Linux and macOS only", "On Windows use WSL.")


def _acquire(lock: FileLock, path: Path) -> None:
    try:
        lock.acquire()
    except Timeout:
        hint = "Wait for it to finish, or choose another train.workdir."
        raise UserError(path.parent, f"is in use by {_holder(path)}", hint) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise atomic.cannot_be_written(path, error.strerror or str(error)) from None
        logger.warning(
            "%s cannot be locked (%s). Make sure that no other run writes there", path, error.strerror
        )


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace") or "another process"
    except OSError:
        return "another process"
