"""Paths for libraries that take a name for a pattern, or that know no name but UTF-8.

TensorFlow matches the path of a checkpoint that it reads as a pattern, so it finds nothing in `lr=[1e-3]`.
OpenCV ends the process on a name that is not UTF-8. They are shown a link with a name that suits both.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PATTERN_LETTERS = frozenset("*?[]{}%\\")
_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # if the usual folder for temporary files has no plain name


def is_plain(path: str | os.PathLike[str]) -> bool:
    """Whether any library takes a path for the file of that name: it is UTF-8, and no pattern."""
    return is_unicode(path) and _PATTERN_LETTERS.isdisjoint(os.fspath(path))


def is_unicode(path: str | os.PathLike[str]) -> bool:
    """Whether a path is UTF-8. File systems take any bytes, which Python reads as surrogates."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def readable(path: Path, name: str) -> Iterator[Path]:
    """Give a plain path of a file, or of a prefix that several files share, to read them.

    Args:
      path: the file, or the prefix of files that go on with a dot, as a checkpoint's do.
      name: a plain name for it.

    Yields:
      `path` if it is plain, else a path that leads to the same files until the block ends.
    """
    if is_plain(path):
        yield path
        return
    with _folder() as folder:
        for file in _files_of(path):
            _link(folder / f"{name}{file.name.removeprefix(path.name)}", file)
        yield folder / name


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[Path]:
    """Give a path in UTF-8 of a folder, to write into it.

    Args:
      folder: which is there.

    Yields:
      `folder` if its path is UTF-8, else a path that leads to it until the block ends.
    """
    if is_unicode(folder):
        yield folder
        return
    with _folder() as plain:
        link = plain / "link"
        _link(link, folder)
        yield link


def _files_of(path: Path) -> list[Path]:
    """The file of this name, and those whose names go on with a dot."""
    if not path.parent.is_dir():
        return []
    ours = (path.name, f"{path.name}.")
    return [file for file in path.parent.iterdir() if file.name == ours[0] or file.name.startswith(ours[1])]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder with a plain path; it goes when the block ends."""
    usual = tempfile.gettempdir()
    plain = [place for place in (usual, *_PLACES) if is_plain(place) and os.access(place, os.W_OK)]
    with tempfile.TemporaryDirectory(dir=(plain or [usual])[0]) as folder:
        yield Path(folder)


def _link(link: Path, target: Path) -> None:
    try:
        link.symlink_to(target.absolute(), target.is_dir())
    except (OSError, NotImplementedError):  # Windows, where links need a right of their own
        if target.is_dir():
            raise
        shutil.copyfile(target, link)
