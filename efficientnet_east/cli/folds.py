"""The command `folds`: lists of images for cross-validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east.cli import options
from efficientnet_east.data.datasets import find_records
from efficientnet_east.data.folds import split
from efficientnet_east.data.image_lists import read_image_list, write_image_lists
from efficientnet_east.files.folders import make_folder


@dataclasses.dataclass(frozen=True)
class Options:
    """What is split, and how.

    Attributes:
      data: a data set.
      list: a file of image names, or None for all.
      folds: their number.
      seed: of the random order.
      output: the folder for the lists.
    """

    data: str
    list: str | None
    folds: int
    seed: int
    output: str


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    options.add_data(parser, "images and ground truth to train on")
    parser.add_argument("--folds", metavar="N", type=int, default=5, help="number of folds [5]")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of the random order [1]")
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for the lists")


def run(given: Mapping[str, Any]) -> int:
    """Write fold0_train.txt, fold0_val.txt and so on.

    Raises:
      UserError: the data set has too few images, or the lists cannot be written.
    """
    chosen = options.pick(Options, given)
    names = read_image_list(chosen.list) if chosen.list else None
    images = [record.image.name for record in find_records(chosen.data, names)]
    lists = {}
    for number, parts in enumerate(split(images, chosen.folds, chosen.seed)):
        for purpose, part in zip(("train", "val"), parts, strict=True):
            lists[Path(chosen.output) / f"fold{number}_{purpose}.txt"] = part
    folder = make_folder(chosen.output, "output")
    write_image_lists(lists)
    print(f"{len(images)} images in {chosen.folds} folds. To train on the first:")
    print(f"train --data {chosen.data} --list {folder}/fold0_train.txt --val-list {folder}/fold0_val.txt")
    return 0
