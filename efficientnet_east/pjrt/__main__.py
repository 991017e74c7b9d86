"""`python -m efficientnet_east.pjrt DIR --workdir W ...`: train an exported step, without TensorFlow."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

from efficientnet_east import config as configuration
from efficientnet_east.errors import UserError
from efficientnet_east.pjrt import trainer
from efficientnet_east.pjrt.device import PLATFORMS
from efficientnet_east.pjrt.manifest import RUN_FIELDS
from efficientnet_east.system import installed, interruption

EXIT_USER_ERROR = 2
# They act on the first state alone, on TensorFlow's threads, or on pictures and validations, never made here.
WITHOUT_EFFECT = {"init", "recalibrate", "threads", "picture_every", "validate_every"}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> typing.NoReturn:
        raise UserError("efficientnet_east.pjrt", message, "expected what --help lists")


def parser() -> argparse.ArgumentParser:
    """Build the parser: the export, where to run it, and the fields of the configuration that may change."""
    top = _Parser(
        prog="python -m efficientnet_east.pjrt", description="train an exported step", allow_abbrev=False
    )
    top.add_argument("export", metavar="DIR", help="folder made by `export --format stablehlo-train`")
    top.add_argument("--platform", choices=PLATFORMS, default="auto", help="of the device [auto]")
    for section in ("data", "train"):
        group = top.add_argument_group(section, "defaults: as exported")
        for name, field in configuration.SECTIONS[section].model_fields.items():
            if name in RUN_FIELDS[section] - WITHOUT_EFFECT:
                _add_field(group, name, field)
    return top


def _add_field(group: typing.Any, name: str, field: typing.Any) -> None:
    flags = list(dict.fromkeys([f"--{name.replace('_', '-')}", f"--{name}"]))
    options: dict[str, typing.Any] = {"dest": name, "default": argparse.SUPPRESS, "help": field.description}
    if field.annotation is bool:
        options["action"] = argparse.BooleanOptionalAction
    else:
        options["metavar"] = "VALUE"
    if name == "mix":
        options |= {"action": "append", "metavar": "SOURCE=WEIGHT"}
    elif field.default is None:
        options["type"] = lambda text: None if text == "none" else text
    if name == "workdir":
        options |= {"required": True, "help": "for states and events; resumed if it has some"}
    group.add_argument(*flags, **options)


def main(argv: Sequence[str] | None = None) -> int:
    """Train.

    Args:
      argv: the arguments; None takes those of the process.

    Returns:
      The exit code: 0, 2 for an error of the user's making, 130 after Ctrl-C, 143 after SIGTERM.
    """
    installed.leave_working_folder()
    with interruption.watch() as told:
        try:
            given = vars(parser().parse_args(argv))
            folder, platform = Path(given.pop("export")), given.pop("platform")
            return 0 if trainer.train(folder, given, platform) else told.exit_code
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return told.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
