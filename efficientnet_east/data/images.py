"""Read and write image files. Any file that a viewer opens becomes plain RGB, anything else a UserError."""

from __future__ import annotations

import functools
import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from efficientnet_east.errors import UserError, hint_of
from efficientnet_east.files.atomic import write_file

# Pillow's own table of suffixes loads all of its plugins, which takes as long as writing an image.
_WRITTEN = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF",
    ".tiff": "TIFF", ".gif": "GIF",
}  # fmt: skip
_PNG_EFFORT = 2  # of 9: a photograph takes a quarter of the usual effort's time, and a sixth more bytes
_HEIF, _AVIF = (".heic", ".heif"), (".avif",)
SUFFIXES = (*_WRITTEN, *_HEIF, *_AVIF)

# Only these decoders ever see a foreign file; Pillow also knows formats that run other programs (EPS).
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
_EXPECTED = "a whole JPEG, PNG, BMP, WebP, TIFF, GIF, HEIC or AVIF image"
# Brands of the container that HEIC and AVIF share, behind the letters `ftyp` -> Pillow's name.
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"
)
_INSTALL = {"AVIF": "Run `pip install 'pillow>=11.3'`.", "HEIF": "Run `pip install pillow-heif`."}
MAX_PIXELS = 100_000_000
PILLOW_MAX_PIXELS = 178_956_970  # Pillow reads no larger image, whatever max_pixels is

Encoded: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview  # a file, or what is in one

_Result = TypeVar("_Result")

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: Encoded, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as a viewer shows it.

    The EXIF orientation is applied, transparent parts become white, and of an animation the first frame
    is read. 16-bit values are scaled to 8 bits. Values of 32 bits may be in [0, 255], in [0, 65535], or, as
    floating-point numbers, in [0, 1]; of larger ones the largest becomes white. HEIC needs pillow-heif.

    Args:
      source: a file, or the bytes of one.
      max_pixels: width x height above which the image is refused before any of it is decoded. Pillow's own
        limit, some 179 million, holds too.

    Returns:
      uint8 (height, width, 3), RGB, owned by the caller.

    Raises:
      UserError: the file is missing, empty, damaged, too large or not one of the known formats.
    """
    return _opened(source, lambda image, where: _pixels(image, where, max_pixels, draft=False))


def from_pillow(image: Image.Image, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Take the pixels of an image of Pillow as `read_image` takes those of a file.

    Args:
      image: of any mode, open or made by a program; left as it is.
      max_pixels: see `read_image`.

    Returns:
      uint8 (height, width, 3), RGB, owned by the caller.

    Raises:
      UserError: it is empty, too large, or its file cannot be read.
    """
    try:
        return _pixels(image, "image", max_pixels, draft=False)
    except UserError:
        raise
    except Exception as error:  # its file is read now
        raise UserError("image", _problem(error), f"expected {_EXPECTED}") from None


def check_image(source: Encoded, *, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse what `read_image` would refuse, several times faster for a JPEG.

    The whole file is read, so a truncated one is found; a JPEG is only decoded at an eighth of its size.

    Args:
      source: a file, or the bytes of one.
      max_pixels: width x height above which the image is refused.

    Raises:
      UserError: `read_image` would raise it too.
    """
    _opened(source, lambda image, where: _pixels(image, where, max_pixels, draft=True))


def count_pixels(source: Encoded) -> int:
    """Count an image's pixels; only the beginning of the file is read.

    Args:
      source: a file, or the bytes of one.

    Raises:
      UserError: the file is missing, empty or not one of the known formats.
    """
    return _opened(source, lambda image, where: image.width * image.height)


def image_size(source: Encoded) -> tuple[int, int]:
    """Return the width and height of an image as a viewer shows it. Little more than its header is read.

    Args:
      source: a file, or the bytes of one.

    Raises:
      UserError: the file is missing, empty or not one of the known formats.
    """

    def size(image: Image.Image, where: object) -> tuple[int, int]:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)

    return _opened(source, size)


def is_turned(source: str | os.PathLike[str] | bytes) -> bool:
    """Tell whether viewers turn or mirror an image, as its EXIF data says.

    Args:
      source: a file, or the bytes of one.

    Raises:
      UserError: the file is missing, empty or not one of the known formats.
    """
    return _opened(source, lambda image, where: _orientation(image) in _UPRIGHT)


def write_image(path: str | os.PathLike[str], rgb: np.ndarray) -> None:
    """Write an image. Others see the old file or the new one, never half of it.

    Args:
      path: the file to write; its suffix chooses the format. Missing folders are made.
      rgb: uint8 (height, width, 3), RGB.

    Raises:
      UserError: the suffix is unknown or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITTEN:
        problem = f"{suffix!r} is no suffix of an image format that can be written"
        raise UserError(path, problem, f"expected one of {', '.join(_WRITTEN)}")
    write_file(path, encode_image(rgb, suffix))


def encode_image(rgb: np.ndarray, suffix: str) -> bytes:
    """Encode an image as the bytes of a file, without metadata.

    Args:
      rgb: uint8 (height, width, 3), RGB.
      suffix: chooses the format, such as `.png`.
    """
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, _WRITTEN[suffix], quality=95, compress_level=_PNG_EFFORT)
    return buffer.getvalue()


