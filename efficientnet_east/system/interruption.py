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


class Interruption:
    """What a process was told; made by `watch`.

    Attributes:
      received: the first signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._since = 0.0

    @property
    def exit_code(self) -> int:
        """Of a process that ends because of it: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.received or signal.SIGINT)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler: the first asks the run to save and stop, another one ends it at once."""
        if self.received is None:
            self.received, self._since = number, time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._since > ECHO:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextlib.contextmanager
def watch() -> Iterator[Interruption]:
    """Turn the first signal into KeyboardInterrupt; a second one ends the process. Elsewhere than in the main
    thread nothing changes, and a signal that the process was started to ignore stays ignored.

    Yields:
      What is received.
    """
    told = Interruption()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    try:
        for number in heeded:
            signal.signal(number, told.receive)
        yield told
    finally:
        for number in heeded:
            signal.signal(number, before[number])
