"""Data sets: folders of images with an annotation file each, or with one for all of them.

What stands in these files is read by `formats`. Files are only ever read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from efficientnet_east.data import formats, sets
from efficientnet_east.data.annotations import truth_of
from efficientnet_east.data.folders import is_image, list_files, natural_key
from efficientnet_east.data.formats.shapes import Annotated, report, report_image
from efficientnet_east.data.images import check_image, count_pixels, read_image
from efficientnet_east.data.layouts import PREFIXES, file_key, find_layout, truth_names
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files
from efficientnet_east.structures import Sample, Truth


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One image of a data set, not yet read, with its ground truth and the file that this stands in.

    Attributes:
      image: the file.
      truth: its texts.
      truth_file: that they stand in; several images may share it.
    """

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
      folder: holds one of the `LAYOUTS` of the split, or an annotation file of many images. The ground truth
        of img_1.jpg is gt_img_1.txt, img_1.txt, poly_gt_img_1.txt or img_1.json.
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
    return [record for record, _ in find_annotated(folder, names, limit, skipped, split)]


def find_annotated(
    folder: str | os.PathLike[str],
    names: Sequence[str] | None = None,
    limit: int | None = None,
    skipped: list[UserError] | None = None,
    split: str = "train",
) -> list[tuple[Record, Annotated]]:
    """Find the images of a data set, with what their annotation files say word by word.

    Args:
      folder: see `find_records`, as all of these.
      names: see there.
      limit: see there.
      skipped: see there.
      split: see there.

    Returns:
      Each record, and the places, corners and sizes that its truth was made of.

    Raises:
      UserError: see there.
    """
    found = find_layout(Path(folder), split)
    if isinstance(found, Path):
        candidates = _of_one_file(found, names, split, skipped)
    else:
        candidates = _of_pairs(*found, names, skipped)
    records: list[tuple[Record, Annotated]] = []
    for image, read in candidates:
        if limit is not None and len(records) >= limit:
            break
        try:
            file, annotated = read()
            records.append((Record(image, truth_of(annotated.annotations), file), annotated))
        except UserError as error:
            report_image(error, skipped)
    if not records:
        raise UserError(
            folder, "no image can be used", f"expected at least one with ground truth{_first(skipped)}"
        )
    return records


_Candidates = Iterator[tuple[Path, Callable[[], tuple[Path, Annotated]]]]


def _of_pairs(
    image_folder: Path, truth_folder: Path, names: Sequence[str] | None, skipped: list[UserError] | None
) -> _Candidates:
    """Images with an annotation file each, which is read when its image's turn has come."""
    images = [path for path in list_files(image_folder) if is_image(path.name)]
    files = _truth_files(truth_folder)
    if names is None:
        # Among the images there may be other text files: a list, a licence.
        alone = image_folder != truth_folder
        orphans = {name: file for name, file in files.items() if alone or name.startswith(PREFIXES)}
        _report_orphans(images, orphans, skipped)
    else:
        images = _chosen(images, names, image_folder, skipped)
    for image in _distinct(images, skipped):
        yield image, functools.partial(_annotated, image, files, truth_folder, skipped)


def _of_one_file(
    file: Path, names: Sequence[str] | None, split: str, skipped: list[UserError] | None
) -> _Candidates:
    """Images whose texts all stand in one file."""
    try:
        entries = dict(sets.read_set(file, split, skipped))
    except UserError as error:
        report(error, skipped)
        return
    images = sorted(entries, key=lambda path: natural_key(path.name))
    if names is not None:
        images = _chosen(images, names, file.parent, skipped)
    for image in _distinct(images, skipped):
        yield image, functools.partial(_pair, file, entries[image])


def _pair(file: Path, annotated: Annotated) -> tuple[Path, Annotated]:
    return file, annotated


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
            report_image(error, skipped)
    if not readable:
        raise UserError(
            "data set", "none of the images can be read", f"expected images that can{_first(skipped)}"
        )
    return readable


def require_text(records: Sequence[Record], where: object = "data set") -> None:
    """Refuses a data set from which nothing can be learned.

    Args:
      records: the whole training set.
      where: the name of the data set in the error.

    Raises:
      UserError: every text of every image is illegible, or there is none at all.
    """
    if not has_text(records):
        count = sum(len(record.truth.ignore) for record in records)
        told = f"{count} texts, all marked ###" if count else "no text at all"
        expected = "at least one text with a transcription other than ###"
        if records:
            expected += "; images without text can be mixed with others (--mix)"
        raise UserError(where, f"no trainable text in {len(records)} images ({told})", f"expected {expected}")


