"""Write a checkpoint for another runtime, check it there, and only then put it in its place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.config import Config
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.evaluation.run import detect_all, quads_of
from efficientnet_east.export import formats, int8, sample_images, verify
from efficientnet_east.export.network import Network, describe, load
from efficientnet_east.files import atomic
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.graph import load_graph
from efficientnet_east.inference.runtimes import SAVED_MODEL_FILE, open_runtime, opencv
from efficientnet_east.inference.runtimes.metadata import OPENCV_MEAN, Calibration, Metadata
from efficientnet_east.inference.runtimes.runtime import Run, Runtime
from efficientnet_east.pjrt.stablehlo_runtime import open_stablehlo
from efficientnet_east.structures import Source

MOST_LOSS = 2.0  # points of hmean that int8 may cost
REPORT_SUFFIX = ".report.json"
_SCENES = {"float32": 3, "float16": 3, "int8": 16}
# What else reads a format, and is checked, too.
_ALSO = {("onnx", "float32"): "opencv", ("onnx", "float16"): "opencv", ("frozen", "float32"): "opencv"}
_OPENCV_TOLERANCE = 1e-3
_FLOAT_BELOW = (0, 8, 16)  # what is tried, see `int8.kept`: from the quickest to the most careful
_LEAST_INT8 = 0.8  # of a network's weights, for it to be called int8


@dataclasses.dataclass(frozen=True)
class Options:
    """What is written, and how.

    Attributes:
      kind: a key of `formats.WRITERS`.
      output: the file, or the folder of a SavedModel.
      precision: one of `formats.PRECISIONS[kind]`.
      size: height and width, for a network that takes no others.
      opencv_mean: whether the mean colour of OpenCV's samples is off the pixels before they come in.
      calibration: folder of images for int8.
      calibration_images: how many of them.
      verify: whether the file is compared with the checkpoint.
      allow_loss: whether int8 may cost more than `MOST_LOSS`, after all has been tried.
    """

    kind: str
    output: Path
    precision: str = "float32"
    size: tuple[int, int] | None = None
    opencv_mean: bool = False
    calibration: Path | None = None
    calibration_images: int = 64
    verify: bool = True
    allow_loss: bool = False


def export(
    prefix: str, config: Config, options: Options, samples: Source | None, say: Callable[[str], None]
) -> None:
    """Write a network, with a report beside it. If anything fails, what stood there before still does.

    Args:
      prefix: of the checkpoint.
      config: its configuration.
      options: see there.
      samples: images to check on, for int8 with their ground truth; None takes generated scenes.
      say: receives lines for the user.

    Raises:
      UserError: an option does not fit, the checkpoint or a library cannot be used, or the file differs from
        the checkpoint by more than it may.
    """
    _check(options, config)
    network = load(prefix, config, OPENCV_MEAN if options.opencv_mean else (0.0, 0.0, 0.0))
    shown, calibrations = _calibrations(options, config)
    *others, last = calibrations
    strict = dataclasses.replace(options, allow_loss=False)
    for calibration in others:
        try:
            return _write(network, strict, shown, calibration, samples, say)
        except _TooMuchLost as error:
            say(f"{error.problem}: once more, with more layers in float32")
    _write(network, options, shown, last, samples, say)


class _TooMuchLost(UserError):
    """By int8."""


def _write(
    network: Network,
    options: Options,
    shown: Sequence[np.ndarray],
    calibration: Calibration | None,
    samples: Source | None,
    say: Callable[[str], None],
) -> None:
    """Write, compare, and put into place."""
    layout = formats.LAYOUTS.get(options.kind, "NHWC")
    described = describe(network, options.kind, layout, options.precision, options.size, calibration)
    data = formats.WRITERS[options.kind](network, described, shown)
    say(f"{options.kind}, {options.precision}: {len(data) / 1e6:.1f} MB")
    atomic.remove_leftovers(options.output.parent)
    with atomic.partial_folder(options.output.parent) as folder:
        written = folder / options.output.name
        file = written / SAVED_MODEL_FILE if options.kind == "saved_model" else written
        atomic.write_file(file, data)
        report = _report(options, described, data)
        if options.verify:
            report |= _verified(network, options, written, samples, say)
        text = folder / f"{options.output.name}{REPORT_SUFFIX}"
        atomic.write_file(text, (json.dumps(report, indent=2) + "\n").encode())
        target = options.output if options.kind == "saved_model" else options.output.parent
        target.mkdir(parents=True, exist_ok=True)
        atomic.move_into_place([text], options.output.parent)
        atomic.move_into_place([file], target)
    say(f"wrote {options.output}, and {options.output.name}{REPORT_SUFFIX} beside it")


def _check(options: Options, config: Config) -> None:
    """Say before the work is done what cannot come of it."""
    suffix, path = formats.SUFFIXES[options.kind], options.output
    if suffix and path.suffix.lower() != suffix:
        raise UserError(
            "--output", f"is {path}", f"expected a name that ends in {suffix}, by which it is opened"
        )
    if path.is_dir() != (options.kind == "saved_model") and path.exists():
        raise UserError("--output", f"{path} is there, and is a {'folder' if path.is_dir() else 'file'}",
                        "expected another name")  # fmt: skip
    known = formats.PRECISIONS[options.kind]
    if options.precision not in known:
        raise UserError(
            "--precision", f"is {options.precision}", f"expected {', '.join(known)} for {options.kind}"
        )
    if options.size is None and options.kind == "stablehlo":
        raise UserError(
            "--size", "is missing", "expected the height and width of the images, such as 736x1280"
        )
    if options.size and any(side % config.model.size_divisor or side < 1 for side in options.size):
        sides, divisor = "x".join(map(str, options.size)), config.model.size_divisor
        raise UserError("--size", f"is {sides}", f"expected multiples of {divisor}")
    if (options.precision == "int8") != (options.calibration is not None):
        problem = "is missing" if options.precision == "int8" else "is for --precision int8 only"
        raise UserError("--calibration", problem, "expected a folder of images to calibrate int8 on")


def _calibrations(options: Options, config: Config) -> tuple[list[np.ndarray], Sequence[Calibration | None]]:
    """The images, and what is tried one after the other: first the quicker network."""
    if options.calibration is None:
        return [], [None]
    divisor = config.model.size_divisor
    shown, digests = sample_images.calibration(
        options.calibration, options.calibration_images, divisor, options.size
    )
    method = int8.METHODS[options.kind]
    tried = [Calibration(method=method, images=digests, float_below=stride) for stride in _FLOAT_BELOW]
    return shown, tried if options.verify else tried[-1:]


def _report(options: Options, described: Metadata, data: bytes) -> dict[str, Any]:
    return {
        "file": options.output.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "verified": options.verify,
        "metadata": described.model_dump(mode="json", exclude={"digest"}),
    }


def _verified(
    network: Network, options: Options, written: Path, samples: Source | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """The report's part on the comparison, which must have gone well."""
    config, count = network.config, _SCENES[options.precision]
    shown = sample_images.scenes(count, config.train.seed + 1) if samples is None else samples
    reference = load_graph(network.prefix, config)
    found: dict[str, Any] = {"images": "generated scenes" if samples is None else "given", "runtimes": []}
    opened = list(_runtimes(options, written, config.train.threads))
    for runtime in opened:
        found["runtimes"].append(_compare(network, options, runtime, reference, shown, say))
    if options.precision == "int8":
        found["int8"] = _loss(network, options, opened[0], reference, shown, say)
        found["int8"]["share_of_weights"] = _expect_int8(options, written)
    return found


