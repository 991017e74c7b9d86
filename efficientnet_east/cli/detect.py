"""The command `detect`: words of images, videos or a camera, into files."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.checkpoints import model_file
from efficientnet_east.cli import options
from efficientnet_east.data import inputs, video
from efficientnet_east.data.images import MAX_PIXELS, PILLOW_MAX_PIXELS, write_image
from efficientnet_east.data.submissions import write_boxes
from efficientnet_east.drawing.overlays import angle_picture, heat_overlay
from efficientnet_east.errors import UserError, WriteError, one_line
from efficientnet_east.files.atomic import remove_leftovers, write_file
from efficientnet_east.files.folders import make_folder
from efficientnet_east.inference import shards
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.runtimes import AUTO, RUNTIMES
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
logger = logging.getLogger(__name__)

USUAL = ("icdar", "picture")
SOME_SKIPPED, NONE_READ = 1, 2  # exit codes
NAMED_AT_THE_END = 20  # skipped images
_CROP = re.compile(r"\d{4,}\.png")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is read, and what is written.

    Attributes:
      images: image or video files, folders, patterns.
      list: a file of more such names, or None.
      camera: number of a camera to watch, or None.
      recursive: whether folders in folders are searched.
      every: of a video: use each Nth frame.
      limit: how many images or frames at most, or None.
      model: path of the model.
      runtime: that runs it.
      output: the folder for the results.
      formats: keys of `FORMATS`.
      lines: whether words are grouped into lines.
      crop_height: of the crops in pixels, or None for that of each word.
      crop_margin: around the crops, as a share of their height.
      crop_turn: see `Detections.crops`, `turn_tall`.
      max_pixels: larger images are refused.
      skip_bad: whether the exit code is 0 although images were skipped.
      shard: the part of the images that this job reads, or None.
      resume: whether a part is completed that has been begun.
    """

    images: Sequence[str]
    list: str | None
    camera: int | None
    recursive: bool
    every: int
    limit: int | None
    model: str
    runtime: str
    output: str
    formats: tuple[str, ...]
    lines: bool
    crop_height: int | None
    crop_margin: float
    crop_turn: float | None
    max_pixels: int
    skip_bad: bool
    shard: shards.Shard | None
    resume: bool


COMMON = ("score_threshold", "nms_iou", "max_side", "scales")


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    help = "image or video files, folders, or patterns such as 'a/*.jpg'"
    parser.add_argument("images", metavar="IMAGE", nargs="*", help=help)
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for the results")
    help = f"workdir of train.py, a prefix, or an exported file [{options.BUNDLED}]"
    options.add_model(parser, help, default=model_file.DEFAULT)
    kinds = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    help = f"comma-separated [{','.join(USUAL)}]. {kinds}"
    formats = parser.add_argument("--formats", metavar="LIST", type=_formats, default=USUAL, help=help)
    options.suggest(formats, FORMATS)
    help = "what runs the model; opencv also reads .onnx and .pb [auto]"
    parser.add_argument("--runtime", choices=(AUTO, *RUNTIMES), default=AUTO, help=help)
    options.add_threads(parser)
    _add_input(parser.add_argument_group("more input"))
    _add_output(parser.add_argument_group("more output"))
    options.add_fields(parser, ("detect",), COMMON)


def _add_input(group: Any) -> None:
    """Declare what else may be read."""
    count = options.number(int, 1)
    help = "text file with more names, one a line; - is standard input"
    group.add_argument("--list", metavar="FILE", help=help)
    help = "watch a camera (0 for the first) until Ctrl-C"
    group.add_argument("--camera", metavar="N", type=options.number(int, 0), help=help)
    group.add_argument("--recursive", action="store_true", help="search folders in folders, too")
    group.add_argument(
        "--every", metavar="N", type=count, default=1, help="use every Nth frame of a video [1]"
    )
    group.add_argument("--limit", metavar="N", type=count, help="stop after N images or frames")
    pixels = options.number(int, 1, PILLOW_MAX_PIXELS)
    help = f"refuse larger images [{MAX_PIXELS}]"
    group.add_argument("--max-pixels", metavar="N", type=pixels, default=MAX_PIXELS, help=help)
    help = "read part I of N only, and write one .jsonl file instead of --formats"
    group.add_argument("--shard", metavar="I/N", type=_shard, help=help)
    help = "with --shard: keep what is done, and go on behind it"
    group.add_argument("--resume", action="store_true", help=help)
    help = "exit with 0 even if some images could not be read"
    group.add_argument("--skip-bad", action="store_true", help=help)


def _add_output(group: Any) -> None:
    """Declare what else says how results look."""
    help = "group words into text lines in reading order, in JSON and in pictures"
    group.add_argument("--lines", action="store_true", help=help)
    help = "height of crops in pixels [that of each word]"
    group.add_argument("--crop-height", metavar="N", type=options.number(int, 1), help=help)
    help = "margin around crops, as a share of their height [0]"
    margin = options.number(float, 0, 1)
    group.add_argument("--crop-margin", metavar="X", type=margin, default=0.0, help=help)
    help = "rotate crops 90 degrees counter-clockwise if height/width > X, such as 1.5 [never]"
    group.add_argument("--crop-turn", metavar="X", type=options.number(float, 1), help=help)


