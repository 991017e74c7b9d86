"""The command `eval`: score a model, or a file of detections, against a ground truth."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import bundled
from efficientnet_east.cli import options
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
from efficientnet_east.evaluation.report import Boxes, Scored
from efficientnet_east.files.atomic import write_file
from efficientnet_east.files.folders import make_folder
from efficientnet_east.inference import calibration
from efficientnet_east.structures import Detections, Sample, Source, Truth

logger = logging.getLogger(__name__)

PROTOCOLS = {"iou": icdar2015.score, "deteval": icdar2013.score}
NAMES = {
    "iou": "IoU above 0.5, one to one (ICDAR 2015 and 2017)",
    "deteval": "DetEval on upright rectangles (ICDAR 2013)",
}
SWEEP = "0.5,0.7,0.8,0.9,0.95,0.97"
SCORED_SUBMISSION = "detections.zip"  # in a report
# The pixels of an image by its name, None where it is not there; no function where there are no images.
Look = Callable[[str], np.ndarray | None] | None


@dataclasses.dataclass(frozen=True)
class Options:
    """What is scored, on what, and what is written.

    Attributes:
      model: path of the model, or None.
      submission: zip of detections, or None.
      data: images with ground truth; None: those that the run validated on.
      list: a file of image names, or None for all.
      limit: how many images at most, or None.
      skip_bad: whether images that cannot be used are skipped.
      gt: zip of the ground truth for a submission, or None.
      protocol: a key of `PROTOCOLS`.
      json: a file for the figures, or None.
      pictures: a folder for the images with boxes drawn, or None.
      report: a folder for the report, or None.
      gallery: how many of the best and of the worst images the report shows.
      sweep: thresholds that the report compares.
    """

    model: str | None
    submission: str | None
    data: str | None
    list: str | None
    limit: int | None
    skip_bad: bool
    gt: str | None
    protocol: str
    json: str | None
    pictures: str | None
    report: str | None
    gallery: int
    sweep: Sequence[float]

    def images(self) -> dict[str, Any]:
        """The fields of the configuration's section `data` that were given."""
        given = {"data": self.data, "list": self.list, "limit": self.limit}
        return {name: value for name, value in given.items() if value is not None} | {
            "skip_bad": self.skip_bad
        }


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    help = "workdir of train.py, its folder `best`, a prefix, or a file of export or export-weights"
    options.add_model(parser, help)
    options.add_data(
        parser, "images and ground truth [what the run validated on]", limit="use", required=False
    )
    options.add_skip_bad(parser)
    help = "write the figures as JSON, and the submission of a model beside them as .zip"
    parser.add_argument("--json", metavar="FILE", type=_figures_file, help=help)
    help = "folder to write: a page with curves, kinds of text, the worst and best images, CSV, JSON"
    parser.add_argument("--report", metavar="DIR", help=help)
    help = "folder to write: images with the boxes of the model and of the ground truth"
    parser.add_argument("--pictures", metavar="DIR", help=help)
    options.add_threads(parser)
    _add_more_options(parser.add_argument_group(options.MORE))
    options.add_fields(parser, ("detect",), ("score_threshold",))


def _add_more_options(group: Any) -> None:
    group.add_argument("--submission", metavar="ZIP", help="score these detections instead of a model's")
    group.add_argument("--gt", metavar="ZIP", help="ground truth for --submission, instead of --data")
    help = "; ".join(f"{name}: {purpose}" for name, purpose in NAMES.items())
    group.add_argument("--protocol", choices=tuple(PROTOCOLS), default="iou", help=f"{help} [iou]")
    help = "show N of the best and N of the worst images in the report [12]"
    group.add_argument("--gallery", metavar="N", type=options.number(int, 0), default=12, help=help)
    help = f"score thresholds that the report compares; none for the one in use only [{SWEEP}]"
    group.add_argument("--sweep", metavar="X,X,...", type=_thresholds, default=SWEEP, help=help)


def _figures_file(text: str) -> str:
    if Path(text).is_dir() or Path(text).suffix == ".zip":
        raise argparse.ArgumentTypeError(
            f"{text} is a folder or a .zip; expected a file name such as out.json"
        )
    return text


def _thresholds(text: str) -> list[float]:
    """Read what `--sweep` lists."""
    if text == "none":
        return []
    try:
        values = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values or not all(0 < value < 1 for value in values):
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be used; expected numbers between 0 and 1 such as {SWEEP}"
        )
    return sorted(set(values))


