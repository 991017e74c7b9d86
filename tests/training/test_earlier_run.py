"""A run of an earlier version, stored as it was killed after step 3 of 4: this version goes on with it.

`cases/earlier_run` holds its workdir, whose last checkpoint is that of step 2, its one image, and all
variables after step 4 as the earlier version has computed them without a kill.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.graphs import toy
from helpers.project import tensors
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from efficientnet_east import config, model
from efficientnet_east.cli.main import main

CASE = Path(__file__).resolve().parents[1] / "cases" / "earlier_run"


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir after the rest of the run."""
    folder = tmp_path_factory.mktemp("earlier")
    shutil.copytree(CASE, folder, dirs_exist_ok=True)
    where = ["--data", str(folder / "data"), "--val-data", str(folder / "data")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "build", toy)
        command = ["train", "--config", str(folder / "run" / "config.yaml"), *where]
        assert main([*command, "--workdir", str(folder / "run")]) == 0
    return folder / "run"


def test_its_variables_end_as_they_would_have(resumed: Path) -> None:
    """With room for another OpenCV, which cuts the crops: a step moves a weight by up to 0.01."""
    found, expected = tensors(resumed), np.load(CASE / "expected.npz")
    assert found.keys() == set(expected.files) and found["global_step"] == 4
    for name in expected.files:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_its_figures_and_versions_are_kept_and_continued(resumed: Path) -> None:
    rows = list(csv.DictReader((resumed / "results.csv").open()))
    (before,) = csv.DictReader((CASE / "run" / "results.csv").open())
    assert [row["step"] for row in rows] == ["2", "4"] and rows[0] == before
    assert float(rows[1]["seconds"]) >= float(before["seconds"])
    versions = json.loads((resumed / "versions.json").read_text())
    assert [entry["step"] for entry in versions] == [0, 2]
    assert versions[:1] == json.loads((CASE / "run" / "versions.json").read_text())
    best = json.loads((resumed / "best" / "hmean.json").read_text())
    assert best["step"] == 2, "step 4 was not better"


def test_its_events_are_continued(resumed: Path) -> None:
    """What was recorded of step 3 before the kill is forgotten."""
    read = EventAccumulator(str(resumed))
    read.Reload()
    losses = read.Scalars("loss/total")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    assert len(list(resumed.glob("events*"))) == 2


def test_its_configuration_is_read(resumed: Path) -> None:
    now = config.load(str(resumed / "config.yaml"))
    earlier = config.load(str(CASE / "run" / "config.yaml"))
    assert now.model == earlier.model and now.train.steps == earlier.train.steps == 4
