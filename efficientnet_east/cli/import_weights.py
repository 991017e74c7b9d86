"""The command `import-weights`: weights of other programs under the names of this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.cli import options
from efficientnet_east.errors import UserError
from efficientnet_east.files.folders import make_folder

WEIGHT_FORMATS = ("tpu", "keras", "torch", "npz")
STATE_FORMAT = "pjrt"  # a whole run's state, which becomes a workdir


@dataclasses.dataclass(frozen=True)
class Options:
    """What is converted, and into what.

    Attributes:
      source: a weight file, a checkpoint or a SavedModel.
      format: one of `WEIGHT_FORMATS`, `STATE_FORMAT`, or None to find out.
      backbone: whose weights they are.
      output: a file, a prefix, or a workdir.
      allow_missing: whether arrays may be missing.
      allow_unused: whether the source may hold arrays that the backbone does not have.
    """

    source: str
    format: str | None
    backbone: str | None
    output: str
    allow_missing: bool
    allow_unused: bool


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--source", metavar="FILE", required=True, help="weight file, checkpoint or SavedModel"
    )
    formats = (*WEIGHT_FORMATS, STATE_FORMAT)
    parser.add_argument("--format", choices=formats, help="format of --source [found out]")
    backbones = configuration.Model.model_fields["backbone"].description
    parser.add_argument("--backbone", metavar="NAME", help=f"{backbones}; not with --format pjrt")
    help = "file to write: .npz, or the prefix of a TensorFlow checkpoint; with --format pjrt a new workdir"
    parser.add_argument("--output", metavar="FILE", required=True, help=help)
    parser.add_argument("--allow-missing", action="store_true", help="accept a source that lacks arrays")
    parser.add_argument("--allow-unused", action="store_true", help="ignore arrays that have no place here")


def run(given: Mapping[str, Any]) -> int:
    """Convert weights.

    Raises:
      UserError: the source cannot be used, or the result cannot be written.
    """
    chosen = options.pick(Options, given)
    if chosen.format == STATE_FORMAT:
        return _import_state(Path(chosen.source), Path(chosen.output))
    if chosen.backbone is None:
        raise UserError("backbone", "is missing", "expected the backbone that --source has the weights of")
    expect_output(chosen.output)
    from efficientnet_east.checkpoints import weight_files, weights

    source = weight_files.read(chosen.source, chosen.format)
    restored = weights.restore(source, chosen.backbone)
    weights.expect_complete(restored, source, chosen.allow_missing, chosen.allow_unused)
    print(restored.report())
    arrays = restored.values | restored.more
    weight_files.write(chosen.output, arrays)
    print(f"wrote {len(arrays)} arrays to {chosen.output}")
    return 0


def expect_output(path: str) -> None:
    """Check before the work is done that its result can be written.

    Args:
      path: of the file, or a prefix.

    Raises:
      UserError: it cannot.
    """
    if Path(path).is_dir():
        problem = f"{path} is a folder"
        raise UserError("output", problem, "expected a file name such as b0.npz, or a prefix in it")
    make_folder(Path(path).parent, "output")


def _import_state(source: Path, workdir: Path) -> int:
    """Make a workdir of the state of a PJRT run."""
    from efficientnet_east.pjrt.restore import restore

    prefix = restore(source, workdir)
    print(f"wrote {prefix}. To resume: efficientnet-east train --workdir {workdir}")
    return 0
