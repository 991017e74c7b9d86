"""Where a data set has its images and its annotation files."""

from __future__ import annotations

import os
from pathlib import Path

from efficientnet_east.data import single_file
from efficientnet_east.data.folders import is_image, list_files
from efficientnet_east.data.images import SUFFIXES
from efficientnet_east.errors import UserError

# Folder of images and folder of ground truth below the data folder. The first that is there is used; if none
# is, the images in the data folder itself.
LAYOUTS = {
    "train": (
        ("ch4_training_images", "ch4_training_localization_transcription_gt"),
        ("train_images", "train_gts"),
        ("Images/Train", "Groundtruth/Polygon/Train"),  # Total-Text
        ("train/text_image", "train/text_label_curve"),  # CTW1500
        ("images", "gts"),
    ),
    "test": (
        ("ch4_test_images", "Challenge4_Test_Task1_GT"),
        ("test_images", "test_gts"),
        ("Images/Test", "Groundtruth/Polygon/Test"),
        ("test/text_image", "test/text_label_curve"),
        ("images", "gts"),
    ),
}

PREFIXES = ("gt_", "poly_gt_")


def truth_names(image: Path) -> tuple[str, ...]:
    """List the names that the annotation file of an image may have.

    Args:
      image: its file.

    Returns:
      Names in the order in which they are looked for.
    """
    stem = image.stem
    return f"gt_{stem}.txt", f"{stem}.txt", f"poly_gt_{stem}.txt", f"{stem}.json"


def file_key(path: Path) -> str:
    """Return a file's name with its suffix in lower case."""
    return path.stem + path.suffix.lower()


def find_layout(folder: Path, split: str) -> tuple[Path, Path] | Path:
    """Find out how a data set is laid out.

    Args:
      folder: of the data set.
      split: "train" or "test".

    Returns:
      The folders of images and of ground truth; or the one file that names the images and holds their texts.

    Raises:
      UserError: it is no data set.
    """
    files = list_files(folder)
    for images, truths in LAYOUTS[split]:
        if (folder / images).is_dir():
            if (folder / truths).is_dir():
                return folder / images, folder / truths
            if listed := single_file.annotation_file(files, split):
                return listed
            raise UserError(folder / images, "has no ground truth", f"expected a folder {folder / truths}")
    images_here = [path for path in files if is_image(path.name)]
    names = {file_key(path) for path in files}
    beside = any(name in names for image in images_here for name in truth_names(image))
    if not beside and (listed := single_file.annotation_file(files, split)):
        return listed
    if images_here:
        return folder, folder
    looked_for = ", ".join(f"{images} + {truths}" for images, truths in LAYOUTS[split])
    expected = f"{looked_for}, images and gt_*.txt in one folder, or an annotation file of many images"
    raise UserError(folder, f"no {split} images found", f"expected {expected}")


def held_out(folder: str | os.PathLike[str]) -> str:
    """Return the split to score on: `test` where a folder has test images, else `train`.

    Args:
      folder: of a data set, see `find_records`.
    """
    if any((Path(folder) / images).is_dir() for images, _ in LAYOUTS["test"]):
        return "test"
    listed = _listed(Path(folder), "train")
    return "test" if listed and single_file.holds_test(list_files(listed.parent)) else "train"


def _listed(folder: Path, split: str) -> Path | None:
    """The file that names the images, if the data set has such a file. Others report what is wrong."""
    try:
        found = find_layout(folder, split)
    except UserError:
        return None
    return found if isinstance(found, Path) else None


def find_images(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Find the images of a folder, with or without ground truth.

    Args:
      folder: holds one of the `LAYOUTS` of the split to score on, or its images alone.

    Returns:
      Name without suffix to file, in natural order.

    Raises:
      UserError: the folder cannot be listed, or holds no image.
    """
    split = held_out(folder)
    if (listed := _listed(Path(folder), split)) is not None:
        return {path.stem: path for path, _ in single_file.read_images(listed, split, [])}
    names = [images for images, _ in LAYOUTS[split]]
    below = next((Path(folder) / name for name in names if (Path(folder) / name).is_dir()), Path(folder))
    images = {path.stem: path for path in reversed(list_files(below)) if is_image(path.name)}
    if not images:
        raise UserError(below, "holds no image", f"expected files with the suffix {', '.join(SUFFIXES)}")
    return dict(reversed(images.items()))
