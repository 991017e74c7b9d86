"""What the commands share: the parser, options for fields of the configuration, checks of values."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import itertools
import logging
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from efficientnet_east import config as configuration
from efficientnet_east.backbones import catalog
from efficientnet_east.checkpoints import bundled
from efficientnet_east.cli import slim_flags
from efficientnet_east.data.layouts import LAYOUTS
from efficientnet_east.errors import UserError

logger = logging.getLogger(__name__)

COMMON = "common options"
MORE = "more options"
MAX_SIDE = 65536  # pixels
MODEL_DECIDES = "How maps become boxes. The model brings a value for each option that you leave out."
SHORT = 12  # options that the first line of the help lists
_METAVARS = {
    "data": "DIR", "val_data": "DIR", "workdir": "DIR", "list": "FILE", "val_list": "FILE", "init": "PATH",
    "backbone": "NAME", "frozen": "PART", "milestones": "X,X,...", "scales": "X,X,...",
}  # fmt: skip

_Options = TypeVar("_Options")


class Parser(argparse.ArgumentParser):
    """Takes options as whole words only, and raises one UserError instead of printing all options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, exit_on_error=False, **settings)
        self._words: list[str] = []
        self._optionals.title = COMMON

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; refuse what is unknown, and name the nearest option of this command."""
        self._words = list(sys.argv[1:] if args is None else args)
        try:
            parsed, unknown = super().parse_known_args(args, namespace)
        except argparse.ArgumentError as error:
            raise self._refusal(error) from None
        if unknown:
            raise self._unknown(unknown[0])
        return parsed, unknown

    def _unknown(self, word: str) -> UserError:
        given = word.split("=")[0]
        known = [name for name in self.flags().values() if name.startswith("--")]
        near = difflib.get_close_matches(given, known, n=1)
        nearest = f"{near[0]} (did you mean that?)" if near else "what --help lists"
        return UserError(given, "unknown argument", f"expected {slim_flags.hint(given, known) or nearest}")

    def _refusal(self, error: argparse.ArgumentError) -> UserError:
        problem, _, choices = error.message.partition(" (choose from ")
        problem, _, expected = problem.partition("; ")
        hint = f"expected {choices[:-1].replace(chr(39), '')}" if choices else expected
        return UserError(error.argument_name or self.prog, problem, hint or self._see())

    def _see(self) -> str:
        return f"see `{self.prog} --help`"

    def error(self, message: str) -> NoReturn:
        """Raise the error that argparse would print; if an option is missing it may be a misspelt one."""
        options = itertools.takewhile(lambda word: word != "--", self._words)
        for word in (word for word in options if word.startswith("--")):
            if word.split("=")[0] not in self._option_string_actions:
                raise self._unknown(word)
        raise UserError(self.prog, message, self._see())

    def flags(self) -> dict[str, str]:
        """List the options: the name of the value in the program -> the option as users write it."""
        actions = [action for action in self._actions if action.option_strings]
        return {action.dest: max(action.option_strings, key=_as_written) for action in actions}

    def format_help(self) -> str:
        """Format the help; its first line has the options that must be given, not the whole list."""
        if self.usage is None and len(self._actions) > SHORT:
            needed = [action for action in self._actions if action.required and action.option_strings]
            words = [f"{action.option_strings[0]} {action.metavar}" for action in needed]
            places = [f"[{action.metavar} ...]" for action in self._actions if action.nargs == "*"]
            self.usage = " ".join(["%(prog)s", *words, "[options]", *places])
        return super().format_help()

    def add_silent(self, action: argparse.Action, *names: str) -> None:
        """Let an option be written in another way, too, which --help does not show."""
        for name in names:
            self._option_string_actions[name] = action


class OnOff(argparse.BooleanOptionalAction):
    """`--color` and `--no-color`, also where they are written in a silent way."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Set the value."""
        setattr(namespace, self.dest, not str(option_string).startswith("--no-"))


def _as_written(option: str) -> tuple[bool, bool]:
    return option.startswith("--"), not option.startswith("--no-")


# --- fields of the configuration


