"""Hundreds of hostile image files through `detect`: no traceback, no hang, every good file processed.

    python benchmarks/hostile.py OUT.json --checkpoint PATH [--count 500] [--seed 1]

Every file is made here, from a seed: images of all kinds that must be read, broken and malicious ones that
must be refused, mutated ones that may go either way. The program runs once over the whole folder; its exit
code, its time and peak memory and the fate of every file are written down.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
READ, REFUSED, EITHER = "must be read", "must be refused", "may go either way"
SKIPPED = "warning: skipped: "  # before the line of an image that is refused
TIME_LIMIT = 1800  # seconds for all files
SIDE = 60_000  # of the bombs
# The ends of names; the beginnings are numbers, so that each file has its own.
NAMES = ("a", "with space", "100%d", "two\nlines", "Straße 東京", "a.b", "-n",
         "$(x)", "[1]", "*", "tab\tx", "عربي", "\x1b[31mred", "'quote\"", "x" * 230, "é", "..")  # fmt: skip


def picture(random_: random.Random, width: int | None = None, height: int | None = None) -> Image.Image:
    """Colored noise below dark bars, of a random size if none is given."""
    width, height = width or random_.randint(20, 300), height or random_.randint(20, 300)
    pixels = np.random.default_rng(random_.getrandbits(32)).integers(120, 255, (height, width, 3), np.uint8)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = 20
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG's chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def oriented(image: Image.Image, orientation: int, kind: str) -> bytes:
    """A file that says how it was held, and where."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.0)  # GPS
    return encoded(image, kind, exif=exif)


def good(random_: random.Random, number: int) -> tuple[bytes, str]:
    """The file of the n-th kind that must be read, and a suffix."""
    image = picture(random_)
    gray = image.convert("L")
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    real = Image.fromarray(np.asarray(gray).astype(np.float32) / 255)
    frames = {"save_all": True, "append_images": [picture(random_, *image.size)]}
    kinds: list[Callable[[], tuple[bytes, str]]] = [
        *(lambda size=size: (encoded(picture(random_, *size), "PNG"), ".png")
          for size in ((1, 1), (1, 5000), (5000, 1), (2, 2), (31, 33), (3000, 40))),
        *(lambda turn=turn, kind=kind: (oriented(image, turn, kind), f".{kind}".lower())
          for turn in range(1, 9) for kind in ("JPEG", "PNG")),
        lambda: (encoded(gray, "JPEG"), ".jpg"),
        lambda: (encoded(gray, "PNG"), ".PNG"),
        lambda: (encoded(image.convert("LA"), "PNG"), ".png"),
        lambda: (encoded(image.convert("RGBA"), "WEBP", lossless=True), ".webp"),
        lambda: (encoded(image.convert("CMYK"), "JPEG"), ".jpeg"),
        lambda: (encoded(image.convert("CMYK"), "TIFF"), ".tif"),
        lambda: (encoded(image.convert("P"), "PNG", transparency=3), ".png"),
        lambda: (encoded(image.convert("P"), "GIF"), ".gif"),
        lambda: (encoded(image.convert("1"), "PNG"), ".png"),
        lambda: (encoded(image.convert("1"), "TIFF", compression="group4"), ".tiff"),
        lambda: (encoded(image.convert("1"), "BMP"), ".bmp"),
        lambda: (encoded(deep, "PNG"), ".png"),
        lambda: (encoded(deep, "TIFF"), ".tif"),
        lambda: (encoded(real, "TIFF"), ".tif"),
        lambda: (encoded(image, "GIF", **frames), ".gif"),
        lambda: (encoded(image, "WEBP", **frames), ".webp"),
        lambda: (encoded(image, "PNG", **frames), ".png"),
        lambda: (encoded(image, "TIFF", **frames), ".tiff"),
        lambda: (encoded(image, "TIFF", compression="tiff_lzw"), ".tiff"),
        lambda: (encoded(image, "JPEG", progressive=True), ".jpg"),
        lambda: (encoded(image, "JPEG") + b"behind the end" * 99, ".jpg"),
        lambda: (encoded(image, "JPEG", icc_profile=b"no profile" * 9), ".jpg"),
        lambda: (encoded(image, "JPEG", comment=b"\x1b[2J<img onerror=alert(1)>"), ".jpg"),
        lambda: (encoded(image, "PNG"), ".jpg"),  # a suffix is only a name
        lambda: (encoded(image, "JPEG"), ".png"),
        lambda: (encoded(image, "BMP"), ".gif"),
        lambda: (encoded(image, "TIFF"), ".webp"),
    ]  # fmt: skip
    return kinds[number % len(kinds)]()


