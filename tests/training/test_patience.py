"""Early stopping, and what a run leaves without validation."""

import csv
import dataclasses
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.project import Runner, snapshot

from efficientnet_east.evaluation import icdar2015
from efficientnet_east.structures import Detections
from efficientnet_east.training import hooks, recorder, session


def rows(workdir: Path) -> list[dict[str, str]]:
    """Of results.csv, without what depends on the machine's speed."""
    timed = ("seconds", "images_per_second", "data_wait")
    with (workdir / "results.csv").open() as file:
        return [{name: row[name] for name in row if name not in timed} for row in csv.DictReader(file)]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Validations of given steps have a given hmean; collects the steps that are validated."""
    validated: list[int] = []
    hmeans = {2: 0.1, 4: 0.3, 6: 0.2, 8: 0.3, 10: 0.25, 12: 0.4}

    def score(found: Any, truths: Any) -> icdar2015.Result:
        return dataclasses.replace(icdar2015.score(found, truths), hmean=hmeans[validated[-1]])

    def remember(engine: session.SessionEngine) -> Any:
        validated.append(engine.done)
        return lambda image: Detections(np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32))

    monkeypatch.setattr(session.SessionEngine, "detector", remember)
    monkeypatch.setattr(hooks, "icdar2015", types.SimpleNamespace(score=score, Result=icdar2015.Result))
    return validated


def test_patience_ends_a_run_the_same_way_whether_it_was_killed_or_not(
    quick_run: Runner, tmp_path: Path, scores: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the validation of step 6 and after that of step 8, whose checkpoint then is lost."""
    data = ["--val-data", str(tmp_path / "data"), "--val-limit=1"]
    words = [*data, "--steps=12", "--validate-every=2", "--save-every=100", "--patience=3"]
    code, out, _ = quick_run("whole", *words)
    said = "ended at step 10: 3 validations in a row were not better than that of step 4 (hmean 0.3000). "
    assert code == 0 and said + "To go on, raise --patience or set it to 0" in out
    assert scores == [2, 4, 6, 8, 10]
    assert [row["best"] for row in rows(tmp_path / "whole")] == ["1", "1", "0", "0", "0"]

    class Killed(BaseException):
        pass

    for step in (6, 8):
        with monkeypatch.context() as patch:
            score, row = hooks._score, recorder.Recorder.row

            def killed(run: Any, *rest: Any, score: Any = score, step: int = step) -> Any:
                if run.engine.done == step == 6:
                    raise Killed
                return score(run, *rest)

            def killed_later(kept: Any, done: int, *rest: Any, row: Any = row, step: int = step) -> Any:
                added = row(kept, done, *rest)
                if done == step == 8:
                    raise Killed
                return added

            patch.setattr(hooks, "_score", killed)
            patch.setattr(recorder.Recorder, "row", killed_later)
            with pytest.raises(Killed):
                quick_run("parts", *words)
    for path in (tmp_path / "parts").glob("model.ckpt-8.*"):
        path.unlink()
    assert [row["step"] for row in rows(tmp_path / "parts")] == ["2", "4", "6", "8"]
    code, out, _ = quick_run("parts", *words)
    assert code == 0 and said in out and "resuming from step 6" in out
    assert scores[5:] == [2, 4, 6, 8, 8, 10], "that of step 6 was done before step 7"
    whole, parts = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    figures = ("step", "images", "learning_rate", "hmean", "best", "precision", "recall")
    for row, same in zip(whole, parts, strict=True):
        assert [row[name] for name in figures] == [same[name] for name in figures]

    before = snapshot(tmp_path / "parts")
    code, out, _ = quick_run("parts", *words)
    assert code == 0 and said in out and snapshot(tmp_path / "parts") == before
    code, out, _ = quick_run("parts", *words, "--patience=4")
    assert code == 0 and "ended" not in out and rows(tmp_path / "parts")[-1]["best"] == "1"


def test_patience_without_validation_is_refused(quick_run: Runner, tmp_path: Path) -> None:
    code, _, err = quick_run("run", "--steps=2", "--patience=1")
    assert code == 2 and "error: --patience: needs something to validate on" in err
    assert not (tmp_path / "run" / "results.csv").exists()


def test_a_run_without_validation_has_results_too(quick_run: Runner, tmp_path: Path) -> None:
    code, out, err = quick_run("run", "--steps=5", "--save-every=2", "--log-every=2")
    assert code == 0 and "best" not in out
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == ["2", "4", "5"]
    assert not {"hmean", "best"} & found[0].keys() and float(found[0]["loss/total"]) > 0
    assert (tmp_path / "run" / "results.png").exists() and not (tmp_path / "run" / "validation").exists()
    lines = [line for line in err.splitlines() if line.startswith("step ")]
    begun = [line.split(":")[0] for line in lines]
    assert begun == ["step 2 of 5 (40.0%)", "step 4 of 5 (80.0%)", "step 5 of 5 (100.0%)"]
    assert "\r" not in err
