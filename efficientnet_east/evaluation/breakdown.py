"""Precision and recall by the size of texts, their angle, and their script.

Recall is taken over the legible texts of a bin; precision over the detections which themselves have that
size or angle, because a detection that is wrong belongs to no text. Detections have no script.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from efficientnet_east.evaluation.icdar2015 import Result
from efficientnet_east.geometry.bins import ANGLES, SIZES, bin_labels, bin_of, text_heights
from efficientnet_east.geometry.quads import tilt
from efficientnet_east.structures import Truth


@dataclasses.dataclass(frozen=True)
class Bin:
    """The texts of one kind.

    Attributes:
      label: which kind.
      texts: number of legible texts of it.
      found: how many of them were found.
      detections: number of detections of it that count; None where detections have no such kind.
      right: how many of them are right; None likewise.
    """

    label: str
    texts: int
    found: int
    detections: int | None = None
    right: int | None = None

    @property
    def recall(self) -> float | None:
        """The share of the texts that was found; None without texts."""
        return self.found / self.texts if self.texts else None

    @property
    def precision(self) -> float | None:
        """The share of the detections that is right; None without detections."""
        return self.right / self.detections if self.detections and self.right is not None else None

    def as_dict(self) -> dict[str, object]:
        """Return counts and shares; a share is None where it is undefined."""
        return dataclasses.asdict(self) | {"recall": self.recall, "precision": self.precision}


def by_size(result: Result, found: Mapping[str, np.ndarray], truths: Mapping[str, Truth]) -> list[Bin]:
    """Divide a result by the thickness of texts: area over longest side, the height of a line of letters.

    Args:
      result: of a protocol.
      found: image name to the quads (n, 4, 2) that were scored.
      truths: image name to its texts.

    Returns:
      A bin for each of `SIZES`.
    """
    return _binned(result, found, truths, text_heights, SIZES)


def by_angle(result: Result, found: Mapping[str, np.ndarray], truths: Mapping[str, Truth]) -> list[Bin]:
    """Divide a result by the angle between the longer sides of texts and the horizontal.

    Args:
      result: of a protocol.
      found: image name to the quads (n, 4, 2) that were scored.
      truths: image name to its texts.

    Returns:
      A bin for each of `ANGLES`.
    """
    return _binned(result, found, truths, tilt, ANGLES)


def by_script(result: Result, truths: Mapping[str, Truth]) -> list[Bin]:
    """Divide a result by the scripts that an MLT ground truth names.

    Args:
      result: of a protocol.
      truths: image name to its texts.

    Returns:
      A bin for each script, by name; none where the ground truth names none.
    """
    counts: dict[str, list[int]] = {}
    for name, truth in truths.items():
        recalled = {pair[0] for pair in result.images[name].pairs}
        for index, script in enumerate(truth.scripts):
            if not truth.ignore[index]:
                count = counts.setdefault(script or "none", [0, 0])
                count[0] += 1
                count[1] += index in recalled
    return [Bin(script, *count) for script, count in sorted(counts.items())]


def _binned(
    result: Result,
    found: Mapping[str, np.ndarray],
    truths: Mapping[str, Truth],
    measure: Callable[[np.ndarray], np.ndarray],
    edges: Sequence[float],
) -> list[Bin]:
    table = np.zeros((len(edges) - 1, 4), np.int64)  # texts, found, detections, right
    for name, truth in truths.items():
        image, quads = result.images[name], found.get(name, np.zeros((0, 4, 2)))
        recalled, right = ({pair[side] for pair in image.pairs} for side in (0, 1))
        kept = np.setdiff1d(np.arange(len(quads)), image.ignored)
        texts, boxes = (bin_of(measure(part), edges) for part in (truth.quads, quads))
        np.add.at(table[:, 0], texts[~truth.ignore], 1)
        np.add.at(table[:, 1], texts[sorted(recalled)], 1)
        np.add.at(table[:, 2], boxes[kept], 1)
        np.add.at(table[:, 3], boxes[sorted(right)], 1)
    return [Bin(label, *row) for label, row in zip(bin_labels(edges), table.tolist(), strict=True)]
