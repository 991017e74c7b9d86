"""The subcommand `detect`: words of many images, films or a camera, into files."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.checkpoints import model_file
from efficientnet_east.data import inputs, video
from efficientnet_east.data.images import MAX_PIXELS, PILLOW_MAX_PIXELS, write_image
from efficientnet_east.data.submissions import write_boxes
from efficientnet_east.drawing.overlays import angle_picture, heat_overlay
from efficientnet_east.errors import UserError, WriteError, one_line
from efficientnet_east.files.atomic import remove_leftovers, write_file
from efficientnet_east.files.folders import make_folder
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.runtimes import AUTO, RUNTIMES
from efficientnet_east.structures import Detections
from efficientnet_east.system import progress

FORMATS = {
    "icdar": "text, eight coordinates and the score a line",
    "json": "corners and scores",
    "picture": "boxes drawn on the image",
    "score": "heat map of the score",
    "angle": "map of the angle",
    "crops": "each word upright, for a recogniser",
    "film": "the frames of a film or camera with boxes, as .mp4",
}
USUAL = "icdar,picture"
SOME_LEFT_OUT, NONE_READ = 1, 2  # exit codes
NAMED_AT_THE_END = 20  # images that were left out
_CROP = re.compile(r"\d{4,}\.png")


def add_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `detect` takes, but for the section `detect` of the configuration."""
    sub.add_argument(
        "images", metavar="IMAGE", nargs="*", help="image or film files, folders, patterns such as 'a/*.jpg'"
    )
    listed = "text file of more such names, one a line; - is standard input"
    sub.add_argument("--list", metavar="FILE", help=listed)
    sub.add_argument(
        "--camera", metavar="N", type=int, help="watch this camera, 0 for the first, until Ctrl-C"
    )
    sub.add_argument("--recursive", action="store_true", help="look into the folders of folders, too")
    sub.add_argument("--every", metavar="N", type=int, default=1, help="of a film: each Nth frame [1]")
    sub.add_argument("--limit", metavar="N", type=int, help="stop after N images or frames")
    sub.add_argument(
        "--checkpoint",
        metavar="PATH",
        default=model_file.DEFAULT,
        help="workdir of train.py, a prefix, an exported file [the model that comes with the package]",
    )
    choices = (AUTO, *RUNTIMES)
    sub.add_argument("--runtime", choices=choices, default=AUTO, help="opencv for .onnx and .pb, too [auto]")
    sub.add_argument("--output", metavar="DIR", required=True, help="folder for the results")
    kinds = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    sub.add_argument("--formats", metavar="LIST", default=USUAL, help=f"comma-separated [{USUAL}]: {kinds}")
    grouped = "group words into lines and say in which order they are read: in the JSON, and in pictures"
    sub.add_argument("--lines", action="store_true", help=grouped)
    sub.add_argument(
        "--crop-height", metavar="N", type=int, help="of the crops, in pixels [as high as each word]"
    )
    sub.add_argument(
        "--crop-margin",
        metavar="X",
        type=float,
        default=0.0,
        help="round the crops, as a share of the height [0]",
    )
    turn = "turn words that are more than X times as high as wide a quarter to the left [never]"
    sub.add_argument("--crop-turn", metavar="X", type=float, help=turn)
    sub.add_argument(
        "--max-pixels",
        metavar="N",
        type=int,
        default=MAX_PIXELS,
        help=f"larger images are refused [{MAX_PIXELS}]",
    )
    sub.add_argument(
        "--skip-bad", action="store_true", help="exit with 0 although some images could not be read"
    )


def run(arguments: argparse.Namespace, overrides: Mapping[str, Any]) -> int:
    """Detect, and write what was asked for.

    An image that cannot be used is said and left out.

    Args:
      arguments: of `add_options`.
      overrides: fields of the configuration's section `detect`, and `threads`.

    Returns:
      The exit code: 0; 1 if some images could not be used, unless --skip-bad says that this is expected; 2 if
      none could.

    Raises:
      UserError: options that cannot be used, no image, no detector, or results that cannot be written.
    """
    formats = _formats(arguments)
    pictures, total = _pictures(arguments, formats)
    detector = Detector.load(arguments.checkpoint, {**overrides, "runtime": arguments.runtime})
    crop = {name: getattr(arguments, f"crop_{name}") for name in ("height", "margin")}
    crop["turn_tall"] = arguments.crop_turn
    left_out: list[str] = []
    read = 0
    try:
        with _Results(Path(arguments.output), formats, crop, arguments.lines) as results:
            for picture in progress.track(pictures, total, "detect"):
                error = _work(picture, detector, results)
                if error:
                    progress.write(f"skipped: {error}", sys.stderr)
                    left_out.append(picture.where)
                else:
                    read += 1
    finally:
        _summarise(read, left_out)
    if left_out and (not read or not arguments.skip_bad):
        return SOME_LEFT_OUT if read else NONE_READ
    return 0


