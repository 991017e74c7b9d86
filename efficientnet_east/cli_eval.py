"""The command `eval`: a checkpoint, or anybody's detections, against a ground truth."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.data import submissions
from efficientnet_east.data.images import make_folder, write_image
from efficientnet_east.draw import draw_quads
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation import icdar
from efficientnet_east.safe_files import write_file
from efficientnet_east.structures import Detections, Source

# Of the section `data`, what `eval` lets one change; without --data it takes what the run validated on.
EVALUATED = {
    "data": "images and ground truth; none: what the run validated on",
    "list": "text file of the image names to use",
    "limit": "use the first N images only",
}
TRUTH_COLOUR, IGNORED_COLOUR = (60, 120, 255), (150, 150, 150)


def add_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `eval` takes, but for the section `detect`."""
    sub.add_argument(
        "--checkpoint", metavar="WORKDIR", help="workdir of train.py, its folder best, or a prefix"
    )
    for name, purpose in EVALUATED.items():
        sub.add_argument(f"--{name}", metavar="VALUE", default=argparse.SUPPRESS, help=purpose)
    sub.add_argument("--skip-bad", action="store_true", help="leave out what cannot be used, and list it")
    sub.add_argument("--submission", metavar="ZIP", help="score these detections instead of a checkpoint's")
    sub.add_argument("--gt", metavar="ZIP", help="ground truth for --submission")
    sub.add_argument(
        "--json",
        metavar="FILE",
        help="write the figures here, and a checkpoint's submission beside them as .zip",
    )
    sub.add_argument(
        "--pictures", metavar="DIR", help="draw a checkpoint's detections against the ground truth"
    )


def run(arguments: argparse.Namespace, data: dict[str, Any], detect: dict[str, Any]) -> int:
    """The subcommand.

    Args:
      arguments: what was parsed.
      data: the fields of the configuration's section `data` that were given.
      detect: those of the section `detect`, and `threads`.

    Returns:
      The exit code.
    """
    if (arguments.submission is None) == (arguments.checkpoint is None):
        raise UserError("eval", "what to score is not clear", "--checkpoint, or --submission and --gt")
    if arguments.json and (Path(arguments.json).is_dir() or Path(arguments.json).suffix == ".zip"):
        raise UserError("--json", f"{arguments.json} is a folder or a .zip", "a file name such as out.json")
    if arguments.submission:
        figures = _score_submission(arguments)
    else:
        figures = _score_checkpoint(arguments, data, detect)
    if arguments.json:
        write_file(arguments.json, (json.dumps(figures, indent=2) + "\n").encode())
    print(json.dumps(figures, indent=2))
    return 0


def _score_submission(arguments: argparse.Namespace) -> dict[str, float]:
    if arguments.gt is None:
        raise UserError("--gt", "is missing", "the zip of the ground truth, beside --submission")
    found, truths = (
        submissions.read_submission(arguments.submission),
        submissions.read_truth_zip(arguments.gt),
    )
    return icdar.score(found, truths).as_dict()


def _score_checkpoint(
    arguments: argparse.Namespace, data: dict[str, Any], detect: dict[str, Any]
) -> dict[str, float]:
    pictures = make_folder(arguments.pictures, "--pictures") if arguments.pictures else None
    from efficientnet_east import checkpoints
    from efficientnet_east.evaluation.evaluate import detect_all, quads_of
    from efficientnet_east.inference.detector import Detector, config_beside
    from efficientnet_east.training import sources

    for name in EVALUATED:
        if hasattr(arguments, name) and not hasattr(arguments, "data"):
            raise UserError(f"--{name}", "is given without --data", "the folder to choose from, beside it")
    prefix = checkpoints.find(arguments.checkpoint)
    # Without --data the run's own validation images count, so its training list and limit must not.
    chosen = {"list": None, "limit": None, "skip_bad": False} | data
    if hasattr(arguments, "data"):
        chosen["mix"] = None
    config = configuration.load(str(config_beside(prefix)), chosen)
    skipped: list[UserError] = []
    samples = sources.evaluation_source(config.data, config.train.seed, skipped, hasattr(arguments, "data"))
    for error in skipped:
        print(f"skipped: {error}", file=sys.stderr)
    print(f"scoring {prefix} on {len(samples)} images", file=sys.stderr)
    found, truths = detect_all(Detector.load(prefix, detect), samples)
    if arguments.json:
        submissions.write_submission(Path(arguments.json).with_suffix(".zip"), quads_of(found))
    if pictures:
        _draw_against_truth(samples, found, pictures)
    return icdar.score(quads_of(found), truths).as_dict()


def _draw_against_truth(samples: Source, found: dict[str, Detections], folder: Path) -> None:
    """For each image the ground truth (blue; ignored texts grey) under the detections (green)."""
    for index in range(len(samples)):
        sample = samples[index]
        name, truth = Path(sample.name).stem, sample.truth
        picture = draw_quads(sample.image, truth.quads[truth.ignore], colour=IGNORED_COLOUR)
        picture = draw_quads(picture, truth.quads[~truth.ignore], colour=TRUTH_COLOUR)
        write_image(folder / f"{name}.png", draw_quads(picture, found[name].quads, scores=found[name].scores))
