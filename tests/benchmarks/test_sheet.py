"""The sheet's own arithmetic and forms; the programs that it calls have tests of their own."""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(REPOSITORY / "benchmarks"), *sys.path])
    import sheet

    return sheet


def test_same_time_is_the_last_checkpoint_before_it(sheet: Any) -> None:
    assert [sheet.steps_in(share, 400) for share in (0.1, 0.3, 0.5, 1)] == [0, 100, 200, 400]
    assert sheet.steps_in(1, 405) == 400


def test_begins_from(sheet: Any) -> None:
    weights = {"b0": "b0.npz"}
    assert "--init=none" in sheet.words("ResNet-50", weights)
    assert "--init=b0.npz" in sheet.words("B0, ReLU", weights)
    assert "--recalibrate=20" in sheet.words("B0, ReLU", weights)
    assert not {"--init=b0.npz", "--recalibrate=20"} & set(sheet.words("B0, ReLU, random weights", weights))
    assert "--recalibrate=20" not in sheet.words("B0, swish", weights)


def test_speed_is_of_the_row(sheet: Any, tmp_path: Path) -> None:
    """What the other two programs left, read without running them again."""
    cases = ("resnet50 relu", "b0 relu", "b0 swish")
    steps = [{"case": case, "images_per_second": float(number), "peak_gb": 10.0 + number}
             for number, case in enumerate(cases)]  # fmt: skip
    (tmp_path / "step.json").write_text(json.dumps({"rows": steps}))
    rows = [{"network": case.removesuffix(" relu"), "runtime": way, "whole_ms": 100.0 * n + len(way)}
            for n, case in enumerate(cases) for way in (*sheet.WAYS.values(), "OpenCV")]  # fmt: skip
    (tmp_path / "runtimes.json").write_text(json.dumps({"rows": rows}))
    found = sheet.speed(
        tmp_path, ["ResNet-50", "B0, ReLU", "B0, ReLU, random weights", "B0, swish"], rounds=1
    )
    onnx = len(sheet.WAYS["onnx_ms"])
    assert found["ResNet-50"]["images_per_second"] == 0 and found["ResNet-50"]["onnx_ms"] == onnx
    assert found["B0, swish"]["training_gb"] == 12 and found["B0, swish"]["onnx_ms"] == 200 + onnx
    assert sheet.speed(tmp_path, ["B0, swish"], rounds=1) == {"B0, swish": found["B0, swish"]}
    assert found["B0, ReLU"] == found["B0, ReLU, random weights"] and found["B0, ReLU"]["training_gb"] == 11


def test_forms(sheet: Any, tmp_path: Path) -> None:
    shares = dict.fromkeys(("precision", "recall", "hmean", "hmean_same_time"), 0.5)
    row = {"name": "B0, swish", "images": 8000, "multiply_adds": 12_340_000_000, "onnx_ms": 150.2, **shares}
    sheet.write(tmp_path, [row])
    with open(tmp_path / "sheet.csv", encoding="utf-8") as file:
        (read,) = csv.DictReader(file)
    assert read["name"] == "B0, swish" and read["hmean"] == "0.5"
    *_, line = (tmp_path / "sheet.md").read_text().splitlines()
    assert line.startswith("| B0, swish |")
    assert all(part in line for part in ("| 8,000 |", "| .500 |", "12.34 G"))
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_rows_are_networks_that_the_other_programs_know(sheet: Any) -> None:
    import runtimes
    import step

    for fields in sheet.ROWS.values():
        case = f"{fields['backbone']} {fields['activation']}"
        assert step.CASES[case].get("activation", "relu") == fields["activation"]
        assert runtimes.NETWORKS[case.removesuffix(" relu")].get("activation", "relu") == fields["activation"]


def test_trials_are_kept(sheet: Any, tmp_path: Path) -> None:
    import trials

    options = argparse.Namespace(folder=tmp_path, steps=400, batch_size=8, crop_size=320)
    assert trials.kept("a", options, lambda: {"hmean": 0.5}) == {"hmean": 0.5}
    assert trials.kept("b", options, lambda: {"hmean": 0.25}) == {"hmean": 0.25}
    assert trials.kept("a", options, lambda: pytest.fail("done again")) == {"hmean": 0.5}
    options.steps = 100
    with pytest.raises(SystemExit, match="another budget"):
        trials.kept("a", options, dict)


def test_cells(sheet: Any) -> None:
    import trials

    table = trials.markdown({"a": "A", "b": "B", "c": "C"}, [{"a": 0.5, "b": 1234, "c": 12.5}, {"a": 0.0}])
    assert table.splitlines()[2:] == ["| .500 | 1,234 | 12.5 |", "| .000 |  |  |"]