def run(given: Mapping[str, Any]) -> int:
    """Score a model or a submission.

    Raises:
      UserError: options that do not go together, or files that cannot be used or written.
    """
    chosen = options.pick(Options, given)
    if (chosen.submission or chosen.gt) is None and chosen.model is None:
        chosen = dataclasses.replace(chosen, model=bundled.DEFAULT)
    if (chosen.submission is None) == (chosen.model is None):
        raise UserError("eval", "what to score is not clear", "Give --model, or --submission with --gt.")
    folder = make_folder(chosen.report, "report") if chosen.report else None
    about: dict[str, Any] = {}
    if chosen.submission:
        scored, look = _of_submission(chosen, chosen.submission)
    else:
        scored, look, about = _of_network(chosen, options.fields_of(given, "detect", threads=True))
    _write_figures(chosen, scored)
    if folder:
        _write_report(folder, scored, look, chosen.gallery, about)
    return 0


def _write_figures(chosen: Options, scored: Scored) -> None:
    """Write and print the figures."""
    figures = scored.result.as_dict()
    if scored.curve is not None and scored.curve.average_precision is not None:
        figures["average_precision"] = scored.curve.average_precision
    text = json.dumps(figures, indent=2)
    if chosen.json:
        write_file(chosen.json, (text + "\n").encode())
    print(text)


def _of_submission(chosen: Options, submission: str) -> tuple[Scored, Look]:
    """Score a file of detections; needs no TensorFlow."""
    if chosen.pictures:
        raise UserError("pictures", "needs a model", "For a submission use --report and --data.")
    section = configuration.load(None, chosen.images()).data
    if chosen.gt is None and section.data is None:
        raise UserError(
            "gt", "is missing", "Give the ground truth of the submission: --gt ZIP, or --data DIR."
        )
    given = submissions.read_scored(submission)
    truths = submissions.read_truth_zip(chosen.gt) if chosen.gt else _truths(section, given)
    found = {name: Boxes(quads, scores) for name, (quads, scores) in given.items()}
    files = find_images(section.data) if section.data else {}
    look = (lambda name: read_image(files[name]) if name in files else None) if files else None
    return _score(chosen, submission, found, truths, {}), look


def _truths(section: configuration.Data, given: dict[str, Any]) -> dict[str, Truth]:
    """Read the ground truth of a folder; with list or limit, other detections are removed from `given`."""
    folder, skipped = str(section.data), list[UserError]()
    names = read_image_list(section.list) if section.list else None
    left_out = skipped if section.skip_bad else None
    records = find_records(folder, names, section.limit, left_out, held_out(folder))
    options.warn_skipped(skipped)
    known = datasets.truths(records)
    if section.list or section.limit or section.skip_bad:
        for name in set(given) - set(known):
            del given[name]
    return known


def _of_network(chosen: Options, detect: dict[str, Any]) -> tuple[Scored, Look, dict[str, Any]]:
    """Score what a network finds; return also what the report should say about it."""
    from efficientnet_east.evaluation.predictions import detect_at, quads_of
    from efficientnet_east.inference.detector import Detector

    pictures = make_folder(chosen.pictures, "pictures") if chosen.pictures else None
    options.expect_with(vars(chosen), ["list", "limit"], "data")
    subject, samples = _open(chosen)
    logger.info("scoring %s on %d images", subject, len(samples))
    if chosen.json and isinstance(samples, datasets.ImageDataset):
        for record in samples.records:  # before the work is done
            submissions.expect_name(record.image.stem)
    detector = Detector.load(subject, detect)
    used = detector.detect.score_threshold
    by_threshold, truths = detect_at(
        detector, samples, sorted({*(chosen.sweep if chosen.report else ()), used})
    )
    found = by_threshold[used]
    if chosen.json:
        _write_submission(Path(chosen.json).with_suffix(".zip"), quads_of(found), chosen.protocol)
    if pictures:
        _draw_against_truth(samples, found, pictures)
    others = by_threshold if len(by_threshold) > 1 else {}
    scored = _score(chosen, subject, found, truths, others)
    numbers = {name: number for number, name in enumerate(truths)}
    about = {"detect": detector.detect.model_dump(mode="json")}
    return scored, lambda name: samples[numbers[name]].image, about