def bomb(kind: str) -> bytes:
    """A small file whose header promises gigabytes."""
    if kind == "PNG":
        header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
        parts = (b"IHDR", header), (b"IDAT", zlib.compress(bytes(999_999))), (b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    if kind == "BMP":
        return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 60, 0, 0, 54, 40, SIDE, SIDE, 1, 24, *[0] * 6)
    if kind == "GIF":
        screen = struct.pack("<HHBBB", SIDE, SIDE, 0x80, 0, 0) + bytes(6)
        return (
            b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, SIDE, SIDE, 0) + b"\x02\x02\x4c\x01\x00;"
        )
    if kind == "TIFF":
        tags = [
            (256, SIDE),
            (257, SIDE),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, 8),
            (277, 1),
            (278, SIDE),
            (279, 9),
        ]
        rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + rows + bytes(4)
    if kind == "ICO":
        inner = bomb("PNG")
        return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inner), 22) + inner
    jpeg = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", SIDE, SIDE)
    return bytes(jpeg)


def bad(random_: random.Random, number: int) -> tuple[bytes, str]:
    """The file of the n-th kind that must be refused, and a suffix."""
    image = picture(random_)
    kinds: list[Callable[[], tuple[bytes, str]]] = [
        lambda: (b"", ".jpg"),
        lambda: (b"\0" * 5000, ".png"),
        lambda: (random_.randbytes(5000), ".jpg"),
        lambda: (b"just text\n" * 50, ".png"),
        lambda: (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", ".png"),
        lambda: (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", ".jpg"),
        lambda: (b"%PDF-1.4\n%%EOF", ".png"),
        lambda: (b"P6 1 1 255\n\0\0\0", ".bmp"),
        lambda: (encoded(image, "ICO"), ".png"),
        lambda: (b"#EXTM3U\nhttp://127.0.0.1:9/x\n", ".gif"),
        lambda: (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)), ".png"),
        lambda: (b"\x89PNG\r\n\x1a\n", ".png"),
        lambda: (b"x" + encoded(image, "JPEG"), ".jpg"),
        *(lambda kind=kind: (bomb(kind), f".{kind}".lower() if kind != "ICO" else ".png")
          for kind in ("PNG", "BMP", "GIF", "TIFF", "ICO", "JPEG")),
        *(lambda kind=kind: (cut(random_, encoded(image, kind)), f".{kind}".lower())
          for kind in ("JPEG", "PNG", "BMP", "TIFF", "JPEG", "PNG")),
    ]  # fmt: skip
    return kinds[number % len(kinds)]()


def cut(random_: random.Random, data: bytes) -> bytes:
    """The beginning of a file."""
    return data[: int(len(data) * random_.uniform(0.02, 0.9))]


def mutated(random_: random.Random, number: int) -> tuple[bytes, str]:
    """A good file with some bytes changed, doubled or lost."""
    data, suffix = good(random_, number * 7 + 3)
    changed = bytearray(data)
    for _ in range(random_.choice((1, 3, 30))):
        place = random_.randrange(len(changed))
        changed[place : place + random_.choice((0, 1, 4))] = random_.randbytes(random_.choice((0, 1, 4)))
    return bytes(changed), suffix


