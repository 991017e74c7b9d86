"""Hundreds of mutated files of each format: the checker and the loader agree, and neither falls over."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.annotated import MADE, make

from efficientnet_east.data.check import check
from efficientnet_east.data.datasets import Record, find_records
from efficientnet_east.errors import UserError

PIECES = [
    b",", b"\n", b"\r\n", b"\t", b"\xff", b"\x00", b"\xef\xbb\xbf", b"nan", b"NaN", b"1e999", b"-", b".",
    b'"', b"'", b"###", b"#", b" ", b"99999999", b"\xe2\x80\xa8", b"[", b"]", b"{", b"}", b"[[", b"]]",
    b":", b"null", b"true", b"\\ud800", b"\\", b"[[1,2],[3,4]]", b"[]", b"x: [[", b"9" * 400, b"-0",
    b"\xff\xfe", b"1,1,9,9,9,1,1,9,x\n", b'3, 5, 40, 15, "a"\n', b'0,"a"', b"Latin,",
]  # fmt: skip

FILES = 300  # of each format


def mutated(rng: random.Random, good: bytes) -> bytes:
    """A file with up to four changes."""
    data = bytearray(good)
    for _ in range(rng.randint(0, 4)):
        place = rng.randint(0, len(data))
        change = rng.randrange(5)
        if change <= 1:
            data[place:place] = rng.choice(PIECES)
        elif change == 2:
            del data[place : place + rng.randint(1, 12)]
        elif change == 3 and place < len(data):
            data[place] = rng.randrange(256)
        elif rng.random() < 0.3:
            data = data[:place]
    return bytes(data)


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
        path.write_bytes(mutated(rng, good))
        strict, error = outcome(data, None)
        skipped: list[UserError] = []
        lenient, _ = outcome(data, skipped)
        try:
            found = check(str(data))
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
