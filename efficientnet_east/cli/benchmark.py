"""The subcommand `benchmark`: how long models take here, part by part, and how well they find words."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from efficientnet_east.checkpoints import model_file
from efficientnet_east.data import inputs
from efficientnet_east.data.datasets import find_records
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.data.images import SUFFIXES, check_image
from efficientnet_east.data.layouts import held_out
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError, one_line
from efficientnet_east.evaluation import icdar2015, timing
from efficientnet_east.files.atomic import write_file
from efficientnet_east.inference import runtimes
from efficientnet_east.inference.detector import Detector
from efficientnet_east.structures import Detections, Truth
from efficientnet_east.system import progress
from efficientnet_east.training import versions

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


def add_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `benchmark` takes, but for the section `detect`."""
    model = "workdir of train.py, a prefix, or an exported file; several can be given, and take turns"
    model += " [the model that comes with the package]"
    sub.add_argument("--model", "--checkpoint", metavar="PATH", action="append", help=model)
    runtime = "several can be given [all that are installed and read the model]"
    sub.add_argument("--runtime", choices=tuple(runtimes.RUNTIMES), action="append", help=runtime)
    images = "image files, folders or patterns; not with --data [generated scenes of 1280 x 720 pixels]"
    sub.add_argument("--images", metavar="NAME", nargs="+", help=images)
    sub.add_argument("--data", metavar="DIR", help="images with ground truth, as eval takes them")
    sub.add_argument("--list", metavar="FILE", help="text file of the image names of --data to use")
    limit = f"so many images [{SCENES} scenes; all of others]"
    sub.add_argument("--limit", metavar="N", type=int, help=limit)
    sub.add_argument("--rounds", metavar="N", type=int, default=3, help="times that each image is timed [3]")
    warm_up = "images that are not timed, first [3]"
    sub.add_argument("--warm-up", metavar="N", type=int, default=3, help=warm_up)
    sub.add_argument("--json", metavar="FILE", help="write the figures here, too")


def run(arguments: argparse.Namespace, overrides: Mapping[str, Any]) -> int:
    """Measure, and print a table.

    Args:
      arguments: of `add_options`.
      overrides: fields of the configuration's section `detect`, and `threads`.

    Returns:
      The exit code.

    Raises:
      UserError: options that cannot be used, no image, or no model that can be run.
    """
    _expect_usable(arguments)
    pictures = _pictures(arguments)
    cases = _cases(arguments, overrides)
    cases = [case for case in cases if _warm_up(case, pictures, arguments.warm_up, len(cases) == 1)]
    if not cases:
        raise UserError(
            "--model", "no runtime here runs it on these images", "expected another runtime or model"
        )
    work = [(case, one) for _ in range(arguments.rounds) for case in cases for one in pictures]
    for case, one in progress.track(work, len(work), "benchmark"):
        lap, found = timing.time_image(case.detector, one.data)
        case.laps.append(lap)
        case.found.setdefault(one.name, found)
    rows = [row(case, pictures) for case in cases]
    machine = versions.describe()
    if arguments.json:
        about = {"machine": machine, "images": len(pictures), "rounds": arguments.rounds, "rows": rows}
        write_file(arguments.json, (json.dumps(about, indent=2) + "\n").encode())
    print(f"{machine['processor']}; {cases[0].threads or machine['threads']} threads; ", end="")
    print(f"{len(pictures)} images, {arguments.rounds} rounds; medians in milliseconds")
    print("\n".join(table(rows)))
    return 0


def _expect_usable(arguments: argparse.Namespace) -> None:
    for name, least in (("limit", 1), ("rounds", 1), ("warm_up", 0)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}", f"is {value}", f"expected {least} or more")
    if arguments.images and arguments.data:
        raise UserError("--images", "is given with --data", "expected one of them")
    if arguments.list and not arguments.data:
        raise UserError("--list", "is given without --data", "expected the folder to choose from, beside it")
    if arguments.json and Path(arguments.json).is_dir():
        raise UserError("--json", f"{arguments.json} is a folder", "expected a file name such as speed.json")


