"""TensorBoard's event files, written without TensorFlow or TensorBoard.

A file is a sequence of records: the length as 8 bytes, its checksum, an `Event` protocol buffer, its checksum
(CRC-32C, masked; little-endian throughout). Of the protocol buffers only the fields that are used here are
known, by their numbers in TensorFlow's `event.proto` and `summary.proto`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from efficientnet_east.files.atomic import cannot_be_written

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
VERSION = b"brain.Event:2"
START = 1  # of SessionLog.SessionStatus
RGB = 3  # summary.proto's number of that colour space


class EventFile:
    """A new event file; every call writes through before it returns, so that a kill loses nothing.

    Args:
      folder: where TensorBoard looks (`--logdir`).
      done: number of steps done before; TensorBoard then forgets what older files say of later steps.

    Raises:
      UserError: the file cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, done: int) -> None:
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{os.getpid()}.{time.monotonic_ns()}"
        self._path, self._size = folder / name, 0
        stamp = _field(1, FIXED64, struct.pack("<d", now))
        self._write(stamp + _field(3, BYTES, VERSION))
        began = _field(1, VARINT, _varint(START))
        self._write(stamp + _field(2, VARINT, _varint(done + 1)) + _field(7, BYTES, began))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers.

        Args:
          step: number of steps done.
          values: tag -> value.
        """
        entries = [
            _field(1, BYTES, tag.encode()) + _field(2, FIXED32, np.array(value, "<f4").tobytes())
            for tag, value in values.items()
        ]
        self._summary(step, entries)

    def picture(self, step: int, tag: str, picture: np.ndarray) -> None:
        """Record a picture.

        Args:
          step: number of steps done.
          tag: its name.
          picture: uint8 RGB (height, width, 3).
        """
        high, wide = picture.shape[:2]
        encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        image = _field(1, VARINT, _varint(high)) + _field(2, VARINT, _varint(wide))
        image += _field(3, VARINT, _varint(RGB)) + _field(4, BYTES, encoded)
        self._summary(step, [_field(1, BYTES, tag.encode()) + _field(4, BYTES, image)])

    def _summary(self, step: int, entries: list[bytes]) -> None:
        summary = b"".join(_field(1, BYTES, entry) for entry in entries)
        event = _field(1, FIXED64, struct.pack("<d", time.time()))
        self._write(event + _field(2, VARINT, _varint(step)) + _field(5, BYTES, summary))

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        record = length + _masked(length) + event + _masked(event)
        try:
            with self._path.open("ab") as file:
                file.write(record)
        except OSError as error:
            with contextlib.suppress(OSError):  # nobody reads on behind half a record
                os.truncate(self._path, self._size)
            raise cannot_be_written(self._path, error.strerror or str(error)) from None
        self._size += len(record)


def _field(number: int, kind: int, value: bytes) -> bytes:
    """A field of a protocol buffer; the value is encoded already, but for the length of bytes."""
    length = _varint(len(value)) if kind == BYTES else b""
    return _varint(number << 3 | kind) + length + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _masked(data: bytes) -> bytes:
    """The checksum as TFRecord files have it: turned and shifted, so that a checksum of checksums works."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Castagnoli's cyclic redundancy check (RFC 3720, appendix B.4), a byte at a time."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    """What each byte adds: eight steps of a division by the (reversed) polynomial."""
    entries = list(range(256))
    for _ in range(8):
        entries = [entry >> 1 ^ (0x82F63B78 if entry & 1 else 0) for entry in entries]
    return tuple(entries)
