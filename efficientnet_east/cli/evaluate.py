"""The command `eval`: a checkpoint, an exported network, or anybody's detections, against a ground truth."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import model_file
from efficientnet_east.data import datasets, submissions
from efficientnet_east.data.datasets import find_records
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.data.images import read_image, write_image
from efficientnet_east.data.layouts import find_images, held_out
from efficientnet_east.drawing import palette
from efficientnet_east.drawing.overlays import draw_quads
from efficientnet_east.errors import UserError, WriteError, one_line
from efficientnet_east.evaluation import curve as curves
from efficientnet_east.evaluation import gallery, icdar2013, icdar2015, mistakes, report
from efficientnet_east.evaluation.pictures import extremes, validation_picture
from efficientnet_east.evaluation.report import Found, Scored
from efficientnet_east.files.atomic import write_file
from efficientnet_east.files.folders import make_folder
from efficientnet_east.inference import calibration
from efficientnet_east.structures import Detections, Sample, Source, Truth

# Of the section `data`, what `eval` lets one change; without --data it takes what the run validated on.
EVALUATED = {
    "data": "images and ground truth; none: what the run validated on",
    "list": "text file of the image names to use",
    "limit": "use the first N images only",
}
PROTOCOLS = {"iou": icdar2015.score, "deteval": icdar2013.score}
NAMES = {
    "iou": "IoU above 0.5, one to one (ICDAR 2015 and 2017)",
    "deteval": "DetEval on upright rectangles (ICDAR 2013)",
}
SWEEP = "0.5,0.7,0.8,0.9,0.95,0.97"
SCORED_SUBMISSION = "detections.zip"  # in a report
# The pixels of an image by its name, None where it is not there; no function where there are no images.
Look = Callable[[str], np.ndarray | None] | None


def add_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `eval` takes, but for the section `detect`."""
    what = "workdir of train.py, its folder best, a prefix, or a file that `export` or `export-weights` wrote"
    what += " [the model that comes with the package]"
    sub.add_argument("--checkpoint", metavar="PATH", help=what)
    for name, purpose in EVALUATED.items():
        sub.add_argument(f"--{name}", metavar="VALUE", default=argparse.SUPPRESS, help=purpose)
    sub.add_argument("--skip-bad", action="store_true", help="leave out what cannot be used, and list it")
    sub.add_argument("--submission", metavar="ZIP", help="score these detections instead of a checkpoint's")
    sub.add_argument("--gt", metavar="ZIP", help="ground truth for --submission; or --data")
    help = "iou: ICDAR 2015 and 2017; deteval: ICDAR 2013, upright rectangles [iou]"
    sub.add_argument("--protocol", choices=tuple(PROTOCOLS), default="iou", help=help)
    help = "write the figures here, and a checkpoint's submission beside them as .zip"
    sub.add_argument("--json", metavar="FILE", help=help)
    help = "draw a checkpoint's detections against the ground truth"
    sub.add_argument("--pictures", metavar="DIR", help=help)
    help = "write a page with curves, kinds of text, the worst and best images, and the same as CSV and JSON"
    sub.add_argument("--report", metavar="DIR", help=help)
    help = "worst and best images in the report, so many of each [12]"
    sub.add_argument("--gallery", metavar="N", type=int, default=12, help=help)
    help = f"thresholds on the score map that the report compares; none: only the one in use [{SWEEP}]"
    sub.add_argument("--sweep", metavar="X,X,...", default=SWEEP, help=help)


def run(arguments: argparse.Namespace, data: dict[str, Any], detect: dict[str, Any]) -> int:
    """The subcommand.

    Args:
      arguments: what was parsed.
      data: the fields of the configuration's section `data` that were given.
      detect: those of the section `detect`, and `threads`.

    Returns:
      The exit code.
    """
    if arguments.submission is None and arguments.checkpoint is None and arguments.gt is None:
        arguments.checkpoint = model_file.DEFAULT
    if (arguments.submission is None) == (arguments.checkpoint is None):
        raise UserError(
            "eval", "what to score is not clear", "expected --checkpoint, or --submission and --gt"
        )
    if arguments.json and (Path(arguments.json).is_dir() or Path(arguments.json).suffix == ".zip"):
        raise UserError(
            "--json", f"{arguments.json} is a folder or a .zip", "expected a file name such as out.json"
        )
    if arguments.gallery < 0:
        raise UserError("--gallery", f"{arguments.gallery} cannot be used", "expected 0 or more")
    thresholds = _sweep(arguments.sweep) if arguments.report else []
    folder = make_folder(arguments.report, "--report") if arguments.report else None
    about: dict[str, Any] = {}
    if arguments.submission:
        scored, look = _of_submission(arguments, data)
    else:
        scored, look, about = _of_network(arguments, data, detect, thresholds)
    figures = scored.result.as_dict()
    if scored.curve is not None and scored.curve.average_precision is not None:
        figures["average_precision"] = scored.curve.average_precision
    if arguments.json:
        write_file(arguments.json, (json.dumps(figures, indent=2) + "\n").encode())
    if folder:
        _write_report(folder, scored, look, arguments.gallery, about)
    print(json.dumps(figures, indent=2))
    return 0


