"""The command `detect`: its results, and that nothing it is given stops it or leaves half a file."""

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType

import cv2
import numpy as np
import pytest
from helpers.commands import error_of
from helpers.networks import one_box
from helpers.project import make_data
from helpers.videos import write_film
from PIL import Image

from efficientnet_east.cli.main import main
from efficientnet_east.config import Detect
from efficientnet_east.data.images import read_image
from efficientnet_east.inference.detector import Detector

WORD = [[18, 28], [112, 28], [112, 56], [18, 56]]


def see_nothing(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shape = len(batch), batch.shape[1] // 4, batch.shape[2] // 4
    return np.zeros((*shape, 1), np.float32), np.zeros((*shape, 5), np.float32)


def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See the word of `make_data` in images that are large enough for it."""
    return one_box(batch) if min(batch.shape[1:3]) >= 96 else see_nothing(batch)


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command without its images; the checkpoint is a network that sees one word."""
    monkeypatch.setattr(Detector, "load", lambda path, overrides=None: Detector(run, Detect()))
    return ["detect", "--model", "any", "--output", str(tmp_path / "out")]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data", range(1, 2)) / "images" / "img_1.png"


def test_every_format(
    words: list[str], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, str(photo), "--formats", "json,icdar,picture,score,angle"]) == 0
    out, endings = tmp_path / "out", ("_words.json", "_words.txt", "_words.png", "_score.png", "_angle.png")
    assert capsys.readouterr().out == f"{photo}: 1 word -> {out}/img_1{', '.join(endings)}\n"
    assert {path.name for path in out.iterdir()} == {f"img_1{ending}" for ending in endings}
    found = json.loads((out / "img_1_words.json").read_text())
    assert found == {
        "image": str(photo), "width": 128, "height": 96, "words": [{"corners": WORD, "score": 0.95}]
    }  # fmt: skip
    image = read_image(photo)
    score, angle = (read_image(out / f"img_1_{kind}.png").astype(int) for kind in ("score", "angle"))
    cell = np.zeros((96, 128), bool)
    cell[40:44, 64:68] = True  # the only cell that sees text
    assert (score != image).any(axis=2)[cell].all() and not (score != image).any(axis=2)[~cell].any()
    assert abs(angle[~cell] - image[~cell] * 0.3).max() <= 1, "dark where there is no text"
    assert (angle[cell].max(axis=-1) > 100).all()


def test_lines(words: list[str], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, str(photo), "--formats", "json,picture"]) == 0
    (name,) = (tmp_path / "out").glob("*_words.json")
    plain, picture = json.loads(name.read_text()), read_image(name.with_suffix(".png"))
    assert main([*words, str(photo), "--formats", "json,picture", "--lines"]) == 0
    said = json.loads(name.read_text())
    assert plain == {key: value for key, value in said.items() if key != "lines"}
    assert said["lines"] == [{"corners": said["words"][0]["corners"], "words": [0]}]
    assert (read_image(name.with_suffix(".png")) != picture).any()
    assert "--lines" in error_of(capsys, [*words, str(photo), "--formats", "icdar,crops", "--lines"])


