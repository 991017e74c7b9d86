"""ICDAR data sets: folders of images with one text file of quadrilaterals each.

What stands in a text file is read by `annotations`. Files are only ever read.
"""

from __future__ import annotations

import dataclasses
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from efficientnet_east.data.annotations import parse_truth, report
from efficientnet_east.data.images import SUFFIXES, check_image, count_pixels, read_image
from efficientnet_east.errors import UserError
from efficientnet_east.structures import Sample, Truth

# Folder of images and folder of ground truth below the data folder; the first images found are taken,
# at last those in the data folder itself.
LAYOUTS = {
    "train": (
        ("ch4_training_images", "ch4_training_localization_transcription_gt"),
        ("train_images", "train_gts"),
        ("images", "gts"),
    ),
    "test": (
        ("ch4_test_images", "Challenge4_Test_Task1_GT"),
        ("test_images", "test_gts"),
        ("images", "gts"),
    ),
}

MAX_TEXT_FILE = 32 << 20  # bytes of a ground truth or a list: hundreds of thousands of lines


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One image of a data set, not yet read, with its ground truth and the file that this stands in."""

    image: Path
    truth: Truth
    truth_file: Path | None = None


class IcdarImages:
    """A data set as a sequence of samples; an image is read when its sample is asked for.

    Picklable, and its `repr` changes with the data, so that a resumed run can tell that it has the same.

    Args:
      records: what `find_records` gave.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = tuple(records)

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int) -> np.ndarray:
        """The pixels of an image, as `images.read_image` gives them."""
        return read_image(self.records[index].image)

    def sample(self, index: int, image: np.ndarray) -> Sample:
        """The sample whose pixels these are."""
        record = self.records[index]
        return Sample(record.image.name, image, record.truth)

    def image_bytes(self) -> list[int]:
        """The size of each image's pixels in bytes; 0 for one that cannot be read."""
        sizes = []
        for record in self.records:
            try:
                sizes.append(3 * count_pixels(record.image))
            except UserError:
                sizes.append(0)
        return sizes

    @property
    def most_texts(self) -> int:
        """The largest number of texts of any image."""
        return max((len(record.truth.texts) for record in self.records), default=0)

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index, self.read(index))

    def __repr__(self) -> str:
        checksum = 0
        for record in self.records:
            name, truth = os.fsencode(record.image.name), record.truth
            checksum = zlib.crc32(name + truth.quads.tobytes() + truth.ignore.tobytes(), checksum)
        return f"IcdarImages({len(self)} images, {checksum:08x})"


def find_records(
    folder: str | os.PathLike[str],
    names: Sequence[str] | None = None,
    limit: int | None = None,
    skipped: list[UserError] | None = None,
    split: str = "train",
) -> list[Record]:
    """Finds the images of a data set and reads their ground truth.

    Args:
      folder: holds one of the `LAYOUTS` of the split. The ground truth of img_1.jpg is gt_img_1.txt or
        img_1.txt.
      names: the images to take (file names without folder); all where None.
      limit: how many images to take at most.
      skipped: where given, what cannot be used is left out and its error appended here; otherwise the
        first such error is raised.
      split: "train" or "test".

    Returns:
      Records in natural order of their names (img_2 before img_10).

    Raises:
      UserError: no known layout, nothing usable, or a problem while `skipped` is None.
    """
    image_folder, truth_folder = _layout(Path(folder), split)
    images = [path for path in _files(image_folder) if _is_image(path)]
    files = {path.stem: path for path in _files(truth_folder) if path.suffix.lower() == ".txt"}
    if names is None:
        # Among the images there may be other text files: a list, a licence.
        prefix = "gt_" if image_folder == truth_folder else ""
        _report_orphans(images, {stem: files[stem] for stem in files if stem.startswith(prefix)}, skipped)
    else:
        images = _chosen(images, names, image_folder, skipped)
    records: list[Record] = []
    for image in _distinct(images, skipped):
        if limit is not None and len(records) >= limit:
            break
        try:
            records.append(_record(image, files, truth_folder, skipped))
        except UserError as error:
            report(error, skipped)
    if not records:
        raise UserError(folder, "no image can be used", f"at least one with ground truth{_first(skipped)}")
    return records


def held_out(folder: str | os.PathLike[str]) -> str:
    """Returns the split to score on: `test` where a folder has test images, else `train`.

    Args:
      folder: holds one of the `LAYOUTS`.
    """
    return "test" if any((Path(folder) / images).is_dir() for images, _ in LAYOUTS["test"]) else "train"


