"""How far a long piece of work is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, TypeVar

from tqdm import tqdm

DELAY = 2.0  # seconds before anything is shown
INTERVAL = 30.0  # seconds between two plain lines
_PLAIN = "{desc}: {n_fmt} of {total_fmt}{unit}s, {rate_noinv_fmt}, {remaining} left"
_PLAIN_WITHOUT_TOTAL = "{desc}: {n_fmt}{unit}s, {rate_noinv_fmt}"

_Item = TypeVar("_Item")


def track(
    items: Iterable[_Item], total: int | None, what: str, unit: str = "image", show: bool = True
) -> Iterator[_Item]:
    """Yield items, and show on stderr how many are done; a log file gets no control characters.

    Args:
      items: to be yielded.
      total: their number, None where it is not known.
      what: is done with them, the line's first word.
      unit: one item, in the singular.
      show: whether to show anything.

    Yields:
      The items.
    """
    if not show:
        yield from items
        return
    common: dict[str, Any] = {"desc": what, "total": total, "unit": f" {unit}"}
    if sys.stderr.isatty():
        yield from _Bar(items, **common, leave=False, delay=DELAY)
        return
    shape = _PLAIN_WITHOUT_TOTAL if total is None else _PLAIN
    yield from _Bar(
        items, **common, file=_Lines(), bar_format=shape, mininterval=INTERVAL, maxinterval=INTERVAL,
        delay=INTERVAL, miniters=1, leave=False,
    )  # fmt: skip


def write(line: str, stream: IO[str]) -> None:
    """Print a line, above the bar if there is one.

    Args:
      line: without its end.
      stream: sys.stdout or sys.stderr. Nobody may be reading stderr any more, which must not end the work.

    Raises:
      OSError: the line cannot be written to stdout.
    """
    with contextlib.suppress(OSError) if stream is sys.stderr else contextlib.nullcontext():
        if sys.stderr.isatty():
            _Bar.write(line, file=stream)
        else:
            print(line, file=stream, flush=stream is sys.stderr)


class _Bar(tqdm):
    """Without the thread that would redraw a bar which stands still."""

    monitor_interval = 0


class _Lines:
    """Takes what a bar draws, and prints it as lines of their own."""

    def write(self, text: str) -> None:
        """Print the text without its carriage returns; nothing for a bar that is wiped away."""
        line = text.strip()
        if line:
            write(line, sys.stderr)

    def flush(self) -> None:
        """Do nothing: each line has been flushed."""