def test_angles_of_four_corners(
    words: list[str], photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corners = Detector(lambda batch: (np.zeros((1, 24, 32, 1)), np.zeros((1, 24, 32, 8))), Detect())
    monkeypatch.setattr(Detector, "load", lambda path, overrides=None: corners)
    assert "four corners" in error_of(capsys, [*words, str(photo), "--formats", "angle"])


def test_crops(words: list[str], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each word is a picture; those of an earlier run that saw more go, and nothing else does."""
    options = ["--formats", "crops", "--crop-height", "14", "--crop-margin", "0.5"]
    folder = tmp_path / "out" / "img_1_crops"
    folder.mkdir(parents=True)
    for name in ("0001.png", "0002.png", "mine.png", "0003.txt"):
        (folder / name).write_bytes(b"")
    assert main([*words, str(photo), *options]) == 0
    assert {path.name for path in folder.iterdir()} == {"0001.png", "mine.png", "0003.txt"}
    assert read_image(folder / "0001.png").shape[0] == 14
    word = read_image(photo)[14:71, 4:127]  # with a margin of half its height
    assert abs(read_image(folder / "0001.png").mean() - word.mean()) < 5


def test_where_and_how_a_photo_was_taken(words: list[str], photo: Path, tmp_path: Path) -> None:
    """The picture stands upright, and nothing says where that was."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.0)
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=100)
    assert b"Exif" in (tmp_path / "turned.jpg").read_bytes()
    assert main([*words, str(tmp_path / "turned.jpg")]) == 0
    data = (tmp_path / "out" / "turned_words.png").read_bytes()
    assert read_image(data).shape == (96, 128, 3)
    assert not re.search(b"Exif|eXIf|GPS", data)
    assert (tmp_path / "out" / "turned_words.txt").read_text().startswith("18.00,28.00,112.00,28.00,")


def test_bad_images_are_left_out(
    words: list[str], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, missing = tmp_path / "bad.jpg", tmp_path / "missing.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 broken")
    assert main([*words, str(bad), str(missing), str(photo)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"warning: skipped: {bad}: ")
    assert lines[1].startswith(f"warning: skipped: {missing}: ")
    assert lines[2:] == [f"warning: 1 images read, 2 skipped: {bad}, {missing}"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"img_1_words.txt", "img_1_words.png"}
    assert main([*words, "--skip-bad", str(bad), str(photo)]) == 0, "that was expected"
    assert main([*words, "--skip-bad", str(bad), str(missing)]) == 2, "nothing was done"
    assert main([*words, "--max-pixels", "12287", str(photo)]) == 2 and main([*words, str(photo)]) == 0


def test_a_network_that_fails_on_one_image(
    words: list[str],
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if batch.shape[1] < 96:
            raise MemoryError("no room\nfor it")
        return run(batch)

    monkeypatch.setattr(Detector, "load", lambda path, overrides=None: Detector(fail, Detect()))
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((9, 9, 3), np.uint8))
    assert main([*words, str(tmp_path / "small.png"), str(photo)]) == 1
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith(
        f"warning: skipped: {tmp_path}/small.png: nothing can be detected in it (MemoryError no room for it)"
    )


def test_lists_limits_and_folders(words: list[str], tmp_path: Path) -> None:
    make_data(tmp_path / "data", range(1, 13))
    (tmp_path / "list.txt").write_text(f"{tmp_path}/data/images\n")
    assert main([*words, "--list", str(tmp_path / "list.txt"), "--limit", "2", "--formats", "icdar"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"img_1_words.txt", "img_2_words.txt"}
    assert main([*words, str(tmp_path / "data"), "--recursive", "--formats", "icdar"]) == 0
    assert len(list((tmp_path / "out" / "images").iterdir())) == 12


def test_films(words: list[str], tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi.mp4", 4)
    assert main([*words, str(film), "--every", "2", "--formats", "icdar,film"]) == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in (out / "film.avi").iterdir()) == [
        "000000_words.txt",
        "000002_words.txt",
    ]
    drawn = cv2.VideoCapture(str(out / "film.avi_words.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 2 and drawn.get(cv2.CAP_PROP_FPS) == 5


def test_ctrl_c_leaves_whole_files(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, seen = make_data(tmp_path / "data", range(1, 4)) / "images", []

    def interrupted(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(1)
        return run(batch)

    monkeypatch.setattr(Detector, "load", lambda path, overrides=None: Detector(interrupted, Detect()))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".partial-0").write_bytes(b"of a run that was killed")
    assert main([*words, str(data)]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    expected = {f"img_{number}_words.{ending}" for number in (1, 2) for ending in ("txt", "png")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected


def test_a_full_disk_ends_it(
    words: list[str], photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("efficientnet_east.files.atomic.os.fsync", full)
    assert "No space left on device" in error_of(capsys, [*words, str(photo)])


@pytest.fixture(scope="module")
def hostile() -> Iterator[ModuleType]:
    """The benchmark that makes hostile files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
        import hostile

        yield hostile
        del sys.modules["hostile"]


def test_hostile_files(
    hostile: ModuleType, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A pipe, /dev/zero, bombs, broken and odd images: each has its line, and every good one its results."""

    def hang(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("detect hangs")

    fates = hostile.make(tmp_path / "in", 130, 3)
    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(120)
    try:
        assert main([*words, str(tmp_path / "in"), "--recursive", "--formats", "icdar"]) == 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    printed = capfd.readouterr()
    counts = hostile.judge(fates, printed.out + printed.err)
    wrong = {key: value for key, value in counts.items() if key.startswith("wrong") and value}
    assert not wrong and counts["read"] + counts["refused"] == len(fates) == 135
    assert len(list((tmp_path / "out").rglob("*_words.txt"))) == counts["read"]
    assert "Traceback" not in printed.err and "Warning" not in printed.err