def _sweep(text: str) -> list[float]:
    """Thresholds as `--sweep` has them."""
    if text == "none":
        return []
    try:
        values = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values or not all(0 < value < 1 for value in values):
        raise UserError(
            "--sweep", f"{text!r} cannot be used", f"expected numbers between 0 and 1 such as {SWEEP}"
        )
    return sorted(set(values))


def _of_submission(arguments: argparse.Namespace, data: dict[str, Any]) -> tuple[Scored, Look]:
    """Somebody's detections; no TensorFlow."""
    if arguments.pictures:
        raise UserError(
            "--pictures", "draws what a checkpoint finds", "expected --report and --data for a submission"
        )
    section = configuration.load(None, data).data
    if arguments.gt is None and section.data is None:
        raise UserError(
            "--gt", "is missing", "expected the zip of the ground truth, beside --submission; or --data"
        )
    given = submissions.read_scored(arguments.submission)
    truths = submissions.read_truth_zip(arguments.gt) if arguments.gt else _truths(section, given)
    found = {name: Found(quads, scores) for name, (quads, scores) in given.items()}
    files = find_images(section.data) if section.data else {}
    look = (lambda name: read_image(files[name]) if name in files else None) if files else None
    return _score(arguments, arguments.submission, found, truths, {}), look


def _truths(section: configuration.Data, given: dict[str, Any]) -> dict[str, Truth]:
    """The ground truth of a folder; with --list or --limit, other detections are left out of `given`."""
    folder, skipped = str(section.data), list[UserError]()
    names = read_image_list(section.list) if section.list else None
    left_out = skipped if section.skip_bad else None
    records = find_records(folder, names, section.limit, left_out, held_out(folder))
    _say_skipped(skipped)
    known = datasets.truths(records)
    if section.list or section.limit or section.skip_bad:
        for name in set(given) - set(known):
            del given[name]
    return known


def _of_network(
    arguments: argparse.Namespace,
    data: dict[str, Any],
    detect: dict[str, Any],
    thresholds: list[float],
) -> tuple[Scored, Look, dict[str, Any]]:
    """What a network finds; gives also what the report should say about it."""
    from efficientnet_east.evaluation.run import detect_at, quads_of
    from efficientnet_east.inference.detector import Detector

    pictures = make_folder(arguments.pictures, "--pictures") if arguments.pictures else None
    for name in EVALUATED:
        if hasattr(arguments, name) and not hasattr(arguments, "data"):
            raise UserError(
                f"--{name}", "is given without --data", "expected the folder to choose from, beside it"
            )
    subject, samples = _open(arguments, data)
    print(f"scoring {subject} on {len(samples)} images", file=sys.stderr)
    if arguments.json and isinstance(samples, datasets.ImageDataset):
        for record in samples.records:  # before the work is done
            submissions.expect_name(record.image.stem)
    detector = Detector.load(subject, detect)
    used = detector.detect.score_threshold
    by_threshold, truths = detect_at(detector, samples, sorted({*thresholds, used}))
    found = by_threshold[used]
    if arguments.json:
        _write_submission(Path(arguments.json).with_suffix(".zip"), quads_of(found), arguments.protocol)
    if pictures:
        _draw_against_truth(samples, found, pictures)
    others = by_threshold if len(by_threshold) > 1 else {}
    scored = _score(arguments, subject, found, truths, others)
    numbers = {name: number for number, name in enumerate(truths)}
    about = {"detect": detector.detect.model_dump(mode="json")}
    return scored, lambda name: samples[numbers[name]].image, about


def _open(arguments: argparse.Namespace, data: dict[str, Any]) -> tuple[str, Source]:
    """The network's path, and the images to score it on."""
    from efficientnet_east.training import sources

    given = hasattr(arguments, "data")
    # Without --data the run's own validation images count, so its training list and limit must not.
    chosen = {"list": None, "limit": None, "skip_bad": False} | data | ({"mix": None} if given else {})
    path = model_file.resolve(arguments.checkpoint)
    if _is_export(path):
        if not given:
            raise UserError(
                "--data", "is missing; an exported network validated on nothing", "expected a folder"
            )
        subject = arguments.checkpoint if arguments.checkpoint == model_file.DEFAULT else str(path)
        config = configuration.load(None, chosen)
    else:
        from efficientnet_east.checkpoints import tf_checkpoints
        from efficientnet_east.inference.detector import config_beside

        subject = tf_checkpoints.find(arguments.checkpoint)
        config = configuration.load(str(config_beside(subject)), chosen)
    skipped: list[UserError] = []
    samples = sources.evaluation_source(config.data, config.train.seed, skipped, given)
    _say_skipped(skipped)
    return subject, samples


