"""Formats of annotations: each is read to the right corners and ignore marks."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.annotated import (
    CURVED,
    FAINT,
    MADE,
    WORD,
    flat,
    joined,
    make,
    picture,
    ring,
    texts_of,
    texts_of_one,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.data import formats
from efficientnet_east.data.check import check
from efficientnet_east.data.datasets import find_records
from efficientnet_east.data.formats import coco_text, label_list, labelme, lines, total_text
from efficientnet_east.data.formats.annotation import TextAnnotation
from efficientnet_east.data.layouts import held_out
from efficientnet_east.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", MADE)
def test_each_format_is_read(kind: str, tmp_path: Path) -> None:
    expected = make(kind, tmp_path / "data")
    records = find_records(tmp_path / "data")
    assert {record.image.name: texts_of(record.truth) for record in records} == expected
    found = check(str(tmp_path / "data"))
    assert not found.problems and len(found.records) == len(expected)
    assert {hint.kind for hint in found.hints} <= {"polygon", "no text"}


# --- the table


def test_the_table_is_the_one_of_the_documents() -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for format in formats.FORMATS:
        row = f"| {format.name} | {format.files} | {format.sign} | {format.ignored} |"
        assert row in text, row


def test_a_sign_beats_the_rest() -> None:
    """Which format a beginning is, among those of one image and those of many."""
    signs = [
        (b"x: [[1 2 3]], y: [[1 2", ".txt", False, total_text.FORMAT),
        (b"\xef\xbb\xbf \n x: [[1", ".txt", False, total_text.FORMAT),
        (b"1,2,3,4,5,6,7,8,x: [[", ".txt", False, lines.FORMAT),
        (b"", ".txt", False, lines.FORMAT),
        (b"", ".txt", True, None),
        (b"a.jpg\t[", ".txt", True, label_list.FORMAT),
        (b"a.jpg\tword", ".txt", True, None),
        (b"1,2,3,4,5,6,7,8,a\t[", ".TXT", True, label_list.FORMAT),
        ('{"version": "5'.encode("utf-16"), ".json", False, labelme.FORMAT),
        (b'{"shapes": [', ".json", False, labelme.FORMAT),
        (b'{"imgs": {', ".json", True, coco_text.FORMAT),
        (b'{"cats": {', ".JSON", True, coco_text.FORMAT),
        (b'{"data": "x", "places": []', ".json", True, None),
        (b'{"data": "x", "places": []', ".json", False, None),
    ]
    for raw, suffix, whole_set, expected in signs:
        assert formats.recognize(raw, suffix, whole_set=whole_set) is expected, raw


def test_a_sign_is_seen_through_a_cut_letter() -> None:
    raw = ("a" * (formats.SIGN_BYTES - 1 - len("\t[")) + "\t[ü").encode()
    assert formats.recognize(raw, ".txt", whole_set=True) is label_list.FORMAT


# --- lines


def read_lines(line: str, skipped: list[UserError] | None = None) -> Sequence[TextAnnotation]:
    (image,) = lines.read(line.encode(), "gt.txt", skipped)
    return image.texts


@pytest.mark.parametrize(
    ("line", "corners", "text"),
    [
        (joined(*flat(CURVED, 7), "CURVED"), 14, "CURVED"),
        (joined(*flat(CURVED, 3), "ROOF"), 6, "ROOF"),
        (joined(*flat(CURVED, 3)), 6, ""),
        (joined(*flat(CURVED, 3), "a, b"), 6, "a, b"),
        (joined(*flat(CURVED, 10), "12"), 20, "12"),
        (joined(*flat(CURVED, 2), "12"), 4, "12"),
        (joined(*flat(CURVED, 2), "1,000,000"), 4, "1,000,000"),
        (joined(*flat([300, 300, 400, 320], 2), "3,50"), 4, "3,50"),
        (joined(*flat([300, 300, 400, 320], 2), "12,34,56,78"), 4, "12,34,56,78"),
        ("10,10,60,10,70,20,60,30,10,30,five", 5, "five"),
    ],
)
def test_corners_and_transcription_are_told_apart(line: str, corners: int, text: str) -> None:
    (found,) = read_lines(line)
    assert (found.corners, found.text) == (corners, text)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(-500, 2000), st.integers(-500, 2000)), min_size=7, max_size=30),
    st.sampled_from(["", "word", "a, b", "####word", '"quoted, too"']),
)
def test_a_polygon_is_inside_of_its_rectangle(corners: list[tuple[int, int]], text: str) -> None:
    """Shapely is the second opinion on the least rectangle."""
    import shapely

    line = joined(*(number for corner in corners for number in corner), text)
    skipped: list[UserError] = []
    found = read_lines(line, skipped)
    hull = shapely.MultiPoint(corners).convex_hull
    least = shapely.oriented_envelope(hull)
    if least.area < 1.01:
        return
    (one,) = found
    quad = shapely.Polygon(one.quad.astype(float))
    offsets = np.array(corners)[2:] if len(corners) == 16 else None
    if offsets is None:
        assert quad.buffer(0.01).covers(hull)
        assert quad.area <= least.area * 1.001 + 0.1 and not skipped and one.corners == len(corners)


def test_32_numbers_are_a_polygon_of_16_corners_unless_they_are_offsets() -> None:
    (found,) = read_lines(joined(*flat(CURVED, 8)))
    assert found.corners == 16 and texts_of_one(found.quad) == CURVED


# --- Total-Text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x: [[1 2 3 4]], y: [[1 2 3]], ornt: [u'c'], transcriptions: [u'a']", "t:1: 4 x and 3 y"),
        ("\n\nx: [[1 2 b 4]], y: [[1 2 3 4]], transcriptions: [u'a']", "t:3: could not convert string"),
        ("x: [[1 9 9 1]], y: [[1 1 9 9]], ornt: [u'c']", "t:1: has no transcription"),
        ("x: [[1 9 9 1]], y: [[1 1 9 9]], transcriptions: [u'a']\n\nx: [[]], y: [[]], transcriptions: [u'']",
         "t:3: 0 corners"),
        ("x: [[1 9 9 1]], y: [[1 9 1 9]], transcriptions: [u'a']", "t:1: the sides between"),
        ("x: [[1 1 1 1 1]], y: [[1 9 1 9 4]], transcriptions: [u'a']", "t:1: the corners"),
    ],
)  # fmt: skip
def test_damaged_total_text(content: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        total_text.read(content.encode(), "t")
    skipped: list[UserError] = []
    total_text.read(content.encode(), "t", skipped)
    assert len(skipped) == 1


@pytest.mark.parametrize("text", ["u'a'", "'a'", 'u"a"', " u'a' "])
def test_quotes_of_total_text(text: str) -> None:
    content = f"x: [[1 9 9 1]], y: [[1 1 9 9]], ornt: [u'h'], transcriptions: [{text}]"
    assert [one.text for one in total_text.read(content.encode(), "t")[0].texts] == ["a"]


# --- LabelMe


def shapes(*values: Any, **more: Any) -> bytes:
    return json.dumps({"shapes": list(values)} | more).encode()


@pytest.mark.parametrize(
    ("content", "said", "masked"),
    [
        (b"[]", "a.json: has no list `shapes`", None),
        (b"{", "a.json:1: is no JSON", None),
        (b'{"shapes": ' + b"[" * 100_000, "a.json", None),
        (shapes(7), "a.json: shapes[0]: the corners are None", 0),
        (shapes({"points": ring(WORD), "shape_type": "circle"}), "shapes[0]: is a circle", 1),
        (shapes({"points": [[1, 2], [3, "x"], [9, 9]]}), "shapes[0]: the corners are", 1),
        (shapes({"points": [[1, 2], [3]]}), "shapes[0]: the corners are", 0),
        (shapes({"points": [[1, 1], [9, 9], [9, 1], [1, 9]]}), "shapes[0]: the sides between", 1),
        (shapes({"points": [[1, 1], [1e300, 9], [9, 9]]}), "is not inside any image", 1),
        (shapes({"points": [[1, 1], [True, 9], [9, 9]]}), "shapes[0]: the corners are", 1),
        (b'{"shapes": [{"points": [[1, NaN], [5, 5], [9, 9]]}]}', "is not inside any image", 1),
    ],
)
def test_damaged_labelme(content: bytes, said: str, masked: int | None) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        labelme.read(content, "a.json")
    assert len(str(caught.value)) < 400
    if masked is not None:
        skipped: list[UserError] = []
        found = labelme.read(content, "a.json", skipped)[0].texts
        assert len(skipped) == 1 and [one.ignore for one in found] == [True] * masked


def test_a_damaged_file_of_one_image_costs_the_image(tmp_path: Path) -> None:
    """With its texts unknown it would teach that there are none."""
    make("labelme_folder", tmp_path / "data")
    picture(tmp_path / "data" / "b.png")
    (tmp_path / "data" / "b.json").write_text('{"version": "5", "shapes": [{')
    skipped: list[UserError] = []
    assert [record.image.name for record in find_records(tmp_path / "data", skipped=skipped)] == ["a.png"]
    assert len(skipped) == 1 and "b.json:1: is no JSON" in str(skipped[0])


def test_a_json_file_of_no_image_is_named_if_it_is_an_annotation(tmp_path: Path) -> None:
    make("icdar", tmp_path / "data")
    (tmp_path / "data" / "gts" / "meta.json").write_text('{"license": "free"}')
    assert len(find_records(tmp_path / "data")) == 1
    (tmp_path / "data" / "gts" / "gone.json").write_text('{"version": "5", "shapes": []}')
    with pytest.raises(UserError, match=r"gone\.json: belongs to no image; expected an image named gone\."):
        find_records(tmp_path / "data")


def test_a_size_that_is_not_the_images_is_a_hint(tmp_path: Path) -> None:
    make("labelme_folder", tmp_path / "data")
    picture(tmp_path / "data" / "a.png", 96, 128)
    kinds = {hint.kind: str(hint) for hint in check(str(tmp_path / "data")).hints}
    assert "a.png: was annotated as an image of 128 x 96 pixels, and has 96 x 128" in kinds["other size"]


# --- lists of many images


def test_a_name_leads_nowhere_else(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png")
    make("label_txt", tmp_path / "data")
    for name in ("../secret.png", f"{tmp_path}/secret.png", "data/../../secret.png", "..\\secret.png"):
        (tmp_path / "data" / "Label.txt").write_text(f"{name}\t[]\n")
        with pytest.raises(UserError, match=r"Label\.txt:1: .*secret\.png is not in .*data; expected"):
            find_records(tmp_path / "data")


@pytest.mark.parametrize(
    "name", ["a b.png", "data/a b.png", "./a b.png", "old\\a b.png", "C:\\x\\data\\a b.png"]
)
def test_names_of_images_in_a_list(name: str, tmp_path: Path) -> None:
    make("label_txt", tmp_path / "data")
    (tmp_path / "data" / "Label.txt").write_text(f"{name}\t[]\n")
    assert [record.image.name for record in find_records(tmp_path / "data")] == ["a b.png"]


def test_the_same_name_in_two_folders(tmp_path: Path) -> None:
    for part in ("one", "two"):
        picture(tmp_path / "data" / part / "a.png")
    (tmp_path / "data" / "Label.txt").write_text("a.png\t[]\n")
    with pytest.raises(UserError, match=r"a\.png may be .*one/a\.png or .*two/a\.png"):
        find_records(tmp_path / "data")
    (tmp_path / "data" / "Label.txt").write_text("two/a.png\t[]\n")
    assert find_records(tmp_path / "data")[0].image.parent.name == "two"
    (tmp_path / "data" / "Label.txt").write_text("two/a.png\t[]\none/a.png\t[]\n")
    with pytest.raises(UserError, match=r"a\.png: has the name of .*a\.png; expected one image"):
        find_records(tmp_path / "data")


def test_what_systems_leave_in_folders_is_no_image(tmp_path: Path) -> None:
    make("label_txt", tmp_path / "data")
    for name in ("._a b.png", "__MACOSX/a b.png", ".trash/a b.png"):
        picture(tmp_path / "data" / name)
    (tmp_path / "data" / "Label.txt").write_text("x/a b.png\t[]\n")
    assert find_records(tmp_path / "data")[0].image == tmp_path / "data" / "a b.png"


def test_an_image_twice_keeps_all_its_texts(tmp_path: Path) -> None:
    make("label_txt", tmp_path / "data")
    texts = [json.dumps([{"transcription": "a", "points": ring(box)}]) for box in (WORD, FAINT)]
    (tmp_path / "data" / "Label.txt").write_text("".join(f"c.png\t{text}\n" for text in texts))
    with pytest.raises(UserError, match=r"Label\.txt:2: names c\.png a second time"):
        find_records(tmp_path / "data")
    (record,) = find_records(tmp_path / "data", skipped=[])
    assert texts_of(record.truth) == [(WORD, False, "a"), (FAINT, False, "a")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("c.png", "is no image with its texts"),
        ("c.png\tword", "is no JSON"),
        ("c.png\t{}", "is no image with its texts"),
        ("\t[]", "is no image with its texts"),
        ('c.png\t[{"points": 5}]', "texts[0]: the corners are 5"),
        ('c.png\t[{"points": [[1,1],[9,9],[9,1],[1,9]]}]', "texts[0]: the sides between"),
        ("c.png\t" + "[" * 100_000, "Label.txt:2"),
    ],
)
def test_damaged_lists(line: str, said: str, tmp_path: Path) -> None:
    make("label_txt", tmp_path / "data")
    (tmp_path / "data" / "Label.txt").write_text(f"a b.png\t[]\n{line}\n")
    with pytest.raises(UserError, match=re.escape(said)):
        find_records(tmp_path / "data")
    skipped: list[UserError] = []
    find_records(tmp_path / "data", skipped=skipped)
    assert [error.where for error in skipped] == [f"{tmp_path}/data/Label.txt:2"]


def test_lists_in_other_encodings(tmp_path: Path) -> None:
    make("label_txt", tmp_path / "data")
    path = tmp_path / "data" / "Label.txt"
    text = path.read_text(encoding="utf-8")
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert find_records(tmp_path / "data")[0].truth.texts[0] == "wörd"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"Label\.txt:1: byte 0xf6 is not UTF-8"):
        find_records(tmp_path / "data")
    truth = find_records(tmp_path / "data", skipped=[])[0].truth
    assert truth.ignore.tolist() == [False, True, True], "the corners count"


def test_parts_of_a_data_set(tmp_path: Path) -> None:
    make("coco", tmp_path / "coco")
    make("textocr", tmp_path / "textocr")
    make("label_txt", tmp_path / "label")
    assert [held_out(tmp_path / name) for name in ("coco", "textocr", "label")] == ["test", "test", "train"]
    (record,) = find_records(tmp_path / "coco", split="test")
    assert record.image.name == "COCO_val.png" and texts_of(record.truth) == [(WORD, False, "val")]
    assert [record.image.name for record in find_records(tmp_path / "textocr", split="test")] == ["val.png"]
    (tmp_path / "textocr" / "TextOCR_0.1_train.json").unlink()
    assert [record.image.name for record in find_records(tmp_path / "textocr")] == ["val.png"]


def test_several_files_that_do_not_say_which(tmp_path: Path) -> None:
    make("label_txt", tmp_path / "data")
    (tmp_path / "data" / "Label2.txt").write_bytes((tmp_path / "data" / "Label.txt").read_bytes())
    with pytest.raises(UserError, match=r"data: holds several annotation files \(Label\.txt, Label2\.txt\)"):
        find_records(tmp_path / "data")


def test_files_beside_images_go_before_a_list(tmp_path: Path) -> None:
    make("label_txt", tmp_path / "data")
    for name in ("a b", "c", "not yet"):
        (tmp_path / "data" / f"gt_{name}.txt").write_text(joined(*flat(WORD), "own") + "\n")
    assert [record.truth.texts for record in find_records(tmp_path / "data")] == [("own",)] * 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree.pop("anns"), "has no `imgs` and `anns`"),
        (lambda tree: tree["anns"]["7"].update(image_id=99), "anns['7']: is of image '99', which"),
        (lambda tree: tree["anns"].update({"7": 5}), "anns['7']: is of image ''"),
        (lambda tree: tree["imgs"]["1"].pop("file_name"), "imgs['1']: has no `file_name`"),
        (lambda tree: tree["imgs"]["1"].update(file_name="gone.png"), "imgs['1']: gone.png is not in"),
        (lambda tree: tree["anns"]["7"].update(mask=[1, 2, 3]), "anns['7']: the corners are [1, 2, 3]"),
        (lambda tree: tree["anns"]["7"].update(mask="x"), "anns['7']: the corners are 'x'"),
        (lambda tree: tree["anns"]["7"].pop("mask"), "anns['7']: the corners are None"),
    ],
)  # fmt: skip
def test_damaged_coco_text(change: Callable[[Any], Any], said: str, tmp_path: Path) -> None:
    make("coco", tmp_path / "data")
    path = tmp_path / "data" / "cocotext.v2.json"
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=re.escape(f"{path}: {said}")):
        find_records(tmp_path / "data")
    found = check(str(tmp_path / "data"))
    assert found.problems[0].file == str(path)


def test_what_a_box_says_is_masked(tmp_path: Path) -> None:
    values = {"image_id": "1", "utf8_string": "a", "points": "x", "bbox": [10, 10, 50, 20]}
    tree = {"imgs": {"1": {"file_name": "a.png"}}, "anns": {"1": values}}
    (image,) = coco_text.read(json.dumps(tree).encode(), "a.json", [])
    (text,) = image.texts
    assert text.ignore and texts_of_one(text.quad) == WORD


def test_a_polygon_in_a_list_of_its_own(tmp_path: Path) -> None:
    values = {"image_id": 1, "legibility": "legible", "utf8_string": ".", "polygon": [flat(WORD)]}
    tree = {"imgs": {"1": {"file_name": "a.png"}}, "anns": {"1": values}}
    (image,) = coco_text.read(json.dumps(tree).encode(), "a.json")
    (text,) = image.texts
    assert not text.ignore and texts_of_one(text.quad) == WORD, "a point that COCO-Text calls legible is one"


@pytest.mark.parametrize("kind", MADE)
def test_lists_and_limits_choose(kind: str, tmp_path: Path) -> None:
    name = min(make(kind, tmp_path / "data"))
    assert [record.image.name for record in find_records(tmp_path / "data", [name])] == [name]
    assert len(find_records(tmp_path / "data", limit=1)) == 1
    with pytest.raises(UserError, match=r"gone\.png: is not in"):
        find_records(tmp_path / "data", ["gone.png"])
