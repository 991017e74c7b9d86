"""The command `convert`: a data set in any format becomes ICDAR text files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east.cli import options
from efficientnet_east.data.convert import GTS, expect_apart, write_icdar
from efficientnet_east.data.datasets import find_records
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.errors import UserError, one_line
from efficientnet_east.files.folders import make_folder


@dataclasses.dataclass(frozen=True)
class Options:
    """What is converted.

    Attributes:
      data: a data set.
      list: a file of image names, or None for all.
      limit: how many images at most, or None.
      split: a key of `LAYOUTS`.
      skip_bad: whether images that cannot be used are skipped.
      copy_images: whether images are copied, too.
      output: the folder to write.
    """

    data: str
    list: str | None
    limit: int | None
    split: str
    skip_bad: bool
    copy_images: bool
    output: str


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    options.add_data(parser, "a data set in any format that this program reads", limit="convert")
    options.add_split(parser)
    options.add_skip_bad(parser)
    parser.add_argument("--copy-images", action="store_true", help="copy the images to OUTPUT/images, too")
    help = "folder to write; it gets gts/gt_NAME.txt for each image"
    parser.add_argument("--output", metavar="DIR", required=True, help=help)


def run(given: Mapping[str, Any]) -> int:
    """Convert a data set.

    Raises:
      UserError: the data set cannot be used, or the folder cannot be written.
    """
    chosen = options.pick(Options, given)
    skipped: list[UserError] = []
    names = read_image_list(chosen.list) if chosen.list else None
    may_skip = skipped if chosen.skip_bad else None
    records = find_records(chosen.data, names, chosen.limit, may_skip, chosen.split)
    folder = Path(chosen.output)
    expect_apart(folder, records)
    make_folder(folder, "output")
    write_icdar(folder, records, copy_images=chosen.copy_images)
    options.warn_skipped(skipped)
    texts = sum(len(record.truth.texts) for record in records)
    ignored = sum(int(record.truth.ignore.sum()) for record in records)
    print(one_line(f"{len(records)} images, {texts} texts ({ignored} of them ###) -> {folder / GTS}"))
    return 0