def _opened(source: Encoded, use: Callable[[Image.Image, object], _Result]) -> _Result:
    """What `use` makes of the opened file and its name."""
    where = source if isinstance(source, str | os.PathLike) else "image"
    try:
        file: str | os.PathLike[str] | io.BytesIO
        if not isinstance(source, str | os.PathLike):
            file = io.BytesIO(source)
        elif _never_ends(source):
            raise UserError(source, "is a pipe, a socket or a device", f"expected {_EXPECTED}")
        else:
            file = source
        with warnings.catch_warnings():
            # Of damaged EXIF data, and from 89 million pixels on; what is too large is decided below.
            warnings.filterwarnings("ignore", module="PIL")
            with Image.open(file, formats=_decoders(source)) as image:
                return use(image, where)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(where, "far too many pixels", f"expected at most {MAX_PIXELS} in all") from None
    # A damaged file makes Pillow raise almost anything: OSError, SyntaxError, struct.error, IndexError...
    except Exception as error:
        raise UserError(where, _problem(error), hint_of(error, _EXPECTED)) from None


def _decoders(source: Encoded) -> tuple[str, ...]:
    """The decoders that may see a file: all common ones, or the one for HEIC or AVIF, by its first bytes."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            beginning = file.read(64)
    else:
        beginning = bytes(memoryview(source)[:64])
    kind = _container(beginning)
    if kind is None:
        return _FORMATS
    if not _can_decode(kind):
        where = source if isinstance(source, str | os.PathLike) else "image"
        shown = "HEIC" if kind == "HEIF" else kind
        raise UserError(where, f"is in {shown}, and its decoder is not installed", _INSTALL[kind])
    return (kind,)


def _container(beginning: bytes) -> str | None:
    """HEIF or AVIF, if a file is one of them: by its main brand, or a general one's first specific brand."""
    if beginning[4:8] != b"ftyp":
        return None
    length = min(int.from_bytes(beginning[:4], "big"), len(beginning))
    brands = [beginning[8:12], *(beginning[start : start + 4] for start in range(16, length, 4))]
    known = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    return "AVIF" if "AVIF" in known else next(iter(known), None)


@functools.cache
def _can_decode(kind: str) -> bool:
    """Whether there is a decoder; that for HEIC makes itself known to Pillow."""
    if kind == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            return False
        pillow_heif.register_heif_opener()
        return True
    Image.init()
    return bool(features.check("avif")) and kind in Image.OPEN


def _never_ends(path: str | os.PathLike[str]) -> bool:
    """Whether to open a path might wait for ever, or to read it go on for ever."""
    mode = os.stat(path).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _pixels(image: Image.Image, where: object, max_pixels: int, draft: bool) -> np.ndarray:
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(where, f"{width} x {height} pixels", f"expected at most {max_pixels} in all")
    if draft:
        image.draft(None, (max(1, width // 8), max(1, height // 8)))
    image.load()
    # Read after the pixels: a PNG may carry it behind them, and Pillow turns a TIFF by itself.
    turn = _UPRIGHT.get(_orientation(image))
    image = _rgb(image)
    return np.array(image if turn is None else image.transpose(turn))


def _problem(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, UnidentifiedImageError):
        return "is empty or not an image"
    reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return f"cannot be read ({reason})"


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # Damaged EXIF data around sound pixels: viewers show those as they are.
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        # A PNG holds 16 bits at most, whatever Pillow makes of them.
        image = Image.fromarray(_eight_bits(values.astype(np.uint16) if image.format == "PNG" else values))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    # To convert what is RGB already would copy it, which costs as much time as decoding.
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        scaled = values * 255 if values.max() <= 1 else values / _white_of(float(values.max()))
    elif values.dtype.itemsize == 2:
        scaled = values / 257
    else:
        scaled = values / _white_of(float(values.max()))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _white_of(largest: float) -> float:
    """What values of 32 bits are divided by: they mostly hold 8 or 16 bits."""
    if largest <= 255:
        return 1.0
    return 257.0 if largest <= 65535 else largest / 255
