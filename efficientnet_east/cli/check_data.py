"""The command `check-data`, which reads a whole data set as training would."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from efficientnet_east.config import Data
from efficientnet_east.data import check
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.data.images import write_image
from efficientnet_east.data.layouts import LAYOUTS
from efficientnet_east.errors import UserError, one_line
from efficientnet_east.evaluation.report import as_csv
from efficientnet_east.files.atomic import write_file
from efficientnet_east.files.folders import make_folder

CLEAN, PROBLEMS = 0, 1  # exit codes; 2, as everywhere: there is nothing to look at
SHOWN = 5  # hints of one kind that are printed
FIGURES, FINDINGS, MOSAIC, HISTOGRAMS = "check.json", "findings.csv", "mosaic.jpg", "texts.png"


def add_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `check-data` takes."""
    sub.add_argument("--data", metavar="DIR", required=True, help="images and ground truth")
    sub.add_argument("--list", metavar="FILE", help="text file of the image names to look at")
    sub.add_argument("--limit", metavar="N", type=int, help="look at the first N usable images only")
    help = "which images, where the folder has both [train]"
    sub.add_argument("--split", choices=tuple(LAYOUTS), default="train", help=help)
    sub.add_argument("--min-text-side", metavar="X", type=float, help=_meaning("min_text_side"))
    sub.add_argument("--scale-max", metavar="X", type=float, help=_meaning("scale_max"))
    help = "write all findings, histograms and a mosaic with the texts drawn, into a folder of its own"
    sub.add_argument("--report", metavar="DIR", help=help)


def _meaning(field: str) -> str:
    info = Data.model_fields[field]
    return f"{info.description} [{info.default}]"


def run(arguments: argparse.Namespace) -> int:
    """The subcommand.

    Args:
      arguments: what was parsed.

    Returns:
      0 where nothing is wrong (hints do not count), 1 where there are problems.
    """
    if arguments.report:
        _expect_elsewhere(Path(arguments.report), Path(arguments.data))
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError("--limit", f"{arguments.limit} cannot be used", "expected 1 or more")
    names = read_image_list(arguments.list) if arguments.list else None
    least = _least_side(arguments)
    folder = make_folder(arguments.report, "--report") if arguments.report else None
    found = check.check(
        arguments.data, names, arguments.limit, arguments.split, least_side=least, progress=True
    )
    if folder:  # before anything is printed, which whoever reads it may cut short
        _write(folder, found)
    _say(found)
    return PROBLEMS if found.problems else CLEAN


def _least_side(arguments: argparse.Namespace) -> float:
    """Thinner texts, in pixels of the image, are never trained on, however a crop is scaled and stretched."""
    defaults = Data()
    side = defaults.min_text_side if arguments.min_text_side is None else arguments.min_text_side
    scale = defaults.scale_max if arguments.scale_max is None else arguments.scale_max
    if not (0 <= side < float("inf") and 0 < scale < float("inf")):
        raise UserError(
            "--min-text-side, --scale-max",
            f"{side} and {scale}",
            "expected numbers of 0 or more, and above 0",
        )
    return side / (scale * defaults.aspect)


def _expect_elsewhere(report: Path, data: Path) -> None:
    """A report among the images would be a part of the data set."""
    inside = {data, *(data / name for pairs in LAYOUTS.values() for pair in pairs for name in pair)}
    if report.resolve() in {path.resolve() for path in inside}:
        raise UserError("--report", f"{report} is a folder of the data set", "expected a folder of its own")


def _say(found: check.Checked) -> None:
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
    verdict = "NOT as training wants it" if found.problems else "as training wants it"
    print(one_line(f"{found.folder}: {verdict}"))


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
        write_image(folder / MOSAIC, check.mosaic(found))
    print(one_line(f"report: {folder}"), file=sys.stderr)
