"""The subcommand `export`, and the way back of what was exported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.data.images import make_folder
from efficientnet_east.errors import UserError

FORMATS = ("stablehlo-train",)


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options that are no fields of the configuration."""
    sub.add_argument(
        "--format", choices=FORMATS, required=True, help="stablehlo-train: the train step, see docs/pjrt.md"
    )
    sub.add_argument("--output", metavar="DIR", required=True, help="folder for the program and its state")
    sub.add_argument("--config", metavar="FILE", help="YAML configuration; the options below win over it")
    sub.add_argument("--checkpoint", metavar="WORKDIR", help="go on from this run: configuration and state")
    sub.add_argument(
        "--texts", metavar="N", type=int, help="most texts in an image [as in the training data]"
    )


def run(arguments: argparse.Namespace, overrides: Mapping[str, Any]) -> int:
    """Export, and say what was written.

    Args:
      arguments: parsed.
      overrides: fields of the configuration.

    Returns:
      The exit code.

    Raises:
      UserError: see `pjrt.export.export`.
    """
    if arguments.checkpoint and arguments.config:
        raise UserError("--config", "is given beside --checkpoint", "one of them: a run has its own")
    if arguments.texts is not None and arguments.texts < 1:
        raise UserError("--texts", f"is {arguments.texts}", "1 or more")
    from efficientnet_east import checkpoints
    from efficientnet_east.inference.detector import config_beside
    from efficientnet_east.pjrt.export import export

    prefix = checkpoints.find(arguments.checkpoint) if arguments.checkpoint else None
    path = str(config_beside(prefix)) if prefix else arguments.config
    config = configuration.load(path, overrides)
    export(config, make_folder(Path(arguments.output), "--output"), prefix, arguments.texts, print)
    return 0


def import_state(arguments: argparse.Namespace) -> int:
    """Bring the state of a PJRT run back; `import-weights --format pjrt`.

    Args:
      arguments: parsed; `source` and `output` are read.

    Returns:
      The exit code.

    Raises:
      UserError: see `pjrt.restore.restore`.
    """
    from efficientnet_east.pjrt.restore import restore

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    prefix = restore(Path(arguments.source), Path(arguments.output), say)
    print(f"wrote {prefix}; train.py --workdir {arguments.output} goes on from it")
    return 0
