"""What `detect` does with one image after the other: read it, detect, write its files, say so."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.cli import options
from efficientnet_east.data import inputs, video
from efficientnet_east.data.images import write_image
from efficientnet_east.data.submissions import write_boxes
from efficientnet_east.drawing.overlays import angle_picture, heat_overlay
from efficientnet_east.errors import UserError, WriteError, one_line
from efficientnet_east.files.atomic import remove_leftovers, write_file
from efficientnet_east.files.folders import make_folder
from efficientnet_east.inference import shards
from efficientnet_east.inference.detector import Detector
from efficientnet_east.structures import Detections
from efficientnet_east.system import progress

FORMATS = {
    "icdar": "text file, eight coordinates and the score a line",
    "json": "corners and scores",
    "picture": "boxes drawn on the image",
    "score": "heat map of the score",
    "angle": "map of the angle",
    "crops": "each word as an upright image, for text recognition",
    "film": "video (.mp4) with boxes drawn, of a video or a camera",
}
NOTHING = Detections(np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32))
_CROP = re.compile(r"\d{4,}\.png")


@dataclasses.dataclass(frozen=True)
class Seen:
    """One picture that was read, and what was found in it; the maps where they are needed."""

    picture: inputs.InputImage
    image: np.ndarray
    found: Detections = NOTHING
    score: np.ndarray | None = None
    geometry: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Skipped:
    """One picture that cannot be used, and why."""

    picture: inputs.InputImage
    error: UserError


def read(picture: inputs.InputImage) -> Seen | Skipped:
    """Read a picture; nothing has been found in it yet."""
    return _or_skipped(picture, lambda: Seen(picture, picture.read()))


def detect(detector: Detector, with_maps: bool, seen: Seen | Skipped) -> Seen | Skipped:
    """Detect in a picture.

    Args:
      detector: any.
      with_maps: whether the maps are wanted, as at scale 1.
      seen: of `read`.
    """
    if isinstance(seen, Skipped):
        return seen
    find = _find_with_maps if with_maps else _find
    return _or_skipped(seen.picture, lambda: find(detector, seen))


def _find(detector: Detector, seen: Seen) -> Seen:
    return dataclasses.replace(seen, found=detector(seen.image))


def _find_with_maps(detector: Detector, seen: Seen) -> Seen:
    """The network runs no more often than it must."""
    maps = detector.maps(seen.image)
    alone = detector.detect.scales == (1.0,)
    found = detector.boxes([maps]) if alone else detector(seen.image)
    return dataclasses.replace(seen, found=found, score=maps.score, geometry=maps.geometry)


def _or_skipped(picture: inputs.InputImage, work: Callable[[], Seen]) -> Seen | Skipped:
    """One picture must not end the work on all others: too large for the memory, or refused by a runtime."""
    try:
        return work()
    except WriteError:
        raise
    except UserError as error:
        return Skipped(picture, error)
    except Exception as error:
        problem = " ".join(f"{type(error).__name__} {error}".split())
        problem = f"nothing can be detected in it ({problem[:200]})"
        return Skipped(picture, UserError(picture.where, problem, "expected another image"))


class Results(contextlib.ExitStack):
    """The files of all images; closed by `with`, which ends an open film.

    Attributes:
      read: how many images were read.
      skipped: where the others are.

    Args:
      folder: for them, made when there is something to write.
      formats: of `FORMATS`.
      crop: how words are cut out, see `Detections.crops`.
      lines: group the words into lines.
    """

    def __init__(self, folder: Path, formats: Sequence[str], crop: Mapping[str, Any], lines: bool) -> None:
        super().__init__()
        self._folder, self._formats, self._crop, self._lines = folder, formats, crop, lines
        self._cleared: set[Path] = set()
        self._film: Path | None = None  # that is being written
        self.needs_maps = not {"score", "angle"}.isdisjoint(formats)
        self.read, self.skipped = 0, list[str]()

    def take(self, seen: Seen | Skipped) -> None:
        """Write everything about one picture, and print what was found; or name a picture that is skipped.

        Raises:
          WriteError: something cannot be written.
        """
        if isinstance(seen, Skipped):
            options.warn_skipped([seen.error])
            self.skipped.append(seen.picture.where)
            return
        written = self.write(seen)
        words = "1 word" if len(seen.found) == 1 else f"{len(seen.found)} words"
        progress.write(one_line(f"{seen.picture.where}: {words} -> {written}"), sys.stdout)
        self.read += 1

    def write_row(self, row: shards.Row) -> None:
        """Write everything about one picture of a part, if it could be used."""
        if self._formats and row.image is not None and row.found is not None:
            self.write(Seen(row.picture, row.image, row.found))

    def write(self, seen: Seen) -> str:
        """Write everything about one picture.

        Args:
          seen: the picture.

        Returns:
          What was written, for people.

        Raises:
          WriteError: something cannot be written.
        """
        stem = self._folder / seen.picture.name
        if stem.parent not in self._cleared:  # of what a killed program was writing
            make_folder(stem.parent, "--output")
            remove_leftovers(stem.parent)
            self._cleared.add(stem.parent)
        endings = [self._write(kind, stem, seen) for kind in self._formats]
        return f"{stem}{', '.join(filter(None, endings))}"

    def _write(self, kind: str, stem: Path, seen: Seen) -> str:
        """Write one format; the ending of its file."""
        if kind == "crops":
            return self._write_crops(stem, seen)
        if kind == "film":
            return self._write_film(seen)
        ending = {"icdar": "_words.txt", "json": "_words.json", "picture": "_words.png"}.get(
            kind, f"_{kind}.png"
        )
        path = stem.with_name(stem.name + ending)
        if kind == "icdar":
            write_boxes(path, seen.found)
        elif kind == "json":
            height, width = seen.image.shape[:2]
            about = {"image": seen.picture.where, "width": width, "height": height}
            text = seen.found.to_json(lines=self._lines, **about)
            write_file(path, (text + "\n").encode("utf-8", "backslashreplace"))
        else:
            write_image(path, self._drawn(seen) if kind == "picture" else _map_picture(kind, seen))
        return ending

    def _drawn(self, seen: Seen) -> np.ndarray:
        return seen.found.draw(seen.image, lines=self._lines)

    def _write_crops(self, stem: Path, seen: Seen) -> str:
        """A numbered picture for each word, best first, in a folder; an earlier run's are removed."""
        folder = stem.with_name(f"{stem.name}_crops")
        crops = seen.found.crops(seen.image, **self._crop)
        names = {f"{number:04d}.png": crop for number, crop in enumerate(crops, 1)}
        for name, crop in names.items():
            write_image(folder / name, crop)
        for path in folder.glob("*.png"):
            if path.name not in names and _CROP.fullmatch(path.name):
                path.unlink()
        return "_crops/"

    def _write_film(self, seen: Seen) -> str:
        """Append to the film of this frame, after the end of another one; an image is no frame."""
        if seen.picture.film is None:
            return ""
        if seen.picture.film != self._film:
            self.close()
            self._film = seen.picture.film
            path = self._folder / self._film.with_name(f"{self._film.name}_words.mp4")
            self._append = self.enter_context(video.written(path, seen.picture.rate))
        self._append(self._drawn(seen))
        return ""


def _map_picture(kind: str, seen: Seen) -> np.ndarray:
    score, geometry = seen.score, seen.geometry
    if score is None or geometry is None:
        raise ValueError("a map is drawn where there is one")
    if kind == "score":
        return heat_overlay(seen.image, score)
    if geometry.shape[2] != 5:
        problem = "has no angle: this network finds four corners (geometry quad)"
        raise UserError("formats", problem, "Leave out the format angle.")
    return angle_picture(seen.image, score, geometry[..., 4])
