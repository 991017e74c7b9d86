"""How far a long piece of work is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

INTERVAL = 30.0  # seconds between two plain lines

_Item = TypeVar("_Item")


def track(
    items: Iterable[_Item], total: int | None, what: str, unit: str = "image", show: bool = True
) -> Iterator[_Item]:
    """Gives items on, and shows on stderr how many have been; a log file gets no control characters.

    Args:
      items: to be given.
      total: their number, None where it is not known.
      what: is done with them, the line's first word.
      unit: what they are called.
      show: whether to show anything.

    Yields:
      The items.
    """
    if not show:
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, unit=unit, leave=False)
        return
    begun = told = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if now - told >= INTERVAL:
            told = now
            say(_line(what, number, total, unit, now - begun))
        yield item


def say(line: str, to_stderr: bool = True) -> None:
    """Prints a line, above the bar if there is one, and if it can be printed."""
    stream = sys.stderr if to_stderr else sys.stdout
    if sys.stderr.isatty():
        tqdm.write(line, file=stream)
        return
    with contextlib.suppress(OSError) if to_stderr else contextlib.nullcontext():
        print(line, file=stream, flush=to_stderr)


def _line(what: str, done: int, total: int | None, unit: str, seconds: float) -> str:
    of, left = "", ""
    if total:
        of = f" of {total}"
    if total and done:  # the first item may take longer than the interval
        minutes = seconds / done * (total - done) / 60
        left = f", {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"
    return f"{what}: {done}{of} {unit}s, {done / seconds:.2f} a second{left}"