def _formats(arguments: argparse.Namespace) -> list[str]:
    formats = list(dict.fromkeys(filter(None, arguments.formats.split(","))))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise UserError(
            "--formats", f"{arguments.formats!r} is unknown", f"expected some of {','.join(FORMATS)}"
        )
    for name in ("every", "limit", "crop_height", "max_pixels", "camera"):
        value, least = getattr(arguments, name), 0 if name == "camera" else 1
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}", f"is {value}", f"expected {least} or more")
    if arguments.lines and not {"json", "picture", "film"} & set(formats):
        raise UserError(
            "--lines", "is for the formats json, picture and film", "expected one of them in --formats"
        )
    if arguments.max_pixels > PILLOW_MAX_PIXELS:
        raise UserError("--max-pixels", f"is {arguments.max_pixels}", f"expected at most {PILLOW_MAX_PIXELS}")
    if not 0 <= arguments.crop_margin <= 1:
        raise UserError("--crop-margin", f"is {arguments.crop_margin}", "expected 0 to 1")
    if arguments.crop_turn is not None and not arguments.crop_turn >= 1:
        raise UserError("--crop-turn", f"is {arguments.crop_turn}", "expected 1 or more; 1.5 is usual")
    return formats


def _pictures(
    arguments: argparse.Namespace, formats: Sequence[str]
) -> tuple[Iterator[inputs.InputImage], int | None]:
    """What is to be read, and how many pictures that is, None if nobody knows."""
    names = [*arguments.images, *(inputs.read_names(arguments.list) if arguments.list else [])]
    if (arguments.camera is None) == (not names):
        raise UserError("detect", "what to read is not clear", "expected images, --list, or --camera alone")
    every, limit = arguments.every, arguments.limit
    if arguments.camera is not None:
        return itertools.islice(inputs.camera_images(arguments.camera, every=every), limit), limit
    found = inputs.find_files(names, recursive=arguments.recursive, avoid=Path(arguments.output))
    shown = (inputs.images_of(entry, every=every, max_pixels=arguments.max_pixels) for entry in found)
    has_films = any(entry.path.suffix.lower() in video.SUFFIXES for entry in found)
    if formats == ["film"] and not has_films:
        raise UserError("--formats", "is film alone, and no film is given", "expected picture, for images")
    total = None if has_films else len(found)
    return itertools.islice(itertools.chain.from_iterable(shown), limit), min(
        filter(None, (total, limit)), default=None
    )


def _work(picture: inputs.InputImage, detector: Detector, results: _Results) -> Exception | None:
    """Read, detect, write and say what was found; or the reason why this image is left out."""
    try:
        image = picture.read()
        seen = _detect(detector, picture, image, results.needs_maps)
    except WriteError:
        raise
    except UserError as error:
        return error
    # One image must not end the work on all others: too large for the memory, or refused by a runtime.
    except Exception as error:
        problem = " ".join(f"{type(error).__name__} {error}".split())
        return UserError(
            picture.where, f"nothing can be detected in it ({problem[:200]})", "expected another image"
        )
    written = results.write(seen)
    words = "1 word" if len(seen.found) == 1 else f"{len(seen.found)} words"
    progress.write(one_line(f"{picture.where}: {words} -> {written}"), sys.stdout)
    return None


def _detect(detector: Detector, picture: inputs.InputImage, image: np.ndarray, with_maps: bool) -> _Seen:
    """Detect; maps are shown as at scale 1, and the network runs no more often than it must."""
    if not with_maps:
        return _Seen(picture, image, detector(image))
    maps = detector.maps(image)
    alone = detector.detect.scales == (1.0,)
    found = detector.boxes([maps]) if alone else detector(image)
    return _Seen(picture, image, found, maps.score, maps.geometry)


def _summarise(read: int, left_out: list[str]) -> None:
    """Name at the end what was left out, which may have scrolled away."""
    if read + len(left_out) > 1 and left_out:
        more = len(left_out) - NAMED_AT_THE_END
        names = ", ".join(left_out[:NAMED_AT_THE_END]) + (f" and {more} more" if more > 0 else "")
        progress.write(f"{read} images read, {len(left_out)} left out: {one_line(names)}", sys.stderr)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """One picture, and what was found in it; the maps where they are needed."""

    picture: inputs.InputImage
    image: np.ndarray
    found: Detections
    score: np.ndarray | None = None
    geometry: np.ndarray | None = None


class _Results(contextlib.ExitStack):
    """The files of all images; closed by `with`, which ends an open film.

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

    def write(self, seen: _Seen) -> str:
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

    def _write(self, kind: str, stem: Path, seen: _Seen) -> str:
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

    def _drawn(self, seen: _Seen) -> np.ndarray:
        return seen.found.draw(seen.image, lines=self._lines)

    def _write_crops(self, stem: Path, seen: _Seen) -> str:
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

    def _write_film(self, seen: _Seen) -> str:
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


def _map_picture(kind: str, seen: _Seen) -> np.ndarray:
    score, geometry = seen.score, seen.geometry
    if score is None or geometry is None:
        raise ValueError("a map is drawn where there is one")
    if kind == "score":
        return heat_overlay(seen.image, score)
    if geometry.shape[2] != 5:
        problem = "has the format angle, and this network finds four corners (geometry quad)"
        raise UserError("--formats", problem, "expected the others")
    return angle_picture(seen.image, score, geometry[..., 4])
