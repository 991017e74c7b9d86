"""The command `benchmark`: parts add up, every runtime takes its turn, accuracy stands beside speed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commands import error_of
from helpers.networks import one_box, write_dark_network
from helpers.project import make_data
from helpers.serving import image_file

from efficientnet_east.cli import benchmark
from efficientnet_east.cli.main import main
from efficientnet_east.config import Detect
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation import timing
from efficientnet_east.inference import runtimes
from efficientnet_east.inference.detector import Detector


def test_the_parts_add_up() -> None:
    """By a clock that goes on by one at each look: the network is looked at from inside of the maps."""
    looks = iter(range(100))
    detector = Detector(one_box, Detect(scales=(1.0, 2.0)))
    seconds, found = timing.time_image(detector, image_file(), lambda: next(looks))
    assert seconds == {"file": 1, "resize": 3, "network": 2, "boxes": 1, "draw": 1, "detector": 6}
    again = detector(image_file())
    assert len(found) == len(again) == 1 and np.array_equal(found.quads, again.quads)


def test_figures_of_many_images() -> None:
    laps = [{"file": number / 1000} for number in (5, 1, 3, 2, 4, 9, 7, 8, 6, 100)]
    assert timing.summarize(laps) == {"file": {"median": 5.5, "p90": 100, "least": 1}}
    assert timing.summarize(laps[:1]) == {"file": {"median": 5, "p90": 5, "least": 5}}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("onnx")
    return write_dark_network(tmp_path / "dark.onnx")


@pytest.mark.parametrize("threads", [1, 2])
def test_every_runtime_on_generated_scenes(
    threads: int, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["benchmark", "--model", str(model), "--limit", "2", "--rounds", "2", "--max-candidates", "100"]
    assert main([*words, "--threads", str(threads), "--json", str(tmp_path / "out.json")]) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["images"] == 2 and told["rounds"] == 2 and told["machine"]["processor"]
    assert [row["runtime"] for row in told["rows"]] == ["onnxruntime", "openvino", "opencv"]
    for row in told["rows"]:
        assert (row["model"], row["threads"]) == ("dark.onnx", threads)
        assert row["precision"] == "float32" or row["runtime"] == "openvino"
        assert set(row["milliseconds"]) == {*timing.PARTS, "detector"}
        for numbers in row["milliseconds"].values():
            assert 0 <= numbers["least"] <= numbers["median"] <= numbers["p90"]
        assert set(row["accuracy"]) == {"precision", "recall", "hmean"}
        assert row["words"] > 0
    head, names, *rows = capsys.readouterr().out.splitlines()
    assert f"{threads} threads; 2 images, 2 rounds" in head and len(rows) == 3
    assert names.split() == ["model", "runtime", "precision", *timing.PARTS, "detector", "p90", "images/s",
                             "words", "hmean"]  # fmt: skip
    assert [row.split()[:3] for row in rows] == [
        ["dark.onnx", row["runtime"], row["precision"]] for row in told["rows"]
    ]


def test_images_with_and_without_ground_truth(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data", range(1, 4))
    words = ["benchmark", "--model", str(model), "--runtime", "onnxruntime", "--rounds", "1"]
    words += ["--json", str(tmp_path / "out.json")]
    assert main([*words, "--data", str(data), "--limit", "2"]) == 0
    with_truth = json.loads((tmp_path / "out.json").read_text())
    assert with_truth["images"] == 2 and with_truth["rows"][0]["accuracy"]["hmean"] == 0
    assert main([*words, "--images", str(data / "images")]) == 0
    without = json.loads((tmp_path / "out.json").read_text())
    assert without["images"] == 3 and "accuracy" not in without["rows"][0]
    assert capsys.readouterr().out.splitlines()[-1].endswith(" -")


def test_several_models_take_turns(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    other, turns = write_dark_network(tmp_path / "other" / "dark.onnx"), []
    time_image = timing.time_image

    def note(detector: Detector, data: bytes) -> Any:
        turns.append(id(detector))
        return time_image(detector, data)

    monkeypatch.setattr(timing, "time_image", note)
    words = ["benchmark", "--model", str(model), "--model", str(other), "--runtime", "opencv"]
    words += ["--images", str(make_data(tmp_path / "data") / "images"), "--rounds", "2", "--warm-up", "1"]
    assert main(words) == 0
    first, second = turns[0], turns[1]
    assert turns == [first, second, *[first, first, second, second] * 2]
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[0].partition("/")[2] for row in rows] == ["dark.onnx", "dark.onnx"]


def test_a_runtime_that_is_not_installed(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is left out and said; asked for, it is an error."""
    opened = runtimes.open_runtime

    def open_runtime(path: str, threads: int, runtime: str) -> Any:
        if runtime == "onnxruntime":
            raise UserError("onnxruntime", "is not installed", "expected `pip install onnxruntime`")
        return opened(path, threads, runtime)

    monkeypatch.setattr(benchmark.runtimes, "open_runtime", open_runtime)
    words = ["benchmark", "--model", str(model), "--limit", "1", "--rounds", "1", "--max-candidates", "100"]
    assert main(words) == 0
    out, errors = capsys.readouterr()
    assert errors == "warning: left out: onnxruntime: is not installed; expected `pip install onnxruntime`\n"
    assert [row.split()[1] for row in out.splitlines()[2:]] == ["openvino", "opencv"]
    assert error_of(capsys, [*words, "--runtime", "onnxruntime"]).startswith("onnxruntime: is not installed")


