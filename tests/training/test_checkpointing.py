"""The checkpoints of a workdir: which are kept, which is the best, and what becomes of damaged ones."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.project import snapshot

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.config import load
from efficientnet_east.errors import UserError, WriteError
from efficientnet_east.training.checkpointing import Checkpoints
from efficientnet_east.training.loss_scale import LossScale


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the checkpoints of `tmp_path/run` over a graph of one variable, as a new process would."""

    def open_checkpoints(**fields: Any) -> tuple[Checkpoints, Any]:
        config = load(None, {"workdir": str(tmp_path / "run")} | fields)
        (tmp_path / "run").mkdir(exist_ok=True)
        graph = stack.enter_context(tf.Graph().as_default())
        tf.train.get_or_create_global_step()
        tf.get_variable("model/v", [2])
        session = stack.enter_context(tf.Session(graph=graph))
        return Checkpoints(tmp_path / "run", config), session

    with contextlib.ExitStack() as stack:
        yield open_checkpoints


def save(kept: Checkpoints, session: Any, step: int) -> str:
    session.run(tf.assign(tf.train.get_global_step(), step))
    return kept.save(session, step)


def steps_in(folder: Path) -> set[int]:
    return {int(path.stem.rpartition("-")[2]) for path in folder.glob("model.ckpt-*.index")}


def test_the_newest_and_the_best_are_kept(kept: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first, session = kept(keep_checkpoints=3)
    assert first.begin(session) == "starting from random weights"
    for step in range(1, 6):
        assert save(first, session, step) == str(folder / f"model.ckpt-{step}")
    assert steps_in(folder) == {3, 4, 5}
    hmeans = {1: 0.5, 2: 0.4, 3: 0.5, 4: 0.6, 5: 0.2}
    assert [step for step, hmean in hmeans.items() if first.save_if_best(session, step, hmean)] == [1, 4]
    assert steps_in(folder / "best") == {4}
    assert json.loads((folder / "best" / "hmean.json").read_text()) == {"step": 4, "hmean": 0.6}

    theirs = [folder / "model.ckpt-1.index", folder / "notes.txt", folder / "best" / "model.ckpt-1.index"]
    for path in theirs:  # put back by somebody: not the run's any more
        path.write_bytes(b"theirs")
    second, session = kept(keep_checkpoints=3, init="not/looked/at.npz")
    assert second.begin(session) == (
        f"resuming from step 5 ({folder / 'model.ckpt-5'}); train.init is not used"
    )
    save(second, session, 6)
    assert steps_in(folder) == {1, 4, 5, 6}
    assert not second.save_if_best(session, 6, 0.6) and steps_in(folder / "best") == {1, 4}
    assert second.save_if_best(session, 6, 0.61) and steps_in(folder / "best") == {1, 6}
    assert all(path.read_bytes() == b"theirs" for path in theirs)


@pytest.mark.parametrize("state", [None, b"", b"\x00\xff garbage", b'model_checkpoint_path: "gone-9"\n'])
def test_a_lost_state_file_does_not_start_the_run_afresh(
    state: bytes | None, kept: Callable[..., Any], tmp_path: Path
) -> None:
    first, session = kept()
    first.begin(session)
    for step in (9, 10):
        save(first, session, step)
    value = session.run(tf.global_variables()[1])
    if state is None:
        (tmp_path / "run" / "checkpoint").unlink()
    else:
        (tmp_path / "run" / "checkpoint").write_bytes(state)
    second, session = kept()
    assert second.begin(session).startswith("resuming from step 10 ")
    np.testing.assert_array_equal(session.run(tf.global_variables()[1]), value)
    save(second, session, 11)
    assert steps_in(tmp_path / "run") == {9, 10, 11}


def test_a_run_goes_on_in_another_precision(kept: Callable[..., Any], tmp_path: Path) -> None:
    """From float32, whose checkpoints have no scale of the loss, to float16 and back."""
    first, session = kept()
    first.begin(session)
    save(first, session, 3)
    second, session = kept()
    scale = LossScale()
    second = Checkpoints(tmp_path / "run", second.config)
    assert second.begin(session).startswith("resuming from step 3")
    assert session.run(scale.value) == 2.0**15
    session.run(scale.update(tf.constant(False)))
    save(second, session, 4)
    names = {"model/v", "global_step", "loss_scale", "loss_scale_good_steps"}
    assert tf_checkpoints.read(tf_checkpoints.find(tmp_path / "run")).keys() == names
    assert tf_checkpoints.weights_of(tf_checkpoints.read(tf_checkpoints.find(tmp_path / "run"))).keys() == {
        "model/v"
    }
    third, session = kept()
    assert third.begin(session).startswith("resuming from step 4")


def test_a_workdir_may_move(kept: Callable[..., Any], tmp_path: Path) -> None:
    first, session = kept()
    first.begin(session)
    save(first, session, 3)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert tf_checkpoints.find(tmp_path / "moved") == str(tmp_path / "moved" / "model.ckpt-3")


def test_a_damaged_checkpoint(kept: Callable[..., Any], tmp_path: Path) -> None:
    first, session = kept()
    first.begin(session)
    save(first, session, 3)
    data = tmp_path / "run" / "model.ckpt-3.data-00000-of-00001"
    for content in (data.read_bytes()[:4], b"\xff" * data.stat().st_size):
        data.write_bytes(content)
        second, session = kept()
        with pytest.raises(UserError, match=r"ckpt-3: cannot be read .*; expected an undamaged checkpoint"):
            second.begin(session)


def damage(path: Path) -> None:
    """Turn one bit of a file."""
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)