def make(folder: Path, count: int, seed: int) -> dict[Path, str]:
    """Make a folder of hostile files.

    Args:
      folder: to be made.
      count: of files: half of them good, a quarter bad, the rest mutated.
      seed: of all that is random.

    Returns:
      Path -> READ, REFUSED or EITHER.
    """
    random_ = random.Random(seed)
    fates: dict[Path, str] = {}
    for number in range(count):
        part = folder / f"part {number // 2 % 3}"  # where names, without their suffixes, collide
        part.mkdir(parents=True, exist_ok=True)
        make_one, fate = ((good, READ), (bad, REFUSED), (good, READ), (mutated, EITHER))[number % 4]
        data, suffix = make_one(random_, number // 4 * (2 if fate == READ else 1) + (number % 4 == 2))
        path = part / f"{number // 2}{NAMES[number // 2 % len(NAMES)]}{suffix}"
        if path.exists():
            path = part / f"{number}again{suffix}"
        path.write_bytes(data)
        fates[path] = fate
    return fates | specials(folder)


def specials(folder: Path) -> dict[Path, str]:
    """What is no file at all, though its name says so; and a name that is no text."""
    (folder / "folder.png").mkdir(parents=True)
    os.mkfifo(folder / "pipe.png")
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("gone.png")
    fates = {folder / f"{name}.png": REFUSED for name in ("pipe", "endless", "loop", "nowhere")}
    odd = folder / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes(encoded(Image.new("RGB", (40, 30), "white"), "PNG"))
    return fates | {odd: READ}


def judge(fates: dict[Path, str], printed: str) -> dict[str, int]:
    """Count what became of the files.

    Args:
      fates: from `make`.
      printed: what `detect` wrote to stdout and stderr together.

    Returns:
      Counts by name; those that begin with `wrong` must be 0.
    """
    from efficientnet_east.errors import one_line

    lines = printed.splitlines()
    ends = [re.split(r" words? -> ", line) for line in lines]
    starts = {end[0].rpartition(": ")[0] for end in ends if len(end) > 1}
    skipped = [line.removeprefix(SKIPPED) for line in lines if line.startswith(SKIPPED)]
    counts = dict.fromkeys(("read", "refused", "wrong: refused", "wrong: read", "wrong: without a word"), 0)
    for path, fate in fates.items():
        shown = one_line(str(path)).encode(errors="backslashreplace").decode()
        was_read, was_refused = shown in starts, any(line.startswith(f"{shown}: ") for line in skipped)
        counts["read"] += was_read
        counts["refused"] += was_refused
        counts["wrong: without a word"] += was_read == was_refused
        counts["wrong: refused"] += was_refused and fate == READ
        counts["wrong: read"] += was_read and fate == REFUSED
    return counts


def main() -> None:
    """Make the files, run `detect` once, write down what happened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("json", metavar="OUT.json")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name, "in"), Path(name, "out")
        fates = make(folder, arguments.count, arguments.seed)
        command = [sys.executable, "-m", "efficientnet_east", "detect", str(folder), "--recursive"]
        command += ["--checkpoint", os.path.abspath(arguments.checkpoint), "--output", str(output)]
        command += ["--formats", "icdar,json,picture,score,angle"]
        begun = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=TIME_LIMIT)
        seconds = time.monotonic() - begun
        printed = (done.stdout + done.stderr).decode(errors="surrogateescape")
        result = {
            "files": len(fates),
            "kinds": {kind: list(fates.values()).count(kind) for kind in (READ, REFUSED, EITHER)},
            **judge(fates, printed),
            "results in json": len(list(output.rglob("*_words.json"))),
            "wrong: tracebacks": printed.count("Traceback"),
            "partial files": len(list(output.rglob(".partial-*"))),
            "exit code": done.returncode,
            "seconds": round(seconds, 1),
            "peak memory, MB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }
    Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    if any(value for key, value in result.items() if key.startswith("wrong")):
        sys.stderr.write(printed)
        raise SystemExit("some files did not get what they deserve")


if __name__ == "__main__":
    main()
