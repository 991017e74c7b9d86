"""Hard negatives: places without text where a network saw some, in a file and as a source of crops.

`evaluation.predictions.false_alarms` finds them once, and they are kept in a file. A run that trains on them
reads a fixed list, so its batches still depend on their number, the seed and the sources alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.data.datasets import ImageDataset
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files
from efficientnet_east.files.atomic import write_file
from efficientnet_east.structures import Sample

SUFFIX = ".json"
_FORM = "what `efficientnet-east mine` writes"


@dataclasses.dataclass(frozen=True, eq=False)
class HardNegative:
    """A box in which a network saw text where there is none.

    Attributes:
      image: file name of the image.
      corners: float32 (4, 2), pixels of the image.
      score: of the box.
    """

    image: str
    corners: np.ndarray
    score: float


class HardNegatives:
    """One sample for each place, which the crop of its image must show. It can be pickled.

    Args:
      images: a data set. Places in other images do not count.
      places: what the crops show.

    Raises:
      UserError: there is no place in any of the images.
    """

    def __init__(self, images: ImageDataset, places: Sequence[HardNegative]) -> None:
        numbers = {record.image.name: number for number, record in enumerate(images.records)}
        self._images = images
        self._places = tuple((numbers[place.image], place) for place in places if place.image in numbers)
        if not self._places:
            raise UserError("hard negatives", f"no place in {len(images)} images", "expected at least one")

    def __len__(self) -> int:
        return len(self._places)

    @property
    def most_texts(self) -> int:
        """Return the largest number of texts of any image."""
        return self._images.most_texts

    def __getitem__(self, index: int) -> Sample:
        number, place = self._places[index]
        return dataclasses.replace(self._images[number], focus=place.corners)


def write_hard_negatives(
    path: str | os.PathLike[str], folder: str, checkpoint: str, places: Sequence[HardNegative]
) -> None:
    """Write places, one a line.

    Args:
      path: the file, which must end in .json.
      folder: where the images are; its absolute path is written, so that a run may start anywhere.
      checkpoint: which network saw text there; for the reader.
      places: in any order.

    Raises:
      UserError: the file cannot be written.
    """
    head = json.dumps({"data": str(Path(folder).resolve()), "checkpoint": checkpoint})[:-1]
    lines = [
        json.dumps(
            {
                "image": place.image,
                "score": round(place.score, 4),
                "corners": np.round(place.corners.astype(float), 2).tolist(),
            }
        )
        for place in places
    ]
    write_file(path, (f'{head}, "places": [\n' + ",\n".join(lines) + "\n]}\n").encode())


def read_hard_negatives(path: str | os.PathLike[str]) -> tuple[str, list[HardNegative]]:
    """Read what `write_hard_negatives` wrote.

    Args:
      path: the file.

    Returns:
      The folder of the images, and the places.

    Raises:
      UserError: the file cannot be read, is no such file, or holds no place.
    """
    try:
        content = json.loads(text_files.read_text(path, expected=_FORM))
        folder, places = str(content["data"]), [_place(entry) for entry in content["places"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise UserError(
            path, f"is no list of places ({type(error).__name__}: {error})", f"expected {_FORM}"
        ) from None
    if not places:
        raise UserError(path, "holds no places", "Mine again with a lower detect.score_threshold.")
    return folder, places


def _place(entry: dict[str, Any]) -> HardNegative:
    corners = np.array(entry["corners"], np.float32)
    if corners.shape != (4, 2) or not np.isfinite(corners).all():
        raise ValueError(f"corners {entry['corners']}")
    return HardNegative(str(entry["image"]), corners, float(entry["score"]))
