"""One reader for all text: UTF-8 with or without a byte order mark, UTF-16 with one, else one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.project import make_data
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_east.cli import main
from efficientnet_east.cli.demo import Options, _password
from efficientnet_east.cli.options import pick
from efficientnet_east.config import load
from efficientnet_east.data import hard_negatives, inputs
from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.datasets import find_records
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files

WINDOWS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]
MARKS = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}


def saved(text: str, encoding: str) -> bytes:
    return MARKS.get(encoding, b"") + text.encode(encoding)


@pytest.mark.parametrize("encoding", WINDOWS)
def test_encodings(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(saved("Straße\r\n東京", encoding))
    assert text_files.read_text(tmp_path / "a.txt") == "Straße\r\n東京"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(WINDOWS))
def test_what_was_saved_is_read(text: str, encoding: str) -> None:
    text = text.lstrip("\ufeff")
    if encoding == "utf-8" and text.encode().startswith((b"\xff\xfe", b"\xfe\xff")):
        return
    assert text_files.decode(saved(text, encoding), "a") == text
    lines, expected = list(text_files.lines_leniently(saved(text, encoding))), text_files.split_lines(text)
    assert [line.lstrip("\ufeff") for line, _ in lines] == [line.lstrip("\ufeff") for line in expected]
    assert not any(problem for _, problem in lines)


@given(st.binary())
def test_any_bytes_are_text_or_one_line(raw: bytes) -> None:
    lines = list(text_files.lines_leniently(raw))
    try:
        text = text_files.decode(raw, "a.txt")
    except UserError as error:
        faulty = [number for number, (_, problem) in enumerate(lines, 1) if problem]
        assert f"a.txt:{faulty[0]}: byte 0x" in str(error) and "\n" not in str(error)
    else:
        assert not any(problem for _, problem in lines) and len(lines) == len(text_files.split_lines(text))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a\nb\ncaf\xe9\n", "list.txt:3: byte 0xe9 is not UTF-8; expected a text file in UTF-8, or"),
        ("a\n菜".encode("gbk"), "list.txt:2: byte 0xb2 is not UTF-8"),
        (saved("a\nb\n", "utf-16-le") + b"\x00", "list.txt:3: byte 0x00 is not UTF-16"),
        (saved("a\nb\n", "utf-16-le") + b"\x00\xd8", "is not UTF-16"),
    ],
)
@pytest.mark.parametrize(
    "read", [text_files.read_text, hard_negatives.read_hard_negatives, lambda path: load(str(path))]
)
def test_other_encodings_are_one_line(
    raw: bytes, said: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_bytes(raw)
    with pytest.raises(UserError) as caught:
        read(tmp_path / "list.txt")
    assert said in str(caught.value)


def test_names_of_files_are_the_bytes_that_they_have_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\nb.jpg\n")
    assert read_image_list(tmp_path / "list.txt") == [os.fsdecode(b"caf\xe9.jpg"), "b.jpg"]
    (tmp_path / "list.txt").write_bytes(saved("a.jpg\n", "utf-16-le") + b"\0")
    with pytest.raises(UserError, match=r"list\.txt:2: byte 0x00 is not UTF-16"):
        read_image_list(tmp_path / "list.txt")


def test_a_list_in_another_encoding_is_said(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.png\n")
    with pytest.raises(UserError, match=r"is not in .*; expected .*, and a list in UTF-8"):
        find_records(data, read_image_list(tmp_path / "list.txt"))


def test_large_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: cannot be read \(No such file.*\)\. Check the path\.$"):
        text_files.read_text(tmp_path / "gone")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match="large: is larger than 32 MiB; expected a text file"):
        text_files.read_text(tmp_path / "large")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "a:1: is no JSON"),
        ("\n[1,\n]", "a:3: is no JSON"),
        ("[" * 100_000, "a"),
        ("9" * 9999, "a: is no JSON"),
    ],
)
def test_json_from_anybody(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        text_files.parse_json(text, "a", "a file")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("encoding", WINDOWS)
def test_every_reader_takes_what_windows_tools_save(encoding: str, tmp_path: Path) -> None:
    """A list, a ground truth, a configuration, mined places, names of files, a password."""
    path = tmp_path / "file"

    def save(text: str) -> Path:
        path.write_bytes(saved(text, encoding))
        return path

    assert read_image_list(save("# gewählt\r\nä.jpg\r\nb.jpg\r\n")) == ["ä.jpg", "b.jpg"]
    assert inputs.read_names(save("ä.jpg\r\nb.jpg\r\n")) == ["ä.jpg", "b.jpg"]
    raw = saved("1,2,31,2,31,12,1,12,Straße\r\n", encoding)
    assert parse_truth(raw, "gt.txt").texts == ("Straße",)
    assert load(str(save("train:\r\n  workdir: Läufe\r\n"))).train.workdir == "Läufe"
    place = '{"image": "ä.jpg", "score": 0.5, "corners": [[0,0],[1,0],[1,1],[0,1]]}'
    assert (
        hard_negatives.read_hard_negatives(save(f'{{"data": "Bilder/ä", "places": [{place}]}}'))[0]
        == "Bilder/ä"
    )
    given = vars(main.parser().parse_args(["demo", "--password-file", str(save("geheimß\r\n"))]))
    assert _password(pick(Options, given)) == "geheimß"


@pytest.mark.parametrize("encoding", WINDOWS)
def test_a_whole_data_set_of_windows_tools(
    encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data")
    for truth in (data / "gts").iterdir():
        truth.write_bytes(saved(truth.read_text(), encoding))
    (tmp_path / "list.txt").write_bytes(saved("img_2.png\r\n", encoding))
    assert main.main(["check-data", "--data", str(data), "--list", str(tmp_path / "list.txt")]) == 0
    assert f"{1:8d} images\n" in capsys.readouterr().out
