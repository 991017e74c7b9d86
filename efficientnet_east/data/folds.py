"""K folds of a data set: every image validates once and trains in all other folds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from efficientnet_east.data.folders import natural_key
from efficientnet_east.errors import UserError


def split(names: Sequence[str], folds: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Divide images at random into folds whose sizes differ by at most one.

    The order is that of hashes of the seed and the names. It depends on no version of any library, nor on
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
        raise UserError("folds", f"is {folds}", "expected 2 or more")
    if len(names) < folds:
        problem = f"{folds} folds are too many for {len(names)} images"
        raise UserError("folds", problem, "expected at most one fold for each image")
    shuffled = sorted(names, key=lambda name: _hash(f"{seed}/{name}"))
    held_out = [set(shuffled[fold::folds]) for fold in range(folds)]
    ordered = sorted(names, key=natural_key)
    return [
        ([name for name in ordered if name not in out], [name for name in ordered if name in out])
        for out in held_out
    ]


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