def spoil(kept: Callable[..., Any], session: Any) -> None:
    """Weights that are not finite, saved as if nobody had looked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf_checkpoints, "expect_finite", lambda *_: None)
        session.run(tf.global_variables()[1].assign([1, np.nan]))
        save(kept, session, 8)


@pytest.mark.parametrize("how", ["data", "index", "cut", "empty", "gone", "nan"])
def test_a_damaged_checkpoint_is_passed_over(
    how: str, kept: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on from the one before, and later writes over the damaged one; nothing else changes."""
    first, session = kept()
    first.begin(session)
    for step in (4, 6):
        save(first, session, step)
    value = session.run(tf.global_variables()[1])
    session.run(tf.global_variables()[1].assign([5, 6]))
    newest = save(first, session, 8)
    data, index = tf_checkpoints.PARTS
    if how in ("data", "index"):
        damage(Path(newest + (data if how == "data" else index)))
    elif how in ("cut", "empty"):
        Path(newest + data).write_bytes(Path(newest + data).read_bytes()[:-3] if how == "cut" else b"")
    elif how == "gone":
        Path(newest + data).unlink()
    else:
        spoil(first, session)
    before = snapshot(tmp_path / "run")
    second, session = kept()
    resumed, (passed,) = second.begin(session), caplog.messages
    said = "holds values that are not finite in model/v;" if how == "nan" else "cannot be read ("
    assert passed.startswith(f"passed over: {newest}: {said}")
    assert resumed == f"resuming from step 6 ({tmp_path / 'run' / 'model.ckpt-6'})"
    np.testing.assert_array_equal(session.run(tf.global_variables()[1]), value)
    assert snapshot(tmp_path / "run") == before
    save(second, session, 8)
    assert tf_checkpoints.find(tmp_path / "run") == newest and tf_checkpoints.read(newest)["global_step"] == 8
    assert steps_in(tmp_path / "run") == {4, 6, 8}


def test_no_checkpoint_can_be_used(kept: Callable[..., Any], tmp_path: Path) -> None:
    first, session = kept()
    first.begin(session)
    for step in (4, 6, 8):
        damage(Path(save(first, session, step) + tf_checkpoints.PARTS[0]))
    before = snapshot(tmp_path / "run")
    second, session = kept()
    with pytest.raises(UserError, match=r"ckpt-8: cannot be read .*, and neither can the 2 before it"):
        second.begin(session)
    assert snapshot(tmp_path / "run") == before


def test_weights_that_are_not_finite_are_not_saved(kept: Callable[..., Any], tmp_path: Path) -> None:
    first, session = kept()
    first.begin(session)
    save(first, session, 3)
    before = snapshot(tmp_path / "run")
    session.run(tf.global_variables()[1].assign([np.inf, 0]))
    for attempt in (lambda: save(first, session, 4), lambda: first.save_if_best(session, 4, 0.5)):
        with pytest.raises(UserError, match=r"step 4: holds values that are not finite in model/v; expected"):
            attempt()
    assert snapshot(tmp_path / "run") == before


