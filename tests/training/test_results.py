"""What a run leaves: results.csv and its rules, charts, mosaics, validation pictures, versions, lines."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from efficientnet_east import config as configuration
from efficientnet_east.data.loader import Batch, TextBatch
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.evaluation import pictures as evaluated
from efficientnet_east.geometry.label_maps import encode
from efficientnet_east.structures import Detections, Sample, Truth
from efficientnet_east.training import curves, previews, recorder, versions
from efficientnet_east.training.results import Results, read

QUADS = np.array(
    [[[20, 30], [100, 20], [104, 52], [24, 62]], [[30, 80], [90, 80], [90, 100], [30, 100]]], "f4"
)


def filled(folder: Path, hmeans: list[float | None], done: int = 10**9) -> Results:
    results = Results(folder, done)
    for number, hmean in enumerate(hmeans, start=1):
        figures = {} if hmean is None else {"precision": 0.5, "recall": 0.25, "hmean": hmean}
        results.append({"step": 10 * number, "seconds": 1.5 * number, "loss/total": 1 / number, **figures})
    results.write()
    return results


# --- results.csv


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = filled(tmp_path, [None, 1 / 3, 0.3, 0.7]).rows
    assert Results(tmp_path, 40).rows == rows == read(tmp_path)
    assert [row.get("best") for row in rows] == [None, 1, 0, 1]
    header, first, second = (tmp_path / "results.csv").read_text().splitlines()[:3]
    assert header == "step,seconds,loss/total,precision,recall,hmean,best"
    assert first == "10,1.5,1,,,," and second == "20,3,0.5,0.5,0.25,0.3333333,1"


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    """A run that was killed at step 45 goes on from step 20: no step twice, and the same rows in the end."""
    whole = filled(tmp_path / "whole", [0.1, 0.5, 0.2, 0.6]).rows
    filled(tmp_path / "killed", [0.1, 0.5, 0.2, 0.6])
    resumed = Results(tmp_path / "killed", 20)
    assert [row["step"] for row in resumed.rows] == [10, 20] and resumed.seconds == 3
    for row in whole[2:]:
        resumed.append({name: value for name, value in row.items() if name != "best"})
    resumed.write()
    assert read(tmp_path / "killed") == whole


def test_a_validation_that_is_made_up_for_completes_its_row(tmp_path: Path) -> None:
    results = filled(tmp_path, [0.5, None])
    results.append({"step": 20, "seconds": 9, "hmean": 0.6})
    assert results.rows[1] == {"step": 20, "seconds": 9, "loss/total": 0.5, "hmean": 0.6, "best": 1}
    assert len(results.rows) == 2 and results.best == (20, 0.6)


@pytest.mark.parametrize(
    ("hmeans", "best", "without_gain"),
    [
        ([], (0, -1.0), 0),
        ([None, None], (0, -1.0), 0),
        ([0.0], (10, 0.0), 0),
        ([0.0, 0.0, 0.0], (10, 0.0), 2),  # as good as before is not better
        ([0.3, 0.2, None, 0.1], (10, 0.3), 2),
        ([0.3, 0.2, 0.4], (30, 0.4), 0),
        ([0.12345678, 0.12345679], (10, 0.1234568), 1),  # as it is written, so that resuming changes nothing
    ],
)
def test_gain_is_the_same_before_and_after_resuming(
    hmeans: list[float | None], best: tuple[int, float], without_gain: int, tmp_path: Path
) -> None:
    for results in (filled(tmp_path, hmeans), Results(tmp_path, 10**9)):
        assert (results.best, results.without_gain) == (best, without_gain)
        for step, hmean in zip((10, 20, 30), hmeans, strict=False):
            assert results.has_validation(step) == (hmean is not None)


@pytest.mark.parametrize("line", ["ten,1,2,,,,", "10;1;2", "10,,1", "1,2,3,4,5,6,7,8"])
def test_a_file_that_somebody_changed(line: str, tmp_path: Path) -> None:
    filled(tmp_path, [0.5])
    with (tmp_path / "results.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"results\.csv:3: is not a row of numbers"):
        Results(tmp_path, 100)


# --- charts


def decoded(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)


def rows_with(**columns: list[float]) -> list[dict[str, float]]:
    count = len(next(iter(columns.values())))
    rows = [
        {"step": 10.0 * number, "learning_rate": 0.1, "images_per_second": 4.0} for number in range(count)
    ]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name.replace("_", "/", 1) if name.startswith("loss") else name] = value
    return rows


def test_chart_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"loss_total": [3.0, 2.0, 1.0]}
    figures = {
        "precision": [0.5, 0.6, 0.4],
        "recall": [0.1, 0.2, 0.3],
        "hmean": [0.2, 0.3, 0.25],
        "best": [1.0, 1.0, 0.0],
    }
    panels: list[Any] = []
    keep = curves.draw
    monkeypatch.setattr(curves, "draw", lambda title, x, given: panels.append(given) or keep(title, x, given))
    whole = decoded(curves.results_chart("a run", rows_with(**losses, **figures)))
    assert whole.shape == (800, 1000, 3) and len(np.unique(whole.reshape(-1, 3), axis=0)) > 20
    loss, protocol, *_ = panels[0]
    assert [(series.label, series.y) for series in loss.series] == [("total", [3.0, 2.0, 1.0])]
    assert [series.label for series in protocol.series] == [
        "precision",
        "recall",
        "hmean",
        "best hmean 0.300",
    ]
    assert protocol.series[3].x == [10.0]
    decoded(curves.results_chart("a run", rows_with(**losses)))
    assert [panel.label for panel in panels[1]] == ["loss", "learning rate", "images a second"]


def test_chart_of_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    keep = curves.draw
    monkeypatch.setattr(
        curves, "draw", lambda title, x, panels: seen.extend(panels) or keep(title, x, panels)
    )
    for steps in (1, 2, 999, 12_345):
        train = configuration.Train(steps=steps, schedule="one-cycle", learning_rate=0.5, warmup_steps=0)
        assert decoded(curves.schedule_chart(train)).shape == (520, 1000, 3)
        (line,) = seen.pop().series
        assert line.x[0] == 0 and line.x[-1] == steps - 1 and len(line.x) <= 2 * curves.POINTS + 2
        assert max(line.y) == pytest.approx(0.5, rel=1e-3 if steps > 2 else 1)


# --- pictures


def crops(count: int, side: int = 128) -> Batch:
    maps = encode(QUADS, np.array([False, True]), (side, side), stride=4)
    parts = [
        np.stack([part] * count) for part in (maps.score[..., None], maps.geometry, maps.mask[..., None])
    ]
    return Batch(np.full((count, side, side, 3), 90, np.uint8), *parts, names=("a",) * count)


@pytest.mark.parametrize(("count", "shape"), [(1, (128, 128)), (3, (262, 262)), (20, (530, 530))])
def test_mosaic_draws_the_labels_that_the_network_gets(count: int, shape: tuple[int, int]) -> None:
    batch = crops(count)
    picture = previews.crops_sheet(batch)
    assert picture.shape == (*shape, 3)
    first = picture[:128, :128].astype(int)
    text, ignored, outside = first[41, 62], first[90, 60], first[120, 10]
    assert text[0] > 110, "the score glows"
    assert ignored[1] < 40 and (outside == 90).all(), "dark where the loss does not look"
    top = first[20:35, 60]  # across the upper side of the legible text
    assert (top[:, 1] - top[:, 0]).max() > 100, "a green line"
    blank = dataclasses.replace(batch, score=0 * batch.score, mask=batch.mask * 0 + 1)
    assert (previews.crops_sheet(blank)[:128, :128] == 90).all(), "from the maps, not from the truth"


def test_mosaic_of_texts() -> None:
    batch = TextBatch(
        np.full((1, 128, 128, 3), 90, np.uint8), np.pad(QUADS, ((0, 5), (0, 0), (0, 0)))[None],
        np.array([[False, True] + [False] * 5]), np.array([2], np.int32), ("a",),
    )  # fmt: skip
    picture = previews.crops_sheet(batch).astype(int)
    assert picture[20, 100, 1] - picture[20, 100, 0] > 100, "green for what is learned"
    assert np.ptp(picture[80, 60]) == 0 and picture[80, 60, 0] > 130, "grey for what is ignored"
    assert (picture[:3, :3] == 90).all(), "nothing for the padding"


def test_large_mosaics_are_scaled_down() -> None:
    assert previews.crops_sheet(crops(4, 1024)).shape == (1600, 1600, 3)


def test_validation_picture_shows_what_was_found_and_missed() -> None:
    far = QUADS[1:] + np.array([0, 200], np.float32)
    truth = Truth(np.concatenate([QUADS, far]), np.array([False, False, True]), ("a", "b", "###"))
    wrong = QUADS[:1] + np.array([150, 0], np.float32)
    found = Detections(np.concatenate([QUADS[:1], wrong, far]), np.array([0.9, 0.8, 0.7], np.float32))
    result = icdar2015.score({"x": found.quads}, {"x": truth}).images["x"]
    sample = Sample("x.jpg", np.full((320, 300, 3), 128, np.uint8), truth)
    picture = evaluated.validation_picture(sample, found, result)
    assert picture.shape[0] > 320 and picture.shape[1] > 600
    body = picture[-320:]
    left, right = body[:, :300], body[:, -300:]

    def color(panel: np.ndarray, quad: np.ndarray) -> tuple[int, ...]:
        """The nearest of the colors at a corner, where lines are smoothed."""
        found = panel[int(quad[2, 1]), int(quad[2, 0])].astype(int)
        known = (evaluated.BLUE, evaluated.GREEN, evaluated.RED, evaluated.GRAY)
        return min(known, key=lambda color: np.abs(found - color).sum())

    assert color(left, QUADS[0]) == evaluated.BLUE and color(left, QUADS[1]) == evaluated.RED
    assert color(right, QUADS[0]) == evaluated.GREEN and color(right, wrong[0]) == evaluated.RED
    assert color(left, far[0]) == color(right, far[0]) == evaluated.GRAY
    assert np.ptp(picture[:-320]) > 100, "a title"
    large = Sample("x.jpg", np.zeros((1600, 2400, 3), np.uint8), truth)
    assert max(evaluated.validation_picture(large, found, result).shape) == 2000


def test_best_and_worst_images() -> None:
    def image(hmean: float, texts: int = 1) -> icdar2015.ImageResult:
        return icdar2015.ImageResult(hmean, hmean, hmean, texts, texts, (), ())

    images = {str(number): image(number / 10) for number in range(10)}
    expected = {f"worst_{rank + 1}": str(rank) for rank in range(4)}
    expected |= {f"best_{rank + 1}": str(9 - rank) for rank in range(4)}
    assert evaluated.extremes(images) == expected
    assert evaluated.extremes({"a": image(1), "b": image(1, 9), "c": image(0), "d": image(0, 9)}) == {
        "worst_1": "d", "worst_2": "c", "best_1": "b", "best_2": "a"
    }  # fmt: skip
    assert evaluated.extremes({"a": image(0.5)}) == {"worst_1": "a"}
    assert evaluated.extremes({}) == {}


# --- versions.json


def test_versions_of_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions.record(tmp_path, 0)
    versions.record(tmp_path, 5)
    monkeypatch.setattr(
        sys, "argv", ["/home/somebody/efficientnet_east/__main__.py", "train", "--data", "my data"]
    )
    monkeypatch.setattr(versions, "started", lambda: "later")
    versions.record(tmp_path, 7)
    text = (tmp_path / "versions.json").read_text()
    first, second = json.loads(text)
    assert (first["step"], second["step"], second["started"]) == (0, 7, "later"), "an entry a process"
    assert second["command"] == "-m efficientnet_east train --data 'my data'"
    assert second["numpy"] == np.__version__ and second["python"] == sys.version.split()[0]
    assert second.keys() >= {"tensorflow", "grain", "processor", "threads", "efficientnet-east", "system"}
    assert "somebody" not in text and os.uname().nodename not in second.values()
    (tmp_path / "versions.json").write_text("{damaged")
    versions.record(tmp_path, 9)
    assert [entry["step"] for entry in json.loads((tmp_path / "versions.json").read_text())] == [9]


def test_commit_of_a_working_tree(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        named = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", str(tmp_path), *named, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert versions.commit(tmp_path) is None
    git("init", "-q")
    assert versions.commit(tmp_path) is None, "no commit yet"
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    assert versions.commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "b").write_text("a file of the user's")
    assert re.fullmatch(r"[0-9a-f]{40}", versions.commit(tmp_path) or "")
    (tmp_path / "a").write_text("2")
    assert versions.commit(tmp_path) == git("rev-parse", "HEAD") + "+"


# --- the recorder


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def time(self) -> float:
        return self.now


def test_plain_lines_speed_and_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where stderr is no terminal; what is done in a pause is not training's time."""
    clock = Clock()
    monkeypatch.setattr(recorder, "time", clock)
    config = configuration.load(
        None, {"workdir": str(tmp_path), "steps": 100, "batch_size": 4, "accumulate": 2}
    )

    def batches() -> Any:
        while True:
            clock.now += 0.5
            yield "batch"

    with recorder.Recorder(config, Results(tmp_path, 0), 0, 16) as kept:
        for step in range(1, 11):
            assert kept.wait_for(batches()) == "batch"
            clock.now += 1.5
            kept.advance()
            kept.add({"loss/model": float(step)})
        with kept.pause():
            clock.now += 100
        kept.scalars(10, {"loss/model": 1.25, "learning_rate": 1e-3})
        row = kept.row(10, 1e-3, None)
    err = capsys.readouterr().err
    assert "\r" not in err
    shown = "loss 1.250, rate 1.0e-03, 4.0 images/s, 25.0% waiting for data, 18 min left"
    assert err == f"step 10 of 100 (10.0%): {shown}\n"
    expected = {
        "step": 10,
        "seconds": 120,
        "images": 80,
        "epochs": 5,
        "loss/model": 5.5,
        "learning_rate": 1e-3,
    }
    assert row == expected | {"images_per_second": 4, "data_wait": 0.25}
    assert read(tmp_path) == [row]


def test_a_bar_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    config = configuration.load(None, {"workdir": str(tmp_path), "steps": 100})
    with recorder.Recorder(config, Results(tmp_path, 40), 40, 16) as kept:
        kept.advance()
        kept.scalars(41, {"loss/model": 1.25, "learning_rate": 1e-3})
    assert "41/100" in capsys.readouterr().err


def test_what_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = configuration.load(None, {"workdir": str(tmp_path)})
    with recorder.Recorder(config, Results(tmp_path, 0), 0, 16) as kept:
        (tmp_path / "results.csv").mkdir()
        for step in (10, 20):
            kept.row(step, 1e-3, None)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and re.fullmatch(
        r"\S+results\.csv: cannot be written \(.*\); expected .* goes on without this record", record.message
    )
    assert (tmp_path / "results.png").stat().st_size > 1000