def _open(chosen: Options) -> tuple[str, Source]:
    """Find the network's path, and open the images to score it on."""
    from efficientnet_east.training import sources

    given, named = chosen.data is not None, str(chosen.model)
    # Without --data the run's own validation images count, so its training list and limit must not.
    fields = {"list": None, "limit": None} | chosen.images() | ({"mix": None} if given else {})
    path = bundled.resolve(named)
    if _is_export(path):
        if not given:
            problem = "is missing: an exported network has no validation images of its own"
            raise UserError("data.data", problem, "Give a folder of images with ground truth.")
        subject = named if bundled.is_bundled(named) else str(path)
        config = configuration.load(None, fields)
    else:
        from efficientnet_east.checkpoints import tf_checkpoints
        from efficientnet_east.inference.detector import config_beside

        subject = tf_checkpoints.find(named)
        config = configuration.load(str(config_beside(subject)), fields)
    skipped: list[UserError] = []
    samples = sources.evaluation_source(config.data, config.train.seed, skipped, given)
    options.warn_skipped(skipped)
    return subject, samples


def _is_export(path: Path) -> bool:
    """Whether it is a file or a SavedModel; a checkpoint is a prefix of several files, or their folder."""
    return path.is_file() or (path / "saved_model.pb").is_file()


def _score(
    chosen: Options,
    subject: str,
    found: Mapping[str, Any],
    truths: Mapping[str, Truth],
    by_threshold: Mapping[float, Mapping[str, Detections]],
) -> Scored:
    protocol = PROTOCOLS[chosen.protocol]
    result = protocol({name: part.quads for name, part in found.items()}, truths)
    scored = Scored(str(subject), NAMES[chosen.protocol], found, truths, result, None)
    curve = None if any(part.scores is None for part in found.values()) else _curve(chosen, found, truths)
    sweep = {threshold: _curve(chosen, parts, truths) for threshold, parts in by_threshold.items()}
    scored = dataclasses.replace(scored, curve=curve, sweep=sweep)
    return scored if chosen.protocol != "iou" else _judged(scored, found)


def _judged(scored: Scored, found: Mapping[str, Any]) -> Scored:
    """Add what needs a protocol that matches one to one: kinds of mistakes, reliability of scores."""
    kinds = mistakes.kinds_of(scored.result, scored.quads, scored.truths)
    if scored.curve is None or not scored.curve.points:
        return dataclasses.replace(scored, mistakes=kinds)
    scores = {name: part.scores for name, part in found.items()}
    ranked, right, _ = curves.judged(scored.quads, scores, scored.truths)
    bins = calibration.reliability(ranked, right)
    return dataclasses.replace(scored, mistakes=kinds, reliability=bins)


def _curve(chosen: Options, found: Mapping[str, Any], truths: Mapping[str, Truth]) -> curves.Curve:
    quads = {name: part.quads for name, part in found.items()}
    scores = {name: part.scores for name, part in found.items()}
    if chosen.protocol == "iou":
        return curves.precision_recall(quads, scores, truths)
    return curves.sampled(PROTOCOLS[chosen.protocol], quads, scores, truths)


def _write_submission(path: Path, quads: Mapping[str, Any], protocol: str) -> None:
    submissions.write_submission(path, quads, rectangles=protocol == "deteval")


def _write_report(folder: Path, scored: Scored, look: Look, gallery_size: int, about: dict[str, Any]) -> None:
    """Write the report; pictures first, so that the page names none that is missing."""
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
    logger.info("report: %s", one_line(str(folder / report.PAGE)))


def _write_detections(path: Path, scored: Scored) -> None:
    scores = {name: found.scores for name, found in scored.found.items() if found.scores is not None}
    try:
        submissions.write_submission(path, scored.quads, scores=scores)
    except WriteError:
        raise
    except UserError as error:  # an image's name that no archive should hold
        logger.warning("%s is left out: %s", path.name, error)


def _draw(path: Path, name: str, scored: Scored, look: Look) -> bool:
    """Draw one image of the report; return whether there was one."""
    try:
        image = look(name) if look else None
    except UserError as error:
        options.warn_skipped([error])
        return False
    if image is None:
        return False
    found = scored.found.get(name, Boxes(np.zeros((0, 4, 2), np.float32), None))
    sample = Sample(name, image, scored.truths[name])
    write_image(path, validation_picture(sample, found, scored.result.images[name]))
    return True


def _draw_against_truth(samples: Source, found: Mapping[str, Detections], folder: Path) -> None:
    """Draw on each image the ground truth (blue; ignored texts gray) under the detections (green)."""
    for index in range(len(samples)):
        sample = samples[index]
        name, truth = Path(sample.name).stem, sample.truth
        picture = draw_quads(sample.image, truth.quads[truth.ignore], color=palette.GRAY)
        picture = draw_quads(picture, truth.quads[~truth.ignore], color=palette.BLUE)
        write_image(folder / f"{name}.png", draw_quads(picture, found[name].quads, scores=found[name].scores))
