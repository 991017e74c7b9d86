"""The command `detect`: words of images, videos or a camera, into files."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from efficientnet_east.checkpoints import bundled
from efficientnet_east.cli import detect_results, options
from efficientnet_east.data import inputs, video
from efficientnet_east.data.images import MAX_PIXELS, PILLOW_MAX_PIXELS
from efficientnet_east.errors import UserError, one_line
from efficientnet_east.files.folders import make_folder
from efficientnet_east.inference import shards
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.overlap import overlapped
from efficientnet_east.inference.runtimes import AUTO, RUNTIMES
from efficientnet_east.system import progress

logger = logging.getLogger(__name__)

USUAL = ("icdar", "picture")
SOME_SKIPPED, NONE_READ = 1, 2  # exit codes
NAMED_AT_THE_END = 20  # skipped images


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
      formats: keys of `detect_results.FORMATS`; none for a part unless they are asked for.
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
    help = "workdir of train.py, a prefix, or an exported file"
    options.add_model(parser, help, default=bundled.DEFAULT)
    kinds = "; ".join(f"{name}: {what}" for name, what in detect_results.FORMATS.items())
    help = f"comma-separated [{','.join(USUAL)}]. {kinds}"
    formats = parser.add_argument("--formats", metavar="LIST", type=_formats, help=help)
    options.suggest(formats, detect_results.FORMATS)
    help = "what runs the model; openvino and opencv also read .onnx, opencv also .pb [auto]"
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
    help = "read part I of N only, and write one .jsonl file, with --formats also their files"
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
    if not formats or not set(formats) <= detect_results.FORMATS.keys():
        raise argparse.ArgumentTypeError(
            f"{text!r} is unknown; expected some of {','.join(detect_results.FORMATS)}"
        )
    return formats


def run(given: Mapping[str, Any]) -> int:
    """Detect, and write the results. An image that cannot be used is named and skipped.

    Returns:
      The exit code: 0; 1 if images were skipped, unless --skip-bad is given; 2 if all were.

    Raises:
      UserError: options that cannot be used, no image, no detector, or results that cannot be written.
    """
    formats = given["formats"] or (() if given["shard"] else USUAL)
    chosen = options.pick(Options, {**given, "formats": formats})
    if chosen.lines and not (chosen.shard or {"json", "picture", "film"} & set(formats)):
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
    path, results = shard.path(make_folder(chosen.output, "output")), _results(chosen)
    if results.needs_maps:
        raise UserError("formats", "has score or angle, which are not written of a part", "Leave them out.")
    found = shards.detect_all(
        detector, shard.of(pictures), path, resume=chosen.resume, lines=chosen.lines, also=results.write_row,
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
    results = _results(chosen)
    detect = functools.partial(detect_results.detect, detector, results.needs_maps)
    steps = overlapped(pictures, detect_results.read, detect, results.take)
    try:
        with results, contextlib.closing(steps):
            for _ in progress.track(steps, total, "detect"):
                pass
    finally:
        _summarize(results.read, results.skipped)
    if results.skipped and (not results.read or not chosen.skip_bad):
        return SOME_SKIPPED if results.read else NONE_READ
    return 0


def _results(chosen: Options) -> detect_results.Results:
    crop = {"height": chosen.crop_height, "margin": chosen.crop_margin, "turn_tall": chosen.crop_turn}
    return detect_results.Results(Path(chosen.output), chosen.formats, crop, chosen.lines)


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


def _summarize(read: int, skipped: Sequence[str]) -> None:
    """Name at the end what was skipped, which may have scrolled away."""
    if read + len(skipped) > 1 and skipped:
        more = len(skipped) - NAMED_AT_THE_END
        names = ", ".join(skipped[:NAMED_AT_THE_END]) + (f" and {more} more" if more > 0 else "")
        logger.warning("%d images read, %d skipped: %s", read, len(skipped), one_line(names))
