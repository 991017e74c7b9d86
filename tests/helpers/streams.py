"""Sources of samples that tests look into, and streams of batches of them."""

import dataclasses
import sys
from typing import Any

import cv2
import numpy as np

from efficientnet_east.data.augment import Augmentation
from efficientnet_east.data.loader import (
    Batch,
    Batches,
    LabelOptions,
    TextBatch,
    batches,
)
from efficientnet_east.errors import UserError
from efficientnet_east.structures import Sample, Truth

SMALL = Augmentation(size=64)


@dataclasses.dataclass(frozen=True)
class Scenes:
    """`length` small noisy images with one text; those in `bad` cannot be read."""

    length: int
    bad: tuple[int, ...] = ()
    prefix: str = "img"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> Sample:
        name = f"{self.prefix}_{index}"
        if index in self.bad:
            raise UserError(f"{name}.jpg", "is cut off", "expected a whole image")
        rng = np.random.default_rng(index)
        quads = np.array([[[20, 20], [70, 22], [69, 40], [19, 38]]], np.float32)
        image = rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)
        return Sample(name, image, Truth(quads, np.array([False]), ("text",)))


@dataclasses.dataclass(frozen=True)
class Failing:
    """Raises what it is given."""

    kind: str

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int, /) -> Sample:
        if self.kind == "unpicklable":
            raise Unpicklable("first", "second")
        if self.kind == "exit":
            sys.exit(0)
        if self.kind == "threads":
            raise ValueError(f"cv2 runs {cv2.getNumThreads()} threads")
        raise ZeroDivisionError("a bug in the source")


class Counting(Scenes):
    """Knows what it was asked for."""

    asked: list[int]

    def __init__(self, length: int) -> None:
        super().__init__(length)
        object.__setattr__(self, "asked", [])

    def __getitem__(self, index: int, /) -> Sample:
        self.asked.append(index)
        return super().__getitem__(index)


class Unpicklable(Exception):
    """Pickles, and cannot be unpickled: its arguments do not fit its signature."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class Unsendable(Scenes):
    """Holds what no other process can be given."""

    def __reduce__(self) -> Any:
        raise TypeError("holds an open file")


@dataclasses.dataclass(frozen=True)
class Crowded(Scenes):
    """Scene i has i texts, the odd ones illegible."""

    def __getitem__(self, index: int, /) -> Sample:
        scene = super().__getitem__(index)
        shift = np.arange(index, dtype=np.float32)[:, None, None] * np.array([1, 2], np.float32)
        texts = Truth(scene.truth.quads + shift, np.arange(index) % 2 > 0, ("text",) * index)
        return Sample(scene.name, scene.image, texts)


def stream(source: Any = Scenes(7), **options: Any) -> Batches[Any]:
    defaults = {"batch_size": 4, "seed": 1, "augmentation": SMALL, "labels": LabelOptions()}
    return batches(source, **{**defaults, **options})


def take(count: int, source: Any = Scenes(7), **options: Any) -> list[Any]:
    with stream(source, **options) as opened:
        return [next(opened) for _ in range(count)]


def fields(batch: Batch | TextBatch) -> list[str]:
    return [field.name for field in dataclasses.fields(batch)]


def assert_equal(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert type(one) is type(other) and one.names == other.names
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def joined(parts: list[Any]) -> Any:
    """The batch whose shares these are."""
    arrays = {}
    for field in fields(parts[0])[:-1]:
        arrays[field] = np.concatenate([getattr(part, field) for part in parts])
    return type(parts[0])(**arrays, names=tuple(names(parts)))


def names(taken: list[Any]) -> list[str]:
    return [name for batch in taken for name in batch.names]
