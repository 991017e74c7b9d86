"""Parts of many images: each job writes one file, and a job that was killed goes on where it was."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.networks import write_dark_network
from helpers.project import make_data

from efficientnet_east.cli.main import main
from efficientnet_east.data.inputs import InputImage
from efficientnet_east.errors import UserError
from efficientnet_east.inference import shards
from efficientnet_east.structures import Detections

BOX = np.array([[[1, 1], [9, 1], [9, 4], [1, 4]]], np.float32)


def detector(image: np.ndarray) -> Detections:
    """See as many words as the first pixel says; 9 is a fault."""
    count = int(image[0, 0, 0])
    if count == 9:
        raise MemoryError("no room")
    return Detections(np.repeat(BOX, count, axis=0), np.full(count, 0.5, np.float32))


def picture(number: int, count: int) -> InputImage:
    image = np.full((4, 6, 3), count, np.uint8)
    return InputImage(f"a b/{number}é.png", Path(str(number)), lambda: image)


PICTURES = [picture(number, count) for number, count in enumerate((2, 0, 9, 1, 3))]


def test_parts_are_all_images_once() -> None:
    parts = [shards.parse(f"{number}/3").of(range(10)) for number in (1, 2, 3)]
    assert sorted(itertools.chain(*parts)) == list(range(10)) and max(map(len, parts)) == 4
    assert shards.parse("3/8").path(Path("out")) == Path("out/words-00003-of-00008.jsonl")


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1.0/2", "²/3"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(ValueError, match="I from 1 to N"):
        shards.parse(text)


def test_a_line_for_each_image(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    found = shards.detect_all(detector, PICTURES, path)
    assert found == shards.Summary(5, 6, ("a b/2é.png",))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["image"] for row in rows] == [one.where for one in PICTURES]
    assert rows[2] == {"image": "a b/2é.png", "error": "MemoryError: no room"}
    assert rows[3] == {
        "image": "a b/3é.png",
        "width": 6,
        "height": 4,
        **detector(PICTURES[3].read()).as_dict(),
    }


class Watched:
    """Counts the images that are left."""

    count = 0

    def __call__(self, items: Any, total: int) -> Any:
        self.count = total
        return items


def test_any_cut_is_completed(tmp_path: Path) -> None:
    """Wherever the file ends, in the middle of a letter too, the finished file is the same."""
    path = tmp_path / "a.jsonl"
    expected = shards.detect_all(detector, PICTURES, path)
    whole = path.read_bytes()
    for cut in range(0, len(whole) + 1):
        path.write_bytes(whole[:cut])
        read = Watched()
        assert shards.detect_all(detector, PICTURES, path, resume=True, track=read) == expected
        assert path.read_bytes() == whole
        assert read.count == len(PICTURES) - whole[:cut].count(b"\n"), "no finished image is read again"


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    shards.detect_all(detector, PICTURES[:2], path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"exists\. Set resume"):
        shards.detect_all(detector, PICTURES, path)
    for others in (PICTURES[1:], PICTURES[:1]):
        with pytest.raises(UserError, match="not that of image"):
            shards.detect_all(detector, others, path, resume=True)
    assert path.read_bytes() == before


def test_two_jobs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    def interfere(image: np.ndarray) -> Detections:
        with pytest.raises(UserError, match="another job is writing it"):
            shards.detect_all(detector, PICTURES, path, resume=True)
        return detector(image)

    assert shards.detect_all(interfere, PICTURES[:1], path).images == 1


# --- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, and 300 images of which one is broken."""
    pytest.importorskip("onnx")
    write_dark_network(tmp_path / "dark.onnx")
    image = make_data(tmp_path, range(1, 2)) / "images" / "img_1.png"
    for number in range(2, 300):
        (image.parent / f"img_{number}.png").hardlink_to(image)
    (image.parent / "img_300.png").write_bytes(b"\xff\xd8\xff broken")
    return tmp_path


def words(folder: Path, output: str, *more: str) -> list[str]:
    given = ["detect", "images", "--model", "dark.onnx", "--output", output, "--threads", "1", *more]
    return [word if word not in ("images", "dark.onnx") else str(folder / word) for word in given]


def killed_after(path: Path, lines: int, given: list[str]) -> bytes:
    """Start a job, kill it when its file has so many lines, and return what the file holds."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "efficientnet_east", *given]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            assert job.poll() is None, "it ended before it was killed"
            time.sleep(0.001)
        job.send_signal(signal.SIGKILL)
    assert job.returncode == -signal.SIGKILL
    return path.read_bytes()


def test_killed_jobs_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Two parts, each killed with -9 in its middle and resumed: the same lines as of one job alone."""
    monkeypatch.chdir(folder)
    assert main(words(folder, "whole", "--shard", "1/1")) == 1
    said = capsys.readouterr()
    whole = Path("whole/words-00001-of-00001.jsonl").read_bytes().splitlines(keepends=True)
    assert len(whole) == 300 and "300 images, " in said.out and " 1 failures" in said.out
    assert "299 images read, 1 skipped" in said.err

    for number in (1, 2):
        path, given = Path(f"killed/words-{number:05d}-of-00002.jsonl"), ["--shard", f"{number}/2"]
        part = killed_after(path, 5 * number, words(folder, "killed", *given))
        expected = b"".join(whole[number - 1 :: 2])
        assert 5 * number <= part.count(b"\n") < 150 and expected.startswith(part[: part.rfind(b"\n") + 1])
        assert main(words(folder, "killed", *given)) == 2, "nothing is overwritten"
        capsys.readouterr()
        assert main(words(folder, "killed", *given, "--resume")) == number - 1, (
            "the broken image is in part 2"
        )
        assert path.read_bytes() == expected
        assert f"{path}: 150 images, " in capsys.readouterr().out


def test_files_of_each_image_beside_the_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They say the same as the lines; the maps of an image are not kept for a part."""
    monkeypatch.chdir(folder)
    given = words(folder, "out", "--shard", "1/1", "--limit", "3")
    assert main([*given, "--formats", "json", "--lines"]) == 0
    lines = Path("out/words-00001-of-00001.jsonl").read_text().splitlines()
    files = [Path(f"out/img_{number}_words.json").read_text().rstrip() for number in (1, 2, 3)]
    assert lines == files and all("corners" in line for line in lines)
    assert len(list(Path("out").iterdir())) == 4
    assert main([*given, "--formats", "score", "--resume"]) == 2
    assert "--formats: has score or angle" in capsys.readouterr().err


def test_all_parts_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for number in (1, 2):
        given = words(folder, "out", "--shard", f"{number}/2", "--limit", "9")
        assert main(given) == 0
    lines = [Path(f"out/words-0000{number}-of-00002.jsonl").read_text().splitlines() for number in (1, 2)]
    assert [len(part) for part in lines] == [5, 4]
    names = {json.loads(line)["image"] for line in itertools.chain(*lines)}
    assert len(names) == 9 and cv2.imread(names.pop()) is not None


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--resume"], "--resume: has no effect without shard"),
        (["--shard", "3/2"], "--shard: '3/2' is no part; expected I/N with I from 1 to N"),
        (["film.mp4", "--shard", "1/2"], "--shard: takes images, and there is a video"),
    ],
)
def test_options_that_do_not_fit(
    more: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("film.mp4").write_bytes(b"")
    assert main(["detect", "--output", "out", "a.png", *more]) == 2
    assert line in capsys.readouterr().err