@pytest.mark.parametrize("name", ["model.ckpt-4.data-00000-of-00001", "model.ckpt-4.index", "checkpoint"])
def test_a_move_that_fails(
    name: str, kept: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is not listed, nothing of it is in the way, and the next one is saved."""
    first, session = kept()
    first.begin(session)
    save(first, session, 3)
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target.name == name:
            raise OSError(5, "Input/output error")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(WriteError, match=rf"{name.split('.d')[0].split('.i')[0]}: .*Input/output error"):
            save(first, session, 4)
    assert tf_checkpoints.find(tmp_path / "run") == str(tmp_path / "run" / "model.ckpt-3")
    assert tf.train.latest_checkpoint(str(tmp_path / "run")) == str(tmp_path / "run" / "model.ckpt-3")
    assert not list((tmp_path / "run").glob(".partial-*"))
    second, session = kept()
    assert second.begin(session).startswith("resuming from step 3")
    save(second, session, 4)
    assert tf_checkpoints.find(tmp_path / "run") == str(tmp_path / "run" / "model.ckpt-4")


def test_an_old_checkpoint_that_cannot_be_removed(
    kept: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said, and tried again with every later save, by the next process, too."""
    first, session = kept(keep_checkpoints=2)
    first.begin(session)
    unlink = Path.unlink

    def fail(path: Path, **options: bool) -> None:
        if path.name == "model.ckpt-1.data-00000-of-00001":
            raise PermissionError(13, "Permission denied")
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        for step in (1, 2, 3, 4):
            save(first, session, step)
    warning = f"the old checkpoint {tmp_path / 'run' / 'model.ckpt-1'} cannot be removed (Permission denied)"
    assert caplog.messages == [warning] * 2
    left = [path.name for path in (tmp_path / "run").glob("model.ckpt-1*")]
    assert left == ["model.ckpt-1.data-00000-of-00001"] and steps_in(tmp_path / "run") == {3, 4}
    second, session = kept(keep_checkpoints=2)
    second.begin(session)
    save(second, session, 5)
    assert not list((tmp_path / "run").glob("model.ckpt-1*")) and steps_in(tmp_path / "run") == {4, 5}


def test_newest_does_not_depend_on_the_clock(kept: Callable[..., Any], tmp_path: Path) -> None:
    first, session = kept()
    first.begin(session)
    for step in (9, 10):
        save(first, session, step)
    for path in (tmp_path / "run").glob("model.ckpt-10.*"):
        os.utime(path, (1, 1))
    for _ in range(2):
        assert tf_checkpoints.find(tmp_path / "run") == str(tmp_path / "run" / "model.ckpt-10")
        (tmp_path / "run" / "checkpoint").unlink(missing_ok=True)


def test_tensorflow_reads_what_is_saved(kept: Callable[..., Any], tmp_path: Path) -> None:
    """The state file with names relative to it, and the checkpoint through a Saver of its own."""
    first, session = kept()
    first.begin(session)
    session.run(tf.global_variables()[1].assign([3, 4]))
    for step in (1, 2):
        save(first, session, step)
    state = tf.train.get_checkpoint_state(str(tmp_path / "run"))
    folder = str(tmp_path / "run")
    assert state.all_model_checkpoint_paths == [f"{folder}/model.ckpt-1", f"{folder}/model.ckpt-2"]
    assert folder not in (tmp_path / "run" / "checkpoint").read_text()
    session.run(tf.global_variables()[1].assign([0, 0]))
    tf.train.Saver().restore(session, tf.train.latest_checkpoint(folder))
    assert session.run(tf.global_variables()[1]).tolist() == [3, 4]
    assert session.run(tf.train.get_global_step()) == 2


# Each child saves as fast as it can until it is killed; the parent then looks at what it finds.
KILLED_WHILE_SAVING = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from efficientnet_east.checkpoints import tf_checkpoints as checkpoints
from efficientnet_east.files import atomic
from efficientnet_east.compat import tf
from efficientnet_east.config import load
from efficientnet_east.training.checkpointing import Checkpoints

def note(name, step):
    with open(name, "a") as file:
        file.write(f"{step} ")

def noted(name):
    return int(Path(name).read_text().split()[-1])

def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            with tf.Graph().as_default(), tf.Session() as session:
                step = tf.train.get_or_create_global_step()
                values = tf.get_variable("values", [300_000])
                kept = Checkpoints(Path("run"), load(None, {"keep_checkpoints": 2}))
                work(session, step, values, kept)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child

def save_on_and_on(session, step, values, kept):
    kept.begin(session)
    done = session.run(step)
    while True:
        done += 1
        session.run([step.assign(done), values.assign(tf.fill([300_000], tf.cast(done, tf.float32)))])
        note("before", done)
        kept.save(session, done)
        note("after", done)

def look(session, step, values, kept):
    report = kept.begin(session)
    done = session.run(step)
    value = session.run(values)
    assert report.startswith("resuming from step "), report
    assert (value == done).all(), "half of one checkpoint and half of another"
    assert noted("after") <= done <= noted("before")
    assert tf.train.latest_checkpoint("run").endswith(f"-{done}")
    atomic.remove_leftovers(Path("run"))
    found = {path.name for path in Path("run").iterdir()}
    assert not [name for name in found if name.startswith(".")], found
    assert len(found) <= 2 + 2 * 4, found

def saving():
    return any(name.startswith(".partial-") for name in os.listdir("run"))

note("before", 0)
note("after", 0)
half_written, dice = 0, random.Random(int(sys.argv[2]))
for number in range(int(sys.argv[1])):
    child = in_child(save_on_and_on)
    mark = noted("before")
    while noted("before") == mark or not Path("run/checkpoint").exists():
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.001)
    time.sleep(dice.uniform(0, 0.08))
    while number % 2 and not saving():  # every other time in the middle, on a machine of any speed
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    half_written += saving()
    assert os.waitpid(in_child(look), 0)[1] == 0
