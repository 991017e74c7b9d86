"""What a configuration trains and validates on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from efficientnet_east.config import Data, Model
from efficientnet_east.data import hard_negatives
from efficientnet_east.data.augment import Augmentation
from efficientnet_east.data.color import Color
from efficientnet_east.data.datasets import (
    ImageDataset,
    check_images,
    find_records,
    has_text,
    require_text,
)
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.data.layouts import held_out
from efficientnet_east.data.loader import LabelOptions, Mixture
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError
from efficientnet_east.structures import Source

SYNTHETIC = "synthetic"  # among the sources of a mix
SYNTHETIC_VALIDATION = 20  # scenes to validate on when training is synthetic, unless val_limit says otherwise


def training_source(data: Data, seed: int, skipped: list[UserError]) -> Source | Mixture:
    """Open what is trained on.

    Args:
      data: the configuration's section.
      seed: of the synthetic scenes.
      skipped: with `data.skip_bad`, receives an error for everything that was left out.

    Returns:
      A sequence of samples, or several with their shares.

    Raises:
      UserError: the data set cannot be used.
    """
    if data.mix:
        return _mixture(data, seed, skipped)
    if data.data is None:
        if data.list is not None:
            raise UserError("data.list", "names images, but there is no folder", "Give data.data, too.")
        return _scenes(data, data.limit or data.synthetic_scenes, seed)
    source = _open(data.data, data.list, data.limit, data, skipped)
    require_text(source.records, Path(data.data))
    return source


def _mixture(data: Data, seed: int, skipped: list[UserError]) -> Mixture:
    parts = [_part(name, data, seed, skipped) for name in data.mix or {}]
    if not any(isinstance(part, SyntheticScenes) for part in parts):
        records = [record for part in parts if isinstance(part, ImageDataset) for record in part.records]
        if not has_text(records):
            count = f"{len(parts)} source{'s' if len(parts) > 1 else ''}"
            problem = f"no trainable text in {len(records)} images of {count}"
            raise UserError("data.mix", problem, "Add a source with text, or `synthetic`.")
    return Mixture(tuple(parts), tuple((data.mix or {}).values()))


def _part(name: str, data: Data, seed: int, skipped: list[UserError]) -> Source:
    """Open one source of a mix: synthetic scenes, mined places, or a folder with or without a list."""
    left_out = skipped if data.skip_bad else None
    if name == SYNTHETIC:
        return _scenes(data, data.synthetic_scenes, seed)
    if name.endswith(hard_negatives.SUFFIX):
        folder, places = hard_negatives.read_hard_negatives(name)
        records = find_records(folder, sorted({place.image for place in places}), None, left_out)
        return hard_negatives.HardNegatives(ImageDataset(check_images(records, left_out)), places)
    folder, at, names = name.rpartition("@")
    if not at or Path(name).is_dir():
        folder, names = name, ""
    return _open(folder, names or None, None, data, skipped)


def _scenes(data: Data, count: int, seed: int) -> SyntheticScenes:
    return SyntheticScenes(count, seed, (data.synthetic_size, data.synthetic_size))


def describe(data: Data, source: Source | Mixture) -> str:
    """Describe what is trained on.

    Args:
      data: the configuration's section.
      source: what `training_source` made of it.

    Returns:
      The number of images; of a mix, the numbers and the shares of the crops.
    """
    if not isinstance(source, Mixture):
        return f"{len(source)} images"
    total, lines = sum(source.weights), []
    for name, part, weight in zip(data.mix or {}, source.sources, source.weights, strict=True):
        what = "places" if name.endswith(hard_negatives.SUFFIX) else "images"
        what = "synthetic scenes" if name == SYNTHETIC else f"{what} of {name}"
        lines.append(f"{len(part)} {what} ({100 * weight / total:.3g} %)")
    return ", ".join(lines)


def validation_source(data: Data, seed: int, skipped: list[UserError]) -> Source | None:
    """Open what is validated on.

    Args:
      data: the configuration's section.
      seed: of the synthetic scenes, which differ from those that are trained on.
      skipped: as for `training_source`.

    Returns:
      A sequence of samples, or None if the configuration names nothing to validate on.

    Raises:
      UserError: the data set cannot be used.
    """
    if data.val_data is None and data.val_list is None:
        if data.data is not None or data.mix:
            return None
        return _scenes(data, data.val_limit or SYNTHETIC_VALIDATION, seed + 1)
    folder = data.val_data or data.data
    if folder is None:
        hint = "Give data.val_data or data.data, too."
        raise UserError("data.val_list", "names images, but there is no folder", hint)
    split = held_out(folder) if data.val_data else "train"
    return _open(folder, data.val_list, data.val_limit, data, skipped, split)


def evaluation_source(data: Data, seed: int, skipped: list[UserError], given: bool) -> Source:
    """Open what a finished run is scored on.

    Args:
      data: the run's section.
      seed: of the synthetic scenes.
      skipped: as for `training_source`.
      given: whether `data`, `list` and `limit` were given for the evaluation; if not, the run's own
        validation images are taken.

    Returns:
      A sequence of samples.

    Raises:
      UserError: the data set cannot be used, or the run validated on nothing.
    """
    if given and data.data is not None:
        split = held_out(data.data)
        return _open(data.data, data.list, data.limit, data, skipped, split)
    source = validation_source(data, seed, skipped)
    if source is None:
        hint = "expected a folder with images and ground truth"
        raise UserError("data.data", "is missing, and the run had no validation images", hint)
    return source


def _open(
    folder: str,
    names: str | None,
    limit: int | None,
    data: Data,
    skipped: list[UserError],
    split: str = "train",
) -> ImageDataset:
    """Open images, and leave out what cannot be used if the configuration allows it."""
    if not data.skip_bad:
        return open_images(folder, names, limit, None, split)
    before = len(skipped)
    source = open_images(folder, names, limit, skipped, split)
    # Lines and ground truth of no image are left out as well, but cost no image.
    left_out = {str(error): error.where for error in skipped[before:] if error.costs_image}
    total = len(source) + len(left_out)
    if len(left_out) > data.skip_share * total:
        problem = f"{len(left_out)} of {total} images cannot be used (the first: {min(left_out.values())})"
        raise UserError(folder, problem, f"expected at most {100 * data.skip_share:.3g} % (data.skip_share)")
    return source


def open_images(
    folder: str,
    names: str | None,
    limit: int | None,
    skipped: list[UserError] | None,
    split: str = "train",
) -> ImageDataset:
    """Open a folder of images and ground truth, every file of it checked.

    Args:
      folder: in one of the layouts of `data.datasets.find_records`.
      names: text file of the image names to use, or None for all.
      limit: use the first so many only.
      skipped: None stops at the first bad file; a list collects the errors instead.
      split: "train" or "test", where the folder has both.

    Returns:
      The samples.

    Raises:
      UserError: the data set cannot be used.
    """
    records = find_records(folder, read_image_list(names) if names else None, limit, skipped, split)
    return ImageDataset(check_images(records, skipped))


def augmentation(data: Data) -> Augmentation:
    """Return the crops that a configuration asks for."""
    return Augmentation(
        size=data.crop_size,
        scale=(data.scale_min, data.scale_max),
        aspect=data.aspect,
        rotation=data.rotation,
        quarter_turns=data.quarter_turns,
        text_crops=data.text_crops,
        mosaic=data.mosaic,
        paste=data.paste,
        color=_color(data) if data.color else None,
    )


def _color(data: Data) -> Color:
    """The changes of color that a configuration asks for."""
    return dataclasses.replace(Color().scaled(data.color_strength), motion=data.motion_blur, jpeg=data.jpeg)


def labels(data: Data, model: Model) -> LabelOptions:
    """Return the labels that a configuration asks for."""
    return LabelOptions(
        stride=model.output_stride,
        shrink=data.shrink,
        min_side=data.min_text_side,
        ring=data.ring,
        geometry=model.geometry,
        core=data.core,
        balance=data.balance,
        between=data.between,
    )
