"""K folds of a data set: every image validates once and trains in all other folds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientnet_east.data.folders import natural_key
from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import write_file


def split(names: Sequence[str], folds: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Divides images at random into folds whose sizes differ by at most one.

    The order is that of hashes of the seed and the names: it depends on no version of any library, nor on
    the order in which the names are given.

    Args:
      names: of the images, all different.
      folds: how many, 2 or more.
      seed: another one gives other folds.

    Returns:
      For each fold the names to train on and those to validate on, in natural order.

    Raises:
      UserError: fewer than two folds, or fewer images than folds.
    """
    if folds < 2:
        raise UserError("--folds", f"is {folds}", "expected 2 or more")
    if len(names) < folds:
        raise UserError(
            "--folds", f"{len(names)} images cannot fill {folds} folds", "expected at most as many folds"
        )
    shuffled = sorted(names, key=lambda name: _hash(f"{seed}/{name}"))
    held_out = [set(shuffled[fold::folds]) for fold in range(folds)]
    ordered = sorted(names, key=natural_key)
    return [
        ([name for name in ordered if name not in out], [name for name in ordered if name in out])
        for out in held_out
    ]


def write_lists(lists: Mapping[Path, Sequence[str]]) -> None:
    """Write lists of names that `icdar.read_list` reads. What is wrong is found before the first is written.

    Args:
      lists: path of the file -> the image names in it.

    Raises:
      UserError: a list is there already and names other images, or a name cannot stand in a list.
    """
    contents = {path: b"".join(_line(name) for name in names) for path, names in lists.items()}
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise UserError(path, "is there already and names other images", "expected another --output")
    for path, content in contents.items():
        write_file(path, content)


def _line(name: str) -> bytes:
    """A name as it stands in a list: in the bytes that it has on the disk."""
    line = os.fsencode(name)
    if line.splitlines() != [line] or name != name.strip() or name.startswith(("#", "\ufeff")):
        expected = "a name without line breaks, without spaces at its ends, that does not begin with #"
        raise UserError(name, "cannot stand in a list of images", f"expected {expected}")
    return line + b"\n"


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
