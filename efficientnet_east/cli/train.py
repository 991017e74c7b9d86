"""The command `train`: train a detector, or resume a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.cli import options
from efficientnet_east.system import interruption

COMMON = ("data", "val_data", "val_list", "workdir", "init", "backbone", "steps", "batch_size",
          "learning_rate", "devices")  # fmt: skip


def add_options(parser: options.Parser) -> None:
    """Declare the options: a file, and all fields of the configuration."""
    help = "YAML file with a configuration, such as those in configs/; options win over it"
    parser.add_argument("--config", metavar="FILE", help=help)
    options.add_fields(parser, configuration.SECTIONS, COMMON)


def run(given: Mapping[str, Any]) -> int:
    """Train.

    Returns:
      The exit code: 0 at the end of the run, 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
      UserError: the configuration or the data cannot be used.
    """
    fields = options.fields_of(given, *configuration.SECTIONS)
    config = configuration.load_for_training(given["config"], fields)
    with interruption.watch() as interrupted:
        from efficientnet_east.training import session

        try:
            finished = session.train(config)
        except KeyboardInterrupt:  # before the first step or after the last
            print("interrupted", file=sys.stderr)
            finished = False
    return 0 if finished else interrupted.exit_code
