"""How errors and log records of the package look on the command line.

The package names configuration fields (`train.patience`) and arguments (`output`), since it is used without
a command line, too. Here they get the dashes of the options that set them.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Mapping

from efficientnet_east import config as configuration
from efficientnet_east.errors import UserError, joined, one_line
from efficientnet_east.system import progress

PACKAGE = "efficientnet_east"
_FIELD = re.compile(rf"(?<![\w./\\-])(?:{'|'.join(configuration.SECTIONS)})\.(\w+)(?![\w/\\]|\.\w)")


def describe(error: UserError, given: Mapping[str, object], flags: Mapping[str, str]) -> str:
    """Write an error as a user of the command line reads it.

    Args:
      error: what is wrong; its parts may name fields (`train.patience`) or, as the place, an argument
        (`output`).
      given: the values of the options by the names that the program has for them. A value is never taken for
        the name of an option: `data` may be a folder, too.
      flags: name in the program -> the option that sets it, such as `val_list` -> `--val-list`.

    Returns:
      One line. A place in a file, such as `run.yaml: train.patience`, stays as it is.
    """
    where = error.where
    if _FIELD.match(where):
        where = _with_flags(where, flags)
    elif where not in given.values():
        names = where.split(", ")
        where = ", ".join(flags[name] for name in names) if set(names) <= flags.keys() else where
    problem, hint = (_with_flags(text, flags) for text in (error.problem, error.hint))
    return one_line(f"{where}: {joined(problem, hint)}")


def _with_flags(text: str, flags: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda found: flags.get(found[1], found[0]), text)


class _Handler(logging.Handler):
    """Writes records as plain lines; a broken pipe or a full disk is raised, as `print` raises it."""

    def __init__(self, *, results_on_stdout: bool, flags: Mapping[str, str]) -> None:
        super().__init__()
        self._results_on_stdout, self._flags = results_on_stdout, flags

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record: of level INFO to stdout, any other to stderr."""
        line = _with_flags(self.format(record), self._flags)
        if record.levelno >= logging.WARNING:
            line = f"{record.levelname.lower()}: {line}"
        to_stdout = record.levelno == logging.INFO and not self._results_on_stdout
        progress.write(line, sys.stdout if to_stdout else sys.stderr)


@contextlib.contextmanager
def log_to_terminal(
    *, verbose: bool = False, results_on_stdout: bool = False, flags: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Show what the package logs until the block ends.

    Args:
      verbose: show records of level DEBUG, too.
      results_on_stdout: whether the command's results are all that stdout may get; INFO then goes to stderr.
      flags: see `describe`.
    """
    logger = logging.getLogger(PACKAGE)
    before = logger.level, logger.propagate
    handler = _Handler(results_on_stdout=results_on_stdout, flags=flags or {})
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False  # other libraries may have given the root logger a handler of their own
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
