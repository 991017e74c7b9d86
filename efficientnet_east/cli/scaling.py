"""The subcommand `scaling` of the command line: parse, call, print."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from efficientnet_east.backbones import catalog, report, report_chart
from efficientnet_east.backbones.costs import KEPT_MAPS
from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import write_file
from efficientnet_east.scaling import PRE_STRIDES


def add_options(sub: argparse.ArgumentParser) -> None:
    """Give the subcommand's parser its options.

    Args:
      sub: the parser, changed in place.
    """
    sub.add_argument("names", metavar="NAME", nargs="*", help=f"{', '.join(catalog.names())}; none: all")
    sub.add_argument(
        "--phi", metavar="X", action="append", default=[], help="B0 scaled by this; may be given again"
    )
    sub.add_argument("--size", metavar="N|WxH", help="of the images, in pixels [each one's own]")
    sub.add_argument("--batch", metavar="N", type=int, default=1, help="images in a training step [1]")
    sub.add_argument("--activation", metavar="|".join(KEPT_MAPS), help="that memory is counted for [its own]")
    sub.add_argument(
        "--pre-stride", metavar="|".join(PRE_STRIDES), default="block", help="which maps f1 to f5 are [block]"
    )
    sub.add_argument("--classes", metavar="N", type=int, help="with head and classifier of so many classes")
    sub.add_argument("--json", metavar="FILE", help="write everything here; - for the terminal, alone")
    sub.add_argument("--plot", metavar="FILE.png", help="draw parameters and multiply-adds against phi")


def run(arguments: argparse.Namespace) -> int:
    """Count, write and print what was asked for.

    Args:
      arguments: of `add_options`.

    Returns:
      The exit code, 0.

    Raises:
      UserError: a name, a size or another value cannot be used, or a file cannot be written.
    """
    if arguments.plot and Path(arguments.plot).suffix.lower() != ".png":
        raise UserError("--plot", f"{arguments.plot} is no .png", "expected a file name such as scaling.png")
    if arguments.json and Path(arguments.json).is_dir():
        raise UserError(
            "--json", f"{arguments.json} is a folder", "expected a file name such as out.json, or -"
        )
    size = report.parse_size(arguments.size) if arguments.size else None
    options = {name: getattr(arguments, name) for name in ("batch", "activation", "pre_stride", "classes")}
    asked = list(dict.fromkeys([*arguments.names, *map(report.phi_name, arguments.phi)]))
    names = asked or report.offered(arguments.activation, arguments.pre_stride)
    reports = [report.describe(name, size, **options) for name in names]
    figures = json.dumps(report.as_dict(reports), indent=2)
    if arguments.plot:
        write_file(arguments.plot, report_chart.against_phi(reports if asked else [], size, **options))
    if arguments.json not in (None, "-"):
        write_file(arguments.json, (figures + "\n").encode())
    table = report.text(reports) if asked else report.overview(reports)
    print(figures if arguments.json == "-" else table)
    return 0