def test_a_runtime_that_fails(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = runtimes.open_runtime

    def fail(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise RuntimeError("no such\noperation")

    def open_runtime(path: str, threads: int, runtime: str) -> Any:
        found = opened(path, threads, runtime)
        return dataclasses.replace(found, run=fail) if runtime == "opencv" else found

    monkeypatch.setattr(benchmark.runtimes, "open_runtime", open_runtime)
    words = ["benchmark", "--model", str(model), "--limit", "1", "--rounds", "1", "--max-candidates", "100"]
    assert main(words) == 0
    line = "opencv cannot run dark.onnx (RuntimeError no such\\noperation)"
    assert capsys.readouterr().err == f"warning: left out: {line}\n"
    assert error_of(capsys, [*words, "--runtime", "opencv"]).startswith(line.replace(" ", ": ", 1))


def test_images_that_cannot_be_read(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_data(tmp_path / "data", range(1, 2)) / "images"
    (folder / "bad.png").write_bytes(b"\x89PNG broken")
    words = ["benchmark", "--model", str(model), "--rounds", "1", "--images"]
    assert main([*words, str(folder)]) == 0
    out, errors = capsys.readouterr()
    assert errors.startswith(f"warning: skipped: {folder}/bad.png: ") and "1 images, 1 rounds" in out
    assert "no image can be read" in error_of_last(capsys, [*words, str(folder / "bad.png")])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--model", "none.onnx"], "none.onnx: no such file"),
        (["--rounds", "two"], "--rounds: is 'two'; expected a whole number"),
        (["--rounds", "0"], "--rounds: is 0; expected 1 or more"),
        (["--warm-up", "-1"], "--warm-up: is -1"),
        (["--limit", "0"], "--limit: is 0; expected 1 or more"),
        (["--images", "a", "--data", "b"], "--images: cannot be combined with --data. Use either"),
        (["--list", "a"], "--list: needs --data. Give both"),
        (["--json", "."], "--json: . is a folder"),
        (["--images", "none.jpg"], "--images: no image can be read"),
        (["--data", "none"], "none: "),
        (["--model", "dark.onnx", "--runtime", "litert"], "dark.onnx: is not for the runtime litert"),
        (["--model", "dark.onnx", "--score-threshold", "2"], "--score-threshold: '2' cannot be used"),
    ],
)
def test_what_cannot_be_measured(
    words: list[str],
    line: str,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(model.parent)
    monkeypatch.setattr(benchmark, "_generated", lambda index: benchmark.Picture("a", image_file()))
    given = words if "--model" in words else [*words, "--model", "dark.onnx"]
    captured = error_of_last(capsys, ["benchmark", *given])
    assert captured.startswith(line)


def error_of_last(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """The error, which stands below what was left out."""
    assert main(words) == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")


def test_runtimes_of_a_file(tmp_path: Path) -> None:
    assert runtimes.able("a.onnx") == ("onnxruntime", "openvino", "opencv") and runtimes.able("a.pb") == (
        "tensorflow",
        "opencv",
    )
    assert runtimes.able("a.tflite") == ("litert",) and runtimes.able(tmp_path) == ("tensorflow",)
