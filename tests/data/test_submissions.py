"""Competition archives: what is written is read, the same bytes each time, and hostile ones are refused."""

import io
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.submissions import read_quads
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.data import submissions
from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.submissions import (
    read_scored,
    read_truth_zip,
    write_boxes,
    write_submission,
)
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.quads import clockwise
from efficientnet_east.structures import Detections

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
QUAD = np.array([[[1, 2], [31, 2], [31, 12], [1, 12]]], np.float32)
LINE = "1,2,31,2,31,12,1,12\r\n"


def archive(path: Path, entries: dict[str, str | bytes] | list[tuple[str | zipfile.ZipInfo, str]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about duplicate names
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            file.writestr(name, data)
    return path


def refuses(path: Path, match: str, read: Callable = read_quads) -> None:
    before = path.read_bytes()
    with pytest.raises(UserError, match=match) as caught:
        read(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == [path.name]


def test_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "submission.zip"
    detections = {"img_10": QUAD + 0.4, "img_9": np.concatenate([QUAD, QUAD[:, ::-1] + 7]), "img_1": QUAD[:0]}
    write_submission(path, detections)
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["res_img_1.txt", "res_img_9.txt", "res_img_10.txt"]
        assert file.read("res_img_10.txt") == LINE.encode()
        assert file.read("res_img_9.txt") == (LINE + "8,19,8,9,38,9,38,19\r\n").encode()
        assert file.read("res_img_1.txt") == b""
    again = read_quads(path)
    assert again["img_10"].tolist() == QUAD.tolist() and again["img_10"].dtype == np.float32
    assert {name: len(quads) for name, quads in again.items()} == {"img_1": 0, "img_9": 2, "img_10": 1}


def test_equal_detections_give_equal_bytes(tmp_path: Path) -> None:
    write_submission(tmp_path / "a.zip", {"b": QUAD, "a": QUAD + 1})
    write_submission(tmp_path / "b.zip", {"a": QUAD + 1, "b": QUAD})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert {entry.date_time[0] for entry in file.infolist()} == {1980}


@pytest.mark.parametrize("stem", ["../img_1", "a/b", "a\\b", "C:x", "a\nb", "a\0", "", "x" * 300, "\udce9"])
def test_unsafe_image_name_is_not_written(stem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be the name of an image in a submission"):
        write_submission(tmp_path / "a.zip", {stem: QUAD})
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_submission(tmp_path / "a.zip", {"img_1": QUAD})
    before = (tmp_path / "a.zip").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("efficientnet_east.files.atomic.os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write_submission(tmp_path / "a.zip", {"img_2": QUAD})
    assert (tmp_path / "a.zip").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_boxes_of_one_image(tmp_path: Path) -> None:
    """Also a ground-truth file to correct by hand: the score stands where the transcription would."""
    found = Detections(np.concatenate([QUAD + 0.126, QUAD]), np.array([0.9877, 0.5], np.float32))
    write_boxes(tmp_path / "a.txt", found)
    text = (tmp_path / "a.txt").read_bytes()
    assert text.splitlines()[0] == b"1.13,2.13,31.13,2.13,31.13,12.13,1.13,12.13,0.9877"
    truth = parse_truth(text, "a.txt")
    assert truth.texts == ("0.9877", "0.5000") and np.allclose(truth.quads, found.quads, atol=0.006)
    write_boxes(tmp_path / "a.txt", Detections(QUAD[:0], np.zeros(0, np.float32)))
    assert (tmp_path / "a.txt").read_bytes() == b""


def test_other_peoples_files(tmp_path: Path) -> None:
    lines = "\ufeff1.5,2,31,2,31,12,1,-12\n\n 5, 5, 9, 9, 9, 5, 5, 9 "
    quads = read_quads(archive(tmp_path / "a.zip", {"res_東 京.txt": lines}))["東 京"]
    assert quads[:, 0].tolist() == [[1.5, 2], [5, 5]]


@pytest.mark.parametrize(
    ("lines", "scores"),
    [
        ("1,2,31,12\n3,4,9,9", None),
        ("1,2,31,12,0.5\n3,4,9,9,-7e2", [0.5, -700]),
        (LINE + "3,4,9,4,9,9,3,9", None),
        (LINE.strip() + ",0.5\n3,4,9,4,9,9,3,9,-700", [0.5, -700]),
    ],
)
def test_rectangles_and_scores(lines: str, scores: list[float] | None, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_img_1.txt": lines, "res_img_2.txt": ""})
    found = read_scored(path)
    quads, given = found["img_1"]
    assert (
        quads.tolist() == [QUAD[0].tolist(), [[3, 4], [9, 4], [9, 9], [3, 9]]] and quads.dtype == np.float32
    )
    assert given is None if scores is None else given.tolist() == scores
    assert read_quads(path)["img_1"].tolist() == quads.tolist()
    assert len(found["img_2"][0]) == 0


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        ("1,2,31,12", LINE, "8 coordinates instead of 4; expected left,top,right,bottom$"),
        ("1,2,31,12,0.5", "1,2,31,12", "4 numbers instead of 5; expected left,top,right,bottom,score$"),
        (LINE.strip() + ",0.5", LINE, "8 numbers instead of 9; expected x1,.*,y4,score$"),
        (LINE.strip() + ",0.5", LINE.strip() + ",nan", "nan is not inside any image"),
        (LINE.strip() + ",0.5", LINE.strip() + ",word", "could not convert string to float: 'word'"),
    ],
)
def test_all_lines_have_one_form(first: str, second: str, match: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_img_1.txt": first, "res_img_2.txt": second})
    refuses(path, r"res_img_2\.txt:1: .*" + match)


def test_truth_zip(tmp_path: Path) -> None:
    path = archive(tmp_path / "gt.zip", {"gt_img_1.txt": LINE.strip() + ",###\r\n", "gt_img_2.txt": ""})
    truths = read_truth_zip(path)
    assert truths["img_1"].ignore.tolist() == [True] and len(truths["img_2"].texts) == 0
    refuses(path, r"gt\.zip/gt_img_1\.txt: does not belong here; expected res_<image>\.txt at the top level")


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("1,2,3", "3 coordinates instead of 8; expected x1,y1,x2,y2,x3,y3,x4,y4$"),
        (LINE.strip() + ",0.9", "9 coordinates instead of 8"),
        ("1,2,31,2,31,12,1,nan", "is not inside any image"),
        ("1,2,31,2,31,12,1,x", "could not convert"),
        ("\x00\xff", "1 coordinates"),
    ],
)
def test_bad_line(line: str, match: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_img_1.txt": LINE + line})
    refuses(path, r"a\.zip/res_img_1\.txt:2: .*" + match)


def test_bad_truth_line(tmp_path: Path) -> None:
    path = archive(tmp_path / "gt.zip", {"gt_img_3.txt": LINE + "0,0,0,0,0,0,0,0,x"})
    refuses(path, r"gt\.zip/gt_img_3\.txt:2: the corners .* enclose 0 square pixels", read_truth_zip)


@pytest.mark.parametrize(
    "name",
    [
        "../res_img_1.txt",
        "/res_img_1.txt",
        "res_../../x.txt",
        "res_C:x.txt",
        "res_a\\b.txt",
        "folder/res_img_1.txt",
        "folder/",
        "folder/.DS_Store",
        "..",
        ".hidden/../res_img_1.txt",
        "res_inner.zip",
        "img_1.txt",
        "res_.txt",
        "res_\x1b[2J.txt",
        "res_" + "x" * 300 + ".txt",
    ],
)
def test_odd_names(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_img_0.txt": LINE, name: LINE})
    refuses(path, r"does not belong here; expected res_<image>\.txt at the top level of the zip file")


@pytest.mark.parametrize(
    "name",
    ["__MACOSX/", "__MACOSX/._res_img_1.txt", ".DS_Store", "._res_img_0.txt", "Thumbs.db", "desktop.ini"],
)
def test_what_systems_add_to_archives_is_passed_over(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_img_0.txt": LINE, name: b"\0\5\x16\7"})
    assert list(read_quads(path)) == ["img_0"]
    (tmp_path / "b").mkdir()
    path = archive(tmp_path / "b" / "a.zip", {name: LINE})
    refuses(path, "holds 0 files", read_quads)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_archives_of_windows_tools(encoding: str, tmp_path: Path) -> None:
    found = read_quads(archive(tmp_path / "a.zip", {"res_img_1.txt": (LINE + LINE).encode(encoding)}))
    assert found["img_1"].tolist() == [QUAD[0].tolist()] * 2
    truth = (LINE.strip() + ",Straße\r\n").encode(encoding)
    assert read_truth_zip(archive(tmp_path / "gt.zip", {"gt_1.txt": truth}))["1"].texts == ("Straße",)


def test_another_encoding_in_an_archive_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_img_1.txt": LINE.encode() + b"\xe9,2"})
    refuses(path, r"a\.zip/res_img_1\.txt:2: byte 0xe9 is not UTF-8", read_quads)


def test_polygons_and_total_text_in_a_ground_truth_zip(tmp_path: Path) -> None:
    entries = {
        "gt_1.txt": "0,0,15,0,30,0,30,20,15,20,0,20,word\n",
        "gt_2.txt": "x: [[0 30 30 0]], y: [[0 0 9 9]], ornt: [u'#'], transcriptions: [u'#']\n",
    }
    truths = read_truth_zip(archive(tmp_path / "gt.zip", entries))
    assert truths["1"].quads[0].tolist() == [[0, 0], [30, 0], [30, 20], [0, 20]]
    assert truths["2"].ignore.tolist() == [True]


def test_hostile_name_is_shown_without_effect(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_\x1b[2J" + "x" * 9000 + ".txt": LINE})
    with pytest.raises(UserError) as caught:
        read_quads(path)
    assert "\\x1b[2J" in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))


def test_name_with_zero_byte(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_img_1.txtZZZZ": LINE})
    path.write_bytes(path.read_bytes().replace(b".txtZZZZ", b".txt\0ZZZ"))
    refuses(path, "does not belong here")


def test_duplicate_names(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", [("res_img_1.txt", LINE), ("res_img_1.txt", "")])
    refuses(path, r"res_img_1\.txt: is there twice")


def test_symbolic_link(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("res_img_1.txt")
    link.external_attr = 0o120777 << 16
    refuses(archive(tmp_path / "a.zip", [(link, "/etc/passwd")]), r"res_img_1\.txt: is a symbolic link")


def test_encrypted(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_img_1.txt": LINE})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refuses(path, r"res_img_1\.txt: is encrypted")


def test_other_compression(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("res_img_1.txt")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(entry, LINE, zipfile.ZIP_BZIP2)
    refuses(tmp_path / "a.zip", "is compressed with method 12")


def test_bombs(tmp_path: Path) -> None:
    one = archive(tmp_path / "a.zip", {"res_img_1.txt": bytes(submissions.MAX_ENTRY + 1)})
    refuses(one, r"res_img_1\.txt: unpacks to 4194305 bytes; expected at most 4194304")
    many = archive(one, {f"res_{i}.txt": bytes(submissions.MAX_ENTRY) for i in range(17)})
    refuses(many, "a.zip: unpacks to 71303168 bytes; expected at most 67108864")


def test_lying_size(tmp_path: Path) -> None:
    """Declared 10 bytes, really 4 MB of zeros."""
    path = archive(tmp_path / "a.zip", {"res_img_1.txt": bytes(4_000_000)})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, 10)
    path.write_bytes(data)
    refuses(path, "cannot be read .Bad CRC-32")


def test_an_archive_in_an_archive(tmp_path: Path) -> None:
    """Under a good name it is a text file with a bad first line, and is not opened."""
    inner = archive(tmp_path / "inner.zip", {"res_img_1.txt": LINE}).read_bytes()
    (tmp_path / "inner.zip").unlink()
    refuses(archive(tmp_path / "a.zip", {"res_img_1.txt": inner}), r"res_img_1\.txt:\d+: ")


def test_entries_that_share_their_bytes(tmp_path: Path) -> None:
    """A bomb of many names for one piece of data: what the directory claims does not fit the entry there."""
    path = archive(tmp_path / "a.zip", {"res_img_1.txt": LINE, "res_img_2.txt": "x"})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", first + 1)
    data[second + 16 : second + 28] = data[first + 16 : first + 28]  # checksum and both sizes
    data[second + 42 : second + 46] = data[first + 42 : first + 46]  # where the entry begins
    path.write_bytes(data)
    refuses(path, "cannot be read")


@pytest.mark.parametrize(("prefix", "read"), [("res", read_quads), ("gt", read_truth_zip)])
def test_more_texts_than_an_image_can_hold(
    prefix: str, read: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "MAX_TEXTS", 3)
    assert read(archive(tmp_path / "a.zip", {f"{prefix}_img_1.txt": 3 * LINE}))
    path = archive(tmp_path / "a.zip", {f"{prefix}_img_1.txt": 4 * LINE})
    refuses(path, f"{prefix}_img_1.txt: holds 4 lines; expected at most 3 for one image", read)


def test_more_names_than_a_plain_archive_can_count(tmp_path: Path) -> None:
    names = [(f"res_{number}.txt", "") for number in range(65_537)]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, data in names:
            file.writestr(name, data)
    refuses(tmp_path / "a.zip", "holds 65537 files; expected 1 to 20000")


def test_scores_and_rectangles_are_written(tmp_path: Path) -> None:
    slanted = np.array([[[1, 4], [31, 2], [32, 12], [2, 14]]], np.float32)
    write_submission(tmp_path / "a.zip", {"img_1": slanted}, scores={"img_1": np.array([0.5])})
    quads, scores = read_scored(tmp_path / "a.zip")["img_1"]
    assert quads.tolist() == slanted.tolist() and scores.tolist() == [0.5]
    write_submission(tmp_path / "a.zip", {"img_1": slanted, "img_2": slanted[:0]}, rectangles=True)
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert file.read("res_img_1.txt") == b"1,2,32,14\r\n" and file.read("res_img_2.txt") == b""


def test_too_many_entries_and_none(tmp_path: Path) -> None:
    entries = {f"res_{i}.txt": b"" for i in range(submissions.MAX_ENTRIES + 1)}
    refuses(archive(tmp_path / "a.zip", entries), "holds 20001 files; expected 1 to 20000")
    refuses(archive(tmp_path / "a.zip", {}), "holds 0 files")


def test_large_archive_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "MAX_ARCHIVE", 100)
    refuses(archive(tmp_path / "a.zip", {"res_img_1.txt": LINE}), r"a\.zip: is larger than")


def test_bad_checksum_and_no_zip(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"res_img_1.txt": LINE})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 16] ^= 1
    path.write_bytes(data)
    refuses(path, r"cannot be read .*CRC.*expected a zip file of res_<image>\.txt files")
    path.write_bytes(b"")
    refuses(path, "cannot be read .File is not a zip file")
    with pytest.raises(UserError, match=r"cannot be read .No such file.*\. Check the path\.$"):
        read_quads(tmp_path / "gone.zip")
    with pytest.raises(UserError, match="cannot be read"):
        read_quads(tmp_path)


def valid_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for index in range(3):
            file.writestr(f"res_img_{index}.txt", LINE * index)
    return buffer.getvalue()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), max_size=4), st.just(1.0) | st.floats(0, 1)
)
def test_mutated_archives(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, bytes]], length: float
) -> None:
    data = bytearray(valid_archive())
    for place, bytes_ in changes:
        start = int(place * (len(data) - 1))
        data[start : start + len(bytes_)] = bytes_
    path = tmp_path_factory.getbasetemp() / "mutated.zip"
    path.write_bytes(data[: int(length * len(data))])
    try:
        assert all(quads.shape[1:] == (4, 2) for quads in read_quads(path).values())
    except UserError as error:
        assert "mutated.zip" in str(error) and "\n" not in str(error)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="needs the public submissions beside the repository")
def test_public_archives(tmp_path: Path) -> None:
    assert len(read_truth_zip(FIXTURES / "icdar2015_test_gt.zip")) == 500
    quads = read_quads(FIXTURES / "PixelLink_icdar_result.zip")
    assert (len(quads), sum(map(len, quads.values()))) == (500, 2756)
    write_submission(tmp_path / "again.zip", quads)
    again = read_quads(tmp_path / "again.zip")
    assert again.keys() == quads.keys()
    assert all(np.array_equal(again[name], clockwise(quads[name])) for name in quads)