def add_fields(
    parser: Parser,
    sections: Collection[str],
    common: Collection[str] = (),
    without: Collection[str] = (),
) -> None:
    """Add an option for each field of sections of the configuration; one that is not given sets nothing.

    Args:
      parser: of a command.
      sections: their names.
      common: fields that most users need. They come first in the help.
      without: fields that the command does not take.

    Where the section `detect` comes alone, a model brings values of its own, and the help says so.
    """
    known = {name: (section, info) for section, name, info in configuration.fields() if section in sections}
    from_model = set(sections) == {"detect"}
    for name in common:
        if name in known:
            info = known[name][1]
            help = f"{info.description} [the model's]" if from_model else _with_default(info)
            add_field(parser, parser, name, info, help=help)
    for section in sections:
        about = MODEL_DECIDES if from_model else configuration.SECTIONS[section].__doc__
        group = parser.add_argument_group(section, about)
        for name, (home, info) in known.items():
            if home == section and name not in common and name not in without:
                help = f"{info.description}" if from_model else _with_default(info)
                add_field(parser, group, name, info, help=help)


def add_threads(parser: Parser) -> None:
    """Add `--threads`, which is a field of the section `train`, to a command that only detects."""
    add_field(parser, parser, "threads", configuration.Train.model_fields["threads"])


def add_field(parser: Parser, group: Any, name: str, info: Any, **settings: Any) -> None:
    """Add the option of one field.

    Args:
      parser: of the command.
      group: of options in it, or the parser.
      name: of the field.
      info: what pydantic knows of it.
      **settings: of `add_argument`, which win.
    """
    flag = f"--{name.replace('_', '-')}"
    described = {"default": argparse.SUPPRESS, "help": _with_default(info)}
    action = group.add_argument(flag, dest=name, **described | _form(name, info) | settings)
    if name == "backbone":
        suggest(action, catalog.names())
    old = [old for old, new in configuration.RENAMED.items() if new == name]
    for spelling in {name, *old, *(one.replace("_", "-") for one in old)}:
        negative = [f"--no-{spelling}"] if info.annotation is bool else []
        parser.add_silent(action, f"--{spelling}", *negative)


def suggest(action: argparse.Action, words: Collection[str]) -> None:
    """Let a shell complete the value of an option; `choices` need no such call.

    Args:
      action: the option.
      words: what it takes, one or several of them with commas between.
    """

    def complete(prefix: str, **unused: Any) -> list[str]:
        before, comma, _ = prefix.rpartition(",")
        return [before + comma + word for word in words]

    action.completer = complete  # type: ignore[attr-defined]  # argcomplete looks for it


def _with_default(info: Any) -> str:
    return f"{info.description} [{_default(info.default)}]"


