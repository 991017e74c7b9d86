"""Write the reference pages from the program itself: configuration, commands, Python.

    python benchmarks/reference.py docs/reference

A test compares the pages with what this writes.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

import efficientnet_east
from efficientnet_east import config
from efficientnet_east.cli import main as cli

NOTE = "<!-- Written by benchmarks/reference.py. Do not edit. -->\n"
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "multiple_of": "a multiple of"}
MODULES = ("backbones", "model", "losses", "east_head", "bifpn", "scaling", "compat")


def main() -> None:
    """Write the three pages into a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (folder / name).write_text(page, encoding="utf-8")


def pages() -> dict[str, str]:
    """File name -> text."""
    return {"configuration.md": configuration(), "commands.md": commands(), "python.md": python()}


def configuration() -> str:
    """The sections of the configuration, a table each."""
    lines = [
        NOTE,
        "# Configuration",
        "",
        "Every field is an option of `train`: `learning_rate` is `--learning-rate`. Fields of `detect` are",
        "also options of the commands that detect. In a YAML file, fields are grouped by section:",
        "",
        "```yaml",
        "model:",
        "  backbone: b0",
        "train:",
        "  steps: 2000",
        "```",
        "",
        "The command line wins over the file, and the file over the defaults. An unknown field is an error.",
    ]
    for section, model in config.SECTIONS.items():
        lines += ["", f"## {section}", "", first_line(model), ""]
        lines += ["| field | default | values | |", "|---|---|---|---|"]
        lines += [field_row(name, info) for name, info in model.model_fields.items()]
    return "\n".join(lines) + "\n"


def field_row(name: str, info: Any) -> str:
    """A row for one field."""
    return f"| `{name}` | {shown(info.default)} | {values(info)} | {cell(info.description)} |"


def shown(default: Any) -> str:
    """A default as a YAML file has it."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    words = {"None": "none", "True": "on", "False": "off"}
    return words.get(str(default), str(default))


def values(info: Any) -> str:
    """What a field may be: its choices, or its type and bounds."""
    if typing.get_origin(info.annotation) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(info.annotation))
    kinds = (
        typing.get_args(info.annotation)
        if isinstance(info.annotation, types.UnionType)
        else (info.annotation,)
    )
    names = {int: "integer", float: "number", bool: "on, off", str: "text"}
    kind = names.get(kinds[0], "list")
    bounds = [
        f"{sign} {getattr(bound, key)}"
        for bound in info.metadata
        for key, sign in BOUNDS.items()
        if hasattr(bound, key)
    ]
    return ", ".join([kind, *bounds])


def commands() -> str:
    """Each command with the options of its own."""
    fields = {name for _, name, _ in config.fields()}
    (choices,) = (action.choices for action in cli.parser()._actions if isinstance(action.choices, dict))
    lines = [
        NOTE,
        "# Commands",
        "",
        "`efficientnet-east COMMAND --help` prints all options of a command.",
        "",
    ]
    lines += ["| command | what it does |", "|---|---|"]
    lines += [f"| [`{name}`](#{name}) | {cell(sub.description)} |" for name, sub in choices.items()]
    for name, sub in choices.items():
        lines += ["", f"## {name}", "", sentence(sub.description), ""]
        own = [action for action in sub._actions if action.dest not in fields | {"help", "command"}]
        if own:
            lines += ["| option | |", "|---|---|", *map(option_row, own), ""]
        shared = {action.dest for action in sub._actions} & fields
        sections = [
            s for s, model in config.SECTIONS.items() if shared & set(model.model_fields) - {"threads"}
        ]
        if sections:
            links = " and ".join(f"[{section}](configuration.md#{section})" for section in sections)
            lines += [f"Also the fields of {links}."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def option_row(action: argparse.Action) -> str:
    """A row for one option or argument."""
    names = [name for name in action.option_strings if "_" not in name] or [
        str(action.metavar or action.dest)
    ]
    value = ""
    if action.option_strings and action.nargs != 0:
        choices = "\\|".join(map(str, action.choices)) if action.choices else ""
        value = " " + choices if choices else f" {action.metavar or action.dest.upper()}"
    shown = ", ".join(f"`{name}{value}`".replace("\\|", "|") for name in names).replace("|", "\\|")
    return f"| {shown} | {cell((action.help or '').replace('%%', '%'))} |"


def python() -> str:
    """The public names, with their signatures and docstrings."""
    lines = [NOTE, "# Python", "", "Importing `efficientnet_east` loads neither TensorFlow nor OpenCV.", ""]
    for name in efficientnet_east.__all__:
        if name not in efficientnet_east._MODULES and name != "__version__":
            lines += entry(name, getattr(efficientnet_east, name), "##")
    for name in MODULES:
        module = importlib.import_module(f"efficientnet_east.{name}")
        lines += [f"## {name}", "", first_line(module), "", *table_of(module), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def entry(name: str, value: Any, level: str) -> list[str]:
    """A class with its public methods, or a function."""
    lines = [f"{level} {name}", "", *signature(name, value), *docstring(value)]
    if inspect.isclass(value):
        for method, function in sorted(vars(value).items()):
            function = getattr(function, "__func__", function)
            shown = not method.startswith("_") or method == "__call__"
            if shown and inspect.isfunction(function) and function.__doc__:
                lines += entry(f"{name}.{method}", function, level + "#")
    return lines


def signature(name: str, value: Any) -> list[str]:
    """The call, as code."""
    if inspect.isclass(value) and issubclass(value, Exception):
        return []
    text = re.sub(r"<factory>|<[^<>]* object at 0x[0-9a-f]+>", "...", str(inspect.signature(value)))
    text = text.replace("'", "")
    return ["```text", *textwrap.wrap(f"{name}{text}", 100, subsequent_indent="    "), "```", ""]


def docstring(value: Any) -> list[str]:
    """The docstring: its first paragraph as text, the rest as it stands."""
    head, _, rest = (inspect.getdoc(value) or "").partition("\n\n")
    return [" ".join(head.split()), "", *(["```text", rest, "```", ""] if rest else [])]


def table_of(module: types.ModuleType) -> list[str]:
    """The public functions and classes that a module defines or hands on."""
    names = getattr(module, "__all__", None) or [name for name in dir(module) if not name.startswith("_")]
    rows = []
    for name in sorted(names):
        value = getattr(module, name)
        home = getattr(value, "__module__", "") or ""
        callable_here = (inspect.isfunction(value) or inspect.isclass(value)) and home.startswith(
            module.__name__
        )
        if callable_here and value.__doc__:
            rows.append(f"| `{name}` | {cell(first_line(value))} |")
    return ["| name | |", "|---|---|", *rows] if rows else []


def first_line(value: Any) -> str:
    """The first paragraph of a docstring."""
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())


def sentence(text: str | None) -> str:
    """With a capital and a full stop."""
    text = text or ""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def cell(text: str | None) -> str:
    """Text that does not end a cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
