"""The figures of the step benchmark, from times made up by hand."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    specification = importlib.util.spec_from_file_location("step", ROOT / "benchmarks" / "step.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def measured(wall: list[float], user: list[float], system: float, peak: float) -> dict[str, Any]:
    return {"wall": wall, "user": user, "system": [system] * len(wall), "peak_gb": peak}


def test_ratios_are_taken_within_a_round() -> None:
    """The second round's machine is twice as slow for both, which changes no ratio."""
    step = load()
    rounds = [
        {step.BASELINE: measured([4, 6], [8, 8], 1, 3), "other": measured([2, 3], [2, 4], 0, 1)},
        {step.BASELINE: measured([8, 12], [16, 16], 2, 2), "other": measured([4, 6], [4, 8], 0, 2)},
    ]
    baseline, other = step.summary(rounds, 4)
    assert (baseline["clock_ratio"], baseline["processor_ratio"]) == (1, 1)
    assert (other["clock_ratio"], other["processor_ratio"]) == (2, 3)
    assert (other["wall"], other["user"], other["system"], other["peak_gb"]) == (3.5, 4, 0, 2)
    assert (other["images_per_second"], other["images_per_processor_second"]) == (1.14, 1)
    assert "| other | 3.50 s | 1.14 | **2.00** | 4.00 + 0.00 s |" in step.table([baseline, other])


def test_the_page_shows_what_was_measured() -> None:
    step = load()
    figures = json.loads((ROOT / "benchmarks" / "results" / "step.json").read_text(encoding="utf-8"))
    rows = figures["rows"]
    assert step.summary(figures["rounds"], rows[0]["batch"]) == rows
    assert step.table(rows) in (ROOT / "benchmarks" / "results" / "step.md").read_text(encoding="utf-8")
