"""Detect in a part of many images, as one job of an array, into one file that a killed job can resume.

The file has a line of JSON for each image, in the order of the images: what `Detections.to_json` gives, or
`{"image": ..., "error": ...}`. A line is written when its image is done. So a job that is killed loses the
images in work at most; the torn end of the file is cut off when the job resumes, and the finished file is the
same as that of a job that nobody stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from efficientnet_east.data.inputs import InputImage
from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import cannot_be_written
from efficientnet_east.inference.overlap import overlapped
from efficientnet_east.structures import Detections

_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One part of a list.

    Attributes:
      number: from 1 to `count`.
      count: of the parts.
    """

    number: int
    count: int

    def of(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Return this part: every `count`-th item, so that parts are of equal size and alike."""
        return items[self.number - 1 :: self.count]

    def path(self, folder: Path) -> Path:
        """Return the path of its results, such as `words-00003-of-00008.jsonl`."""
        return folder / f"words-{self.number:05d}-of-{self.count:05d}.jsonl"


@dataclasses.dataclass(frozen=True)
class Summary:
    """The contents of a file of results.

    Attributes:
      images: lines of the file.
      words: found in all of them.
      failures: the images that could not be used.
    """

    images: int = 0
    words: int = 0
    failures: tuple[str, ...] = ()

    def add(self, line: bytes) -> Summary:
        """Return the summary with one more line of the file."""
        values = json.loads(line)
        failed = (values["image"],) if "error" in values else ()
        return Summary(self.images + 1, self.words + len(values.get("words", ())), (*self.failures, *failed))


@dataclasses.dataclass(frozen=True)
class Row:
    """One image of a part.

    Attributes:
      line: of the results.
      picture: its names.
      image: uint8 (height, width, 3), RGB; None if it could not be used.
      found: in it; None likewise.
    """

    line: bytes
    picture: InputImage
    image: np.ndarray | None = None
    found: Detections | None = None


def parse(text: str) -> Shard:
    """Read `I/N`, such as `3/8`.

    Raises:
      ValueError: it is something else, or I is not between 1 and N.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"{text!r} is no part; expected I/N with I from 1 to N, such as 3/8")
    return Shard(int(number), int(count))


def detect_all(
    detector: Callable[[np.ndarray], Detections],
    pictures: Sequence[InputImage],
    path: Path,
    *,
    resume: bool = False,
    lines: bool = False,
    also: Callable[[Row], object] = lambda row: None,
    track: Callable[[Iterable[bytes], int], Iterable[bytes]] = lambda items, total: items,
) -> Summary:
    """Detect in images, and write a line for each.

    Args:
      detector: uint8 (height, width, 3) RGB to detections.
      pictures: the images of this part.
      path: of the results.
      resume: keep what the file has already, and begin behind it.
      lines: add the lines of text, see `Detections.to_json`.
      also: called with each image before its line is written, such as to write files of its own.
      track: wraps the lines of the images that are left, to show progress; gets their number, too.

    Returns:
      What the whole file holds.

    Raises:
      UserError: the file exists and `resume` is not set, it is of other images, another job writes it, or it
        cannot be written.
    """
    if path.exists() and not resume:
        raise UserError(path, "exists", "Set resume to complete it, or choose another folder.")
    with _open(path) as file:
        summary = _finished(path, file, pictures)
        left = pictures[summary.images :]
        steps = read, functools.partial(detect, detector, lines), functools.partial(_write, file, also)
        with contextlib.closing(overlapped(left, *steps)) as written:
            for line in track(written, len(left)):
                summary = summary.add(line)
        os.fsync(file.fileno())
    return summary


def read(picture: InputImage) -> tuple[InputImage, np.ndarray | Exception]:
    """Read an image; one that cannot be used must not end the work on all others.

    Returns:
      The image's names, and its pixels, uint8 (height, width, 3) RGB, or what was wrong.
    """
    try:
        return picture, picture.read()
    except Exception as error:
        return picture, error


def detect(
    detector: Callable[[np.ndarray], Detections],
    lines: bool,
    seen: tuple[InputImage, np.ndarray | Exception],
) -> Row:
    """Detect in one image, unless it could not be read.

    Args:
      detector: see `detect_all`.
      lines: see `detect_all`.
      seen: of `read`.
    """
    picture, image = seen
    name = _name(picture)
    try:
        if isinstance(image, Exception):
            raise image
        height, width = image.shape[:2]
        found = detector(image)
        text = found.to_json(lines=lines, image=name, width=width, height=height)
        return Row(text.encode() + b"\n", picture, image, found)
    except Exception as error:
        problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        text = json.dumps({"image": name, "error": _valid(problem)}, ensure_ascii=False)
        return Row(text.encode() + b"\n", picture)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read and append, for this process alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            _lock(path, file)
            yield file
    except OSError as error:
        raise cannot_be_written(path, error.strerror or str(error)) from None


def _lock(path: Path, file: BinaryIO) -> None:
    """Keep other jobs away from a file; the lock ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(path, "another job is writing it", "Give each job its own part.") from None
    except OSError:  # a file system without locks
        return


def _finished(path: Path, file: BinaryIO, pictures: Sequence[InputImage]) -> Summary:
    """Sum up the whole lines of a file, which must be those of the first images; cut off the rest."""
    summary, end = Summary(), 0
    file.seek(0)
    for line in file.read().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        number = summary.images
        if number >= len(pictures) or _image_of(line) != _name(pictures[number]):
            problem = f"line {number + 1} is not that of image {number + 1} of this part"
            raise UserError(path, problem, "Resume with the same images and the same number of parts.")
        summary, end = summary.add(line), end + len(line)
    file.truncate(end)
    return summary


def _write(file: BinaryIO, also: Callable[[Row], object], row: Row) -> bytes:
    """Write a line at once, so that a process that is killed after this loses nothing; return it."""
    also(row)
    left = memoryview(row.line)
    while left:
        left = left[file.write(left) :]
    return row.line


def _image_of(line: bytes) -> object:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values.get("image") if isinstance(values, dict) else None


def _name(picture: InputImage) -> str:
    return _valid(picture.where)


def _valid(text: str) -> str:
    """Escape what UTF-8 cannot hold, as names of files may."""
    return text.encode("utf-8", "backslashreplace").decode()
