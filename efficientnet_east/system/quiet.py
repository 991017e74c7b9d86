"""Keep the start-up notes of TensorFlow, ONNX Runtime and OpenCV off the terminal of a program.

TensorFlow 2.21 writes "Could not find cuda drivers" and more to file descriptor 2 during its import, before
it reads `TF_CPP_MIN_LOG_LEVEL`. So what is written there during these imports is caught. It is shown if the
import fails. This is for programs, not for the library: it changes the whole process.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import logging
import os
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Iterator, Sequence
from typing import IO

from efficientnet_east.system import environment

LIBRARIES = ("tensorflow", "onnxruntime", "cv2")
# Two threads that caught it at once could each put back what the other one had set.
_CATCHING = threading.RLock()
PATIENCE = 2.0  # seconds; a longer import is mentioned on a terminal


def hush() -> None:
    """Leave out the start-up notes of libraries that are imported after this call."""
    environment.hush_tensorflow()
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*layer.apply")  # tf-slim calls it
    if not _hushed():
        sys.meta_path.insert(0, _Finder())


@contextlib.contextmanager
def caught_stderr() -> Iterator[IO[bytes]]:
    """Send what anybody in this process writes to file descriptor 2 to a file, until the block ends.

    Yields:
      The file, which can be read after the block.
    """
    with _CATCHING, tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            yield file
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def while_starting() -> Iterator[None]:
    """Catch what a library writes while it starts, if the program called `hush`; show it if that fails."""
    if not _hushed():
        yield
        return
    with _shown_if_it_fails():
        yield


def _hushed() -> bool:
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


@contextlib.contextmanager
def _shown_if_it_fails() -> Iterator[None]:
    caught = b""
    try:
        with caught_stderr() as file:
            try:
                yield
            except BaseException:
                file.seek(0)
                caught = file.read()
                raise
    finally:
        if caught:
            os.write(2, caught)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the libraries where Python would, but has them loaded quietly."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find one of `LIBRARIES`; None for all others, which Python then looks for itself."""
        if fullname not in LIBRARIES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module with another loader, and catches what it writes to stderr."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """Leave it to the other loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        """Load; the module gets back the loader that it would have without this one."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        with _mention(module.__name__), _shown_if_it_fails():
            self._loader.exec_module(module)


@contextlib.contextmanager
def _mention(name: str) -> Iterator[None]:
    """Say what is being waited for if it takes long and somebody is looking."""
    if not sys.stderr.isatty():
        yield
        return
    terminal = os.dup(2)
    timer = threading.Timer(PATIENCE, os.write, (terminal, f"loading {name} ...\n".encode()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        os.close(terminal)
