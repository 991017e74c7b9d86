"""The command `check-data`: read a whole data set as training would, and list what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east.cli import options
from efficientnet_east.config import Data
from efficientnet_east.data import check
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.data.images import write_image
from efficientnet_east.data.layouts import LAYOUTS
from efficientnet_east.errors import UserError, one_line
from efficientnet_east.evaluation.report import as_csv
from efficientnet_east.files.atomic import write_file
from efficientnet_east.files.folders import make_folder

logger = logging.getLogger(__name__)

CLEAN, PROBLEMS = 0, 1  # exit codes; 2, as everywhere: there is nothing to check
MAX_SIDE, MAX_SCALE = 1e6, 1e6
SHOWN = 5  # hints of one kind that are printed
FIGURES, FINDINGS, MOSAIC, HISTOGRAMS = "check.json", "findings.csv", "mosaic.jpg", "texts.png"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is checked.

    Attributes:
      data: a data set.
      list: a file of image names, or None for all.
      limit: how many images at most, or None.
      split: a key of `LAYOUTS`.
      min_text_side: see the configuration's section `data`.
      scale_max: see the configuration's section `data`.
      report: a folder to write, or None.
    """

    data: str
    list: str | None
    limit: int | None
    split: str
    min_text_side: float
    scale_max: float
    report: str | None


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    options.add_data(parser, "images and ground truth", limit="check")
    options.add_split(parser)
    for name, kind in (
        ("min_text_side", options.number(float, 0, MAX_SIDE)),
        ("scale_max", options.number(float, 0, MAX_SCALE, above=True)),
    ):
        info = Data.model_fields[name]
        help = f"{info.description} [{info.default}]"
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, metavar="X", type=kind, default=info.default, help=help)
    help = "folder to write: all findings, histograms, and some images with their texts drawn"
    parser.add_argument("--report", metavar="DIR", help=help)


def run(given: Mapping[str, Any]) -> int:
    """Check a data set.

    Returns:
      The exit code: 0, or 1 if there are problems (hints do not count).

    Raises:
      UserError: there is nothing to check, or the report cannot be written.
    """
    chosen = options.pick(Options, given)
    if chosen.report:
        _expect_elsewhere(Path(chosen.report), Path(chosen.data))
    names = read_image_list(chosen.list) if chosen.list else None
    # Thinner texts, in pixels of the image, are never trained on, however a crop is scaled and stretched.
    least_side = chosen.min_text_side / (chosen.scale_max * Data().aspect)
    folder = make_folder(chosen.report, "report") if chosen.report else None
    found = check.check(chosen.data, names, chosen.limit, chosen.split, least_side=least_side, progress=True)
    if folder:  # before anything is printed, which whoever reads it may cut short
        _write(folder, found)
    _show(found)
    return PROBLEMS if found.problems else CLEAN


def _expect_elsewhere(report: Path, data: Path) -> None:
    """A report among the images would be a part of the data set."""
    inside = {data, *(data / name for pairs in LAYOUTS.values() for pair in pairs for name in pair)}
    if report.resolve() in {path.resolve() for path in inside}:
        raise UserError("report", f"{report} is a folder of the data set", "expected another folder")


def _show(found: check.Checked) -> None:
    for problem in found.problems:
        print(f"problem: {problem}")
    kinds = Counter(hint.kind for hint in found.hints)
    for kind, count in kinds.items():
        for hint in [hint for hint in found.hints if hint.kind == kind][:SHOWN]:
            print(f"hint: {hint}")
        if count > SHOWN:
            print(f"hint: {kind}: {count - SHOWN} more, in the report (--report DIR)")
    for name, count in found.counts().items():
        print(f"{count:8d} {name}")
    for kind, bins in found.histograms().items():
        print(f"{kind}: {', '.join(f'{label} {count}' for label, count in bins.items() if count) or 'none'}")
    verdict = "has problems" if found.problems else "is ready for training"
    print(one_line(f"{found.folder} {verdict}"))


def _write(folder: Path, found: check.Checked) -> None:
    write_file(folder / FIGURES, (json.dumps(found.as_dict(), indent=1) + "\n").encode())
    rows = [
        {"kind": part.kind or "problem", "file": part.file, "line": "" if part.line is None else part.line,
         "problem": part.problem, "fix": part.fix}
        for part in (*found.problems, *found.hints)
    ]  # fmt: skip
    write_file(folder / FINDINGS, as_csv(rows, ("kind", "file", "line", "problem", "fix")))
    write_file(folder / HISTOGRAMS, check.histogram_chart(found))
    if found.records:
        write_image(folder / MOSAIC, check.draw_mosaic(found))
    logger.info("report: %s", one_line(str(folder)))
