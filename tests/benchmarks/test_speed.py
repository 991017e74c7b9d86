"""The table and the page of hmean against time, from figures made up by hand."""

import argparse
import importlib
import types
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("speed")


def figures() -> dict[str, Any]:
    """Two rounds; the second's machine is slower once. ResNet-50 has no scales of its own."""
    fast, slow = [100.0, 110.0, 104.0], [100.0, 400.0, 104.0]
    one = {
        "ONNX Runtime": {"1": fast, "own": slow, "megabytes": [311.6]},
        "OpenCV": {"1": [200.0], "own": [300.0], "megabytes": [1012.0]},
        "LiteRT, int8": {"1": [50.0], "own": [80.0], "megabytes": [250.0]},
    }
    plain = {way: {size: found[size] for size in ("1", "megabytes")} for way, found in one.items()}
    rounds = [{"default": one, "ResNet-50": plain}, {"default": one, "ResNet-50": plain}]
    hmean = {"ONNX Runtime": {"1": 0.8221, "own": 0.837}, "LiteRT, int8": {"1": 0.81, "own": 0.8249}}
    return {"times": {"rounds": rounds}, "hmean": {"default": hmean}}


def test_a_row_for_each_way(speed: types.ModuleType) -> None:
    """float32 is scored once and shown for every runtime; a network of random weights has no hmean."""
    assert speed.table(figures()).splitlines()[2:] == [
        "| default | ONNX Runtime | 0.822 | 0.837 | 104 | 104 | 312 |",
        "| default | OpenCV | 0.822 | 0.837 | 200 | 300 | 1012 |",
        "| default | LiteRT, int8 | 0.810 | 0.825 | 50 | 80 | 250 |",
        "| ResNet-50 | ONNX Runtime |  |  | 104 |  | 312 |",
        "| ResNet-50 | OpenCV |  |  | 200 |  | 1012 |",
        "| ResNet-50 | LiteRT, int8 |  |  | 50 |  | 250 |",
    ]


def test_times_alone_make_a_page(speed: types.ModuleType, tmp_path: Path) -> None:
    """Twice gives the same page; what stands around the markers stays."""
    page = tmp_path / "speed.md"
    page.write_text(f"before\n{speed.BEGIN}\nold\n{speed.END}\nafter\n")
    for _ in range(2):
        speed.write_page(argparse.Namespace(page=page), {"times": figures()["times"]})
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.count("| default | OpenCV |  |  | 200 | 300 | 1012 |") == 1


def test_the_picture_needs_scores(speed: types.ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text(f"{speed.BEGIN}\n{speed.END}\n")
    (tmp_path / "images").mkdir()
    speed.write_page(argparse.Namespace(page=page), figures())
    assert (tmp_path / "images" / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_without_markers_is_refused(speed: types.ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("# Speed\n")
    with pytest.raises(SystemExit, match="no line"):
        speed.write_page(argparse.Namespace(page=page), figures())
    assert page.read_text() == "# Speed\n"


def test_rounds_end_in_time(speed: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five minutes, rounds of two: the third would end too late. One is always made."""
    clock = [0.0]

    def slow(options: argparse.Namespace, model: str, way: str) -> dict[str, Any]:
        clock[0] += 120 / len(speed.WAYS) / (len(speed.bundled.MODELS) + 1)
        return {"1": [1.0], "own": [2.0]}

    monkeypatch.setattr(speed, "_time", slow)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    for minutes, rounds in ((5.0, 2), (0.1, 1)):
        options = argparse.Namespace(minutes=minutes, threads=2)
        assert len(speed.measure_times(options)["rounds"]) == rounds
