"""The command `calibrate`: choose thresholds and calibrate scores, and write the model with them."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import bundled, model_file
from efficientnet_east.cli import options
from efficientnet_east.files.folders import make_folder
from efficientnet_east.inference import calibration

logger = logging.getLogger(__name__)

# Fields of the section `detect` that this command chooses, so that nobody can set them.
CHOSEN = ("score_threshold", "box_threshold", "score_scale", "score_offset")
# Thresholds on cells that are compared. Scores crowd near 1, and so do these.
CELLS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is calibrated on what.

    Attributes:
      model: a workdir, a prefix, or a file of `export-weights`.
      data: images with ground truth.
      list: a file of image names, or None for all.
      output: the model file to write.
      half: whether kernels are stored as float16.
    """

    model: str
    data: str
    list: str | None
    output: str
    half: bool


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    help = "workdir of train.py, its folder `best`, a prefix, or a file of export-weights"
    options.add_model(parser, help, required=True)
    options.add_data(parser, "images and ground truth that the model was not trained on")
    output = options.file_name("model.npz", model_file.SUFFIX)
    help = "model file (.npz) to write"
    parser.add_argument("--output", metavar="FILE", type=output, required=True, help=help)
    parser.add_argument("--half", action="store_true", help="store kernels as float16")
    options.add_threads(parser)
    options.add_fields(parser, ("detect",), without=CHOSEN)


def run(given: Mapping[str, Any]) -> int:
    """Choose thresholds, calibrate the scores, and write the model with them.

    Raises:
      UserError: the weights or the data cannot be used, or the file cannot be written.
    """
    chosen = options.pick(Options, given)
    make_folder(Path(chosen.output).parent, "output")
    return _calibrate(chosen, options.fields_of(given, "detect", threads=True))


def _calibrate(chosen: Options, detect: dict[str, Any]) -> int:
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.evaluation import tune
    from efficientnet_east.evaluation.predictions import detect_at
    from efficientnet_east.inference.detector import Detector, config_beside
    from efficientnet_east.training import sources

    prefix = tf_checkpoints.find(bundled.resolve(chosen.model))
    fields = {name: value for name, value in detect.items() if name != "threads"}
    config = configuration.load(str(config_beside(prefix)), fields)
    samples = sources.open_images(chosen.data, chosen.list, None, None, "train")
    logger.info("looking at %d images", len(samples))
    detector = Detector.load(prefix, {**detect, "box_threshold": 0.0})
    tuned = tune.tune(*detect_at(detector, samples, CELLS))
    arrays = tf_checkpoints.weights_of(tf_checkpoints.read(prefix))
    for line in ((config.detect.score_scale, config.detect.score_offset), (tuned.scale, tuned.offset)):
        arrays = calibration.fold(arrays, *line)
    thresholds = {"score_threshold": tuned.score_threshold, "box_threshold": tuned.box_threshold}
    found = configuration.folded(config.detect).model_copy(update=thresholds)
    text = configuration.dump(config.model_copy(update={"detect": found}), ("model", "detect"))
    model_file.write(Path(chosen.output), arrays, text, chosen.half)
    print(json.dumps(tuned.as_dict(), indent=2))
    logger.info("wrote %s", chosen.output)
    return 0
