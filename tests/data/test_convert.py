"""`convert` writes any format as ICDAR text files, which are read as the same texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.annotated import MADE, make
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.cli import main
from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.convert import as_icdar
from efficientnet_east.data.datasets import find_records
from efficientnet_east.geometry.quads import clockwise
from efficientnet_east.structures import Truth


@pytest.mark.parametrize("kind", MADE)
def test_each_format_is_converted(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(kind, tmp_path / "data")
    words = ["convert", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert main.main([*words, "--copy-images"]) == 0
    before, after = (find_records(tmp_path / name) for name in ("data", "out"))
    said = capsys.readouterr().out
    assert said.startswith(f"{len(before)} images, {sum(len(r.truth.texts) for r in before)} texts (")
    assert [record.image.name for record in before] == [record.image.name for record in after]
    for one, other in zip(before, after, strict=True):
        assert one.image.read_bytes() == other.image.read_bytes()
        assert one.truth.quads.tolist() == other.truth.quads.tolist()
        assert one.truth.ignore.tolist() == other.truth.ignore.tolist()
        assert one.truth.scripts == other.truth.scripts
        for ignore, text, shown in zip(one.truth.ignore, one.truth.texts, other.truth.texts, strict=True):
            assert shown == ("###" if ignore else text)
    assert main.main(["check-data", "--data", str(tmp_path / "out")]) == 0


def test_converting_leaves_images_where_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make("label_txt", tmp_path / "data")
    words = ["convert", "--data", str(tmp_path / "data")]
    assert main.main([*words, "--output", str(tmp_path / "out"), "--limit", "1"]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gts"]
    lines = (tmp_path / "out" / "gts" / "gt_a b.txt").read_bytes().decode().split("\r\n")
    assert lines[0] == "10,10,60,10,60,30,10,30,wörd" and lines[1].endswith(",###") and lines[3] == ""
    assert main.main([*words, "--output", str(tmp_path / "out"), "--limit", "0"]) == 2
    assert "--limit: is 0; expected 1 or more" in capsys.readouterr().err


def test_converting_never_writes_into_the_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("icdar", tmp_path / "data")
    path = tmp_path / "data" / "gts" / "gt_img_1.txt"
    before = path.read_bytes()
    assert main.main(["convert", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "data")]) == 2
    said = "is a folder of the data set itself, or below one. Choose another output folder."
    assert said in capsys.readouterr().err
    assert path.read_bytes() == before
    make("label_txt", tmp_path / "list")
    words = ["convert", "--data", str(tmp_path / "list"), "--copy-images"]
    assert main.main([*words, "--output", str(tmp_path / "list" / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "list" / "out" / "images").exists()


def test_converting_masks_what_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make("icdar", tmp_path / "data")
    (tmp_path / "data" / "gts" / "gt_img_1.txt").write_text("10,10,60,30,60,10,10,30,CROSSED\nrubbish\n")
    words = ["convert", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert main.main(words) == 2
    assert not (tmp_path / "out").exists()
    assert main.main([*words, "--skip-bad"]) == 0
    assert capsys.readouterr().err.count("skipped: ") == 2
    (line,) = (tmp_path / "out" / "gts" / "gt_img_1.txt").read_text().splitlines()
    assert line == "10,10,60,10,60,30,10,30,###"


CORNERS = st.tuples(*[st.floats(-2000, 4000, width=32)] * 8)
QUADS = st.lists(CORNERS.map(lambda v: np.reshape(v, (4, 2)).astype(np.float32)), max_size=4)
ODD_TEXTS = ["###", "*", "3,50", '"', '""', '"a"', "Latin,a", '0,"a"', '1,"###"', "####", "x\ny", "5"]
TEXT = st.one_of(st.text(), st.sampled_from([*ODD_TEXTS, "1,2,3,4", "20,20,20,20,30,30", ".", "#"]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(QUADS, TEXT, st.booleans(), st.sampled_from(["", "Latin", "None"])), max_size=4))
def test_what_is_converted_is_read_as_it_was(rows: list[Any]) -> None:
    kept = [
        (quad, " ".join(text.split()), ignore, script)
        for quads, text, ignore, script in rows
        for quad in quads
        if parse_truth(",".join(repr(float(v)) for v in quad.ravel()), "", []).ignore.tolist() == [False]
    ]
    kept = [row for row in kept if row[1].encode("utf-8", "replace").decode() == row[1]]
    if any(script for *_, script in kept) and not all(script for *_, script in kept):
        kept = [(quad, text, ignore, "") for quad, text, ignore, _ in kept]
    quads = clockwise(np.array([row[0] for row in kept], np.float32).reshape(-1, 4, 2))
    ignore = np.array([row[2] for row in kept], np.bool_)
    scripts = tuple(row[3] for row in kept) if any(row[3] for row in kept) else ()
    truth = Truth(quads, ignore, tuple(row[1] for row in kept), scripts)
    again = parse_truth(as_icdar(truth).encode(), "gt.txt")
    assert again.quads.tolist() == (truth.quads + np.float32(0)).tolist()
    assert again.ignore.tolist() == ignore.tolist() and again.scripts == scripts
    for before, after, ignored in zip(truth.texts, again.texts, ignore, strict=True):
        left_out = before in ("###", "*")
        assert after == ("###" if ignored else "" if left_out else before)