def _pictures(arguments: argparse.Namespace) -> list[Picture]:
    """What is detected in, in the memory: the disk is nobody's part."""
    limit = arguments.limit
    if arguments.data:
        names = read_image_list(arguments.list) if arguments.list else None
        records = find_records(arguments.data, names, limit, split=held_out(arguments.data))
        return [Picture(one.image.stem, _bytes(one.image), one.truth) for one in records]
    if arguments.images:
        found = [one.path for one in inputs.find_files(arguments.images)]
        paths = [path for path in found if path.suffix.lower() in SUFFIXES]
        if not paths:
            raise UserError("--images", "names no image", f"expected files that end in {', '.join(SUFFIXES)}")
        return _readable(paths[:limit])
    return [_generated(index) for index in range(limit or SCENES)]


def _readable(paths: Sequence[Path]) -> list[Picture]:
    """The images that can be read; each other one is said and left out."""
    pictures: list[Picture] = []
    for path in paths:
        try:
            data = _bytes(path)
            check_image(data)
            pictures.append(Picture(str(path), data))
        except UserError as error:
            progress.write(f"skipped: {path}: {error}", sys.stderr)
    if not pictures:
        raise UserError("--images", "no image can be read", "expected at least one that can")
    return pictures


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "expected an image file") from None


def _generated(index: int) -> Picture:
    sample = SyntheticScenes(index + 1, SEED)[index]
    buffer = io.BytesIO()
    Image.fromarray(sample.image).save(buffer, "JPEG", quality=_QUALITY)
    return Picture(sample.name, buffer.getvalue(), sample.truth)


def _cases(arguments: argparse.Namespace, overrides: Mapping[str, Any]) -> list[Case]:
    """Every model in every runtime; one that is not installed is said, or an error if it was asked for."""
    named = model_file.short_names(arguments.model or [model_file.DEFAULT])
    cases, errors = [], []
    for name, path in named.items():
        able = runtimes.able(path)
        for runtime in [one for one in arguments.runtime or able if one in able or len(named) == 1]:
            try:
                cases.append(load(name, path, runtime, overrides))
            except UserError as error:
                if arguments.runtime:
                    raise
                progress.write(f"left out: {error}", sys.stderr)
                errors.append(error)
    if not cases:
        raise (
            errors[0]
            if errors
            else UserError("--runtime", "reads none of the models", "expected another one")
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
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__} {error}"
        problem = f"cannot run {case.model} ({one_line(told)[:200]})"
        if alone:
            raise UserError(case.runtime, problem, "expected another runtime, or another model") from None
        progress.write(f"left out: {case.runtime} {problem}", sys.stderr)
        return False
    return True


def _repeated(pictures: Sequence[Picture], count: int) -> Iterator[Picture]:
    return (pictures[index % len(pictures)] for index in range(count))


def row(case: Case, pictures: Sequence[Picture]) -> dict[str, Any]:
    """What is told of a case.

    Args:
      case: measured.
      pictures: all that it was measured on.

    Returns:
      Names, `milliseconds` by part, `images_per_second` of the detector, the number of words found, and where
      every image has a ground truth `accuracy`, by ICDAR 2015's protocol.
    """
    parts = timing.summarise(case.laps)
    names = ("model", "runtime", "precision", "threads", "load_seconds")
    told: dict[str, Any] = {name: getattr(case, name) for name in names}
    told |= {
        "milliseconds": parts,
        "images_per_second": round(1000 / parts[timing.DETECTOR]["median"], 2),
        "score_threshold": case.detector.detect.score_threshold,
        "words": sum(len(found) for found in case.found.values()),
    }
    truths = {one.name: one.truth for one in pictures if one.truth is not None}
    if len(truths) == len(pictures):
        result = icdar2015.score({name: found.quads for name, found in case.found.items()}, truths)
        told["accuracy"] = {name: getattr(result, name) for name in ("precision", "recall", "hmean")}
    return told


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures for people.

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
