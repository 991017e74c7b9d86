"""The example for Ray Data: the same lines as `detect` writes alone, from one worker and from two."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import write_dark_network
from helpers.programs import EXAMPLES, load_example
from helpers.project import make_data

from efficientnet_east.cli.main import main

(example,) = load_example("cluster", "detect_ray")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, seven images of which one is broken, and what `detect` finds in them."""
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    write_dark_network(tmp_path / "dark.onnx")
    make_data(tmp_path, range(1, 7))
    (tmp_path / "images" / "img_7.png").write_bytes(b"\xff\xd8\xff broken")
    given = ["detect", "images", "--model", "dark.onnx", "--output", "alone", "--threads", "1"]
    assert main([*given, "--shard", "1/1"]) == 1
    return tmp_path


def alone(folder: Path) -> str:
    text = (folder / "alone" / "words-00001-of-00001.jsonl").read_text()
    assert text.count("\n") == 7 and text.count("corners") > 5 and '"error"' in text
    return text


def test_what_a_worker_runs(folder: Path) -> None:
    find = example.FindWords("dark.onnx", 1)
    paths = np.array([f"images/img_{number}.png" for number in range(1, 8)], object)
    parts = [find({"number": np.arange(7)[part], "path": paths[part]}) for part in (slice(0, 4), slice(4, 7))]
    assert [number for part in parts for number in part["number"]] == list(range(7))
    assert "".join(line for part in parts for line in part["line"]) == alone(folder)


def test_two_workers_find_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("HOME", str(folder))  # where Ray puts a token
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    paths = [str(EXAMPLES / "cluster"), str(EXAMPLES.parent), *sys.path]
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": ":".join(paths)}})
    try:
        given = ["images", "--output", "words.jsonl", "--model", str(folder / "dark.onnx"), "--batch", "2"]
        assert example.main(given) == 0
    finally:
        ray.shutdown()
    assert (folder / "words.jsonl").read_text() == alone(folder)


def test_no_image(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert example.main(["none/*.png", "--output", "words.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("error: none/*.png: matches no file")
