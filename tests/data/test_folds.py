"""Lists of images for K folds."""

import os
from pathlib import Path

import pytest
from helpers.project import make_data
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_east.cli.main import main
from efficientnet_east.data.datasets import find_records
from efficientnet_east.data.folds import split
from efficientnet_east.data.image_lists import read_image_list, write_image_lists
from efficientnet_east.errors import UserError

NAMES = [f"img_{number}.jpg" for number in range(1, 24)]


@given(count=st.integers(2, 40), folds=st.integers(2, 9), seed=st.integers(0, 5))
def test_every_image_validates_once(count: int, folds: int, seed: int) -> None:
    names = [f"img_{number}.jpg" for number in range(count)]
    if count < folds:
        with pytest.raises(UserError, match=f"{folds} folds are too many for {count} images"):
            split(names, folds, seed)
        return
    parts = split(names, folds, seed)
    assert sorted(name for _, held_out in parts for name in held_out) == sorted(names)
    sizes = [len(held_out) for _, held_out in parts]
    assert len(sizes) == folds and max(sizes) - min(sizes) <= 1
    for trained, held_out in parts:
        assert sorted(trained + held_out) == sorted(names)
        assert trained == [name for name in names if name in trained], "natural order"


def test_the_seed_alone_decides() -> None:
    """The lists of one seed, written down: no version of anything may change them."""
    assert split(NAMES, 5, 1) == split(NAMES[::-1], 5, 1) != split(NAMES, 5, 2)
    assert split(NAMES[:7], 3, 1)[0][1] == ["img_1.jpg", "img_5.jpg", "img_6.jpg"]


def test_one_fold_is_none() -> None:
    with pytest.raises(UserError, match="2 or more"):
        split(NAMES, 1, 1)


def test_names_that_are_not_utf8_or_cannot_stand_in_a_list(tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"\xed\xa0\x80.jpg"), "über.jpg", "a b.jpg", "a,#.jpg"]
    write_image_lists({tmp_path / "list.txt": names})
    assert read_image_list(tmp_path / "list.txt") == names
    for bad in ("#1.jpg", " a.jpg", "a.jpg ", "two\nlines.jpg", "\ufeffa.jpg", "a\rb.jpg"):
        with pytest.raises(UserError, match="cannot stand in a list of images"):
            write_image_lists({tmp_path / "first.txt": names, tmp_path / "other.txt": [bad]})
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"], "nothing is written by halves"


def test_lists_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, lists = make_data(tmp_path / "data", range(1, 8)), tmp_path / "lists"
    words = ["folds", "--data", str(data), "--folds", "3", "--output", str(lists)]
    assert main(words) == 0
    assert f"--list {lists}/fold0_train.txt --val-list {lists}/fold0_val.txt" in capsys.readouterr().out
    files = {path.name: read_image_list(path) for path in sorted(lists.iterdir())}
    assert list(files) == [f"fold{n}_{part}.txt" for n in range(3) for part in ("train", "val")]
    for number in range(3):
        chosen = find_records(data, files[f"fold{number}_train.txt"])
        held_out = find_records(data, files[f"fold{number}_val.txt"])
        assert {r.image for r in chosen} | {r.image for r in held_out} == set((data / "images").iterdir())
        assert len(chosen) + len(held_out) == 7
    assert main(words) == 0, "the same again changes nothing"
    assert main([*words, "--seed", "2"]) == 2
    assert "is there already and names other images" in capsys.readouterr().err
    assert {path.name: read_image_list(path) for path in sorted(lists.iterdir())} == files
    some = lists / "fold0_train.txt"
    assert main([*words[:-1], str(tmp_path / "less"), "--list", str(some), "--seed", "2"]) == 0
    assert set(read_image_list(tmp_path / "less" / "fold2_train.txt")) < set(files[some.name])
