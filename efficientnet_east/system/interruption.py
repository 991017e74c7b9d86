"""How a run is asked to stop: Ctrl-C, the SIGTERM of a batch system, the end of its terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
# Launchers pass on what the process has received already: only what comes later is a second request.
ECHO = 0.5  # seconds
_watching: list[Interruption] = []  # those of `watch` that have not ended, the innermost last


class Interruption:
    """Whether a process was asked to stop; made by `watch`.

    Attributes:
      received: the first signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._since = 0.0

    @property
    def exit_code(self) -> int:
        """The exit code of a process that stops because of it: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.received or signal.SIGINT)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first asks the run to save and stop, a second one ends it at once."""
        if self.received is None:
            self.received, self._since = number, time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._since > ECHO:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextlib.contextmanager
def watch() -> Iterator[Interruption]:
    """Turn the first signal into KeyboardInterrupt; a second one ends the process.

    In other threads than the main one nothing changes. A signal that the process ignores stays ignored.

    Yields:
      What was received.
    """
    interruption = Interruption()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    _watching.append(interruption)
    try:
        for number in handled:
            signal.signal(number, interruption.receive)
        yield interruption
    finally:
        _watching.pop()
        for number in handled:
            signal.signal(number, before[number])


def raise_pending() -> None:
    """Raise KeyboardInterrupt again if a signal came and its exception was lost.

    Python drops an exception that is raised inside a destructor or a weak reference's callback, and a signal
    may arrive just there. So a loop that is to stop asks here, too.
    """
    if _watching and _watching[-1].received is not None:
        raise KeyboardInterrupt
