"""Event files for TensorBoard, made of TensorBoard's own records and protocol buffers.

TensorBoard's `EventFileWriter` is not used. It imports TensorFlow where that is installed, writes in a thread
of its own up to two minutes later, so that a kill loses events, and it writes nothing more after the first
error, such as a disk that is full for a while.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from efficientnet_east.files.atomic import cannot_be_written

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter
except ImportError:
    RecordWriter = None

logger = logging.getLogger(__name__)
VERSION = "brain.Event:2"
RGB = 3  # the number of that color space in summary.proto


class EventFile:
    """A new event file. Every call writes through before it returns, so that a kill loses nothing.

    Without TensorBoard there are no events: one line says so, and no file is made.

    Args:
      folder: where TensorBoard looks (`--logdir`).
      done: number of steps done before. TensorBoard then forgets what older files hold of later steps.

    Raises:
      WriteError: the file cannot be written. The methods raise it, too.
    """

    def __init__(self, folder: Path, done: int) -> None:
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{os.getpid()}.{time.monotonic_ns()}"
        self._path, self._size = folder / name, 0
        if RecordWriter is None:
            logger.info("no events for TensorBoard, which is not installed; `pip install tensorboard`")
            return
        self._write(Event(wall_time=now, file_version=VERSION))
        self._write(Event(wall_time=now, step=done + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers.

        Args:
          step: number of steps done.
          values: tag -> value.
        """
        if RecordWriter is not None:
            self._summary(step, [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])

    def picture(self, step: int, tag: str, picture: np.ndarray) -> None:
        """Record a picture, as a JPEG.

        Args:
          step: number of steps done.
          tag: its name.
          picture: uint8 RGB (height, width, 3).
        """
        if RecordWriter is None:
            return
        height, width = picture.shape[:2]
        encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        image = Summary.Image(height=height, width=width, colorspace=RGB, encoded_image_string=encoded)
        self._summary(step, [Summary.Value(tag=tag, image=image)])

    def _summary(self, step: int, values: list[Any]) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Any) -> None:
        try:
            with self._path.open("ab") as file:
                RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            with contextlib.suppress(OSError):  # nobody reads on behind half a record
                os.truncate(self._path, self._size)
            raise cannot_be_written(self._path, error.strerror or str(error)) from None
        self._size = self._path.stat().st_size
