"""ICDAR folders: every layout is found, every fault is one line with its place, no user file is touched."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.datasets import (
    ImageDataset,
    check_images,
    find_records,
    require_text,
    truths,
)
from efficientnet_east.data.folders import natural_key
from efficientnet_east.data.formats import lines
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.data.layouts import LAYOUTS
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.quads import area
from efficientnet_east.structures import Truth

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LINE = "1,2,31,2,31,12,1,12,"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20), "navy").save(path)


def make(
    folder: Path, numbers: list[int], images: str = "images", gts: str = "gts", prefix: str = "gt_"
) -> Path:
    for number in numbers:
        image(folder / images / f"img_{number}.jpg")
        (folder / gts).mkdir(parents=True, exist_ok=True)
        (folder / gts / f"{prefix}img_{number}.txt").write_bytes(f"{LINE}word {number}\r\n".encode())
    return folder


def snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# --- one ground-truth file


def test_one_line() -> None:
    truth = parse_truth(LINE + "Genaxis Theatre", "gt.txt")
    assert truth.quads.tolist() == [[[1, 2], [31, 2], [31, 12], [1, 12]]]
    assert truth.quads.dtype == np.float32 and truth.ignore.tolist() == [False]
    assert truth.texts == ("Genaxis Theatre",)


@pytest.mark.parametrize(
    ("text", "expected", "ignore"),
    [
        ("word", "word", False),
        ("###", "###", True),
        (" ### ", "###", True),
        ("*", "*", True),
        ("a,b,,c", "a,b,,c", False),
        ("a,###", "a,###", False),
        ("###,a", "###,a", False),
        ("####", "####", False),
        ('"quoted"', "quoted", False),
        ('"###"', "###", True),
        ('"He said ""no"", twice"', 'He said "no", twice', False),
        ('0,"word"', "word", False),
        ('1,"word"', "word", True),
        ('1,"###"', "###", True),
        ('0,"###"', "###", True),
        ("1,word", "1,word", False),
        ('2,"word"', '2,"word"', False),
        ("1,000", "1,000", False),
        ("3,50", "3,50", False),
        ("1", "1", False),
        ('"', '"', False),
        ('Latin,"a, b"', "a, b", False),
        ("", "", False),
        ("Latin,###", "###", True),
        ("Chinese,東京", "東京", False),
        ("Latin", "Latin", False),
        ("None,###", "###", True),
        ("a\u2028b\x0bc\x85d", "a\u2028b\x0bc\x85d", False),
    ],
)
def test_transcriptions(text: str, expected: str, ignore: bool) -> None:
    truth = parse_truth((LINE + text).encode(), "gt.txt")
    assert truth.texts == (expected,) and truth.ignore.tolist() == [ignore]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\r\n \r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_and_line_ends(encoding: str, end: str) -> None:
    raw = (LINE + "Straße" + end + LINE + "東京" + end).encode(encoding)
    assert parse_truth(raw, "gt.txt").texts == ("Straße", "東京")


@pytest.mark.parametrize(
    "line",
    [  # of the test set, of the training set, and what users make of them
        '3, 5, 23, 15, "a, b"',
        '3,5,23,15,"a, b"',
        '3 5 23 15 "a, b"',
        '3\t5\t23\t15\t"a, b"',
        '23 5 3 15 "a, b"',
    ],
)
def test_rectangles_of_icdar_2013(line: str) -> None:
    truth = parse_truth(line + "\r\n" + line.replace("a, b", "###"), "gt.txt")
    assert truth.texts == ("a, b", "###") and truth.ignore.tolist() == [False, True]
    assert sorted(truth.quads[0].tolist()) == [[3, 5], [3, 15], [23, 5], [23, 15]]
    assert area(truth.quads).tolist() == [200, 200]


@pytest.mark.parametrize("text", ["", "###", "Latin,a", '"a"', '1,"a"', 'He said "no"'])
def test_what_stands_in_the_quotes_of_icdar_2013_is_the_transcription(text: str) -> None:
    truth = parse_truth(f'3, 5, 23, 15, "{text}"', "gt.txt")
    assert truth.texts == (text,) and truth.ignore.tolist() == [text == "###"] and truth.scripts == ()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("3,5,23,15,word", "5 coordinates instead of 8"),
        ("3,5,23,15", "4 coordinates instead of 8"),
        ('3,5,23,"word"', "4 coordinates instead of 8"),
        ('3,5,3,15,"word"', "enclose 0 square pixels"),
        ('3,5,x,15,"word"', "could not convert string to float: 'x'; expected left, top, right, bottom"),
        ('3,5,nan,15,"word"', "is not inside any image"),
        ('3,5,23,15,"word', "5 coordinates instead of 8"),
    ],
)
def test_half_a_quadrilateral_is_no_rectangle(line: str, problem: str) -> None:
    with pytest.raises(UserError, match=re.escape(problem)):
        parse_truth(line, "gt.txt")


def test_scripts_of_mlt() -> None:
    raw = LINE + "Latin,word\n" + LINE + "Korean,###\n" + LINE + "plain\n"
    assert parse_truth(raw, "gt.txt").scripts == ("Latin", "Korean", "")
    assert parse_truth(LINE + "word", "gt.txt").scripts == ()
    (image,) = lines.read(("\n" + raw).encode(), "gt.txt")
    assert [text.location.line for text in image.texts] == [2, 3, 4]


def test_empty_file_is_an_image_without_text() -> None:
    for raw in (b"", b"\xef\xbb\xbf", b"\r\n\n"):
        truth = parse_truth(raw, "gt.txt")
        assert truth.quads.shape == (0, 4, 2) and truth.texts == ()


def test_line_without_transcription_and_floats() -> None:
    assert parse_truth("0,0,9,0,9,9,0,9", "gt.txt").ignore.tolist() == [False]
    quad = parse_truth(" 0.5, -1e0 ,9.25,0,9,9,0,9,x", "gt.txt").quads[0]
    assert quad[:2].tolist() == [[0.5, -1], [9.25, 0]]


def test_counter_clockwise_is_turned_and_keeps_its_first_corner() -> None:
    quad = parse_truth("1,2,1,12,31,12,31,2,x", "gt.txt").quads[0]
    assert quad.tolist() == [[1, 2], [31, 2], [31, 12], [1, 12]]


BAD_LINES = {
    "0,0,9,0,9,9,0": "7 coordinates instead of 8; expected x1,y1",
    "rubbish": "1 coordinates instead of 8; expected x1,y1",
    "0,0,9,0,9,9,x,9,t": "could not convert string to float: 'x'; expected x1,y1",
    "0 0 9 0 9 9 0 9 text": "1 coordinates",
    "0,0,9,0,9,9,,9,t": "could not convert string to float: ''",
    "0,0,9,0,9,9,0,nan,t": "is not inside any image; expected finite numbers up to 1000000",
    "0,0,9,0,9,9,0,inf,t": "is not inside any image",
    "0,0,9,0,9,1e300,0,9,t": "is not inside any image",
    "0,0,9,0,9,1000001,0,9,t": "is not inside any image",
    "5,5,5,5,5,5,5,5,t": "enclose 0 square pixels; expected at least 1",
    "0,0,9,0,18,0,27,0,t": "enclose 0 square pixels",
    "0.1,0.1,0.9,0.1,0.9,0.2,0.1,0.2,t": "enclose 0.08 square pixels; expected at least 1, with",
    "0,0,9,9,9,0,0,9,t": "the sides between 0,0,9,9,9,0,0,9 cross; expected the corners in order",
    "0,0,90,9,90,0,0,8,t": "cross",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_line_is_named_or_left_out(line: str) -> None:
    raw = f"{LINE}first\r\n\r\n{line}\r\n{LINE}last\r\n"
    with pytest.raises(UserError, match=r"^gt_img_7\.txt:3: .*" + re.escape(BAD_LINES[line])):
        parse_truth(raw, "gt_img_7.txt")
    skipped: list[UserError] = []
    truth = parse_truth(raw, "gt_img_7.txt", skipped)
    assert [error.where for error in skipped] == ["gt_img_7.txt:3"]
    assert (truth.texts[0], truth.texts[-1]) == ("first", "last")
    masked = MASKED.get(line)
    assert len(truth.texts) == 2 + (masked is not None)
    if masked is not None:  # never background: somebody saw a text there
        assert truth.ignore.tolist() == [False, True, False]
        assert [*truth.quads[1].min(axis=0), *truth.quads[1].max(axis=0)] == pytest.approx(masked)


# Where the corners of a bad line can be read: the rectangle around them.
MASKED = {
    "0,0,9,0,9,9,0": (0, 0, 9, 9),
    "0,0,9,0,9,9,x,9,t": (0, 0, 9, 9),
    "0,0,9,0,9,9,,9,t": (0, 0, 9, 9),
    "0,0,9,0,9,9,0,nan,t": (0, 0, 9, 9),
    "0,0,9,0,9,9,0,inf,t": (0, 0, 9, 9),
    "0,0,9,0,9,1e300,0,9,t": (0, 0, 9, 9),
    "0,0,9,0,9,1000001,0,9,t": (0, 0, 9, 9),
    "0,0,9,9,9,0,0,9,t": (0, 0, 9, 9),
    "0,0,90,9,90,0,0,8,t": (0, 0, 90, 9),
}


@pytest.mark.parametrize("encoding", ["gbk", "latin-1", "shift-jis"])
@pytest.mark.parametrize("text", ["é", "菜单", "日本"])
def test_a_transcription_in_another_encoding_costs_no_text(text: str, encoding: str) -> None:
    try:
        foreign = text.encode(encoding)
    except UnicodeEncodeError:
        pytest.skip("has no such letters")
    raw = LINE.encode() + foreign + b"\n" + LINE.encode() + b"tea"
    with pytest.raises(UserError, match=r"gt\.txt:1: byte 0x.. is not UTF-8"):
        parse_truth(raw, "gt.txt")
    skipped: list[UserError] = []
    truth = parse_truth(raw, "gt.txt", skipped)
    assert len(skipped) == 1 and truth.texts[1] == "tea"
    assert truth.quads[0].tolist() == truth.quads[1].tolist() and not truth.ignore.any()


def test_corners_in_another_encoding_are_masked() -> None:
    skipped: list[UserError] = []
    truth = parse_truth(b"1,2,31,2,31,12,1,\xff,word", "gt.txt", skipped)
    assert [error.problem for error in skipped] == ["byte 0xff is not UTF-8"]
    assert truth.ignore.tolist() == [True]


@pytest.mark.parametrize("raw", [b"rubbish", b"1,2,3", b"5,5,5,5,5,5,5,5,t", b"\xff\xff", b"a,b,c,d,e,f,g,h"])
def test_what_has_no_region_is_left_out(raw: bytes) -> None:
    skipped: list[UserError] = []
    assert parse_truth(raw, "gt.txt", skipped).texts == () and len(skipped) == 1


def test_message_does_not_grow_with_the_line() -> None:
    with pytest.raises(UserError) as caught:
        parse_truth("0," * 7 + "9" * 100_000 + "x,text", "gt.txt")
    assert len(str(caught.value)) < 300


NUMBER = st.one_of(
    st.integers(-50, 2000).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.sampled_from(["", " ", "nan", "1e300", "-0", "1_0", "٣", "0x1", "9" * 400, "\0", "1e-320", "#"]),
)
LINES = st.builds(lambda numbers, text: ",".join([*numbers, text]), st.lists(NUMBER, max_size=40), st.text())


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(), st.text(), LINES.map(str.encode), st.lists(LINES).map("\r\n".join)))
@example("\ud800,1,2,3,4,5,6,7,8")
@example(b"\xff\xfe\x00")
@example(b"\xfe\xff\xd8\x00")
def test_parser_gives_truth_or_user_error(raw: bytes | str) -> None:
    """Never anything else; what it gives is usable; and skipping lines always gives a truth."""
    skipped: list[UserError] = []
    lenient = parse_truth(raw, "gt.txt", skipped)
    assert isinstance(lenient, Truth) and np.isfinite(lenient.quads).all()
    assert (area(lenient.quads) > 0.99).all()
    try:
        assert parse_truth(raw, "gt.txt").quads.tolist() == lenient.quads.tolist() and not skipped
    except UserError as error:
        assert str(error) == str(skipped[0])


CORNERS = st.lists(st.integers(-2000, 4000), min_size=8, max_size=8)


@settings(max_examples=300)
@given(CORNERS, st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), st.booleans())
def test_what_was_written_is_read(corners: list[int], text: str, bom: bool) -> None:
    """Shapely, the second opinion, says which quadrilaterals are simple."""
    import shapely

    polygon = shapely.Polygon(np.reshape(corners, (4, 2)))
    line = ",".join(map(str, corners)) + ",'" + text
    skipped: list[UserError] = []
    truth = parse_truth(line.encode("utf-8-sig" if bom else "utf-8"), "gt.txt", skipped)
    if polygon.is_valid and polygon.area >= 1:
        assert truth.texts == (("'" + text).strip(),) and not skipped
        quad = truth.quads[0].astype(int).tolist()
        assert sorted(quad) == sorted(np.reshape(corners, (4, 2)).tolist()) and quad[0] == corners[:2]
        assert area(truth.quads)[0] == pytest.approx(polygon.area)
    else:
        # Sides that only touch, or lie on each other, enclose an area all the same.
        turns = area(np.reshape(corners, (4, 2))[[(3, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 0)]])
        assert len(skipped) == 1 or 0 in turns


# --- folders


@pytest.mark.parametrize(("split", "pair"), [(split, pair) for split in LAYOUTS for pair in LAYOUTS[split]])
@pytest.mark.parametrize("prefix", ["gt_", ""])
def test_every_layout(split: str, pair: tuple[str, str], prefix: str, tmp_path: Path) -> None:
    make(tmp_path, [10, 9, 100], *pair, prefix)
    before = snapshot(tmp_path)
    records = find_records(tmp_path, split=split)
    assert [record.image.name for record in records] == ["img_9.jpg", "img_10.jpg", "img_100.jpg"]
    assert [record.truth.texts for record in records] == [("word 9",), ("word 10",), ("word 100",)]
    check_images(records)
    assert ImageDataset(records)[0].image.shape == (20, 40, 3)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("prefix", ["gt_", ""])
def test_one_folder_for_everything(prefix: str, tmp_path: Path) -> None:
    make(tmp_path, [2, 1], ".", ".", prefix)
    (tmp_path / "readme.txt").write_text("not a ground truth")
    (tmp_path / "._img_1.jpg").write_bytes(b"left by macOS")
    assert [record.image.name for record in find_records(str(tmp_path))] == ["img_1.jpg", "img_2.jpg"]


def test_splits_side_by_side(tmp_path: Path) -> None:
    make(make(tmp_path, [1], "train_images", "train_gts"), [2], "test_images", "test_gts")
    assert find_records(tmp_path)[0].image.name == "img_1.jpg"
    assert find_records(tmp_path, split="test")[0].image.name == "img_2.jpg"


def test_other_suffixes_and_names(tmp_path: Path) -> None:
    for name in ("a.PNG", "b.jpeg", "東 京.webp", "two.dots.tif"):
        image(tmp_path / name)
        (tmp_path / f"gt_{Path(name).stem}.txt").write_text("")
    assert len(find_records(tmp_path)) == 4


def test_limit_counts_usable_images(tmp_path: Path) -> None:
    make(tmp_path, [1, 2, 3, 4])
    (tmp_path / "gts" / "gt_img_1.txt").unlink()
    assert [record.image.name for record in find_records(tmp_path, limit=2, skipped=[])] == [
        "img_2.jpg",
        "img_3.jpg",
    ]


def test_names_choose(tmp_path: Path) -> None:
    make(tmp_path, [1, 2, 3])
    (tmp_path / "gts" / "gt_img_1.txt").unlink()
    records = find_records(tmp_path, ["img_3.jpg", "img_2.jpg", "img_3.jpg"])
    assert [record.image.name for record in records] == ["img_2.jpg", "img_3.jpg"]


@pytest.mark.parametrize(
    "name", ["img_9.jpg", "../images/img_1.jpg", "/etc/passwd", "", "img_1", "\0", "IMG_1.JPG"]
)
def test_name_that_is_not_there(name: str, tmp_path: Path) -> None:
    make(tmp_path, [1])
    with pytest.raises(UserError, match=r"is not in .*images; expected the name of an image in that folder"):
        find_records(tmp_path, ["img_1.jpg", name])
    skipped: list[UserError] = []
    assert len(find_records(tmp_path, ["img_1.jpg", name], skipped=skipped)) == 1 == len(skipped)


def test_missing_empty_and_unknown_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: cannot be listed .No such file"):
        find_records(tmp_path / "gone")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="Not a directory"):
        find_records(tmp_path / "file")
    (tmp_path / "folder" / "pictures").mkdir(parents=True)
    looked_for = (
        "no train images found; expected ch4_training_images + ch4_training_localization_transcription_gt, "
        "train_images + train_gts, Images/Train + Groundtruth/Polygon/Train, "
        "train/text_image + train/text_label_curve, images + gts, images and gt_*.txt in one folder, or an "
        "annotation file of many images"
    )
    with pytest.raises(UserError, match=re.escape(looked_for)):
        find_records(tmp_path / "folder")
    (tmp_path / "train_images").mkdir()
    with pytest.raises(UserError, match=r"train_images: has no ground truth; expected a folder .*train_gts"):
        find_records(tmp_path)
    (tmp_path / "train_gts").mkdir()
    with pytest.raises(UserError, match="no image can be used"):
        find_records(tmp_path)


def faults(folder: Path) -> dict[str, str]:
    """A data set with every fault that can be seen in names and text files; file to message."""
    make(folder, [1, 2, 3, 4, 5, 6])
    (folder / "gts" / "gt_img_2.txt").unlink()
    (folder / "images" / "img_3.jpg").unlink()
    image(folder / "images" / "img_4.png")
    with open(folder / "gts" / "gt_img_5.txt", "a") as file:
        file.write("1,2,3\n")
    (folder / "gts" / "gt_img_6.txt").unlink()
    (folder / "gts" / "gt_img_6.txt").mkdir()
    return {
        "img_2.jpg": "has no ground truth; expected gt_img_2.txt, img_2.txt, poly_gt_img_2.txt or img_2.json",
        "gt_img_3.txt": "belongs to no image; expected an image named img_3.jpg or .png",
        "img_4.png": "differs from img_4.jpg in its suffix only",
        "gt_img_5.txt:2": "3 coordinates",
        "img_6.jpg": "has no ground truth",
    }


def test_a_huge_ground_truth_is_not_read(tmp_path: Path) -> None:
    make(tmp_path, [1, 2])
    with open(tmp_path / "gts" / "gt_img_2.txt", "wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(UserError, match=r"gt_img_2\.txt: is larger than 32 MiB; expected a text file"):
        find_records(tmp_path)
    assert len(find_records(tmp_path, skipped=[])) == 1


def test_faults_are_collected(tmp_path: Path) -> None:
    expected = faults(tmp_path)
    before = snapshot(tmp_path)
    skipped: list[UserError] = []
    records = find_records(tmp_path, skipped=skipped)
    assert [record.image.name for record in records] == ["img_1.jpg", "img_4.jpg", "img_5.jpg"]
    found = {Path(error.where).name: str(error) for error in skipped}
    assert found.keys() == expected.keys() and len(skipped) == len(expected)
    for name, message in expected.items():
        assert message in found[name]
    assert snapshot(tmp_path) == before


def test_first_fault_stops_without_a_list(tmp_path: Path) -> None:
    faults(tmp_path)
    with pytest.raises(UserError, match=r"gt_img_3\.txt: belongs to no image"):
        find_records(tmp_path)


def test_nothing_left_names_the_first_problem(tmp_path: Path) -> None:
    make(tmp_path, [1])
    (tmp_path / "gts" / "gt_img_1.txt").unlink()
    with pytest.raises(UserError, match=r"no image can be used.*first problem: .*img_1\.jpg: has no"):
        find_records(tmp_path, skipped=[])


def test_check_images_finds_what_cannot_be_read(tmp_path: Path) -> None:
    make(tmp_path, [1, 2, 3, 4])
    whole = (tmp_path / "images" / "img_1.jpg").read_bytes()
    for number, data in ((2, b""), (3, whole[: len(whole) // 2]), (4, b"GIF?")):
        (tmp_path / "images" / f"img_{number}.jpg").write_bytes(data)
    records = find_records(tmp_path)
    with pytest.raises(UserError, match=r"img_2\.jpg: is empty or not an image"):
        check_images(records)
    skipped: list[UserError] = []
    assert [record.image.name for record in check_images(records, skipped)] == ["img_1.jpg"]
    assert [Path(error.where).name for error in skipped] == ["img_2.jpg", "img_3.jpg", "img_4.jpg"]
    with pytest.raises(UserError, match=r"none of the images can be read.*img_3\.jpg: cannot be read"):
        check_images(records[2:], [])
    source = ImageDataset(records)
    for index in (1, 2, 3):
        with pytest.raises(UserError, match=f"img_{index + 1}.jpg"):
            source[index]


def test_require_text(tmp_path: Path) -> None:
    make(tmp_path, [1, 2])
    (tmp_path / "gts" / "gt_img_1.txt").write_text(LINE + "###\n" + LINE + "###\n")
    require_text(find_records(tmp_path))
    (tmp_path / "gts" / "gt_img_2.txt").write_text("")
    with pytest.raises(UserError, match=r"mine: no trainable text in 2 images \(2 texts, all marked ###\)"):
        require_text(find_records(tmp_path), "mine")


def test_source_is_a_sequence_that_travels(tmp_path: Path) -> None:
    source = ImageDataset(find_records(make(tmp_path, [1, 2, 3])))
    again = pickle.loads(pickle.dumps(source))
    assert len(again) == 3 and repr(again) == repr(source)
    assert [sample.name for sample in again] == ["img_1.jpg", "img_2.jpg", "img_3.jpg"]
    assert again[np.int64(1)].name == "img_2.jpg" and source[-1].truth.texts == ("word 3",)
    assert list(truths(source.records)) == ["img_1", "img_2", "img_3"]


def test_repr_changes_with_the_data(tmp_path: Path) -> None:
    make(tmp_path, [1, 2])
    first = repr(ImageDataset(find_records(tmp_path)))
    assert re.fullmatch(r"ImageDataset\(2 images, [0-9a-f]{8}\)", first)
    assert repr(ImageDataset(find_records(tmp_path))) == first
    (tmp_path / "gts" / "gt_img_2.txt").write_text(LINE.replace("31", "32") + "word")
    assert repr(ImageDataset(find_records(tmp_path))) != first


def test_natural_order() -> None:
    names = ["img_1.jpg", "img_2.jpg", "img_10.jpg", "img_10b.jpg", "img_100.jpg", "x1_y20", "x2_y3"]
    assert sorted(reversed(names), key=natural_key) == names


def test_read_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeff# chosen by hand\r\n\r\n img_2.jpg \r\n東京.jpg\r\n".encode())
    assert read_image_list(path) == ["img_2.jpg", "東京.jpg"]
    path.write_text("a.jpg\nb.jpg\na.jpg\n")
    with pytest.raises(UserError, match=r"list\.txt:3: 'a\.jpg' already stands in line 1"):
        read_image_list(path)
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match="names no image"):
        read_image_list(path)
    with pytest.raises(UserError, match=r"cannot be read .No such file"):
        read_image_list(tmp_path / "gone.txt")


def test_lists_of_the_development_split() -> None:
    train, val = (read_image_list(CONFIGS / f"icdar15_{name}.txt") for name in ("train", "val"))
    assert [*train, *val] == [f"img_{number}.jpg" for number in range(1, 1001)] and len(val) == 100


@pytest.mark.skipif(not (DATA / "icdar2015").is_dir(), reason="needs ICDAR 2015 beside the repository")
def test_icdar_2015() -> None:
    records = find_records(DATA / "icdar2015")
    ignore = np.concatenate([record.truth.ignore for record in records])
    assert (len(records), len(ignore), int((~ignore).sum())) == (1000, 11886, 4468)
    val = find_records(DATA / "icdar2015", read_image_list(CONFIGS / "icdar15_val.txt"))
    assert [record.image.name for record in val] == [f"img_{number}.jpg" for number in range(901, 1001)]
    assert ImageDataset(val)[0].image.shape == (720, 1280, 3)
    assert records[0].truth.texts[0] == "Genaxis Theatre"


@pytest.mark.skipif(not (DATA / "mlt17_latin").is_dir(), reason="needs the MLT images beside the repository")
def test_mlt17_latin() -> None:
    records = find_records(DATA / "mlt17_latin")
    require_text(records)
    assert len(records) == 400
