"""The command `calibrate`: choose thresholds and make scores mean something, in a model file of its own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import model_file
from efficientnet_east.errors import UserError
from efficientnet_east.files.folders import make_folder
from efficientnet_east.inference import calibration

# Fields of the section `detect` that this command chooses, so that nobody can set them.
CHOSEN = ("score_threshold", "box_threshold", "score_scale", "score_offset")
# Thresholds on cells that are compared. Scores crowd near 1, and so do these.
CELLS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98)


def add_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `calibrate` takes, but for the section `detect`."""
    what = "workdir of train.py, its folder best, a prefix, or a file of export-weights"
    sub.add_argument("--checkpoint", metavar="PATH", required=True, help=what)
    sub.add_argument("--data", metavar="DIR", required=True, help="images and ground truth, not trained on")
    sub.add_argument("--list", metavar="FILE", help="text file of the image names to use")
    sub.add_argument("--output", metavar="FILE", required=True, help="the model to write, an .npz file")
    sub.add_argument("--half", action="store_true", help="kernels in half precision")


def run(arguments: argparse.Namespace, detect: Mapping[str, Any]) -> int:
    """The subcommand.

    Args:
      arguments: what was parsed.
      detect: the fields of the configuration's section `detect` that were given, and `threads`.

    Returns:
      The exit code.

    Raises:
      UserError: the weights or the data cannot be used, or the file cannot be written.
    """
    output = Path(arguments.output)
    if not model_file.is_model_file(output):
        raise UserError(
            "--output", f"{output} is no model file", f"expected a name that ends in {model_file.SUFFIX}"
        )
    make_folder(output.parent, "--output")
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.evaluation import tune
    from efficientnet_east.evaluation.run import detect_at
    from efficientnet_east.inference.detector import Detector, config_beside
    from efficientnet_east.training import sources

    prefix = tf_checkpoints.find(model_file.resolve(arguments.checkpoint))
    chosen = {name: value for name, value in detect.items() if name != "threads"}
    config = configuration.load(str(config_beside(prefix)), chosen)
    samples = sources.open_images(arguments.data, arguments.list, None, None, "train")
    print(f"looking at {len(samples)} images", file=sys.stderr)
    detector = Detector.load(prefix, {**detect, "box_threshold": 0.0})
    tuned = tune.tune(*detect_at(detector, samples, CELLS))
    arrays = tf_checkpoints.weights_of(tf_checkpoints.read(prefix))
    for line in ((config.detect.score_scale, config.detect.score_offset), (tuned.scale, tuned.offset)):
        arrays = calibration.fold(arrays, *line)
    thresholds = {"score_threshold": tuned.score_threshold, "box_threshold": tuned.box_threshold}
    found = configuration.folded(config.detect).model_copy(update=thresholds)
    text = configuration.dump(config.model_copy(update={"detect": found}), ("model", "detect"))
    model_file.write(output, arrays, text, arguments.half)
    print(json.dumps(tuned.as_dict(), indent=2))
    print(f"wrote {output}", file=sys.stderr)
    return 0
