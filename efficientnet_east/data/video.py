"""Videos and cameras through OpenCV: read frames, and write a video with drawn boxes."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from efficientnet_east.errors import UserError, hint_of
from efficientnet_east.files import atomic, plain_paths

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
_EXPECTED = f"a video: {', '.join(SUFFIXES)}"
# How those containers begin. FFmpeg would also open play lists, which name other files and addresses.
_BEGINNINGS = ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (0, b"RIFF"),
               (0, b"\x1a\x45\xdf\xa3"), (0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3"))  # fmt: skip
USUAL_RATE = 25.0  # frames a second, where a camera does not say


class Video:
    """An open video or camera.

    Args:
      capture: a cv2.VideoCapture that is open.
    """

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= 1000 else USUAL_RATE

    def frames(self, every: int) -> Iterator[tuple[int, Callable[[], np.ndarray | None]]]:
        """Yield every Nth frame, and close the video at the end.

        Args:
          every: 1 for all frames.

        Yields:
          The frame's number from 0, and a function that decodes it to uint8 (height, width, 3), RGB, or to
          None where it is damaged; to be called before the next frame is asked for.
        """
        try:
            for number in itertools.count():
                if not self._capture.grab():
                    return
                if number % every == 0:
                    yield number, self._decode
        finally:
            self._capture.release()

    def _decode(self) -> np.ndarray | None:
        whole, frame = self._capture.retrieve()
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if whole and frame is not None else None


def open_file(path: Path, max_pixels: int) -> Video:
    """Open a film.

    Args:
      path: of the file.
      max_pixels: width x height above which its frames are refused.

    Returns:
      The film.

    Raises:
      UserError: no such file, no film, or too large.
    """
    try:
        if not path.exists():
            raise UserError(path, "does not exist", hint_of(FileNotFoundError(), _EXPECTED))
        if not path.is_file():
            raise UserError(path, "is no file", f"expected {_EXPECTED}")
        with open(path, "rb") as file:
            beginning = file.read(16)
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", f"expected {_EXPECTED}") from None
    if not any(beginning[at : at + len(sign)] == sign for at, sign in _BEGINNINGS):
        raise UserError(path, "is empty or no video", f"expected {_EXPECTED}")
    # A plain and whole path, so that nothing in it is taken for a pattern of numbered images or a protocol.
    with _hushed(), plain_paths.readable(path, f"video{path.suffix}") as plain:
        capture = cv2.VideoCapture(os.path.abspath(plain), cv2.CAP_FFMPEG)
    sides = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
    width, height = (int(capture.get(side)) for side in sides)
    if not capture.isOpened() or width * height <= 0:
        raise UserError(path, "cannot be read", f"expected {_EXPECTED}")
    if width * height > max_pixels:
        raise UserError(path, f"{width} x {height} pixels", f"expected at most {max_pixels} in all")
    return Video(capture)


def open_camera(number: int) -> Video:
    """Open a camera.

    Args:
      number: from 0.

    Returns:
      Its frames, until it is switched off.

    Raises:
      UserError: there is no such camera.
    """
    with _hushed():
        capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        hint = "expected the number of a camera, 0 for the first"
        raise UserError("camera", f"{number} cannot be opened", hint)
    return Video(capture)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Silence OpenCV and FFmpeg, whose messages about a damaged file repeat our own error."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first video is opened
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


@contextlib.contextmanager
def written(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a video. The file appears when the block ends, even by an error, with the frames until then.

    Args:
      path: of the .mp4 file.
      rate: frames a second.

    Yields:
      A function that appends a frame, uint8 (height, width, 3), RGB, all of the first one's size.

    Raises:
      WriteError: the file cannot be written.
    """
    writer: Any = None
    try:
        with atomic.partial_folder(path.parent) as folder, plain_paths.writable(folder) as plain:
            file = plain / "video.mp4"

            def append(frame: np.ndarray) -> None:
                nonlocal writer
                if writer is None:
                    size = frame.shape[1], frame.shape[0]
                    with _hushed():
                        writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
                    if not writer.isOpened():
                        raise atomic.cannot_be_written(path, "no encoder for it")
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

            try:
                yield append
            finally:
                if writer is not None:
                    writer.release()
                    named = (folder / file.name).rename(folder / path.name)
                    atomic.move_into_place([named], path.parent)
    except OSError as error:
        raise atomic.cannot_be_written(path, error.strerror or str(error)) from None
