"""Data sets: folders of images with an annotation file for each image, or with one file for all.

`layouts` finds the files, `formats` reads what stands in them. Nothing is written to a data set.
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

from efficientnet_east.data import formats, single_file
from efficientnet_east.data.annotations import truth_of
from efficientnet_east.data.folders import is_image, list_files, natural_key
from efficientnet_east.data.formats.annotation import ImageAnnotation, report, report_image
from efficientnet_east.data.images import check_image, count_pixels, read_image
from efficientnet_east.data.layouts import PREFIXES, file_key, find_layout, truth_names
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files
from efficientnet_east.structures import Sample, Truth


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One image of a data set, not yet read, with its ground truth.

    Attributes:
      image: the file.
      truth: its texts.
      truth_file: the file of the texts; several images may share it.
    """

    image: Path
    truth: Truth
    truth_file: Path | None = None


class ImageDataset:
    """A data set as a sequence of samples. An image is read when you ask for its sample.

    It can be pickled. Its `repr` changes with the names and the texts.

    Args:
      records: what `find_records` gave.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = tuple(records)

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int) -> np.ndarray:
        """Read the pixels of an image, see `images.read_image`."""
        return read_image(self.records[index].image)

    def sample(self, index: int, image: np.ndarray) -> Sample:
        """Make the sample of an image that was read."""
        record = self.records[index]
        return Sample(record.image.name, image, record.truth)

    def image_bytes(self) -> list[int]:
        """Return the size of each image's pixels in bytes; 0 for one that cannot be read."""
        sizes = []
        for record in self.records:
            try:
                sizes.append(3 * count_pixels(record.image))
            except UserError:
                sizes.append(0)
        return sizes

    @property
    def most_texts(self) -> int:
        """Return the largest number of texts of any image."""
        return max((len(record.truth.texts) for record in self.records), default=0)

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index, self.read(index))

    def __repr__(self) -> str:
        checksum = 0
        for record in self.records:
            name, truth = os.fsencode(record.image.name), record.truth
            checksum = zlib.crc32(name + truth.quads.tobytes() + truth.ignore.tobytes(), checksum)
        return f"ImageDataset({len(self)} images, {checksum:08x})"


def find_records(
    folder: str | os.PathLike[str],
    names: Sequence[str] | None = None,
    limit: int | None = None,
    skipped: list[UserError] | None = None,
    split: str = "train",
) -> list[Record]:
    """Find the images of a data set and read their ground truth.

    Args:
      folder: holds one of the `LAYOUTS` of the split, or an annotation file of many images. The ground truth
        of img_1.jpg is gt_img_1.txt, img_1.txt, poly_gt_img_1.txt or img_1.json.
      names: the images to take (file names without folder); all where None.
      limit: how many images to take at most.
      skipped: if given, what cannot be used is left out and its error appended here; otherwise the first
        such error is raised.
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
) -> list[tuple[Record, ImageAnnotation]]:
    """Find the images of a data set, with what their annotation files say about each text.

    Args:
      folder: see `find_records`, as all of these.
      names: see there.
      limit: see there.
      skipped: see there.
      split: see there.

    Returns:
      Each record, and the locations, corners and sizes that its truth was made of.

    Raises:
      UserError: see there.
    """
    found = find_layout(Path(folder), split)
    if isinstance(found, Path):
        candidates = _of_one_file(found, names, split, skipped)
    else:
        candidates = _of_pairs(*found, names, skipped)
    records: list[tuple[Record, ImageAnnotation]] = []
    for image, read in candidates:
        if limit is not None and len(records) >= limit:
            break
        try:
            file, annotated = read()
            records.append((Record(image, truth_of(annotated.texts), file), annotated))
        except UserError as error:
            report_image(error, skipped)
    if not records:
        hint = f"expected at least one with ground truth{_first(skipped)}"
        raise UserError(folder, "no image can be used", hint)
    return records


_Candidates = Iterator[tuple[Path, Callable[[], tuple[Path, ImageAnnotation]]]]


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
        entries = dict(single_file.read_images(file, split, skipped))
    except UserError as error:
        report(error, skipped)
        return
    images = sorted(entries, key=lambda path: natural_key(path.name))
    if names is not None:
        images = _chosen(images, names, file.parent, skipped)
    for image in _distinct(images, skipped):
        yield image, functools.partial(_pair, file, entries[image])


def _pair(file: Path, annotated: ImageAnnotation) -> tuple[Path, ImageAnnotation]:
    return file, annotated


def check_images(records: Sequence[Record], skipped: list[UserError] | None = None) -> list[Record]:
    """Read every image once, quickly, so that broken ones are found before training and not during it.

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
        hint = f"expected at least one that can{_first(skipped)}"
        raise UserError("data set", "none of the images can be read", hint)
    return readable


def require_text(records: Sequence[Record], where: object = "data set") -> None:
    """Refuse a data set without any text to train on.

    Args:
      records: the whole training set.
      where: the name of the data set in the error.

    Raises:
      UserError: every text of every image is illegible, or there is none at all.
    """
    if not has_text(records):
        count = sum(len(record.truth.ignore) for record in records)
        found = f"{count} texts, all marked ###" if count else "no text at all"
        hint = "expected at least one text with a transcription other than ###"
        if records:
            hint += ". You can mix images without text with others (data.mix)"
        raise UserError(where, f"no trainable text in {len(records)} images ({found})", hint)


def has_text(records: Sequence[Record]) -> bool:
    """Tell whether any text of any image can be trained on.

    Args:
      records: of one data set, or of several.
    """
    return any((~record.truth.ignore).any() for record in records)


def truths(records: Sequence[Record]) -> dict[str, Truth]:
    """Return the ground truth as `evaluation` takes it: image name without suffix -> texts."""
    return {record.image.stem: record.truth for record in records}


def _first(skipped: list[UserError] | None) -> str:
    return f" (first problem: {skipped[0]})" if skipped else ""


def _chosen(
    images: Sequence[Path], names: Sequence[str], folder: Path, skipped: list[UserError] | None
) -> list[Path]:
    # Looked up, never joined to the folder: a name with ../ in it leads nowhere.
    chosen = set(names)
    for name in sorted(chosen - {path.name for path in images}, key=natural_key):
        encoding = "" if name.isprintable() else ", and a list in UTF-8"
        expected = f"the name of an image in that folder{encoding}"
        report_image(UserError(name, f"is not in {folder}", f"expected {expected}"), skipped)
    return [path for path in images if path.name in chosen]


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
    expected = {name for image in images for name in truth_names(image)}
    for name in [name for name in files if name not in expected and _is_annotation(files[name])]:
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
) -> tuple[Path, ImageAnnotation]:
    file = next((files[name] for name in truth_names(image) if name in files), None)
    if file is None:
        names = truth_names(image)
        hint = f"expected {', '.join(names[:-1])} or {names[-1]} in {folder}"
        raise UserError(image, "has no ground truth", hint)
    raw = text_files.read_bytes(file)
    (annotated,) = formats.read_annotations(raw, str(file), skipped, suffix=file.suffix, whole_set=False)
    return file, annotated
