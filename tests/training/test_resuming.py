"""Interrupted runs: what they leave, and that they go on to the same end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.project import SMALL, Runner, make_data, patch_stream, snapshot, tensors

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.cli.main import main
from efficientnet_east.config import load
from efficientnet_east.data.loader import Batch
from efficientnet_east.training import loop, session, sources

REPOSITORY = Path(__file__).resolve().parents[2]


def test_interrupted_twice_and_resumed_is_the_same_as_in_one_go(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, averages, both Adam slots, batch-norm statistics, counters: bit by bit."""
    words = ["--steps", "5", "--save-every", "100"]
    code, out, _ = run("whole", *words)
    assert code == 0 and "resuming" not in out

    with monkeypatch.context() as patch:  # Ctrl-C within step 2, after the weights have changed
        advance = session.SessionEngine.advance
        calls = []

        def interrupted(*arguments: Any) -> Any:
            scalars = advance(*arguments)
            calls.append(scalars)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return scalars

        patch.setattr(session.SessionEngine, "advance", interrupted)
        code, out, _ = run("parts", *words)
    assert code == 130 and "interrupted; saved at step 2. Run the same command to resume" in out

    workdir = tmp_path / "parts"
    (workdir / "notes.txt").write_text("mine")
    (workdir / "best").mkdir()
    (workdir / "best" / "model.ckpt-9.index").write_bytes(b"somebody's")
    (workdir / "model.ckpt-1.index.kept").write_bytes(b"somebody's")
    before = snapshot(workdir)

    with monkeypatch.context() as patch:  # Ctrl-C while it waits for the batch of step 5

        def wait(number: int, batch: Batch) -> Batch:
            if number == 4:
                raise KeyboardInterrupt
            return batch

        patch_stream(patch, wait)
        code, out, _ = run("parts", *words, "--log-every", "2")
    assert code == 130 and "interrupted; saved at step 4." in out
    assert f"resuming from step 2 ({workdir / 'model.ckpt-2'})" in out
    assert "changed since the last run: --log-every: 20 -> 2" in out and out.count("changed") == 1

    code, out, _ = run("parts", *words, "--log-every", "2")
    assert code == 0 and "resuming from step 4" in out and "changed" not in out
    whole, parts = tensors(tmp_path / "whole"), tensors(workdir)
    assert whole.keys() == parts.keys() and whole["global_step"] == 5
    kinds = ("Adam", "Adam_1", "ExponentialMovingAverage", "moving_variance", "weights", "beta1_power")
    for kind in kinds:
        assert any(name.endswith(kind) for name in whole), kind
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value, err_msg=name)

    after = snapshot(workdir)
    changed = {path for path, content in before.items() if after.get(path) != content}
    own = {"checkpoint", "config.yaml", "schedule.png"}
    assert {Path(path).name for path in changed} == own, "only its own files change"

    code, out, _ = run("parts", *words, "--log-every", "2")
    assert code == 0 and "all 5 steps are done. To go on, raise --steps" in out
    assert snapshot(workdir) == after


