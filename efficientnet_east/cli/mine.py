"""The command `mine`: places without text where a model sees some, to train on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from efficientnet_east.cli import options
from efficientnet_east.data import hard_negatives
from efficientnet_east.errors import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """What is looked through.

    Attributes:
      model: a workdir, or the prefix of a checkpoint.
      data: a data set.
      list: a file of image names, or None for all.
      limit: how many images at most, or None.
      skip_bad: whether images that cannot be used are skipped.
      output: the file to write.
    """

    model: str
    data: str
    list: str | None
    limit: int | None
    skip_bad: bool
    output: str


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    options.add_model(parser, "workdir of train.py, its folder `best`, or a prefix", required=True)
    options.add_data(parser, "images and ground truth to train on", limit="search")
    options.add_skip_bad(parser)
    output = options.file_name("mined.json", hard_negatives.SUFFIX)
    help = "JSON file to write; train on it with --mix"
    parser.add_argument("--output", metavar="FILE", type=output, required=True, help=help)
    options.add_fields(parser, ("detect",), ("score_threshold",))
    options.add_threads(parser)


def run(given: Mapping[str, Any]) -> int:
    """Search a data set for false detections.

    Raises:
      UserError: the model or the data cannot be used, or the file cannot be written.
    """
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.evaluation.predictions import false_alarms
    from efficientnet_east.inference.detector import Detector
    from efficientnet_east.training.sources import open_images

    chosen = options.pick(Options, given)
    prefix = tf_checkpoints.find(chosen.model)
    skipped: list[UserError] = []
    may_skip = skipped if chosen.skip_bad else None
    samples = open_images(chosen.data, chosen.list, chosen.limit, may_skip)
    options.warn_skipped(skipped)
    detector = Detector.load(prefix, options.fields_of(given, "detect", threads=True))
    places = false_alarms(detector, samples)
    hard_negatives.write_hard_negatives(chosen.output, chosen.data, str(prefix), places)
    images = len({place.image for place in places})
    print(f"{len(places)} places without text in {images} of {len(samples)} images -> {chosen.output}")
    return 0