def _shard(text: str) -> shards.Shard:
    """Read `--shard`."""
    try:
        return shards.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _formats(text: str) -> tuple[str, ...]:
    """Read what `--formats` lists."""
    formats = tuple(dict.fromkeys(filter(None, text.split(","))))
    if not formats or not set(formats) <= FORMATS.keys():
        raise argparse.ArgumentTypeError(f"{text!r} is unknown; expected some of {','.join(FORMATS)}")
    return formats


def run(given: Mapping[str, Any]) -> int:
    """Detect, and write the results. An image that cannot be used is named and skipped.

    Returns:
      The exit code: 0; 1 if images were skipped, unless --skip-bad is given; 2 if all were.

    Raises:
      UserError: options that cannot be used, no image, no detector, or results that cannot be written.
    """
    chosen = options.pick(Options, given)
    if chosen.lines and not {"json", "picture", "film"} & set(chosen.formats):
        raise UserError("lines", "needs one of the formats json, picture and film", "Add one to --formats.")
    if chosen.resume and not chosen.shard:
        raise UserError("resume", "has no effect without shard", "Add --shard; 1/1 is all images.")
    pictures, total = _pictures(chosen)
    overrides = options.fields_of(given, "detect", threads=True)
    detector = Detector.load(chosen.model, {**overrides, "runtime": chosen.runtime})
    if chosen.shard:
        return _detect_shard(list(pictures), detector, chosen, chosen.shard)
    return _detect_all(pictures, total, detector, chosen)


def _detect_shard(
    pictures: Sequence[inputs.InputImage], detector: Detector, chosen: Options, shard: shards.Shard
) -> int:
    path = shard.path(make_folder(chosen.output, "output"))
    found = shards.detect_all(
        detector, shard.of(pictures), path, resume=chosen.resume, lines=chosen.lines,
        track=lambda items, total: progress.track(items, total, "detect"),
    )  # fmt: skip
    counts = found.images, found.words, len(found.failures)
    logger.info("%s: %d images, %d words, %d failures", path, *counts)
    _summarize(found.images - len(found.failures), found.failures)
    if found.failures and (len(found.failures) == found.images or not chosen.skip_bad):
        return NONE_READ if len(found.failures) == found.images else SOME_SKIPPED
    return 0


def _detect_all(
    pictures: Iterator[inputs.InputImage], total: int | None, detector: Detector, chosen: Options
) -> int:
    crop = {"height": chosen.crop_height, "margin": chosen.crop_margin, "turn_tall": chosen.crop_turn}
    skipped: list[str] = []
    read = 0
    try:
        with _Results(Path(chosen.output), chosen.formats, crop, chosen.lines) as results:
            for picture in progress.track(pictures, total, "detect"):
                error = _work(picture, detector, results)
                if error:
                    options.warn_skipped([error])
                    skipped.append(picture.where)
                else:
                    read += 1
    finally:
        _summarize(read, skipped)
    if skipped and (not read or not chosen.skip_bad):
        return SOME_SKIPPED if read else NONE_READ
    return 0


def _pictures(chosen: Options) -> tuple[Iterator[inputs.InputImage], int | None]:
    """Find what is to be read, and how many pictures that is, None if nobody knows."""
    names = [*chosen.images, *(inputs.read_names(chosen.list) if chosen.list else [])]
    if (chosen.camera is None) == (not names):
        raise UserError("detect", "what to read is not clear", "Give images or --list, or --camera alone.")
    every, limit = chosen.every, chosen.limit
    if chosen.camera is not None and chosen.shard:
        raise UserError("shard", "takes images, not a camera", "Use --camera without --shard.")
    if chosen.camera is not None:
        return itertools.islice(inputs.camera_images(chosen.camera, every=every), limit), limit
    found = inputs.find_files(names, recursive=chosen.recursive, avoid=Path(chosen.output))
    if chosen.shard and any(entry.path.suffix.lower() in video.SUFFIXES for entry in found):
        raise UserError("shard", "takes images, and there is a video among them", "Leave the video out.")
    shown = (inputs.images_of(entry, every=every, max_pixels=chosen.max_pixels) for entry in found)
    has_videos = any(entry.path.suffix.lower() in video.SUFFIXES for entry in found)
    if chosen.formats == ("film",) and not has_videos:
        raise UserError("formats", "is film alone, but no video is given", "Use picture for images.")
    total = None if has_videos else len(found)
    return itertools.islice(itertools.chain.from_iterable(shown), limit), min(
        filter(None, (total, limit)), default=None
    )


def _work(picture: inputs.InputImage, detector: Detector, results: _Results) -> Exception | None:
    """Read, detect, write, and print what was found; or return why this image is skipped."""
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


def _summarize(read: int, skipped: Sequence[str]) -> None:
    """Name at the end what was skipped, which may have scrolled away."""
    if read + len(skipped) > 1 and skipped:
        more = len(skipped) - NAMED_AT_THE_END
        names = ", ".join(skipped[:NAMED_AT_THE_END]) + (f" and {more} more" if more > 0 else "")
        logger.warning("%d images read, %d skipped: %s", read, len(skipped), one_line(names))


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
        problem = "has no angle: this network finds four corners (geometry quad)"
        raise UserError("formats", problem, "Leave out the format angle.")
    return angle_picture(seen.image, score, geometry[..., 4])