print("half written:", half_written)
"""


@pytest.mark.slow
def test_killed_thirty_times_while_saving(tmp_path: Path) -> None:
    """The newest checkpoint is always whole: the one being saved, or the one before."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, "30", "1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=500,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert done.returncode == 0 and "passed over" not in done.stderr, done.stderr[-3000:]
    assert int(done.stdout.split("half written:")[1]) >= 5, "the kills came too late or too early"


def test_a_checkpoint_of_another_architecture(kept: Callable[..., Any], tmp_path: Path) -> None:
    """Without the configuration beside it, the variables tell."""
    first, session = kept()
    first.begin(session)
    save(first, session, 3)
    before = snapshot(tmp_path / "run")
    another = "ckpt-3: is a checkpoint of another architecture: "
    no_backbone = "ckpt-3: holds model/v, which are not the names"
    cases = [
        ("model/w", [2], f"{another}it lacks model/w; expected", no_backbone),
        ("model/v", [3], rf"{another}model/v has shape \(2,\); expected \(3,\)", ""),
    ]
    for name, size, said, said_of_init in cases:
        with tf.Graph().as_default(), tf.Session() as session:
            tf.train.get_or_create_global_step()
            tf.add_to_collection(tf.GraphKeys.MODEL_VARIABLES, tf.get_variable(name, size))
            for fields in ({}, {"init": str(tmp_path / "run"), "workdir": str(tmp_path / "new")}):
                config = load(None, {"workdir": str(tmp_path / "run")} | fields)
                second = Checkpoints(Path(config.train.workdir), config)
                with pytest.raises(UserError, match=said_of_init or said if fields else said):
                    second.begin(session)
    assert snapshot(tmp_path / "run") == before


def test_find(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds no checkpoint; expected a workdir of train\.py, or the prefix"
    ):
        tf_checkpoints.find(tmp_path)
    for missing in (tmp_path / "no", tmp_path / "model.ckpt-1"):
        with pytest.raises(
            UserError, match=r"no such model; expected a workdir of train\.py, a file of export"
        ):
            tf_checkpoints.find(missing)
    (tmp_path / "model.ckpt-1.index").write_bytes(b"")
    for path in ("", "model.ckpt-1", "model.ckpt-1.index"):
        assert tf_checkpoints.find(tmp_path / path) == str(tmp_path / "model.ckpt-1")
