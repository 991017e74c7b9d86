"""The process that decodes images and runs networks: it may crash, hang or be killed, and another follows.

Questions wait their turn; so many may wait, and each may take so long. The network has all the threads that
it was given, so more of these processes would only share the same processors.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from efficientnet_east.demo.service import Answer, Look, Question
from efficientnet_east.errors import UserError
from efficientnet_east.inference.detector import Detector

Load = Callable[[], Mapping[str, Detector]]  # of a module's top level, for it goes to the process by name

SECONDS = 60.0
WAITING = 8
START_SECONDS = 300.0  # a large checkpoint on a slow disk


class Busy(Exception):
    """As many questions as may wait are waiting."""


class Failed(Exception):
    """The process could not answer, in words that may be passed on."""


class Worker:
    """One process with the detectors; may be asked from several threads.

    Args:
      load: gives the detectors by name; called in the process, at each start.
      seconds: that an answer may take; then the process is ended and the next question starts another.
      waiting: questions that may be there at a time, the one that is worked on included.
    """

    def __init__(self, load: Load, seconds: float = SECONDS, waiting: int = WAITING) -> None:
        self._load, self._seconds, self._waiting = load, seconds, waiting
        self._turn, self._counting, self._inside = threading.Lock(), threading.Lock(), 0
        self._process: BaseProcess | None = None
        self._pipe: Connection
        self.names: tuple[str, ...] = ()
        self.thresholds: dict[str, Any] = {}  # that the first detector came with

    def start(self) -> None:
        """Start the process and wait until the detectors are loaded.

        Raises:
          UserError: one cannot be loaded.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._load), daemon=True)
        self._process.start()
        other.close()
        try:
            told = self._pipe.recv() if self._pipe.poll(START_SECONDS) else "takes too long to load"
        except (EOFError, OSError):
            told = f"ended the process that loads it ({self._ending()})"
        if not isinstance(told, dict):
            self.close()
            raise told if isinstance(told, UserError) else UserError("model", told, "expected another model")
        self.names, self.thresholds = tuple(told), next(iter(told.values()))

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place among those who wait, held while the block runs.

        Raises:
          Busy: there is none.
        """
        with self._counting:
            if self._inside >= self._waiting:
                raise Busy
            self._inside += 1
        try:
            yield
        finally:
            with self._counting:
                self._inside -= 1

    def ask(self, question: Question) -> Answer:
        """Wait for the turn and for the answer; call it within `place`.

        Args:
          question: the image.

        Returns:
          The answer.

        Raises:
          UserError: the question cannot be answered.
          Failed: the process crashed, took too long, or cannot be started.
        """
        with self._turn:
            self._expect_alive()
            try:
                self._pipe.send(question)
                if not self._pipe.poll(self._seconds):
                    self.close()
                    raise Failed(f"this image took longer than {self._seconds:g} seconds")
                told = self._pipe.recv()
            except (EOFError, OSError):
                ending = self._ending()
                self.close()
                raise Failed(f"this image ended the process that looked at it ({ending})") from None
        if isinstance(told, Answer):
            return told
        raise told if isinstance(told, UserError) else Failed(f"this image cannot be used ({told})")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def _expect_alive(self) -> None:
        if self._process is None or not self._process.is_alive():
            self.close()
            try:
                self.start()
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                raise Failed("the models cannot be loaded any more") from None

    def _ending(self) -> str:
        """How the process ended, which is over or about to be."""
        if self._process is None:
            return "unknown"
        self._process.join(5)
        code = self._process.exitcode
        return "it does not end" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"


def _serve(pipe: Connection, load: Load) -> None:
    """The process: answer until the other end is closed, as it is when the server ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the server ends this one
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    _volunteer()
    try:
        look = Look(load())
    except Exception as error:
        pipe.send(error if isinstance(error, UserError) else f"cannot be loaded ({error})")
        return
    pipe.send({name: detector.detect.model_dump() for name, detector in look.detectors.items()})
    with contextlib.suppress(EOFError, OSError):
        while True:
            question = pipe.recv()
            try:
                told: object = look.answer(question)
            except UserError as error:
                told = error
            # One image must not end the work on all others: too large for the memory, refused by a runtime.
            # Of these errors only the name is passed on, for their words may hold paths.
            except Exception as error:
                told = type(error).__name__
            pipe.send(told)


def _volunteer() -> None:
    """Where memory runs out, Linux ends this process before the server."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
