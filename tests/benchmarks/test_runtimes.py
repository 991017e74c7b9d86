"""The figures of the benchmark of runtimes, from times made up by hand."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runtimes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("runtimes")


def measured(whole: Sequence[float]) -> dict[str, Any]:
    return {"whole": list(whole), "network": [value - 1 for value in whole], "cells": 9, "boxes": 2}


def test_ratios_are_taken_within_a_round(runtimes: ModuleType) -> None:
    """The second round's machine is twice as slow for all, which changes no ratio."""
    reference = runtimes.REFERENCE
    rounds = [
        {
            "resnet50": {reference: measured([800 * slow, 900 * slow]), "fast": measured([400 * slow])},
            "b0": {reference: measured([170 * slow]), "fast": measured([85 * slow])},
        }
        for slow in (1, 2)
    ]
    rows = runtimes.summary(rounds)
    found = {(row["network"], row["runtime"]): row for row in rows}
    assert found["resnet50", reference]["to_resnet50_in_tensorflow"] == 1
    assert found["b0", "fast"]["to_resnet50_here"] == pytest.approx(400 / 85, abs=0.005)
    assert found["b0", "fast"]["to_resnet50_in_tensorflow"] == 10
    assert found["b0", "fast"]["whole_ms"] == 127.5 and found["b0", "fast"]["network_ms"] == 126.5
    assert runtimes.table(rows).splitlines()[-1] == "| fast | 600 ms (/2.12) | 128 ms (/4.71, /10.00) |"


def test_the_page_shows_what_was_measured(runtimes: ModuleType) -> None:
    figures = json.loads((ROOT / "benchmarks" / "results" / "runtimes.json").read_text(encoding="utf-8"))
    assert runtimes.summary(figures["rounds"]) == figures["rows"]
    assert runtimes.table(figures["rows"]) in (ROOT / "benchmarks" / "results" / "runtimes.md").read_text(
        encoding="utf-8"
    )