def _runtimes(options: Options, written: Path, threads: int) -> Sequence[Runtime]:
    if options.kind == "stablehlo":
        return [open_stablehlo(written)]
    also = _ALSO.get((options.kind, options.precision))
    names = ["auto"] if also is None else ["auto", also]
    return [open_runtime(written, threads, name) for name in names]


def _compare(
    network: Network,
    options: Options,
    runtime: Runtime,
    reference: Run,
    samples: Source,
    say: Callable[[str], None],
) -> dict[str, Any]:
    detect = network.config.detect
    least = opencv.least_side(runtime.divisor) if runtime.name == "opencv" else 1
    differences = [
        verify.compare(name, image, reference, runtime, detect)
        for name, image in sample_images.inputs(samples, runtime.divisor, detect.max_side, options.size)
        if min(image.shape[:2]) >= least
    ]
    limit = verify.tolerance(options.kind, options.precision)
    if runtime.name == "opencv" and limit is not None:
        limit = max(limit, _OPENCV_TOLERANCE)
    wrong = verify.problems(differences, limit, everywhere=options.precision == "float32")
    if wrong:
        problem = (
            f"{runtime.name} disagrees with {network.prefix} on {len(wrong)} of {len(differences)} images"
        )
        raise UserError(
            options.output, f"is not written: {problem}: {wrong[0]}", "expected the same maps and boxes"
        )
    worst = {name: max(getattr(d, name) for d in differences) for name in ("score", "geometry")}
    worst["geometry_everywhere"] = max(d.geometry_everywhere for d in differences)
    worst["iou"] = min(d.iou for d in differences)
    boxes = sum(d.boxes for d in differences)
    say(
        f"{runtime.name}: {len(differences)} images, {boxes} boxes; largest difference of score "
        f"{worst['score']:.1e}, of geometry {worst['geometry']:.1e}; least IoU {worst['iou']:.4f}"
    )
    return {"runtime": runtime.name, "threads": runtime.threads, "tolerance": limit, "boxes": boxes,
            "worst": worst, "images": [d.as_dict() for d in differences]}  # fmt: skip


def _loss(
    network: Network,
    options: Options,
    runtime: Runtime,
    reference: Run,
    samples: Source,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What int8 costs in hmean; refused if it is too much."""
    figures: dict[str, Any] = {"images": len(samples)}
    for name, run in (("checkpoint", reference), ("int8", runtime.run)):
        detector = Detector(run, network.config.detect, runtime.stride, runtime.divisor, options.size)
        found, truths = detect_all(detector, samples, progress=False)
        figures[name] = icdar2015.score(quads_of(found), truths).as_dict()
    loss = 100 * (figures["checkpoint"]["hmean"] - figures["int8"]["hmean"])
    figures["loss"] = loss
    line = f"hmean {figures['int8']['hmean']:.4f} in int8, {figures['checkpoint']['hmean']:.4f} before"
    say(f"{line}: {loss:.2f} points lost on {len(samples)} images")
    if loss > MOST_LOSS and not options.allow_loss:
        problem = f"is not written: {line}, {loss:.2f} points less"
        raise _TooMuchLost(options.output, problem, f"expected at most {MOST_LOSS:g} points, or --allow-loss")
    return figures


def _expect_int8(options: Options, written: Path) -> float:
    """That the file really holds what its name says."""
    share = formats.SHARES[options.kind](written)
    if share < _LEAST_INT8:
        problem = f"is not written: {share:.0%} of its weights have eight bits"
        raise UserError(options.output, problem, f"expected {_LEAST_INT8:.0%} of them, to be called int8")
    return share