def _default(value: Any) -> str:
    """Write a default as an option takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    words = {type(None): "none", bool: "yes" if value else "no"}
    return words.get(type(value), str(value))


def _form(name: str, info: Any) -> dict[str, Any]:
    """How the option of a field takes its value."""
    if info.annotation is bool:
        return {"action": OnOff}
    if name == "mix":
        return {"action": "append", "metavar": "SOURCE=WEIGHT"}
    kinds = typing.get_args(info.annotation) or (info.annotation,)
    if typing.get_origin(info.annotation) is typing.Literal:
        kind = int if isinstance(kinds[0], int) else str
        return {"type": kind, "choices": kinds, "metavar": "|".join(map(str, kinds))}
    numeric = len(kinds) == 1 or isinstance(info.annotation, types.UnionType)
    metavars: dict[Any, str] = {int: "N", float: "X"}
    metavar = _METAVARS.get(name, "VALUE")
    form: dict[str, Any] = {"metavar": metavars.get(kinds[0], metavar) if numeric else metavar}
    if info.default is None:
        form["type"] = _value_or_none
    return form


def _value_or_none(text: str) -> str | None:
    """So that an option can take back what a configuration file says."""
    return None if text == "none" else text


def fields_of(given: Mapping[str, Any], *sections: str, threads: bool = False) -> dict[str, Any]:
    """Pick the fields of sections that were given as options.

    Args:
      given: all values of the command.
      sections: names of sections.
      threads: whether `threads` is wanted, too.
    """
    names = {name for section, name, _ in configuration.fields() if section in sections}
    names |= {"threads"} if threads else set()
    return {name: value for name, value in given.items() if name in names}


# --- options that several commands have


def add_model(
    parser: Parser,
    help: str,
    *,
    default: str | None = None,
    several: bool = False,
    required: bool = False,
    otherwise: str = bundled.DEFAULT,
) -> None:
    """Add `--model`; `--checkpoint` is its old name.

    Args:
      parser: of the command.
      help: which models it takes, besides the bundled ones.
      default: if none is given.
      several: whether it may be given more than once. The value is a list then, or None.
      required: whether it must be given.
      otherwise: what the command takes if it is not given, for people.
    """
    known = ", ".join(f"{name} ({model.purpose})" for name, model in bundled.MODELS.items())
    help = f"{help}; or a model of the package: {known}" + ("" if required else f" [{otherwise}]")
    action = parser.add_argument(
        "--model", metavar="PATH|NAME", required=required, action="append" if several else "store",
        default=default, help=help,
    )  # fmt: skip
    parser.add_silent(action, "--checkpoint")


def add_data(parser: Parser, help: str, *, limit: str = "", required: bool = True) -> None:
    """Add `--data` and `--list`.

    Args:
      parser: of the command.
      help: which images the folder holds.
      limit: what the command does with the first N images, for a third option `--limit`.
      required: whether a folder must be given.
    """
    parser.add_argument("--data", metavar="DIR", required=required, help=help)
    parser.add_argument("--list", metavar="FILE", help="text file with names of images in --data to use")
    if limit:
        parser.add_argument("--limit", metavar="N", type=number(int, 1), help=f"{limit} the first N images")


def add_split(parser: Parser) -> None:
    """Add `--split`."""
    help = "which images to use, if the data set has both kinds [train]"
    parser.add_argument("--split", choices=tuple(LAYOUTS), default="train", help=help)


def add_skip_bad(parser: Parser) -> None:
    """Add `--skip-bad`."""
    help = "skip images that cannot be used, and name them, instead of stopping"
    parser.add_argument("--skip-bad", action="store_true", help=help)


# --- values


def number(
    kind: type[int] | type[float],
    least: float = -float("inf"),
    most: float = float("inf"),
    above: bool = False,
) -> Callable[[str], Any]:
    """Make the type of an option that takes a number of some range.

    Args:
      kind: of the number.
      least: the smallest that is taken.
      most: the largest that is taken.
      above: whether `least` itself is too small.

    Returns:
      For `type=` of `add_argument`.
    """

    def convert(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            word = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"is {text!r}; expected a {word}") from None
        if not (least < value if above else least <= value) or not value <= most:
            raise argparse.ArgumentTypeError(f"is {text}; expected {_range(least, most, above)}")
        return value

    return convert


def _range(least: float, most: float, above: bool) -> str:
    if most == float("inf"):
        return f"a number above {least:g}" if above else f"{least:g} or more"
    if least == -float("inf"):
        return f"at most {most:g}"
    return f"a number above {least:g}, up to {most:.0f}" if above else f"{least:g} to {most:.0f}"


def width_and_height(text: str) -> tuple[int, int]:
    """Read a size as people write it; the `type=` of an option.

    Args:
      text: `512` for a square, or `1280x720`: width before height, in pixels.

    Returns:
      (height, width).

    Raises:
      ArgumentTypeError: something else, or a side of 0 or more than `MAX_SIDE` pixels.
    """
    match = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text)
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        expected = f"one side such as 512, or WIDTHxHEIGHT such as 1280x720, each from 1 to {MAX_SIDE}"
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used; expected {expected}")
    return height, width


def file_name(example: str, suffix: str = "") -> Callable[[str], str]:
    """Make the type of an option that names a file to write.

    Args:
      example: of a name, for the error.
      suffix: that the name must have; empty for any.
    """

    def convert(text: str) -> str:
        if Path(text).is_dir():
            raise argparse.ArgumentTypeError(f"{text} is a folder; expected a file name such as {example}")
        if suffix and Path(text).suffix.lower() != suffix:
            raise argparse.ArgumentTypeError(
                f"{text} does not end in {suffix}; expected a file name such as {example}"
            )
        return text

    return convert


# --- what a command does with them


def pick(kind: type[_Options], given: Mapping[str, Any], **more: Any) -> _Options:
    """Build the options of a command.

    Args:
      kind: a dataclass.
      given: all values of the command; those that the dataclass has no field for are left alone.
      **more: other fields.
    """
    names = {field.name for field in dataclasses.fields(typing.cast(Any, kind))}
    return kind(**{name: value for name, value in given.items() if name in names} | more)


def expect_with(given: Mapping[str, Any], names: Sequence[str], other: str) -> None:
    """Refuse options that say something about another one which was not given.

    Args:
      given: all values of the command.
      names: of the options.
      other: the option that they need.

    Raises:
      UserError: one is given without the other.
    """
    for name in names:
        if given.get(name) is not None and given.get(other) is None:
            raise UserError(name, f"needs --{other}", f"Give both, or leave out --{name.replace('_', '-')}.")


def warn_skipped(skipped: Iterable[object]) -> None:
    """Name the images that are skipped.

    Args:
      skipped: an error for each.
    """
    for error in skipped:
        logger.warning("skipped: %s", error)
