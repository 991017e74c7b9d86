"""The process that decodes images and runs networks. If it crashes, hangs or is killed, a new one is started.

Questions wait in a queue of limited length, and each has a time limit. The network uses all its threads, so
more of these processes would only share the same processors.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from efficientnet_east.demo.service import Answer, Question, Service
from efficientnet_east.errors import UserError
from efficientnet_east.inference.detector import Detector

Load = Callable[[], Mapping[str, Detector]]  # of a module's top level, for it goes to the process by name

SECONDS = 60.0
WAITING = 8
START_SECONDS = 300.0  # a large checkpoint on a slow disk

logger = logging.getLogger(__name__)


class Busy(Exception):
    """The request queue is full."""


class Failed(Exception):
    """The process could not answer; the message may be shown to the client."""


class Worker:
    """One process with the detectors; may be asked from several threads.

    Args:
      load: gives the detectors by name; called in the process, at each start.
      seconds: that an answer may take; then the process is ended and the next question starts another.
      waiting: the most questions at a time, including the one in work.
    """

    def __init__(self, load: Load, seconds: float = SECONDS, waiting: int = WAITING) -> None:
        self._load, self._seconds, self._waiting = load, seconds, waiting
        self._turn, self._counting, self._inside = threading.Lock(), threading.Lock(), 0
        self._process: BaseProcess | None = None
        self._pipe: Connection
        self.names: tuple[str, ...] = ()
        self.thresholds: dict[str, dict[str, Any]] = {}  # of each detector

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
            loaded = self._pipe.recv() if self._pipe.poll(START_SECONDS) else "takes too long to load"
        except (EOFError, OSError):
            loaded = f"crashes the process that loads it ({self._ending()})"
        if not isinstance(loaded, dict):
            self.close()
            raise (
                loaded if isinstance(loaded, UserError) else UserError("model", loaded, "Try another model.")
            )
        self.names, self.thresholds = tuple(loaded), loaded

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue while the block runs.

        Raises:
          Busy: the queue is full.
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
                answer = self._pipe.recv()
            except (EOFError, OSError):
                ending = self._ending()
                self.close()
                raise Failed(f"this image crashed the process that read it ({ending})") from None
        if isinstance(answer, Answer):
            return answer
        raise answer if isinstance(answer, UserError) else Failed(f"this image cannot be used ({answer})")

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
                logger.error("%s", error)
                raise Failed("the models can no longer be loaded") from None

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
    _be_killed_first()
    try:
        service = Service(load())
        service.warm_up()
    except Exception as error:
        pipe.send(error if isinstance(error, UserError) else f"cannot be loaded ({error})")
        return
    pipe.send({name: detector.detect.model_dump() for name, detector in service.detectors.items()})
    with contextlib.suppress(EOFError, OSError):
        while True:
            question = pipe.recv()
            try:
                answer: object = service.answer(question)
            except UserError as error:
                answer = error
            # One image must not end the work on all others: too large for the memory, refused by a runtime.
            # Only the name of the error is passed on, for its message may hold paths.
            except Exception as error:
                answer = type(error).__name__
            pipe.send(answer)


def _be_killed_first() -> None:
    """Ask Linux to kill this process rather than the server when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
