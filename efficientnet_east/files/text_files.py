"""Text files from anybody: the one place that knows encodings.

UTF-8 is read with or without a byte order mark, and UTF-16 with one: what editors and spreadsheets on Windows
save. Everything else is refused in one line that names the file.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, AnyStr

from efficientnet_east.errors import UserError, hint_of

MAX_BYTES = 32 << 20  # of a ground truth or a list: hundreds of thousands of lines
_EXPECTED = "a text file"
_ENCODINGS = "a text file in UTF-8, or in UTF-16 with a byte order mark"
_LINE_END, _LINE_END_BYTES = re.compile("\r\n|\r|\n"), re.compile(b"\r\n|\r|\n")
_MARK = "\ufeff"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_bytes(path: str | os.PathLike[str], limit: int = MAX_BYTES, expected: str = _EXPECTED) -> bytes:
    """Read a file that should be text.

    Args:
      path: the file.
      limit: in bytes; a larger file is not read.
      expected: what the file should be, for the error.

    Returns:
      Its content.

    Raises:
      UserError: it cannot be read, or is too large.
    """
    try:
        if os.stat(path).st_size > limit:
            raise UserError(path, f"is larger than {limit >> 20} MiB", f"expected {expected}")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", hint_of(error, expected)) from None


def read_text(path: str | os.PathLike[str], limit: int = MAX_BYTES, expected: str = _EXPECTED) -> str:
    """Read a text file.

    Args:
      path: the file.
      limit: in bytes; a larger file is not read.
      expected: what the file should be, for the error.

    Returns:
      Its text, without a byte order mark.

    Raises:
      UserError: it cannot be read, is too large, or is in another encoding.
    """
    return decode(read_bytes(path, limit, expected), str(path))


def decode(raw: bytes, where: str) -> str:
    """Decode the content of a text file.

    Args:
      raw: the content.
      where: the name of the file for the error.

    Returns:
      The text, without a byte order mark.

    Raises:
      UserError: it is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    encoding = _encoding(raw)
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(raw[: error.start].decode(encoding, "replace"))) + 1
        raise UserError(f"{where}:{line}", _problem(error, encoding), f"expected {_ENCODINGS}") from None


def lines_leniently(raw: bytes) -> Iterator[tuple[str, str]]:
    """Decode as much as can be decoded, line by line.

    Args:
      raw: the content of a text file.

    Yields:
      Each line without its end, with U+FFFD for what is in another encoding; and what is wrong with its
      encoding, empty where nothing is.
    """
    encoding = _encoding(raw)
    if encoding == "utf-16":
        yield from _utf16_lines(raw)
        return
    for line in _without_last(_LINE_END_BYTES.split(raw.removeprefix(codecs.BOM_UTF8))):
        try:
            yield line.decode().lstrip(_MARK), ""
        except UnicodeDecodeError as error:
            yield line.decode(errors="replace").lstrip(_MARK), _problem(error, encoding)


def _utf16_lines(raw: bytes) -> Iterator[tuple[str, str]]:
    """A fault shifts all that follows, so one line bears it."""
    try:
        text, faulty, problem = raw.decode("utf-16"), -1, ""
    except UnicodeDecodeError as error:
        text, problem = raw.decode("utf-16", "replace"), _problem(error, "utf-16")
        faulty = len(_LINE_END.findall(raw[: error.start].decode("utf-16", "replace")))
    lines = _without_last(_LINE_END.split(text))
    for number, line in enumerate(lines):
        yield line, problem if number == min(faulty, len(lines) - 1) else ""


def split_lines(text: str) -> list[str]:
    """Split a text at its line ends only; `str.splitlines` also splits at characters within a line.

    Args:
      text: of any line ends.

    Returns:
      The lines, without their ends.
    """
    return _without_last(_LINE_END.split(text))


def is_utf16(raw: bytes) -> bool:
    """Tell by the byte order mark whether a text is in UTF-16.

    Args:
      raw: the content of a text file, or the beginning of it.
    """
    return raw.startswith(_UTF16_MARKS)


def file_names(raw: bytes, where: str) -> list[str]:
    """Read names of files, one a line.

    Names may be any bytes on a disk, and stay what they are: `os.fsdecode` gives them.

    Args:
      raw: the content of a list: UTF-8, or the bytes that the names have on the disk, or UTF-16 with a byte
        order mark.
      where: the name of the list for the error.

    Returns:
      A name for each line, as it stands there.

    Raises:
      UserError: the list begins as UTF-16, and is damaged.
    """
    if is_utf16(raw):
        return split_lines(decode(raw, where))
    lines = _without_last(_LINE_END_BYTES.split(raw.removeprefix(codecs.BOM_UTF8)))
    return [os.fsdecode(line) for line in lines]


def parse_json(text: str, where: str, expected: str, *, is_line: bool = False) -> Any:
    """Parse JSON from anybody.

    Args:
      text: the content of a file, or a part of it.
      where: the name of the file for the error.
      expected: what the file should be.
      is_line: whether `text` is a line that `where` names already.

    Returns:
      The value.

    Raises:
      UserError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"is no JSON ({error.msg} in column {error.colno})"
        raise UserError(
            where if is_line else f"{where}:{error.lineno}", problem, f"expected {expected}"
        ) from None
    except RecursionError:
        raise UserError(where, "is nested too deeply", f"expected {expected}") from None
    except ValueError as error:  # a number of thousands of digits
        raise UserError(where, f"is no JSON ({error})", f"expected {expected}") from None


def _encoding(raw: bytes) -> str:
    return "utf-16" if is_utf16(raw) else "utf-8-sig"


def _problem(error: UnicodeDecodeError, encoding: str) -> str:
    return f"byte 0x{error.object[error.start]:02x} is not {encoding.removesuffix('-sig').upper()}"


def _without_last(lines: Sequence[AnyStr]) -> list[AnyStr]:
    """Without what follows the last line end, if that is nothing."""
    return list(lines) if lines[-1] else list(lines[:-1])