def _is_export(path: Path) -> bool:
    """A file, or the folder of a SavedModel; a checkpoint is a prefix of several files, or their folder."""
    return path.is_file() or (path / "saved_model.pb").is_file()


def _say_skipped(skipped: list[UserError]) -> None:
    for error in skipped:
        print(f"skipped: {error}", file=sys.stderr)


def _score(
    arguments: argparse.Namespace,
    subject: str,
    found: Mapping[str, Any],
    truths: Mapping[str, Truth],
    by_threshold: Mapping[float, Mapping[str, Detections]],
) -> Scored:
    protocol = PROTOCOLS[arguments.protocol]
    result = protocol({name: part.quads for name, part in found.items()}, truths)
    scored = Scored(str(subject), NAMES[arguments.protocol], found, truths, result, None)
    curve = None if any(part.scores is None for part in found.values()) else _curve(arguments, found, truths)
    sweep = {threshold: _curve(arguments, parts, truths) for threshold, parts in by_threshold.items()}
    scored = dataclasses.replace(scored, curve=curve, sweep=sweep)
    return scored if arguments.protocol != "iou" else _judged(scored, found)


def _judged(scored: Scored, found: Mapping[str, Any]) -> Scored:
    """With what a protocol that matches one to one can say: kinds of mistakes, and what scores are worth."""
    kinds = mistakes.kinds_of(scored.result, scored.quads, scored.truths)
    if scored.curve is None or not scored.curve.points:
        return dataclasses.replace(scored, mistakes=kinds)
    scores = {name: part.scores for name, part in found.items()}
    ranked, right, _ = curves.judged(scored.quads, scores, scored.truths)
    bins = calibration.reliability(ranked, right)
    return dataclasses.replace(scored, mistakes=kinds, reliability=bins)


def _curve(
    arguments: argparse.Namespace, found: Mapping[str, Any], truths: Mapping[str, Truth]
) -> curves.Curve:
    quads = {name: part.quads for name, part in found.items()}
    scores = {name: part.scores for name, part in found.items()}
    if arguments.protocol == "iou":
        return curves.precision_recall(quads, scores, truths)
    return curves.sampled(PROTOCOLS[arguments.protocol], quads, scores, truths)


def _write_submission(path: Path, quads: Mapping[str, Any], protocol: str) -> None:
    submissions.write_submission(path, quads, rectangles=protocol == "deteval")


def _write_report(folder: Path, scored: Scored, look: Look, gallery_size: int, about: dict[str, Any]) -> None:
    """Pictures first, so that the page names none that is not there."""
    chosen = extremes(scored.result.images, gallery_size) if look else {}
    files = {name: f"{report.PICTURES}/{rank}.jpg" for rank, name in chosen.items()}  # never a foreign name
    files = {name: file for name, file in files.items() if _draw(folder / file, name, scored, look)}
    rows, values = report.image_rows(scored, files), report.figures(scored, **about)
    report.write_data(folder, values, rows, report.image_details(scored))
    charts = report.write_charts(folder, scored)
    shown = {rank: name for rank, name in chosen.items() if name in files}
    write_file(folder / report.PAGE, gallery.page(scored, values, rows, charts, shown))
    if scored.curve is not None:
        _write_detections(folder / SCORED_SUBMISSION, scored)
    print(one_line(f"report: {folder / report.PAGE}"), file=sys.stderr)


def _write_detections(path: Path, scored: Scored) -> None:
    scores = {name: found.scores for name, found in scored.found.items() if found.scores is not None}
    try:
        submissions.write_submission(path, scored.quads, scores=scores)
    except WriteError:
        raise
    except UserError as error:  # an image's name that no archive should hold
        print(f"{path.name} is left out: {error}", file=sys.stderr)


def _draw(path: Path, name: str, scored: Scored, look: Look) -> bool:
    """Whether there was an image to draw on."""
    try:
        image = look(name) if look else None
    except UserError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return False
    if image is None:
        return False
    found = scored.found.get(name, Found(np.zeros((0, 4, 2), np.float32), None))
    sample = Sample(name, image, scored.truths[name])
    write_image(path, validation_picture(sample, found, scored.result.images[name]))
    return True


def _draw_against_truth(samples: Source, found: Mapping[str, Detections], folder: Path) -> None:
    """For each image the ground truth (blue; ignored texts grey) under the detections (green)."""
    for index in range(len(samples)):
        sample = samples[index]
        name, truth = Path(sample.name).stem, sample.truth
        picture = draw_quads(sample.image, truth.quads[truth.ignore], color=palette.GRAY)
        picture = draw_quads(picture, truth.quads[~truth.ignore], color=palette.BLUE)
        write_image(folder / f"{name}.png", draw_quads(picture, found[name].quads, scores=found[name].scores))
