"""The benchmark of the loader runs, and the documents show what it measured."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.project import make_data

ROOT = Path(__file__).resolve().parents[2]
specification: Any = importlib.util.spec_from_file_location("pipeline", ROOT / "benchmarks" / "pipeline.py")
pipeline: Any = importlib.util.module_from_spec(specification)
specification.loader.exec_module(pipeline)


def test_pipeline_benchmark_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(pipeline, "GROWTH_WORKERS", 0)
    monkeypatch.setattr(pipeline, "GROWTH_SIZE", 64)
    data, results = make_data(tmp_path / "data", range(1, 5)), tmp_path / "results.json"
    common = [str(data), "--json", str(results)]
    pipeline.main([*common, "--crops", "16", "--sizes", "64", "--workers", "0"])
    pipeline.main([*common, "--growth", "160"])
    written = json.loads(results.read_text())
    cases = [(row["size"], row["cache"], row["workers"]) for row in written["speed"]]
    assert cases == [(64, False, 0), (64, True, 0)]
    assert all(row["crops_per_core_second"] > 0 for row in written["speed"])
    assert [row["crops"] for row in written["growth"]] == [160, 160]
    assert all(0 < row["end_mb"] <= row["peak_mb"] for row in written["growth"])
    pipeline.main(["--table", str(results)])
    assert capsys.readouterr().out.endswith(pipeline.table(written) + "\n")


def test_documents_show_what_was_measured() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "pipeline.json").read_text())
    assert pipeline.table(results) in (ROOT / "benchmarks" / "results" / "pipeline.md").read_text(
        encoding="utf-8"
    )
    for row in results["speed"]:
        assert row["crops_per_core_second"] >= (120 if row["cache"] else 60)
        assert row["idle_percent_of_a_core"] < 2
    for row in results["growth"]:
        assert row["crops"] >= 20_000 and row["end_mb"] - row["start_mb"] < 12
