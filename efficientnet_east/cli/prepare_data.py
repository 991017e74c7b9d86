"""The commands `folds`, `mine` and `convert`, which prepare what a run is trained on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from efficientnet_east.config import Detect
from efficientnet_east.data import hard_negatives
from efficientnet_east.data.convert import GTS, expect_apart, write_icdar
from efficientnet_east.data.datasets import find_records
from efficientnet_east.data.folds import split
from efficientnet_east.data.image_lists import read_image_list, write_image_lists
from efficientnet_east.data.layouts import LAYOUTS
from efficientnet_east.errors import UserError, one_line
from efficientnet_east.files.folders import make_folder


def add_fold_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `folds` takes."""
    _add_images(sub)
    sub.add_argument("--folds", metavar="N", type=int, default=5, help="number of folds [5]")
    sub.add_argument("--seed", metavar="N", type=int, default=1, help="another one gives other folds [1]")
    sub.add_argument("--output", metavar="DIR", required=True, help="folder for the lists")


def add_mine_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `mine` takes, but for the section `detect`."""
    purpose = "workdir of train.py, its folder best, or a prefix"
    sub.add_argument("--checkpoint", metavar="WORKDIR", required=True, help=purpose)
    _add_images(sub)
    sub.add_argument("--limit", metavar="N", type=int, help="look through the first N images only")
    sub.add_argument("--skip-bad", action="store_true", help="leave out what cannot be used, and list it")
    sub.add_argument("--output", metavar="FILE", required=True, help="for the places; ends in .json")


def add_convert_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `convert` takes."""
    sub.add_argument("--data", metavar="DIR", required=True, help="a data set in any format that is read")
    sub.add_argument("--list", metavar="FILE", help="text file of the image names to convert")
    sub.add_argument("--limit", metavar="N", type=int, help="convert the first N usable images only")
    help = "which images, where the data set has both [train]"
    sub.add_argument("--split", choices=tuple(LAYOUTS), default="train", help=help)
    sub.add_argument("--skip-bad", action="store_true", help="leave out what cannot be used, and list it")
    sub.add_argument("--copy-images", action="store_true", help="also copy the images, to DIR/images")
    sub.add_argument("--output", metavar="DIR", required=True, help="gets gts/gt_<image>.txt for each image")


def _add_images(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--data", metavar="DIR", required=True, help="images and ground truth to train on")
    sub.add_argument("--list", metavar="FILE", help="text file of the image names to use")


def folds(arguments: argparse.Namespace) -> int:
    """The subcommand `folds`: writes fold0_train.txt, fold0_val.txt and so on."""
    chosen = read_image_list(arguments.list) if arguments.list else None
    names = [record.image.name for record in find_records(arguments.data, chosen)]
    lists = {}
    for number, parts in enumerate(split(names, arguments.folds, arguments.seed)):
        for purpose, part in zip(("train", "val"), parts, strict=True):
            lists[Path(arguments.output) / f"fold{number}_{purpose}.txt"] = part
    folder = make_folder(arguments.output, "--output")
    write_image_lists(lists)
    print(f"{len(names)} images in {arguments.folds} folds. To train on the first:")
    print(f"train --data {arguments.data} --list {folder}/fold0_train.txt --val-list {folder}/fold0_val.txt")
    return 0


def convert(arguments: argparse.Namespace) -> int:
    """The subcommand `convert`: writes gt_<image>.txt files."""
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError("--limit", f"{arguments.limit} cannot be used", "expected 1 or more")
    skipped: list[UserError] = []
    names = read_image_list(arguments.list) if arguments.list else None
    left_out = skipped if arguments.skip_bad else None
    records = find_records(arguments.data, names, arguments.limit, left_out, arguments.split)
    folder = Path(arguments.output)
    expect_apart(folder, records)
    make_folder(folder, "--output")
    write_icdar(folder, records, copy_images=arguments.copy_images)
    for error in skipped:
        print(f"skipped: {error}", file=sys.stderr)
    texts = sum(len(record.truth.texts) for record in records)
    ignored = sum(int(record.truth.ignore.sum()) for record in records)
    print(one_line(f"{len(records)} images, {texts} texts ({ignored} of them ###) -> {folder / GTS}"))
    return 0


def mine(arguments: argparse.Namespace) -> int:
    """The subcommand `mine`."""
    if Path(arguments.output).suffix != hard_negatives.SUFFIX or Path(arguments.output).is_dir():
        raise UserError(
            "--output", f"{arguments.output} is no .json file", "expected a file name such as mined.json"
        )
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.evaluation.run import false_alarms
    from efficientnet_east.inference.detector import Detector
    from efficientnet_east.training.sources import open_images

    prefix = tf_checkpoints.find(arguments.checkpoint)
    skipped: list[UserError] = []
    left_out = skipped if arguments.skip_bad else None
    samples = open_images(arguments.data, arguments.list, arguments.limit, left_out)
    for error in skipped:
        print(f"skipped: {error}", file=sys.stderr)
    known = {*Detect.model_fields, "threads"}
    options = {name: value for name, value in vars(arguments).items() if name in known}
    places = false_alarms(Detector.load(prefix, options), samples)
    hard_negatives.write_hard_negatives(arguments.output, arguments.data, str(prefix), places)
    images = len({place.image for place in places})
    print(f"{len(places)} places without text in {images} of {len(samples)} images -> {arguments.output}")
    return 0
