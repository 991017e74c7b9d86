"""The command `benchmark`: how long models take here, part by part, and how well they find words."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from efficientnet_east.checkpoints import bundled, model_file
from efficientnet_east.cli import options
from efficientnet_east.data import inputs
from efficientnet_east.data.datasets import find_records
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.data.images import SUFFIXES, check_image
from efficientnet_east.data.layouts import held_out
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError, hint_of, one_line
from efficientnet_east.evaluation import icdar2015, timing
from efficientnet_east.files.atomic import write_file
from efficientnet_east.inference import runtimes
from efficientnet_east.inference.detector import Detector
from efficientnet_east.structures import Detections, Truth
from efficientnet_east.system import progress
from efficientnet_east.training import versions

logger = logging.getLogger(__name__)

SCENES, SEED = 10, 0  # of the generated images
_QUALITY = 92


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image: its file's bytes, and its ground truth where there is one."""

    name: str
    data: bytes
    truth: Truth | None = None


@dataclasses.dataclass(eq=False)
class Case:
    """One model in one runtime, and what it has taken and found so far."""

    model: str
    runtime: str
    precision: str
    threads: int
    load_seconds: float
    detector: Detector
    laps: list[dict[str, float]] = dataclasses.field(default_factory=list)
    found: dict[str, Detections] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured on what.

    Attributes:
      model: paths or names of models, or None for the default.
      runtime: names of runtimes, or None for all that are installed.
      images: files, folders or patterns, or None.
      data: images with ground truth, or None.
      list: a file of image names, or None for all.
      limit: how many images at most, or None.
      rounds: times that each image is timed.
      warm_up: images that are not timed, first.
      json: a file to write, or None.
    """

    model: Sequence[str] | None
    runtime: Sequence[str] | None
    images: Sequence[str] | None
    data: str | None
    list: str | None
    limit: int | None
    rounds: int
    warm_up: int
    json: str | None


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    help = "workdir of train.py, a prefix, or an exported file; can be repeated"
    options.add_model(parser, help, several=True)
    help = "can be repeated [all that are installed and read the model]"
    parser.add_argument("--runtime", choices=tuple(runtimes.RUNTIMES), action="append", help=help)
    help = "image files, folders or patterns [generated scenes of 1280 x 720 pixels]"
    parser.add_argument("--images", metavar="NAME", nargs="+", help=help)
    options.add_data(parser, "images with ground truth, instead of --images", required=False)
    help = f"use N images [{SCENES} generated scenes, or all given images]"
    parser.add_argument("--limit", metavar="N", type=options.number(int, 1), help=help)
    help = "time each image N times [3]"
    parser.add_argument("--rounds", metavar="N", type=options.number(int, 1), default=3, help=help)
    help = "run N images first, without timing them [3]"
    parser.add_argument("--warm-up", metavar="N", type=options.number(int, 0), default=3, help=help)
    help = "write the figures as JSON, too"
    parser.add_argument("--json", metavar="FILE", type=options.file_name("speed.json"), help=help)
    options.add_threads(parser)
    options.add_fields(parser, ("detect",))


def run(given: Mapping[str, Any]) -> int:
    """Measure, and print a table.

    Raises:
      UserError: options that cannot be used, no image, or no model that can be run.
    """
    if given["images"] and given["data"]:
        raise UserError(
            "images", "cannot be combined with --data", "Use either --images or --data, not both."
        )
    options.expect_with(given, ["list"], "data")
    chosen = options.pick(Options, given)
    pictures = _pictures(chosen)
    cases = _cases(chosen, options.fields_of(given, "detect", threads=True))
    _measure(cases, pictures, chosen)
    _report(cases, pictures, chosen)
    return 0


def _measure(cases: list[Case], pictures: Sequence[Picture], chosen: Options) -> None:
    """Time all cases in turn; those that cannot run the images are removed from the list."""
    alone = len(cases) == 1
    cases[:] = [case for case in cases if _warm_up(case, pictures, chosen.warm_up, alone)]
    if not cases:
        raise UserError(
            "model", "no runtime here can run it on these images", "Try another runtime or model."
        )
    work = [(case, one) for _ in range(chosen.rounds) for case in cases for one in pictures]
    for case, one in progress.track(work, len(work), "benchmark"):
        lap, found = timing.time_image(case.detector, one.data)
        case.laps.append(lap)
        case.found.setdefault(one.name, found)


def _report(cases: Sequence[Case], pictures: Sequence[Picture], chosen: Options) -> None:
    """Write and print the figures."""
    rows = [row(case, pictures) for case in cases]
    machine = versions.describe()
    if chosen.json:
        about = {"machine": machine, "images": len(pictures), "rounds": chosen.rounds, "rows": rows}
        write_file(chosen.json, (json.dumps(about, indent=2) + "\n").encode())
    print(f"{machine['processor']}; {cases[0].threads or machine['threads']} threads; ", end="")
    print(f"{len(pictures)} images, {chosen.rounds} rounds; medians in milliseconds")
    print("\n".join(table(rows)))


def _pictures(chosen: Options) -> list[Picture]:
    """Read the images into memory: the disk is not part of what is timed."""
    limit = chosen.limit
    if chosen.data:
        names = read_image_list(chosen.list) if chosen.list else None
        records = find_records(chosen.data, names, limit, split=held_out(chosen.data))
        return [Picture(one.image.stem, _bytes(one.image), one.truth) for one in records]
    if chosen.images:
        found = [one.path for one in inputs.find_files(chosen.images)]
        paths = [path for path in found if path.suffix.lower() in SUFFIXES]
        if not paths:
            raise UserError("images", "names no image", f"expected files that end in {', '.join(SUFFIXES)}")
        return _readable(paths[:limit])
    return [_generated(index) for index in range(limit or SCENES)]


def _readable(paths: Sequence[Path]) -> list[Picture]:
    """Read the images that can be read; the others are named and skipped."""
    pictures: list[Picture] = []
    for path in paths:
        try:
            data = _bytes(path)
            check_image(data)
            pictures.append(Picture(str(path), data))
        except UserError as error:
            options.warn_skipped([f"{path}: {error}"])
    if not pictures:
        raise UserError("images", "no image can be read", "expected at least one that can")
    return pictures


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", hint_of(error, "an image file")) from None


def _generated(index: int) -> Picture:
    sample = SyntheticScenes(index + 1, SEED)[index]
    buffer = io.BytesIO()
    Image.fromarray(sample.image).save(buffer, "JPEG", quality=_QUALITY)
    return Picture(sample.name, buffer.getvalue(), sample.truth)


def _cases(chosen: Options, overrides: Mapping[str, Any]) -> list[Case]:
    """Open every model in every runtime. One that is not installed is an error if it was asked for."""
    named = model_file.short_names(chosen.model or [bundled.DEFAULT])
    cases, errors = [], []
    for name, path in named.items():
        able = runtimes.able(path)
        for runtime in [one for one in chosen.runtime or able if one in able or len(named) == 1]:
            try:
                cases.append(load(name, path, runtime, overrides))
            except UserError as error:
                if chosen.runtime:
                    raise
                logger.warning("left out: %s", error)
                errors.append(error)
    if not cases:
        raise (
            errors[0] if errors else UserError("runtime", "reads none of the models", "Choose another one.")
        )
    return cases


def load(name: str, path: str, runtime: str, overrides: Mapping[str, Any]) -> Case:
    """Open a model.

    Args:
      name: of the model, for the table.
      path: of it.
      runtime: that runs it.
      overrides: see `run`.

    Returns:
      The case, with nothing measured yet.

    Raises:
      UserError: see `runtimes.open_runtime`, or a threshold is out of range.
    """
    begun, given = time.perf_counter(), dict(overrides)
    opened = runtimes.open_runtime(path, int(given.pop("threads", 0)), runtime)
    detect = runtimes.with_overrides(opened.detect, given)
    detector = Detector(opened.run, detect, opened.stride, opened.divisor, opened.size)
    seconds = round(time.perf_counter() - begun, 3)
    return Case(name, opened.name, opened.precision, opened.threads, seconds, detector)


def _warm_up(case: Case, pictures: Sequence[Picture], count: int, alone: bool) -> bool:
    """The first images: memory is laid out and graphs are optimised; whether the runtime runs the model."""
    try:
        for one in _repeated(pictures, max(1, count)):
            timing.time_image(case.detector, one.data)
    # A runtime that a network is not made for may raise anything, or give maps of another form.
    except Exception as error:
        problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__} {error}"
        problem = f"cannot run {case.model} ({one_line(problem)[:200]})"
        if alone:
            raise UserError(case.runtime, problem, "expected another runtime, or another model") from None
        logger.warning("left out: %s %s", case.runtime, problem)
        return False
    return True


def _repeated(pictures: Sequence[Picture], count: int) -> Iterator[Picture]:
    return (pictures[index % len(pictures)] for index in range(count))


def row(case: Case, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Summarize a case.

    Args:
      case: measured.
      pictures: all that it was measured on.

    Returns:
      Names, `milliseconds` by part, `images_per_second` of the detector, the number of words found, and where
      every image has a ground truth `accuracy`, by ICDAR 2015's protocol.
    """
    parts = timing.summarize(case.laps)
    names = ("model", "runtime", "precision", "threads", "load_seconds")
    figures: dict[str, Any] = {name: getattr(case, name) for name in names}
    figures |= {
        "milliseconds": parts,
        "images_per_second": round(1000 / parts[timing.DETECTOR]["median"], 2),
        "score_threshold": case.detector.detect.score_threshold,
        "words": sum(len(found) for found in case.found.values()),
    }
    truths = {one.name: one.truth for one in pictures if one.truth is not None}
    if len(truths) == len(pictures):
        result = icdar2015.score({name: found.quads for name, found in case.found.items()}, truths)
        figures["accuracy"] = {name: getattr(result, name) for name in ("precision", "recall", "hmean")}
    return figures


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format the figures.

    Args:
      rows: of `row`.

    Returns:
      Lines: a head, then one for each row.
    """
    numbered = [*timing.PARTS, timing.DETECTOR, "p90", "images/s", "words", "hmean"]
    lines = [["model", "runtime", "precision", *numbered]]
    for one in rows:
        parts = one["milliseconds"]
        numbers = [parts[part]["median"] for part in (*timing.PARTS, timing.DETECTOR)]
        numbers += [parts[timing.DETECTOR]["p90"], one["images_per_second"]]
        hmean = f"{one['accuracy']['hmean']:.3f}" if "accuracy" in one else "-"
        names = [one["model"], one["runtime"], one["precision"]]
        lines.append([*names, *(f"{number:.1f}" for number in numbers), str(one["words"]), hmean])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(_cells(line, widths)).rstrip() for line in lines]


def _cells(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Names to the left, numbers to the right."""
    for index, (text, width) in enumerate(zip(line, widths, strict=True)):
        yield text.ljust(width) if index < 3 else text.rjust(width)
