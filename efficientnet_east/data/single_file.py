"""Data sets with one annotation file for all images, such as `Label.txt` or `TextOCR_0.1_train.json`.

The images lie anywhere below the file's folder. The file's names for them are looked up among the images that
are there, never joined to a path: a name with `../` in it leads nowhere.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from efficientnet_east.data import formats
from efficientnet_east.data.folders import is_foreign, is_image
from efficientnet_east.data.formats.annotation import Errors, ImageAnnotation, Location, report, report_image
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files

# Split -> what its files and images are called in data sets.
SPLITS = {"train": ("train",), "test": ("test", "val")}
_SPLIT_IN_JSON = re.compile(rb'"set"\s*:\s*"(\w+)"')


def annotation_file(files: Sequence[Path], split: str) -> Path | None:
    """Find the file that names the images of a data set and their texts.

    Args:
      files: of the data set's folder.
      split: "train" or "test", which decides where there are several.

    Returns:
      The file; None where there is none.

    Raises:
      UserError: there are several, and their names do not decide.
    """
    found = _annotation_files(files)
    if len(found) < 2:
        return found[0] if found else None
    named = [path for path in found if _is_of(path, split)]
    if len(named) != 1:
        names = ", ".join(path.name for path in found[:4])
        problem = f"holds several annotation files ({names})"
        hint = f"expected one, or one with `{SPLITS[split][0]}` in its name"
        raise UserError(found[0].parent, problem, hint)
    return named[0]


def holds_test(files: Sequence[Path]) -> bool:
    """Tell whether a data set of one annotation file also has images to score on.

    Args:
      files: of the data set's folder.
    """
    found = _annotation_files(files)
    if len(found) != 1:
        return sum(_is_of(path, "test") for path in found) == 1
    if found[0].suffix.lower() != ".json":
        return False
    raw = text_files.read_bytes(found[0], formats.MAX_SET_BYTES)
    splits = {name.decode().lower() for name in _SPLIT_IN_JSON.findall(raw)}
    return bool(splits & set(SPLITS["test"])) and bool(splits & set(SPLITS["train"]))


def read_images(file: Path, split: str, errors: Errors) -> list[tuple[Path, ImageAnnotation]]:
    """Read what an annotation file says about the images below its folder.

    Args:
      file: from `annotation_file`.
      split: "train" or "test". Where the file says to which an image belongs, the others are left out, unless
        none is left.
      errors: where given, what cannot be used has its error appended here.

    Returns:
      Each image once, with its texts, in file order.

    Raises:
      UserError: the file is damaged as a whole, or something cannot be used while `errors` is None.
    """
    raw = text_files.read_bytes(file, formats.MAX_SET_BYTES, "an annotation file")
    entries = formats.read_annotations(raw, str(file), errors, suffix=file.suffix, whole_set=True)
    accepted = ("", *SPLITS[split])
    entries = [entry for entry in entries if entry.split.lower() in accepted] or entries
    images = _Images(file.parent)
    found: dict[Path, ImageAnnotation] = {}
    for entry in entries:
        location = entry.location or Location(str(file))
        try:
            path = images.find(entry.name, location)
        except UserError as error:
            report_image(error, errors)
            continue
        if path in found:
            # Both are kept: the texts of either would be background to the other.
            report(location.error(f"names {entry.name} a second time", "expected each image once"), errors)
            texts = (*found[path].texts, *entry.texts)
            entry = dataclasses.replace(found[path], texts=texts)
        found[path] = entry
    return list(found.items())


class _Images:
    """The images below a folder, to be found by the names that an annotation file gives them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_path: dict[str, Path] = {}
        self._by_name: dict[str, list[Path]] = {}
        for place, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not is_foreign(name))
            for name in files:
                if is_image(name):
                    path = Path(place, name)
                    self._by_path[path.relative_to(folder).as_posix()] = path
                    self._by_name.setdefault(name, []).append(path)

    def find(self, name: str, location: Location) -> Path:
        """Return the image of a name: a path below the folder or beside it, or the last part of one."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        below = parts[1:] if parts[:1] == (self._folder.resolve().name,) else parts
        for candidate in (parts, below):
            if candidate and (path := self._by_path.get("/".join(candidate))):
                return path
        same = self._by_name.get(parts[-1], []) if parts else []
        if len(same) > 1:
            problem = f"{name} may be {same[0]} or {same[1]}"
            raise location.error(problem, "expected the path of an image below the folder")
        if not same:
            raise location.error(f"{name} is not in {self._folder}", "expected an image below that folder")
        return same[0]


def _annotation_files(files: Sequence[Path]) -> list[Path]:
    suffixes = {format.suffix for format in formats.FORMATS if format.whole_set}
    found = []
    for path in files:
        if path.suffix.lower() not in suffixes:
            continue
        try:
            with open(path, "rb") as file:
                beginning = file.read(formats.SIGN_BYTES)
        except OSError:
            continue  # whoever needs it reports the error
        if formats.recognize(beginning, path.suffix, whole_set=True):
            found.append(path)
    return found


def _is_of(path: Path, split: str) -> bool:
    return any(word in path.stem.lower() for word in SPLITS[split])
