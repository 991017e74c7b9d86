"""The folder of a run: one process at a time writes in it, and finds it tidy."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from efficientnet_east.data.images import make_folder
from efficientnet_east.errors import UserError
from efficientnet_east.files import atomic

LOCK = ".lock"  # there as long as a run goes on; holds the process and its machine
BEST = "best"  # folder of the best checkpoint


@contextlib.contextmanager
def hold(workdir: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from training in a folder, and clear what a killed one was writing.

    The lock is the system's own, so that it ends with the process, however that ends.

    Args:
      workdir: made if it is not there.
      say: receives a line where the file system knows no locks.

    Yields:
      Nothing.

    Raises:
      UserError: another process holds the folder, or it cannot be written.
    """
    make_folder(workdir, "--workdir")
    path = workdir / LOCK
    try:
        descriptor = _locked(path, say)
    except BlockingIOError:
        raise UserError(
            workdir, f"is in use by {_holder(path)}", "expected another --workdir, or patience"
        ) from None
    except OSError as error:
        raise atomic.cannot_be_written(path, error.strerror or str(error)) from None
    try:
        for folder in (workdir, workdir / BEST):
            atomic.remove_leftovers(folder)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _locked(path: Path, say: Callable[[str], None]) -> int:
    """An open file that this process has locked, with its name and its machine's in it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path, say)
            if _is(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held the lock before has just removed this file


def _lock(descriptor: int, path: Path, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        say(f"warning: {path} cannot be locked ({error.strerror}): see to it that no other run writes there")


def _is(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace") or "another process"
    except OSError:
        return "another process"
