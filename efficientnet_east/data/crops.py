"""Prepare one crop with its labels, or the error that stands in for it: the work of a worker process.

Errors cross from the workers as values inside a batch, not as exceptions: an exception that cannot be
pickled, or that is no `Exception`, would leave Grain waiting for ever.
"""

from __future__ import annotations

import dataclasses
import pickle
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np

from efficientnet_east.data.augment import Augmentation, augment, mosaic
from efficientnet_east.data.paste import MOST_WORDS
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.label_maps import encode
from efficientnet_east.structures import Sample, Source

# A source with more broken images than this in a row is not repaired by skipping them.
_MOST_SKIPPED = 64


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """How texts become maps; see `geometry.label_maps.encode`."""

    stride: int = 4
    shrink: float = 0.3
    min_side: float = 0.0
    ring: bool = False
    geometry: str = "rbox"
    core: float = 0.0
    balance: float = 0.0
    between: float = 1.0


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """Texts as they are, for labels that are made later, inside a graph.

    Attributes:
      most: the largest number of texts in any crop, 1 or more; see `most_texts`.
    """

    most: int

    def __post_init__(self) -> None:
        check_least(most=(self.most, 1))


def load_crop(
    position: tuple[int, int],
    rng: np.random.Generator,
    *,
    sources: Sequence[Source],
    augmentation: Augmentation,
    labels: LabelOptions | TextOptions,
    skip: bool,
) -> dict[str, Any]:
    """Cut one crop and make its maps or texts; or return the error that stands in for it."""
    number, index = position
    try:
        crop, skipped = _crop(sources, number, index, rng, augmentation, labels, skip)
        arrays = _maps(crop, labels) if isinstance(labels, LabelOptions) else _texts(crop, labels.most)
    except BaseException as error:
        return {"error": _portable(error)}
    return {"arrays": {"images": crop.image, **arrays}, "name": crop.name, "skipped": skipped, "error": None}


def _crop(
    sources: Sequence[Source],
    number: int,
    index: int,
    rng: np.random.Generator,
    augmentation: Augmentation,
    labels: LabelOptions | TextOptions,
    skip: bool,
) -> tuple[Sample, list[UserError]]:
    """A crop of the sample, perhaps with words of any source's image; or a mosaic of it and three others."""
    source = sources[number]
    sample, skipped = _read(source, index, skip)
    if augmentation.mosaic and rng.random() < augmentation.mosaic:
        samples = [sample]
        for other in rng.integers(len(source), size=3):
            beside, errors = _read(source, int(other), skip)
            samples.append(beside)
            skipped += errors
        crop = mosaic(samples, rng, augmentation)
        # Four windows may show more texts than the program behind TextOptions has room for.
        if isinstance(labels, LabelOptions) or len(crop.truth.texts) <= labels.most:
            return crop, skipped
    donor = None
    if augmentation.paste and sample.focus is None and rng.random() < augmentation.paste:
        others = sources[int(rng.integers(len(sources)))]  # photographs without text get words, too
        donor, errors = _read(others, int(rng.integers(len(others))), skip)
        skipped += errors
    room = labels.most - len(sample.truth.texts) if isinstance(labels, TextOptions) else MOST_WORDS
    return augment(sample, rng, augmentation, donor, room), skipped


def _maps(crop: Sample, labels: LabelOptions) -> dict[str, np.ndarray]:
    maps = encode(crop.truth.quads, crop.truth.ignore, crop.image.shape[:2], **dataclasses.asdict(labels))
    return {"score": maps.score[..., None], "geometry": maps.geometry, "mask": maps.mask[..., None]}


def _texts(crop: Sample, most: int) -> dict[str, np.ndarray]:
    count = len(crop.truth.texts)
    if count > most:
        problem = f"has {count} texts in one crop"
        raise UserError(crop.name, problem, f"expected at most {most}, see `most_texts`")
    quads, ignore = np.zeros((most, 4, 2), np.float32), np.zeros(most, np.bool_)
    quads[:count], ignore[:count] = crop.truth.quads, crop.truth.ignore
    return {"quads": quads, "ignore": ignore, "count": np.array(count, np.int32)}


def _read(source: Source, index: int, skip: bool) -> tuple[Sample, list[UserError]]:
    """The sample, or the next good one of the source with the errors on the way to it."""
    skipped: list[UserError] = []
    for step in range(min(len(source), _MOST_SKIPPED)):
        try:
            return source[(index + step) % len(source)], skipped
        except UserError as error:
            if not skip:
                raise
            skipped.append(error)
    raise UserError(
        skipped[0].where,
        f"{skipped[0].problem}, and {len(skipped) - 1} more images after it cannot be used either",
        "Check the data set with check-data.",
    )


def _portable(error: BaseException) -> Exception:
    """The error itself where it survives pickling, else its text."""
    if not isinstance(error, Exception):
        return RuntimeError(f"{type(error).__name__} while a sample was prepared: {error}")
    where = "".join(traceback.format_exception(error))
    if not isinstance(error, UserError):
        error.add_note(f"While a sample was prepared:\n{where}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(where)
    return error


def stack_crops(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack the crops of one batch; if any has an error, return the first one."""
    for item in items:
        if item["error"] is not None:
            return {"error": item["error"]}
    batch: dict[str, Any] = {
        name: np.stack([item["arrays"][name] for item in items]) for name in items[0]["arrays"]
    }
    batch["names"] = [item["name"] for item in items]
    batch["skipped"] = [error for item in items for error in item["skipped"]]
    return {**batch, "error": None}


def check_least(**numbers: tuple[int, int]) -> None:
    """Raise UserError unless each number, given with its least value, is no smaller."""
    for name, (value, least) in numbers.items():
        if value < least:
            raise UserError(name, f"is {value}", f"expected {least} or more")
