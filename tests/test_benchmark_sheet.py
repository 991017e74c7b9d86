"""The sheet's own arithmetic and forms; the programs that it calls have tests of their own."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(REPOSITORY / "benchmarks"), *sys.path])
    import sheet

    return sheet


def test_same_time_is_the_last_validation_before_it(sheet: Any, tmp_path: Path) -> None:
    rows = "step,seconds,images,hmean\n10,60,80,0.1\n15,80,120,\n20,120,160,0.3\n30,180,240,0.25\n"
    (tmp_path / "results.csv").write_text(rows)
    seen = sheet.progress(tmp_path)
    assert [row["images"] for row in seen] == [80, 160, 240]
    assert [sheet.within(seen, seconds) for seconds in (59, 60, 130, 1000)] == [0, 0.1, 0.3, 0.25]


def test_speed_is_of_the_row(sheet: Any, tmp_path: Path) -> None:
    """What the other two programs left, read without running them again."""
    cases = ("resnet50 relu", "b0 relu", "b0 swish")
    steps = [{"case": case, "images_per_second": float(number), "peak_gb": 10.0 + number}
             for number, case in enumerate(cases)]  # fmt: skip
    (tmp_path / "step.json").write_text(json.dumps({"rows": steps}))
    rows = [{"network": case.removesuffix(" relu"), "runtime": way, "whole_ms": 100.0 * n + len(way)}
            for n, case in enumerate(cases) for way in (*sheet.WAYS.values(), "OpenCV")]  # fmt: skip
    (tmp_path / "runtimes.json").write_text(json.dumps({"rows": rows}))
    found = sheet.speed(tmp_path, ["ResNet-50", "B0, swish"], rounds=1)
    onnx = len(sheet.WAYS["onnx_ms"])
    assert found["ResNet-50"]["images_per_second"] == 0 and found["ResNet-50"]["onnx_ms"] == onnx
    assert found["B0, swish"]["training_gb"] == 12 and found["B0, swish"]["onnx_ms"] == 200 + onnx
    assert set(found) == {"ResNet-50", "B0, swish"}


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
