"""Read the next image and write the last one's results while the network runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
_Found = TypeVar("_Found")
_Written = TypeVar("_Written")


def overlapped(
    items: Iterable[_Item],
    read: Callable[[_Item], _Read],
    detect: Callable[[_Read], _Found],
    write: Callable[[_Found], _Written],
) -> Generator[_Written]:
    """Do three steps for each item, in the order of the items.

    At any time one item is being read, one is in the network, and one is being written. So at most three are
    in memory. Each step gets one item after the other: `read` may decode a video's frames, and `write` may
    append to a file.

    Args:
      items: asked for in the thread that reads.
      read: of one item, in that thread.
      detect: of what was read, in the caller's thread, which Ctrl-C interrupts.
      write: of what was found, in a thread of its own.

    Yields:
      What `write` returned. If a step raises, the error is raised here, after the other threads have finished
      what they were doing. Close the generator if you leave it early.
    """
    source = iter(items)

    def read_next() -> list[_Read]:
        return [read(item) for item in itertools.islice(source, 1)]

    with ThreadPoolExecutor(2, "images") as pool:
        reading = pool.submit(read_next)
        writing: Future[_Written] | None = None
        while one := reading.result():
            reading = pool.submit(read_next)
            found = detect(one.pop())
            if writing:
                yield writing.result()
            writing = pool.submit(write, found)
        if writing:
            yield writing.result()
