"""Write a checkpoint for another runtime, check it there, and only then move it into place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.config import Config
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.evaluation.predictions import detect_all, quads_of
from efficientnet_east.export import sample_images, verify
from efficientnet_east.export.formats import FORMATS, Format, encode
from efficientnet_east.export.network import Network, load
from efficientnet_east.files import atomic
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.graph import load_graph
from efficientnet_east.inference.runtimes import opencv
from efficientnet_east.inference.runtimes.metadata import OPENCV_MEAN, Calibration, Metadata
from efficientnet_east.inference.runtimes.runtime import Run, Runtime
from efficientnet_east.structures import Source

MOST_LOSS = 2.0  # points of hmean that int8 may cost
GOOD_LOSS = 0.5  # more than that, and a more careful network is tried
REPORT_SUFFIX = ".report.json"
_SCENES = {"float32": 3, "float16": 3, "int8": 16}
_OPENCV_TOLERANCE = 1e-3
_FLOAT_BELOW = (0, 8, 16)  # what is tried, see `int8.kept`: from the quickest to the most careful
_LEAST_INT8 = 0.8  # of a network's weights, for it to be called int8

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is written, and how.

    Attributes:
      kind: a key of `formats.FORMATS`.
      output: the file, or the folder of a SavedModel.
      precision: one of the format's.
      size: height and width, for a network that takes no others.
      opencv_mean: whether the users subtract the mean color of OpenCV's samples.
      calibration: folder of images for int8.
      calibration_images: how many of them.
      verify: whether the file is compared with the checkpoint.
      allow_loss: whether int8 may cost more, after all has been tried.
      most_loss: points of hmean that it may cost.
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
    most_loss: float = MOST_LOSS

    @property
    def format(self) -> Format:
        """The row of `FORMATS`."""
        return FORMATS[self.kind]


def export(prefix: str, config: Config, options: Options, samples: Source | None) -> None:
    """Write a network, with a report beside it. If anything fails, the old file stays as it was.

    Args:
      prefix: of the checkpoint.
      config: its configuration.
      options: see there.
      samples: images to check on, for int8 with their ground truth; None takes generated scenes.

    Raises:
      UserError: an option does not fit, the checkpoint or a library cannot be used, or the file differs from
        the checkpoint by more than it may.
    """
    _check(options, config)
    logger.info("Reading %s.", prefix)
    network = load(prefix, config, OPENCV_MEAN if options.opencv_mean else (0.0, 0.0, 0.0))
    shown, calibrations = _calibrations(options, config)
    *others, last = calibrations
    most = GOOD_LOSS
    for calibration in others:
        strict = dataclasses.replace(options, allow_loss=False, most_loss=most)
        try:
            return _write(network, strict, shown, calibration, samples)
        except _TooMuchLost as error:
            logger.info("%s. Trying again with more layers in float32.", error.problem)
        most = options.most_loss
    _write(network, options, shown, last, samples)


class _TooMuchLost(UserError):
    """int8 costs too much hmean."""


def _write(
    network: Network,
    options: Options,
    shown: Sequence[np.ndarray],
    calibration: Calibration | None,
    samples: Source | None,
) -> None:
    """Write, compare, and put into place."""
    kind, output = options.format, options.output
    described, data = encode(network, options.kind, options.precision, options.size, calibration, shown)
    logger.info("%s, %s: %.1f MB", options.kind, options.precision, len(data) / 1e6)
    atomic.remove_leftovers(output.parent)
    with atomic.partial_folder(output.parent) as folder:
        written = folder / output.name
        file = kind.path(written)
        atomic.write_file(file, data)
        report = _report(options, described, data)
        if options.verify:
            report |= _verified(network, options, written, samples)
        text = folder / f"{output.name}{REPORT_SUFFIX}"
        atomic.write_file(text, (json.dumps(report, indent=2) + "\n").encode())
        target = kind.path(output).parent
        target.mkdir(parents=True, exist_ok=True)
        atomic.move_into_place([text], output.parent)
        atomic.move_into_place([file], target)
    logger.info("Wrote %s and its report, %s.", output, text.name)


def _check(options: Options, config: Config) -> None:
    """Raise an error for options that do not fit, before the work is done."""
    kind, path = options.format, options.output
    if kind.suffix and path.suffix.lower() != kind.suffix:
        raise UserError("output", f"is {path}", f"expected a name that ends in {kind.suffix}")
    if path.exists() and path.is_dir() != bool(kind.file):
        found = "folder" if path.is_dir() else "file"
        raise UserError("output", f"{path} exists and is a {found}", "Choose another name.")
    if options.precision not in kind.precisions:
        known = ", ".join(kind.precisions)
        raise UserError("precision", f"is {options.precision}", f"expected {known} for {options.kind}")
    _check_size(options, config.model.size_divisor)
    if options.precision == "int8" and options.calibration is None:
        raise UserError("calibration", "is missing", "Give a folder of images to calibrate int8 on.")
    if options.precision != "int8" and options.calibration is not None:
        raise UserError("calibration", f"has no effect with {options.precision}", "Use it with int8 only.")


def _check_size(options: Options, divisor: int) -> None:
    if options.size is None and options.format.needs_size:
        problem = f"is missing; {options.kind} is written for one size"
        raise UserError("size", problem, "Give the size of the images, such as 1280x736.")
    if options.size and any(side % divisor or side < 1 for side in options.size):
        height, width = options.size
        raise UserError("size", f"is {width}x{height}", f"expected multiples of {divisor}")


def _calibrations(options: Options, config: Config) -> tuple[list[np.ndarray], Sequence[Calibration | None]]:
    """Read the images, and list the calibrations to try, the one of the fastest network first."""
    if options.calibration is None:
        return [], [None]
    divisor = config.model.size_divisor
    shown, digests = sample_images.calibration(
        options.calibration, options.calibration_images, divisor, options.size
    )
    method = options.format.int8_method
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


def _verified(network: Network, options: Options, written: Path, samples: Source | None) -> dict[str, Any]:
    """Compare the file with the checkpoint, and describe the comparison for the report."""
    config, count = network.config, _SCENES[options.precision]
    shown = sample_images.scenes(count, config.train.seed + 1) if samples is None else samples
    reference = load_graph(network.prefix, config)
    found: dict[str, Any] = {"images": "generated scenes" if samples is None else "given", "runtimes": []}
    opened = list(_runtimes(options, written, config.train.threads))
    for runtime in opened:
        found["runtimes"].append(_compare(network, options, runtime, reference, shown))
    if options.precision == "int8":
        found["int8"] = _loss(network, options, opened[0], reference, shown)
        found["int8"]["share_of_weights"] = _expect_int8(options, written)
    return found


def _runtimes(options: Options, written: Path, threads: int) -> Sequence[Runtime]:
    kind = options.format
    return [kind.open(written, threads, name) for name in kind.readers(options.precision)]


def _compare(
    network: Network,
    options: Options,
    runtime: Runtime,
    reference: Run,
    samples: Source,
) -> dict[str, Any]:
    detect = network.config.detect
    least = opencv.least_side(runtime.divisor) if runtime.name == "opencv" else 1
    differences = [
        verify.compare(name, image, reference, runtime, detect)
        for name, image in sample_images.inputs(samples, runtime.divisor, detect.max_side, options.size)
        if min(image.shape[:2]) >= least
    ]
    limit = options.format.tolerances[options.precision]
    if runtime.name == "opencv" and limit is not None:
        limit = max(limit, _OPENCV_TOLERANCE)
    wrong = verify.problems(differences, limit, everywhere=options.precision == "float32")
    if wrong:
        problem = (
            f"{runtime.name} disagrees with {network.prefix} on {len(wrong)} of {len(differences)} images"
        )
        hint = "The file is kept only if its maps and boxes match the checkpoint's."
        raise UserError(options.output, f"is not written: {problem}: {wrong[0]}", hint)
    worst = {name: max(getattr(d, name) for d in differences) for name in ("score", "geometry")}
    worst["geometry_everywhere"] = max(d.geometry_everywhere for d in differences)
    worst["iou"] = min(d.iou for d in differences)
    boxes = sum(d.boxes for d in differences)
    logger.info(
        "%s: %d images, %d boxes. Largest difference of the score: %.1e, of the geometry: %.1e. "
        "Smallest IoU of two boxes: %.4f.",
        runtime.name, len(differences), boxes, worst["score"], worst["geometry"], worst["iou"],
    )  # fmt: skip
    return {"runtime": runtime.name, "threads": runtime.threads, "tolerance": limit, "boxes": boxes,
            "worst": worst, "images": [d.as_dict() for d in differences]}  # fmt: skip


def _loss(
    network: Network,
    options: Options,
    runtime: Runtime,
    reference: Run,
    samples: Source,
) -> dict[str, Any]:
    """Measure what int8 costs in hmean, and refuse too much."""
    figures: dict[str, Any] = {"images": len(samples)}
    for name, run in (("checkpoint", reference), ("int8", runtime.run)):
        detector = Detector(run, network.config.detect, runtime.stride, runtime.divisor, options.size)
        found, truths = detect_all(detector, samples, progress=False)
        figures[name] = icdar2015.score(quads_of(found), truths).as_dict()
    loss = 100 * (figures["checkpoint"]["hmean"] - figures["int8"]["hmean"])
    figures["loss"] = loss
    line = f"hmean {figures['int8']['hmean']:.4f} in int8, {figures['checkpoint']['hmean']:.4f} before"
    logger.info("%s: %.2f points lost on %d images", line, loss, len(samples))
    if loss > options.most_loss and not options.allow_loss:
        problem = f"is not written: {line}, {loss:.2f} points less"
        hint = f"expected at most {options.most_loss:g} points; allow_loss accepts more"
        raise _TooMuchLost(options.output, problem, hint)
    return figures


def _expect_int8(options: Options, written: Path) -> float:
    """Measure the share of int8 weights, and refuse a file that has too few of them."""
    share: float = options.format.writer().share_of_int8(written)
    if share < _LEAST_INT8:
        problem = f"is not written: {share:.0%} of its weights have eight bits"
        raise UserError(options.output, problem, f"expected {_LEAST_INT8:.0%} of them, to be called int8")
    return share
