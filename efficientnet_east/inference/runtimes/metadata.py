"""What a written network says about itself: one line of JSON inside of the file, with a digest of the rest.

Runtimes ignore it, people read it (`strings`, Netron), and this project neither opens a file without it, for
it would not know how to feed one, nor one that is not as it was written.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from efficientnet_east import config as configuration
from efficientnet_east.config import Detect
from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes.runtime import Run, Runtime

MARKER = b'{"efficientnet_east": "'
_BLANK = "0" * 64
_LONGEST = 1 << 20
_WRITTEN = "a file that `efficientnet-east export` wrote"
# What OpenCV's samples take off the pixels, in RGB.
OPENCV_MEAN = (123.68, 116.78, 103.94)

_either = pydantic.AliasChoices  # files of older versions have British names

Digest = Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Input(_Strict):
    """What is fed: RGB pixels in [0, 255], less `mean`."""

    name: str
    layout: Literal["NHWC", "NCHW"]
    dtype: Literal["float32", "uint8"] = "float32"
    channels: Literal["RGB"] = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: tuple[int, int] | None = None  # height and width; None: any multiples of the divisor
    batch: int | None = None  # images at a time; None: any number


class CheckpointSource(_Strict):
    """The checkpoint whose averaged weights were written."""

    checkpoint: str
    sha256: Digest


class Calibration(_Strict):
    """The images that int8's ranges were taken from, with the SHA-256 of each file."""

    method: str
    images: dict[str, Digest]
    float_below: int = 0  # the backbone's maps of a smaller stride stay in float32


class Metadata(_Strict):
    """All of it; `efficientnet_east` is the version of this package."""

    efficientnet_east: str
    digest: str = _BLANK
    format: Annotated[str, pydantic.Field(pattern="^[a-z0-9_]+$")]
    precision: Literal["float32", "float16", "int8"] = "float32"
    input: Input
    score: str
    geometry: str
    boxes: Literal["rbox", "quad"]
    stride: int
    divisor: int
    normalization: str = pydantic.Field(validation_alias=_either("normalization", "normalisation"))
    detect: dict[str, Any]
    source: CheckpointSource
    versions: dict[str, str]
    calibration: Calibration | None = None

    @property
    def float_below(self) -> int:
        """The stride below which the backbone's maps stay in float32, in int8."""
        return self.calibration.float_below if self.calibration else 0

    @property
    def thresholds(self) -> Detect:
        """The section `detect`, without fields that this version does not know."""
        known = {name: value for name, value in self.detect.items() if name in Detect.model_fields}
        return configuration.load(None, known).detect

    def as_runtime(self, run: Run, name: str, threads: int) -> Runtime:
        """What runs the network.

        Args:
          run: the network.
          name: of the runtime.
          threads: as asked for.
        """
        return Runtime(
            run, self.stride, self.divisor, self.thresholds, name, self.precision, threads, self.input.size
        )


def dump(metadata: Metadata) -> bytes:
    """Write metadata as it goes into a file that is to be given to `seal`.

    Args:
      metadata: its digest is left out.

    Returns:
      One line of ASCII.
    """
    return json.dumps(metadata.model_copy(update={"digest": _BLANK}).model_dump(mode="json")).encode()


def seal(data: bytes) -> bytes:
    """Put the digest into a file that holds metadata.

    Args:
      data: the whole file.

    Returns:
      The same with the SHA-256 of all of it, taken while the digest's own digits were zeros.
    """
    start, end = _find(data)
    text = data[start:end].replace(_BLANK.encode(), hashlib.sha256(data).hexdigest().encode(), 1)
    return data[:start] + text + data[end:]


def read(path: str | Path, data: bytes) -> Metadata:
    """Read the metadata of a file.

    Args:
      path: for the errors.
      data: the whole file.

    Returns:
      The metadata.

    Raises:
      UserError: there is none, or the file is not as it was written.
    """
    start, end = _find(data)
    if start < 0:
        raise UserError(path, "says nothing of how it wants to be fed, or is damaged", f"expected {_WRITTEN}")
    try:
        metadata = Metadata.model_validate_json(data[start:end])
        metadata.thresholds  # noqa: B018  (raises for values out of range)
    except (ValueError, UserError) as error:
        problem = f"has a description that cannot be used ({_first_line(error)})"
        raise UserError(path, problem, f"expected {_WRITTEN}, of this version") from None
    blank = data[start:end].replace(metadata.digest.encode(), _BLANK.encode(), 1)
    state = hashlib.sha256(data[:start])
    state.update(blank + data[end:])
    if state.hexdigest() != metadata.digest:
        raise UserError(
            path, "is damaged: its digest is that of other bytes", "expected the file as it was written"
        )
    return metadata


def read_file(path: Path) -> tuple[bytes, Metadata]:
    """Read a file and its metadata.

    Args:
      path: of the file.

    Returns:
      All of its bytes, of which the digest was taken, and the metadata.

    Raises:
      UserError: it cannot be read, or see `read`.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(path, "no such file", f"expected {_WRITTEN}") from None
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", f"expected {_WRITTEN}") from None
    return data, read(path, data)


def _find(data: bytes) -> tuple[int, int]:
    """Where the JSON begins and ends; (-1, -1) if there is none."""
    start = data.rfind(MARKER)
    if start < 0:
        return -1, -1
    try:
        _, length = json.JSONDecoder().raw_decode(data[start : start + _LONGEST].decode("latin-1"))
    except (ValueError, RecursionError):
        return -1, -1
    return start, start + length


def _first_line(error: Exception) -> str:
    if isinstance(error, pydantic.ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).partition("\n")[0]
