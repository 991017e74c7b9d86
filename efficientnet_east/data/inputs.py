"""Files, folders, patterns, lists, videos and cameras as one stream of images to read."""

from __future__ import annotations

import collections
import dataclasses
import glob
import itertools
import os
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from efficientnet_east.data import video
from efficientnet_east.data.folders import is_foreign, is_image, natural_key
from efficientnet_east.data.images import MAX_PIXELS, SUFFIXES, read_image
from efficientnet_east.errors import UserError, hint_of
from efficientnet_east.files import text_files

STANDARD_INPUT = "-"
LONGEST_NAME = 200  # bytes, so that a result's ending fits within the 255 that file systems allow


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file to read images from.

    Attributes:
      path: the file, which may be missing.
      name: of its results, relative to the folder of all results, without a suffix.
    """

    path: Path
    name: Path


@dataclasses.dataclass(frozen=True)
class InputImage:
    """One image to detect in: a file's, or a frame.

    Attributes:
      where: for messages.
      name: of its results, see `InputFile`.
      read: gives the pixels, uint8 (height, width, 3), RGB, or raises UserError.
      film: the name of the video that it is a frame of, None for an image.
      rate: of that video, in frames a second that are read.
    """

    where: str
    name: Path
    read: Callable[[], np.ndarray]
    film: Path | None = None
    rate: float = 0.0


def find_files(
    names: Sequence[str], *, recursive: bool = False, avoid: Path | None = None
) -> list[InputFile]:
    """Find the files behind names, each once, in the order of the names and naturally sorted within one.

    A folder stands for the images in it, a pattern (`*`, `?`, `[...]`, `**`) for the files that match. Both
    keep the folders below them in the names of the results. A file is found by its name, even with `*` in it.

    Args:
      names: as typed, or from `read_names`.
      recursive: also search the folders below folders. Links to folders are not followed.
      avoid: a folder below which nothing is found: that of the results.

    Returns:
      The files. If two would share a name, their suffixes stay in it (a.jpg beside a.png).

    Raises:
      UserError: an address, an empty folder, a pattern that matches nothing, or names that are the same.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for name in names:
        for path, relative in _expanded(name, recursive, avoid):
            found.setdefault(os.path.abspath(path), (path, relative))
    return _named(list(found.values()))


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Read names of files from a file, as the programs `find` or `ls` write them.

    Args:
      path: a text file, one name a line; or names divided by zero bytes, as `find -print0` writes them, which
        may then hold line breaks. `-` is standard input.

    Returns:
      The names; empty ones are left out.

    Raises:
      UserError: the file cannot be read, or names nothing.
    """
    try:
        data = sys.stdin.buffer.read() if str(path) == STANDARD_INPUT else Path(path).read_bytes()
    except OSError as error:
        hint = hint_of(error, "a text file, one name a line")
        raise UserError(path, f"cannot be read ({error.strerror})", hint) from None
    parts = [os.fsdecode(part) for part in data.split(b"\0")] if _is_divided_by_zeros(data) else None
    names = [name for name in parts or text_files.file_names(data, str(path)) if name.strip()]
    if not names:
        raise UserError(path, "names no file", "expected one name a line")
    return names


def _is_divided_by_zeros(data: bytes) -> bool:
    """Whether names end in zero bytes, as `find -print0` writes them; in UTF-16 they are parts of letters."""
    return b"\0" in data and not text_files.is_utf16(data)


def images_of(entry: InputFile, *, every: int = 1, max_pixels: int = MAX_PIXELS) -> Iterator[InputImage]:
    """Yield the images of a file: one of an image file, many of a video.

    Args:
      entry: from `find_files`.
      every: of a video, yield every Nth frame, beginning with the first.
      max_pixels: larger images, and videos of larger frames, are refused before they are decoded.

    Yields:
      Images. Read each one before you ask for the next.
    """
    if entry.path.suffix.lower() not in video.SUFFIXES:
        yield InputImage(str(entry.path), entry.name, lambda: read_image(entry.path, max_pixels=max_pixels))
        return
    try:
        film = video.open_file(entry.path, max_pixels)
    except UserError as error:
        yield InputImage(str(entry.path), entry.name, _raiser(error))
        return
    yield from _frames(film, str(entry.path), entry.name, every)


def camera_images(number: int, *, every: int = 1) -> Iterator[InputImage]:
    """Yield the images of a camera for as long as it sends some.

    Args:
      number: of the camera, from 0.
      every: yield every Nth image.

    Yields:
      Images. Read each one before you ask for the next.

    Raises:
      UserError: there is no such camera.
    """
    yield from _frames(video.open_camera(number), f"camera {number}", Path(f"camera{number}"), every)


def _expanded(name: str, recursive: bool, avoid: Path | None) -> list[tuple[Path, Path]]:
    """Each file behind a name, and its place below what the name stands for."""
    path = Path(name)
    if path.is_dir():
        return [(file, file.relative_to(path)) for file in _images_in(path, recursive, avoid)]
    if os.path.lexists(path):
        return [(path, Path(path.name))]
    if "://" in name:
        raise UserError(name, "is an address", "Download it first, and give the file.")
    if glob.has_magic(name):
        return _matching(path)
    return [(path, Path(path.name))]


def _matching(pattern: Path) -> list[tuple[Path, Path]]:
    """The files that match a pattern; a folder on the way that is there is itself, whatever its letters."""
    *_, base = itertools.takewhile(Path.is_dir, reversed(pattern.parents))
    rest = os.path.join(*pattern.parts[len(base.parts) :])
    found = [base / match for match in glob.glob(rest, root_dir=base, recursive=True)]
    matches = sorted((path for path in found if path.is_file()), key=lambda path: natural_key(str(path)))
    if not matches:
        raise UserError(pattern, "matches no file", "expected image files, such as 'photos/*.jpg'")
    return [(path, _below(path, base)) for path in matches]


def _below(path: Path, base: Path) -> Path:
    relative = path.relative_to(base)
    return Path(path.name) if ".." in relative.parts else relative


def _images_in(folder: Path, recursive: bool, avoid: Path | None) -> list[Path]:
    if avoid and avoid.resolve() == folder.resolve():
        raise UserError("output", f"{folder} is the folder of the images", "Choose another folder.")
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and _is_searched(Path(place, name), avoid)]
        found += [Path(place, name) for name in files if is_image(name)]
    if not found:
        deeper = "" if recursive else ". The option recursive also searches the folders below it"
        raise UserError(folder, "holds no image", f"expected files that end in {', '.join(SUFFIXES)}{deeper}")
    return sorted(found, key=lambda path: natural_key(str(path)))


def _is_searched(folder: Path, avoid: Path | None) -> bool:
    return not is_foreign(folder.name) and (avoid is None or folder.resolve() != avoid.resolve())


def _named(found: Sequence[tuple[Path, Path]]) -> list[InputFile]:
    """Suffixes are left out of the names, but for those of files that would share one."""
    bare = [_key(relative.with_suffix("")) for _, relative in found]
    whole = [_key(relative) for _, relative in found]
    times, whole_times = collections.Counter(bare), collections.Counter(whole)
    taken: dict[str, Path] = {}
    inputs = []
    for (path, relative), short, long in zip(found, bare, whole, strict=True):
        name = relative if times[short] > 1 else relative.with_suffix("")
        name = _fitting(name, whole_times[long] > 1)
        other = taken.setdefault(_key(name), path)
        if other is not path:
            problem = f"would write the same files as {other}"
            raise UserError(path, problem, "expected images with different names")
        inputs.append(InputFile(path, name))
    return inputs


def _key(name: Path) -> str:
    """The same for names that some file systems take for one."""
    return unicodedata.normalize("NFC", str(name)).casefold()


def _fitting(name: Path, differs_in_case: bool) -> Path:
    """Adds a checksum to names that differ in case only, and to those that are cut off for their length."""
    raw = os.fsencode(name.name)
    if len(raw) <= LONGEST_NAME and not differs_in_case:
        return name
    kept = raw[: LONGEST_NAME - 9].decode("utf-8", "ignore")
    return name.with_name(f"{kept}_{zlib.crc32(raw):08x}")


def _raiser(error: UserError) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        raise error

    return read


def _frames(film: video.Video, where: str, name: Path, every: int) -> Iterator[InputImage]:
    number = -1
    for number, read in film.frames(every):
        place = f"{where}, frame {number}"
        yield InputImage(place, name / f"{number:06d}", _named_reader(read, place), name, film.rate / every)
    if number < 0:
        error = UserError(where, "holds no frame that can be read", "expected an undamaged video")
        yield InputImage(where, name, _raiser(error))


def _named_reader(read: Callable[[], np.ndarray | None], where: str) -> Callable[[], np.ndarray]:
    def named() -> np.ndarray:
        image = read()
        if image is None:
            raise UserError(where, "cannot be decoded", "expected an undamaged frame")
        return image

    return named