def find_images(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Finds the images of a folder, with or without ground truth.

    Args:
      folder: holds one of the `LAYOUTS` of the split to score on, or its images alone.

    Returns:
      Name without suffix to file, in natural order.

    Raises:
      UserError: the folder cannot be listed, or holds no image.
    """
    names = [images for images, _ in LAYOUTS[held_out(folder)]]
    below = next((Path(folder) / name for name in names if (Path(folder) / name).is_dir()), Path(folder))
    images = {path.stem: path for path in reversed(_files(below)) if _is_image(path)}
    if not images:
        raise UserError(below, "holds no image", f"files with the suffix {', '.join(SUFFIXES)}")
    return dict(reversed(images.items()))


def check_images(records: Sequence[Record], skipped: list[UserError] | None = None) -> list[Record]:
    """Reads every image once, quickly, so that a broken one is found before training and not during it.

    Args:
      records: what `find_records` gave.
      skipped: where given, records of unreadable images are left out and their errors appended here.

    Returns:
      The records whose image can be read, in the same order.

    Raises:
      UserError: an image cannot be read while `skipped` is None, or none can.
    """
    readable = []
    for record in records:
        try:
            check_image(record.image)
            readable.append(record)
        except UserError as error:
            report(error, skipped)
    if not readable:
        raise UserError("data set", "none of the images can be read", f"images that can{_first(skipped)}")
    return readable


def require_text(records: Sequence[Record], where: object = "data set") -> None:
    """Refuses a data set from which nothing can be learned.

    Args:
      records: the whole training set.
      where: the name of the data set in the error.

    Raises:
      UserError: every text of every image is illegible, or there is none at all.
    """
    if not any((~record.truth.ignore).any() for record in records):
        count = sum(len(record.truth.ignore) for record in records)
        problem = f"no trainable text in {len(records)} images ({count} texts, all marked ###)"
        raise UserError(where, problem, "at least one text with a transcription other than ###")


def truths(records: Sequence[Record]) -> dict[str, Truth]:
    """Gives the ground truth as `evaluation.icdar.score` wants it: image name without suffix to truth."""
    return {record.image.stem: record.truth for record in records}


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """Reads a list of images, one file name a line; blank lines and lines that begin with # do not count.

    Args:
      path: a text file in UTF-8; the bytes of names that are not UTF-8 stand in it as they are.

    Returns:
      The names in file order.

    Raises:
      UserError: the file cannot be read, is empty, or names an image twice.
    """
    names: dict[str, int] = {}
    for number, line in enumerate(_read(Path(path)).splitlines(), 1):
        name = os.fsdecode(line).lstrip("\ufeff").strip()
        if not name or name.startswith("#"):
            continue
        if name in names:
            problem = f"{name!r} already stands in line {names[name]}"
            raise UserError(f"{path}:{number}", problem, "each name once")
        names[name] = number
    if not names:
        raise UserError(path, "names no image", "one image name a line")
    return list(names)


def natural_key(name: str) -> tuple[str, str]:
    """Sorts img_2 before img_10."""
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name), name


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_TEXT_FILE:
            raise UserError(path, f"is larger than {MAX_TEXT_FILE >> 20} MiB", "a text file")
        return path.read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "a text file") from None


def _first(skipped: list[UserError] | None) -> str:
    return f" (first problem: {skipped[0]})" if skipped else ""


def _layout(folder: Path, split: str) -> tuple[Path, Path]:
    files = _files(folder)
    for images, truths in LAYOUTS[split]:
        if (folder / images).is_dir():
            if not (folder / truths).is_dir():
                raise UserError(folder / images, "has no ground truth", f"a folder {folder / truths}")
            return folder / images, folder / truths
    if any(_is_image(path) for path in files):
        return folder, folder
    looked_for = ", ".join(f"{images} + {truths}" for images, truths in LAYOUTS[split])
    raise UserError(folder, f"no {split} images found", f"{looked_for}, or images and gt_*.txt in one folder")


def _files(folder: Path) -> list[Path]:
    """The files of a folder in natural order; hidden ones (macOS leaves ._img_1.jpg) do not count."""
    try:
        files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    except OSError as error:
        raise UserError(folder, f"cannot be listed ({error.strerror})", "a folder") from None
    return sorted(files, key=lambda path: natural_key(path.name))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _chosen(
    images: Sequence[Path], names: Sequence[str], folder: Path, skipped: list[UserError] | None
) -> list[Path]:
    # Looked up, never joined to the folder: a name with ../ in it leads nowhere.
    wanted = set(names)
    for name in sorted(wanted - {path.name for path in images}, key=natural_key):
        report(UserError(name, f"is not in {folder}", "the name of an image in that folder"), skipped)
    return [path for path in images if path.name in wanted]


def _distinct(images: Sequence[Path], skipped: list[UserError] | None) -> Iterator[Path]:
    seen: dict[str, Path] = {}
    for path in images:
        if path.stem in seen:
            problem = f"differs from {seen[path.stem].name} in its suffix only"
            report(UserError(path, problem, "one image for each ground-truth file"), skipped)
        else:
            seen[path.stem] = path
            yield path


def _truth_names(image: Path) -> tuple[str, str]:
    return f"gt_{image.stem}", image.stem


def _report_orphans(
    images: Sequence[Path], files: Mapping[str, Path], skipped: list[UserError] | None
) -> None:
    wanted = {name for image in images for name in _truth_names(image)}
    for name in [name for name in files if name not in wanted]:
        expected = f"an image named {name.removeprefix('gt_')}.jpg or .png"
        report(UserError(files[name], "belongs to no image", expected), skipped)


def _record(image: Path, files: Mapping[str, Path], folder: Path, skipped: list[UserError] | None) -> Record:
    for name in _truth_names(image):
        if name in files:
            truth = parse_truth(_read(files[name]), str(files[name]), skipped)
            return Record(image, truth, files[name])
    expected = " or ".join(f"{name}.txt" for name in _truth_names(image))
    raise UserError(image, "has no ground truth", f"{expected} in {folder}")
