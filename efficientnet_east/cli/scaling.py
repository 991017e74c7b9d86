"""The command `scaling`: what backbones cost, without building them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from efficientnet_east.backbones import catalog, report, report_chart
from efficientnet_east.backbones.costs import KEPT_MAPS
from efficientnet_east.cli import options
from efficientnet_east.files.atomic import write_file
from efficientnet_east.scaling import PRE_STRIDES


@dataclasses.dataclass(frozen=True)
class Options:
    """What is counted.

    Attributes:
      names: of backbones; none for all.
      phi: compound coefficients, each of which scales B0.
      size: (height, width) of the images, or None for each backbone's own.
      batch: images in a training step.
      activation: that memory is counted for, or None for each backbone's own.
      pre_stride: which maps f1 to f5 are.
      classes: of the classifier, or None for the trunk alone.
      json: a file to write, or `-` for stdout, or None.
      plot: a picture to write, or None.
    """

    names: list[str]
    phi: list[str]
    size: tuple[int, int] | None
    batch: int
    activation: str | None
    pre_stride: str
    classes: int | None
    json: str | None
    plot: str | None


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    help = f"{', '.join(catalog.names())} [all]"
    options.suggest(parser.add_argument("names", metavar="NAME", nargs="*", help=help), catalog.names())
    help = "scale B0 by this compound coefficient; can be repeated"
    parser.add_argument("--phi", metavar="X", action="append", default=[], help=help)
    help = "image size in pixels: one side, or WIDTHxHEIGHT [the backbone's own]"
    parser.add_argument("--size", metavar="N|WxH", type=options.width_and_height, help=help)
    parser.add_argument("--batch", metavar="N", type=int, default=1, help="images in a training step [1]")
    help = "count memory for this activation [the backbone's own]"
    parser.add_argument("--activation", metavar="|".join(KEPT_MAPS), help=help)
    help = "which maps f1 to f5 are [block]"
    parser.add_argument("--pre-stride", metavar="|".join(PRE_STRIDES), default="block", help=help)
    help = "also count head and classifier, of N classes"
    parser.add_argument("--classes", metavar="N", type=int, help=help)
    help = "write all figures as JSON; - prints them instead of the table"
    parser.add_argument("--json", metavar="FILE", type=options.file_name("out.json"), help=help)
    plot = options.file_name("scaling.png", ".png")
    help = "draw parameters and multiply-adds against phi"
    parser.add_argument("--plot", metavar="FILE.png", type=plot, help=help)


def run(given: Mapping[str, Any]) -> int:
    """Count, write and print.

    Raises:
      UserError: a name, a size or another value cannot be used, or a file cannot be written.
    """
    chosen = options.pick(Options, given)
    counted = {name: given[name] for name in ("batch", "activation", "pre_stride", "classes")}
    asked = list(dict.fromkeys([*chosen.names, *map(report.phi_name, chosen.phi)]))
    names = asked or report.offered(chosen.activation, chosen.pre_stride)
    reports = [report.describe(name, chosen.size, **counted) for name in names]
    figures = json.dumps(report.as_dict(reports), indent=2)
    if chosen.plot:
        write_file(chosen.plot, report_chart.against_phi(reports if asked else [], chosen.size, **counted))
    if chosen.json not in (None, "-"):
        write_file(chosen.json, (figures + "\n").encode())
    table = report.text(reports) if asked else report.overview(reports)
    print(figures if chosen.json == "-" else table)
    return 0
