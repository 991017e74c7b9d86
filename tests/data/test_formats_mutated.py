"""Hundreds of mutated files of each format: the checker and the loader agree, and neither falls over."""

import functools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.annotated import MADE, make
from helpers.mutations import mutated

from efficientnet_east.data import check as checks
from efficientnet_east.data.datasets import Record, find_records
from efficientnet_east.errors import UserError

FILES = 1000  # of each format


@pytest.fixture(autouse=True)
def images_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at each image once: they stay as they are."""
    for name in ("check_image", "image_size", "is_turned"):
        monkeypatch.setattr(checks, name, functools.cache(getattr(checks, name)))


def outcome(data: Path, skipped: list[UserError] | None) -> tuple[list[str], str]:
    try:
        return described(find_records(data, skipped=skipped)), ""
    except UserError as error:
        return [], str(error)


def described(records: Sequence[Record]) -> list[str]:
    return [f"{r.image} {r.truth.quads.tolist()} {r.truth.ignore.tolist()}" for r in records]


@pytest.mark.parametrize("kind", MADE)
def test_checker_and_loader_agree_on_mutated_files(kind: str, tmp_path: Path) -> None:
    """They accept and refuse the same, in the same words, and neither falls over."""
    data, rng = tmp_path / "data", random.Random(f"{kind} 7")
    make(kind, data)
    places = [path for path in data.rglob("*") if path.suffix in (".txt", ".json")]
    (path,) = [path for path in places if path.name not in ("rec_gt.txt", "fileState.txt", "mined.json")
               and "_val" not in path.name]  # fmt: skip
    good, refused = path.read_bytes(), 0
    for _ in range(FILES):
        path.unlink()  # some file systems wait for the disk when a file is written over
        path.write_bytes(mutated(rng, good))
        strict, error = outcome(data, None)
        skipped: list[UserError] = []
        lenient, _ = outcome(data, skipped)
        try:
            found = checks.check(str(data))
        except UserError as refusal:
            assert str(refusal) == error
            refused += 1
            continue
        problems = [str(problem) for problem in found.problems if "no trainable text" not in problem.problem]
        assert problems == [str(one) for one in skipped]
        assert problems[:1] == ([error] if error else [])
        assert described(found.records) == lenient
        if not error:
            assert strict == lenient
        refused += bool(error)
    assert FILES / 10 < refused < 0.99 * FILES, "many are bad, and some are good"