def has_text(records: Sequence[Record]) -> bool:
    """Tell whether any text of any image can be trained on.

    Args:
      records: of one data set, or of several.
    """
    return any((~record.truth.ignore).any() for record in records)


def truths(records: Sequence[Record]) -> dict[str, Truth]:
    """Gives the ground truth as `evaluation.icdar.score` wants it: image name without suffix to truth."""
    return {record.image.stem: record.truth for record in records}


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """Reads a list of images, one file name a line; blank lines and lines that begin with # do not count.

    Args:
      path: a text file in UTF-8, or in UTF-16 with a byte order mark; the bytes of names that are not UTF-8
        stand in it as they are.

    Returns:
      The names in file order.

    Raises:
      UserError: the file cannot be read, is empty, or names an image twice.
    """
    names: dict[str, int] = {}
    for number, line in enumerate(text_files.file_names(text_files.read_bytes(path), str(path)), 1):
        name = line.lstrip("\ufeff").strip()
        if not name or name.startswith("#"):
            continue
        if name in names:
            problem = f"{name!r} already stands in line {names[name]}"
            raise UserError(f"{path}:{number}", problem, "expected each name once")
        names[name] = number
    if not names:
        raise UserError(path, "names no image", "expected one image name a line")
    return list(names)


def _first(skipped: list[UserError] | None) -> str:
    return f" (first problem: {skipped[0]})" if skipped else ""


def _chosen(
    images: Sequence[Path], names: Sequence[str], folder: Path, skipped: list[UserError] | None
) -> list[Path]:
    # Looked up, never joined to the folder: a name with ../ in it leads nowhere.
    wanted = set(names)
    for name in sorted(wanted - {path.name for path in images}, key=natural_key):
        encoding = "" if name.isprintable() else ", and a list in UTF-8"
        expected = f"the name of an image in that folder{encoding}"
        report_image(UserError(name, f"is not in {folder}", f"expected {expected}"), skipped)
    return [path for path in images if path.name in wanted]


def _distinct(images: Sequence[Path], skipped: list[UserError] | None) -> Iterator[Path]:
    seen: dict[str, Path] = {}
    for path in images:
        other = seen.setdefault(path.stem, path)
        if other is path:
            yield path
            continue
        problem = f"differs from {other.name} in its suffix only"
        if other.name == path.name:
            problem = f"has the name of {other}"
        report_image(UserError(path, problem, "expected one image for each ground-truth file"), skipped)


def _truth_files(folder: Path) -> dict[str, Path]:
    suffixes = {format.suffix for format in formats.FORMATS if not format.whole_set}
    return {file_key(path): path for path in list_files(folder) if path.suffix.lower() in suffixes}


def _report_orphans(
    images: Sequence[Path], files: Mapping[str, Path], skipped: list[UserError] | None
) -> None:
    wanted = {name for image in images for name in truth_names(image)}
    for name in [name for name in files if name not in wanted and _is_annotation(files[name])]:
        stem = Path(name).stem.removeprefix("poly_").removeprefix("gt_")
        report(
            UserError(files[name], "belongs to no image", f"expected an image named {stem}.jpg or .png"),
            skipped,
        )


def _is_annotation(file: Path) -> bool:
    """Text files beside images are ground truth; of JSON files, only those that look like it."""
    if file.suffix.lower() == ".txt":
        return True
    with contextlib.suppress(OSError), open(file, "rb") as opened:
        beginning = opened.read(formats.SIGN_BYTES)
        return formats.recognize(beginning, file.suffix, whole_set=False) is not None
    return False


def _annotated(
    image: Path, files: Mapping[str, Path], folder: Path, skipped: list[UserError] | None
) -> tuple[Path, Annotated]:
    file = next((files[name] for name in truth_names(image) if name in files), None)
    if file is None:
        names = truth_names(image)
        raise UserError(
            image, "has no ground truth", f"expected {', '.join(names[:-1])} or {names[-1]} in {folder}"
        )
    raw = text_files.read_bytes(file)
    (annotated,) = formats.read(raw, str(file), skipped, suffix=file.suffix, whole_set=False)
    return file, annotated
