"""One ground-truth file: what is read, what is refused, what is masked."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.formats import lines
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.quads import area
from efficientnet_east.structures import Truth

LINE = "1,2,31,2,31,12,1,12,"


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
