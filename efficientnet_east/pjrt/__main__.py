"""`python -m efficientnet_east.pjrt DIR --workdir W ...`: train an exported step, without TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.cli import messages, options
from efficientnet_east.errors import UserError
from efficientnet_east.pjrt import trainer
from efficientnet_east.pjrt.device import PLATFORMS
from efficientnet_east.pjrt.manifest import RUN_FIELDS
from efficientnet_east.system import installed, interruption, quiet

EXIT_USER_ERROR = 2
# They act on the first state alone, on TensorFlow's threads, or on pictures and validations, never made here.
WITHOUT_EFFECT = {"init", "recalibrate", "threads", "picture_every", "validate_every"}
COMMON = ("data", "list", "mix", "steps", "learning_rate", "seed")


def parser() -> options.Parser:
    """Build the parser: the export, where to run it, and the fields of the configuration that may change."""
    top = options.Parser(
        prog="python -m efficientnet_east.pjrt",
        description="Train an exported train step. The defaults of all fields are those of the export.",
    )
    top.add_argument("export", metavar="DIR", help="folder made by `export --format stablehlo-train`")
    workdir = configuration.Train.model_fields["workdir"]
    options.add_field(top, top, "workdir", workdir, required=True, help="folder of the run, which is resumed")
    top.add_argument("--platform", choices=PLATFORMS, default="auto", help="device to use [auto]")
    help = "show debug messages, and start-up messages of libraries"
    top.add_argument("--verbose", action="store_true", help=help)
    fixed = {name for _, name, _ in configuration.fields()} | {"workdir"}
    for section in ("data", "train"):
        fixed -= RUN_FIELDS[section] - WITHOUT_EFFECT - {"workdir"}
    options.add_fields(top, ("data", "train"), [name for name in COMMON if name not in fixed], fixed)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Train.

    Args:
      argv: the arguments; None takes those of the process.

    Returns:
      The exit code: 0, 2 for an error of the user's, 130 after Ctrl-C, 143 after SIGTERM.
    """
    installed.ignore_working_folder()
    given: dict[str, Any] = {}
    flags: dict[str, str] = {}
    with interruption.watch() as interrupted:
        try:
            known = parser()
            given, flags = vars(known.parse_args(argv)), known.flags()
            return 0 if _train(dict(given), flags) else interrupted.exit_code
        except UserError as error:
            print(f"error: {messages.describe(error, given, flags)}", file=sys.stderr)
            return EXIT_USER_ERROR
        except OSError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return interrupted.exit_code


def _train(given: dict[str, Any], flags: dict[str, str]) -> bool:
    """Train with the given fields; whether the run reached its end."""
    folder, platform, verbose = Path(given.pop("export")), given.pop("platform"), given.pop("verbose")
    if not verbose:
        quiet.hush()
    with messages.log_to_terminal(verbose=verbose, flags=flags):
        return trainer.train(folder, given, platform)


if __name__ == "__main__":
    raise SystemExit(main())
