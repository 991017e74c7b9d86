"""As much of protocol buffers' wire format as it takes to look into a file without its format's library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from efficientnet_east.errors import UserError

LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}  # wire type -> bytes

# Where tensors hide in an ONNX file: message -> field number -> message, by onnx.proto (version 1.x).
_ONNX: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_DEEPEST = 32


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Walk over one message.

    Args:
      data: the message.

    Yields:
      The number of each field, and its value: a number, or the bytes of a string or of an inner message.

    Raises:
      ValueError: this is no message.
    """
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        length = _FIXED.get(kind, 0)
        if kind == LENGTH_DELIMITED:
            length, position = _varint(data, position)
        elif not length:
            raise ValueError(f"wire type {kind}")
        if not number or position + length > len(data):
            raise ValueError("a field without a number, or one that reaches beyond the end")
        yield number, data[position : position + length]
        position += length


def expect_single_file(path: Path, data: bytes) -> None:
    """Refuse an ONNX file that names other files to be read, whatever they are.

    Args:
      path: for the error.
      data: the whole file.

    Raises:
      UserError: it does, or it is no ONNX file.
    """
    try:
        external = _is_external("model", memoryview(data), 0)
    except ValueError as error:
        raise UserError(path, f"is no ONNX file ({error})", "expected one that `export` wrote") from None
    if external:
        raise UserError(path, "keeps weights in other files, which are not opened", "expected a single file")


def _is_external(message: str, data: memoryview, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError(f"graphs nested deeper than {_DEEPEST}")
    inner = _ONNX.get(message, {})
    for number, value in fields(data):
        if message == "tensor":
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                return True
        elif (
            number in inner
            and isinstance(value, memoryview)
            and _is_external(inner[number], value, depth + 1)
        ):
            return True
    return False


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("a number that does not end")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position
