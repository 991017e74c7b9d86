"""Report versions, devices and missing packages, with the line that installs each.

This is the command `doctor`. It imports nothing that may be missing or broken.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from efficientnet_east.doctor import libraries, machine
from efficientnet_east.doctor.libraries import ALL, BAD, MISSING, NOTE, OK, TRAIN, CheckResult

NOT_WELL, USER_ERROR = 1, 2  # exit codes
_MARKS = {OK: "ok", NOTE: "note", MISSING: "-", BAD: "BAD"}
_WIDTH = 110


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(given: Mapping[str, Any]) -> int:
    """Check the machine and the libraries, and print the results.

    Returns:
      0 if `detect` works with some runtime and `train` works, else 1.
    """
    if not given["json"]:
        print("Checking. TensorFlow takes a few seconds.", file=sys.stderr)
    of_machine, of_libraries = machine.check_machine(), libraries.check_libraries()
    gpu = libraries.hidden_gpu(machine.nvidia_gpus(), of_libraries["tensorflow"])
    more = [gpu, libraries.several_opencvs()]
    found = [*of_machine, *of_libraries.values(), *filter(None, more)]
    able = abilities(of_machine, of_libraries)
    print(json.dumps(as_json(found, able), indent=2) if given["json"] else "\n".join(as_lines(found, able)))
    return 0 if able["detect"] and able["train"] else NOT_WELL


def main(words: Sequence[str]) -> int:
    """Run the command without the rest of the command line, which may not be importable.

    Args:
      words: after `doctor`.

    Returns:
      The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="efficientnet-east doctor", description=(__doc__ or "").splitlines()[0]
    )
    add_options(parser)
    parser.add_argument("--verbose", action="store_true", help="no effect here")
    given, unknown = parser.parse_known_args(words)
    if unknown:
        print(f"error: {unknown[0]}: unknown argument; expected --json", file=sys.stderr)
        return USER_ERROR
    try:
        code = run(vars(given))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output has seen enough, as `| head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (nothing more can be written at exit, either)
        return 0


def abilities(of_machine: Sequence[CheckResult], of_libraries: Mapping[str, CheckResult]) -> dict[str, Any]:
    """What can be done here.

    Args:
      of_machine: see `machine.check_machine`.
      of_libraries: see `libraries.check_libraries`.

    Returns:
      `detect`: the runtimes with which it works; `train`: whether it does.
    """
    good = {module: found.state in (OK, NOTE) for module, found in of_libraries.items()}
    known = {library.module: library for library in libraries.LIBRARIES}
    needed = {use: all(good[module] for module in good if known[module].use == use) for use in (ALL, TRAIN)}
    base = needed[ALL] and not any(found.state == BAD and found.use == ALL for found in of_machine)
    runtimes = [known[module].runtime for module, well in good.items() if well and known[module].runtime]
    return {"detect": runtimes if base else [], "train": base and needed[TRAIN]}


def as_json(found: Sequence[CheckResult], able: Mapping[str, Any]) -> dict[str, Any]:
    """The findings for other programs.

    Args:
      found: of machine and libraries.
      able: of `abilities`.
    """
    return {**able, "findings": [dataclasses.asdict(one) for one in found]}


def as_lines(found: Sequence[CheckResult], able: Mapping[str, Any]) -> list[str]:
    """The findings for people: what is well, what is not and how to mend it, what follows.

    Args:
      found: of machine and libraries.
      able: of `abilities`.
    """
    wide = max(len(one.name) for one in found)
    lines: list[str] = []
    for one in found:
        use = f" (for {one.use})" if one.use and one.state != OK else ""
        first, rest = f"{_MARKS[one.state]:>4}  {one.name:<{wide}}  ", " " * (wide + 8)
        lines += textwrap.wrap(one.detail + use, _WIDTH, initial_indent=first, subsequent_indent=rest)
        lines += [f"{rest}-> {one.fix}"] if one.fix else []
    runtimes = ", ".join(able["detect"])
    return [
        *lines,
        "",
        f"detect: works with {runtimes}" if runtimes else "detect: does NOT work",
        f"train:  {'works' if able['train'] else 'does NOT work'}",
    ]
