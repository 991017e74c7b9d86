"""Runs of the whole program that are hit by signals, full disks and other processes."""

import csv
import json
import os
import resource
import shutil
import signal
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.disks import python_on_small_disk
from helpers.project import SMALL, Runner, patch_stream, tensors

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.config import load
from efficientnet_east.data.loader import Batch
from efficientnet_east.inference.graph import session_config
from efficientnet_east.training import hooks, loop, session
from efficientnet_east.training.checkpointing import Checkpoints
from efficientnet_east.training.schedule import learning_rate
from efficientnet_east.training.workdir import hold


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit by bit: weights, averages, optimiser, batch-norm statistics, counters."""
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)


# --- interrupted and resumed


def test_resumed_at_every_step(quick_run: Runner, tmp_path: Path) -> None:
    """From each of twelve checkpoints one step leads to the next, in every variable: so does any number."""
    words = ["--steps=12", "--save-every=1", "--keep-checkpoints=12", "--warmup-steps=4"]
    code, _, err = quick_run("run", *words)
    assert code == 0, err
    config = load(str(tmp_path / "run" / "config.yaml"))
    source = loop.sources.training_source(config.data, config.train.seed, [])
    threads = session_config(config.train.threads)
    graph, built = session.build_graph(config, types.SimpleNamespace(strategy=None), False)
    with graph.as_default(), tf.Session(graph=graph, config=threads) as opened:
        engine = session.SessionEngine(config, opened, *built)
        kept = Checkpoints(tmp_path, config)
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        for done in range(1, 12):
            kept.workdir = tmp_path / f"from-{done}"
            kept.workdir.mkdir()
            for part in tf_checkpoints.PARTS:
                shutil.copy(tmp_path / "run" / f"model.ckpt-{done}{part}", kept.workdir)
            assert kept.begin(opened).startswith(f"resuming from step {done} ")
            with loop.open_stream(config, source, done) as stream:
                engine.advance([next(stream)], learning_rate(done, config.train))
            after = tf_checkpoints.read(str(tmp_path / "run" / f"model.ckpt-{done + 1}"))
            assert after.keys() == variables.keys()
            for name, value in opened.run(variables).items():
                np.testing.assert_array_equal(value, after[name], err_msg=f"{name} after step {done + 1}")


def terminate_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Sends this process SIGTERM the first time that the function is called."""
    sent: list[int] = []

    def terminated(*arguments: Any, **options: Any) -> Any:
        if not sent:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **options)

    return terminated


