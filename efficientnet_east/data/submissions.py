"""The zip files of the ICDAR competitions: write detections, read detections and ground truth.

An archive holds one text file an image at its top level: res_<image>.txt with the corners of one text a
line in a submission, gt_<image>.txt in a ground truth. Nothing is unpacked to disk. An archive
that is not as it should be is refused, with the name of the entry at fault.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.folders import is_foreign, natural_key
from efficientnet_east.data.formats.coordinates import from_text, rectangle_quad
from efficientnet_east.errors import UserError, hint_of
from efficientnet_east.files import text_files
from efficientnet_east.files.atomic import write_file
from efficientnet_east.geometry.quads import clockwise
from efficientnet_east.structures import Detections, Truth

MAX_ARCHIVE = 64 << 20  # bytes, packed; also the limit of all entries together, unpacked
MAX_ENTRY = 4 << 20  # bytes, unpacked: some 100 000 lines
MAX_ENTRIES = 20_000
MAX_TEXTS = 5_000  # of one image: each is compared with each

# No separators, drives, control characters or bytes that are not UTF-8: a name that is safe on every system.
_NAME = r"([^/\\:*?\"<>|\x00-\x1f\x7f\ud800-\udfff]{1,200})\.txt"
_LINE = "x1,y1,x2,y2,x3,y3,x4,y4"
# Numbers in a line -> what they are; the last one of an odd number is the score.
_FORMS = {4: "left,top,right,bottom", 5: "left,top,right,bottom,score", 8: _LINE, 9: _LINE + ",score"}


def write_submission(
    path: str | os.PathLike[str],
    detections: Mapping[str, np.ndarray],
    *,
    scores: Mapping[str, np.ndarray] | None = None,
    rectangles: bool = False,
) -> None:
    """Write the zip file that https://rrc.cvc.uab.es takes: by default for Challenge 4, Task 1.

    Corners are rounded to whole pixels and run clockwise. Equal detections give equal bytes.

    Args:
      path: the zip file to write, in one move.
      detections: image name without suffix (img_1) to quads (n, 4, 2) in pixels, n may be 0.
      scores: image name to scores (n,), written as a last number, as ICDAR 2017 MLT asks for.
      rectangles: write `left,top,right,bottom` of the upright rectangles around the quads (ICDAR 2013).

    Raises:
      UserError: an image name that no archive should hold, or the file cannot be written.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for stem in sorted(detections, key=natural_key):
            expect_name(stem)
            # An entry made from a name alone would bear the time of writing; this one, the year 1980.
            entry = zipfile.ZipInfo(f"res_{stem}.txt")
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _lines(detections[stem], scores[stem] if scores else None, rectangles))
    write_file(path, buffer.getvalue())


def expect_name(stem: str) -> None:
    """Refuse an image name, without suffix, that `write_submission` would refuse.

    Args:
      stem: the name.

    Raises:
      UserError: it could lead out of a folder, or some system cannot write it.
    """
    if not re.fullmatch(_NAME, f"{stem}.txt"):
        problem = "cannot be the name of an image in a submission"
        raise UserError(stem, problem, "expected a name such as img_1")


def write_boxes(path: str | os.PathLike[str], detections: Detections) -> None:
    """Write the words of one image: eight coordinates in pixels and the score, comma separated, best first.

    Args:
      path: the text file to write, in one move.
      detections: what was found.

    Raises:
      UserError: the file cannot be written.
    """
    write_file(path, detections.to_icdar(decimals=2, scores=True).encode())