def test_a_workdir_that_has_moved_resumes_evaluates_and_detects(
    quick_run: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To a name with a space and an accent, while something else has taken the old place."""
    old, new = tmp_path / "run", tmp_path / "elsewhere" / "mein Lauf é"
    assert quick_run("run", "--steps", "1")[0] == 0
    new.parent.mkdir()
    old.rename(new)
    make_data(old)
    before = snapshot(old)

    code, out, _ = quick_run("elsewhere/mein Lauf é", "--steps", "2")
    assert code == 0 and f"resuming from step 1 ({new / 'model.ckpt-1'})" in out
    assert tensors(new)["global_step"] == 2
    words = ["--checkpoint", str(new), "--data", str(tmp_path / "data"), "--json", str(tmp_path / "out.json")]
    assert main(["eval", *words]) == 0
    assert f"scoring {new / 'model.ckpt-2'} on 2 images" in capsys.readouterr().err
    assert json.loads((tmp_path / "out.json").read_text()).keys() >= {"hmean"}
    image = tmp_path / "data" / "images" / "img_1.png"
    words = ["--checkpoint", str(new / "model.ckpt-1"), "--output", str(tmp_path / "out")]
    assert main(["detect", str(image), *words]) == 0
    assert (tmp_path / "out" / "img_1_words.txt").exists()
    assert snapshot(old) == before


class Listening:
    """An engine that computes nothing and remembers what it was given."""

    lag, shares = 0, (0, 1)

    def __init__(self, done: int) -> None:
        self.done, self.given = done, []

    def advance(self, passes: Any, rate: float) -> dict[str, float]:
        self.done += 1
        self.given.append([batch.images for batch in passes])
        return {"finite": 1.0, "loss/model": 1.0}

    def predict(self, images: np.ndarray) -> None:
        del images

    def save(self) -> None:
        pass


def test_a_step_takes_a_batch_for_each_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a run that goes on after two steps of three passes begins with the batch of number six.

    Which share of a batch a process takes is its engine's to say, not the environment's.
    """
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    words = {"data": str(make_data(tmp_path / "data")), "workdir": str(tmp_path / "run"), "crop_size": 64}
    config = load(None, words | {"workers": 0, "batch_size": 2, "accumulate": 3, "steps": 4})
    engine, source = Listening(2), sources.training_source(config.data, config.train.seed, [])
    Path(config.train.workdir).mkdir()
    assert loop.run_steps(config, engine, source, None)
    with loop.open_stream(load(None, words | {"workers": 0, "batch_size": 2}), source, 6) as stream:
        expected = [[next(stream).images for _ in range(3)] for _ in range(2)]
    np.testing.assert_array_equal(engine.given, expected)


def test_another_seed_is_another_run(quick_run: Runner, tmp_path: Path) -> None:
    """So that the comparison above compares something: batches differ, and so do weights."""
    names: list[tuple[str, ...]] = []
    for workdir, seed in (("one", "1"), ("two", "2"), ("again", "1")):
        config = load(None, {"data": str(tmp_path / "data"), "crop_size": 64, "seed": seed, "workers": 0})
        source = loop.sources.training_source(config.data, config.train.seed, [])
        with loop.open_stream(config, source, 0) as stream:
            names.append((workdir, str(next(stream).images.tobytes())))
    assert names[0][1] == names[2][1] != names[1][1]


# A shell that starts a test run in the background has it ignore Ctrl-C, and its children inherit that.
START = """
import signal, sys
from helpers import sessions
from helpers.graphs import toy_with_draws
from efficientnet_east import model
from efficientnet_east.cli.main import main
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sessions.let_tests_choose()
    sessions.REWRITES[:] = [False]
    model.build = toy_with_draws
    sys.exit(main(["train", *sys.argv[1:]]))
"""


def start(folder: Path, data: Path, name: str) -> subprocess.Popen[str]:
    script = folder / "start.py"
    script.write_text(START)
    words = [*SMALL, "--backbone=b0", "--workers=1", "--steps=1000000", "--save-every=5", "--data", str(data)]
    command = [sys.executable, str(script), *words, "--workdir", str(folder / name)]
    paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    with (folder / f"{name}.err").open("w") as errors:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
            start_new_session=True,
        )  # fmt: skip


def wait_until(condition: Callable[[], bool], seconds: float = 500) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_signals_save_and_end_with_their_own_code(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole process group, a batch system's SIGTERM the process alone."""
    data = make_data(tmp_path / "data")
    ends = {"interrupted": lambda pid: os.killpg(pid, signal.SIGINT),
            "terminated": lambda pid: os.kill(pid, signal.SIGTERM)}  # fmt: skip
    codes = {"interrupted": 130, "terminated": 143}
    processes = {name: start(tmp_path, data, name) for name in ends}
    try:
        for name, process in processes.items():
            folder = tmp_path / name
            wait_until(lambda folder=folder, process=process: [*folder.glob("*.index")] or process.poll())
            ends[name](process.pid)
        for name, process in processes.items():
            out, _ = process.communicate(timeout=300)
            errors = (tmp_path / f"{name}.err").read_text()
            assert process.returncode == codes[name], errors
            assert "Traceback" not in errors and "interrupted; saved at step" in out
            step = int(out.split("saved at step ")[1].split(".")[0])
            assert tf_checkpoints.find(tmp_path / name) == str(tmp_path / name / f"model.ckpt-{step}")
            assert tensors(tmp_path / name)["global_step"] == step >= 5
            wait_until(lambda process=process: not group_lives(process.pid), 30)
    finally:
        for process in processes.values():
            if group_lives(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