def test_terminated_wherever_it_is(
    quick_run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a step, in saving, in a validation, on the last batch: each time it goes on as if nothing was."""
    data = str(tmp_path / "data")
    words = [
        "--steps=4",
        "--save-every=2",
        "--validate-every=3",
        "--val-data",
        data,
        "--score-threshold=0.02",
    ]
    assert quick_run("whole", *words)[0] == 0
    figures = tmp_path / "parts" / "results.csv"

    def on_last_batch(number: int, batch: Batch) -> Batch:
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    def in_a_step(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(session.SessionEngine, "advance", terminate_once(session.SessionEngine.advance))

    def in_saving(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(tf_checkpoints.atomic, "move_into_place",
                      terminate_once(tf_checkpoints.atomic.move_into_place))  # fmt: skip

    def in_validation(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(hooks, "detect_all", terminate_once(hooks.detect_all))

    for strike, step in ((in_a_step, 0), (in_saving, 2), (in_validation, 3)):
        with monkeypatch.context() as patch:
            strike(patch)
            code, out, err = quick_run("parts", *words)
        assert code == 143, err
        assert f"interrupted; saved at step {step}." in out or step == 0
        if step:
            assert tf_checkpoints.find(tmp_path / "parts").endswith(f"-{step}")
        assert not list((tmp_path / "parts").glob(".*")), "neither lock nor half a file"
    assert not figures.exists()
    with monkeypatch.context() as patch:
        patch_stream(patch, on_last_batch)
        assert quick_run("parts", *words)[0] == 143
    assert [line.split(",")[0] for line in figures.read_text().split()] == ["step", "3"], "made up for"
    code, out, err = quick_run("parts", *words)
    assert code == 0, err
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    assert_same_weights(tmp_path / "whole" / "best", tmp_path / "parts" / "best")
    rows = [[[row[name] for name in ("step", "images", "precision", "recall", "hmean", "best")]
             for row in csv.DictReader(path.open())]
            for path in (figures, tmp_path / "whole" / "results.csv")]  # fmt: skip
    assert rows[0] == rows[1] and len(rows[0]) == 2


# --- a disk on which nothing more can be written


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Sets the size in bytes from which on the system refuses to write to a file; 0 for any."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def set_limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size or before[0], before[1]))

    yield set_limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_cannot_be_saved_is_tried_again(
    quick_run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: Callable[[int], None]
) -> None:
    def change(number: int, batch: Batch) -> Batch:
        limit(2_500 if number in (2, 3) else 0)
        return batch

    patch_stream(monkeypatch, change)
    code, _, err = quick_run("run", "--steps=6", "--save-every=2", "--no-color")
    assert code == 0, err
    (warning,) = [line for line in err.splitlines() if "model.ckpt" in line]
    where = tmp_path / "run" / "model.ckpt-4"
    assert warning.startswith(f"warning: {where}: cannot be written (")
    assert "; the last checkpoint is that of step 2" in warning and "Training goes on" in warning
    assert tf_checkpoints.find(tmp_path / "run") == str(tmp_path / "run" / "model.ckpt-6")
    steps = {path.stem for path in (tmp_path / "run").glob("*.index")}
    assert steps == {"model.ckpt-2", "model.ckpt-6"} and not list((tmp_path / "run").glob(".*"))


def test_the_last_checkpoint_must_be_saved(
    quick_run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: Callable[[int], None]
) -> None:
    """Neither figures nor checkpoints can be written from the third step on; the one of step 2 is whole."""

    def change(number: int, batch: Batch) -> Batch:
        limit(100 if number > 1 else 0)
        return batch

    patch_stream(monkeypatch, change)
    data = str(tmp_path / "data")
    words = ["--save-every=2", "--validate-every=2", "--val-data", data, "--log-every=1", "--picture-every=1"]
    code, _, err = quick_run("run", "--steps=6", *words)
    limit(0)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {tmp_path / 'run'}") and "cannot be written (File too large)" in line
    assert "the last checkpoint is that of step 2" in line and "Traceback" not in err
    assert err.count("Training goes on and saves again") == 1, "at step 4"
    assert tf_checkpoints.find(tmp_path / "run") == str(tmp_path / "run" / "model.ckpt-2")
    assert tensors(tmp_path / "run")["global_step"] == 2 and not list((tmp_path / "run").glob(".*"))
    monkeypatch.undo()


FILL_THE_DISK = """
import json, sys
from pathlib import Path
from efficientnet_east.checkpoints import tf_checkpoints as checkpoints
from efficientnet_east import scaling
from efficientnet_east.cli.main import main
from efficientnet_east.compat import tf
scaling.VARIANTS["tiny"] = scaling.Variant(0.3, 0.3, 64, 0.2)
code = main(["train", *sys.argv[1:], "--workdir", "run"])
newest = tf.train.latest_checkpoint("run")
step = checkpoints.read(newest)["global_step"]
left = sorted(path.name for path in Path("run").iterdir())
print(json.dumps({"code": code, "newest": newest, "step": int(step), "left": left}))
"""


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """Two checkpoints fit on it. The third and the fourth, which is the last, do not."""
    words = [*SMALL, "--steps=4", "--save-every=1", "--log-every=1", "--synthetic-size=128", "--no-color"]
    done = python_on_small_disk("16m", tmp_path / "disk", "-c", FILL_THE_DISK, *words)
    last = done.stdout.splitlines()[-1]
    found = json.loads(last)
    assert (found["code"], found["newest"], found["step"]) == (2, "run/model.ckpt-2", 2)
    parts = {f"model.ckpt-{step}{part}" for step in (1, 2) for part in tf_checkpoints.PARTS}
    assert {name for name in found["left"] if "ckpt" in name} == parts
    assert not [name for name in found["left"] if name.startswith(".")], "half a file, or the lock"
    why = "cannot be written (No space left on device); the last checkpoint is that of step 2; expected"
    (warning,) = [line for line in done.stderr.splitlines() if "model.ckpt-3" in line]
    assert warning.startswith(f"warning: run/model.ckpt-3: {why}")
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert error.startswith(f"error: run/model.ckpt-4: {why}") and "Traceback" not in done.stderr


# --- other processes


def test_a_workdir_in_which_another_process_trains(quick_run: Runner, tmp_path: Path) -> None:
    with hold(tmp_path / "run"):
        code, _, err = quick_run("run", "--steps=1")
        assert code == 2 and f"is in use by process {os.getpid()} on " in err
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