def read_scored(path: str | os.PathLike[str]) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Read the detections of a submission, with their scores where it has some.

    Args:
      path: a zip file of res_<image>.txt files; a line holds eight numbers (corners), or four (left, top,
        right, bottom, as in ICDAR 2013), and perhaps the score as one more. All lines have the form of the
        first one.

    Returns:
      Image name without suffix to quads, float32 (n, 4, 2), in file order and corner order, and scores,
      float64 (n,), of any size; None where the lines bear none.

    Raises:
      UserError: no such file, not a zip file, an entry or a line that does not belong there.
    """
    rows: dict[str, list[np.ndarray]] = {}
    count = 0
    for stem, data, where in _entries(path, "res"):
        text = text_files.split_lines(text_files.decode(data, where))
        lines = [(number, line) for number, line in enumerate(text, 1) if line.strip()]
        _expect_few(len(lines), where)
        rows[stem] = []
        for number, line in lines:
            fields = line.split(",")
            count = count or (len(fields) if len(fields) in _FORMS else 8)
            rows[stem].append(_parse_detection(fields, count, f"{where}:{number}"))
    return {stem: _split_scores(found, count in (5, 9)) for stem, found in rows.items()}


def read_truth_zip(path: str | os.PathLike[str]) -> dict[str, Truth]:
    """Read a ground truth as the organizers hand it out.

    Args:
      path: a zip file of gt_<image>.txt files.

    Returns:
      Image name without suffix to its texts.

    Raises:
      UserError: no such file, not a zip file, an entry or a line that does not belong there.
    """
    truths = {}
    for stem, data, where in _entries(path, "gt"):
        truths[stem] = parse_truth(data, where)
        _expect_few(len(truths[stem].texts), where)
    return truths


def _expect_few(count: int, where: str) -> None:
    if count > MAX_TEXTS:
        raise UserError(where, f"holds {count} lines", f"expected at most {MAX_TEXTS} for one image")


def _lines(quads: np.ndarray, scores: np.ndarray | None, rectangles: bool) -> str:
    corners = clockwise(np.rint(quads)).astype(np.int64)
    if rectangles:
        corners = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    lines = [",".join(map(str, row)) for row in corners.reshape(-1, 4 if rectangles else 8).tolist()]
    if scores is not None:
        lines = [f"{line},{score:.6f}" for line, score in zip(lines, scores.tolist(), strict=True)]
    return "".join(f"{line}\r\n" for line in lines)


def _parse_detection(fields: list[str], count: int, where: str) -> np.ndarray:
    """Eight coordinates, and the score or nan; `count` is the number of fields that the first line had."""
    if len(fields) != count:
        kind = "coordinates" if count in (4, 8) else "numbers"
        raise UserError(where, f"{len(fields)} {kind} instead of {count}", f"expected {_FORMS[count]}")
    numbers = from_text(fields, where, _FORMS[count])
    corners = numbers[:8].reshape(4, 2) if count >= 8 else rectangle_quad(*numbers[:4])
    return np.append(corners.astype(np.float32), numbers[-1] if count % 2 else np.nan)


def _split_scores(found: list[np.ndarray], scored: bool) -> tuple[np.ndarray, np.ndarray | None]:
    table = np.array(found, np.float64).reshape(-1, 9)
    return table[:, :8].astype(np.float32).reshape(-1, 4, 2), table[:, 8] if scored else None


def _entries(path: str | os.PathLike[str], prefix: str) -> Iterator[tuple[str, bytes, str]]:
    """Image name, content, and name for errors of every entry, in natural order."""
    try:
        if os.path.getsize(path) > MAX_ARCHIVE:
            hint = "expected a zip file of text files"
            raise UserError(path, f"is larger than {MAX_ARCHIVE >> 20} MiB", hint)
        with zipfile.ZipFile(path) as archive:
            stems = _checked(path, archive, prefix)
            for stem in sorted(stems, key=natural_key):
                # The declared size may lie; zipfile reads no further and finds the checksum wrong.
                yield stem, archive.read(stems[stem]), f"{path}/{stems[stem].filename}"
    except UserError:
        raise
    # A damaged archive makes zipfile raise almost anything: BadZipFile, zlib.error, struct.error...
    except Exception as error:
        problem = getattr(error, "strerror", None) or error
        hint = hint_of(error, f"a zip file of {prefix}_<image>.txt files")
        raise UserError(path, f"cannot be read ({problem})", hint) from None


def _checked(
    path: str | os.PathLike[str], archive: zipfile.ZipFile, prefix: str
) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    if not 0 < len(entries) <= MAX_ENTRIES:
        raise UserError(path, f"holds {len(entries)} files", f"expected 1 to {MAX_ENTRIES}")
    if (total := sum(entry.file_size for entry in entries)) > MAX_ARCHIVE:
        raise UserError(path, f"unpacks to {total} bytes", f"expected at most {MAX_ARCHIVE}")
    stems: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        # Not `filename`, which zipfile cuts off at a zero byte.
        name = entry.orig_filename
        if _is_foreign_entry(name):
            continue
        # A hostile name may hold terminal commands, or be endless.
        where = f"{path}/{repr(name)[1:-1][:200]}"
        match = re.fullmatch(f"{prefix}_{_NAME}", name)
        if match is None:
            expected = f"{prefix}_<image>.txt at the top level of the zip file"
            raise UserError(where, "does not belong here", f"expected {expected}")
        if match[1] in stems:
            raise UserError(where, "is there twice", "expected each image once")
        _check_entry(entry, where)
        stems[match[1]] = entry
    if not stems:
        raise UserError(path, "holds 0 files", f"expected 1 to {MAX_ENTRIES} named {prefix}_<image>.txt")
    return stems


def _is_foreign_entry(name: str) -> bool:
    """What operating systems add to archives; the official scripts pass over it, too."""
    hidden = re.fullmatch(r"[^/\\]+", name) and name.strip(".") and is_foreign(name)
    return name.startswith("__MACOSX/") or bool(hidden)


def _check_entry(entry: zipfile.ZipInfo, where: str) -> None:
    if entry.file_size > MAX_ENTRY:
        raise UserError(where, f"unpacks to {entry.file_size} bytes", f"expected at most {MAX_ENTRY}")
    if entry.flag_bits & 0x1:
        raise UserError(where, "is encrypted", "expected a plain text file")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise UserError(where, "is a symbolic link", "expected a plain text file")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        problem = f"is compressed with method {entry.compress_type}"
        raise UserError(where, problem, "expected method 0 (stored) or 8 (deflate)")
