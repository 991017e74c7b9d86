"""Training runs of the whole program on a tiny network: what they leave, how they stop and go on."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.project import SMALL, Runner, Trained, make_data, patch_stream, snapshot, tensors

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.cli.main import main
from efficientnet_east.compat import tf
from efficientnet_east.config import load
from efficientnet_east.data.images import read_image
from efficientnet_east.data.loader import Batch
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.geometry.label_maps import encode
from efficientnet_east.inference.detector import Detector
from efficientnet_east.structures import Detections
from efficientnet_east.training import hooks, loop, recorder, session, sources
from efficientnet_east.training.previews import maps_sheet
from efficientnet_east.training.schedule import learning_rate

REPOSITORY = Path(__file__).resolve().parents[2]


# --- a whole run


def test_a_run_leaves_checkpoints_figures_and_events(trained: Trained) -> None:
    assert trained.code == 0
    assert "training on 1 images, validating on 1\n" in trained.printed
    assert "starting from random weights" in trained.printed
    assert "(best so far)" in trained.printed
    left = {str(path.relative_to(trained.workdir)) for path in trained.workdir.rglob("*") if path.is_file()}
    events = {name for name in left if name.startswith("events.out.tfevents")}
    saved = {f"model.ckpt-{step}.{part}" for step in (2, 4) for part in ("index", "data-00000-of-00001")}
    best = {name for name in left if name.startswith("best/")}
    written = {"checkpoint", "config.yaml", "versions.json", "results.csv", "results.png", "schedule.png"}
    written |= {f"train_batch{number}.jpg" for number in range(3)} | {"validation/worst_1.jpg"}
    assert left - events - best == saved | written
    assert len(events) == 1
    assert best >= {"best/checkpoint", "best/config.yaml", "best/hmean.json"} and len(best) == 5


def test_its_configuration_and_figures_can_be_read(trained: Trained, tiny: None) -> None:
    config = load(str(trained.workdir / "config.yaml"))
    assert config.model.backbone == "tiny" and config.train.steps == 4
    assert config == load(str(trained.workdir / "best" / "config.yaml"))
    rows = list(csv.DictReader((trained.workdir / "results.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"]
    seconds = [float(row["seconds"]) for row in rows]
    assert 0 < seconds[0] <= seconds[1]
    images = [(row["images"], row["epochs"]) for row in rows]
    assert images == [("4", "4"), ("8", "8")], "two crops a step, of one image"
    assert rows[0].keys() == rows[1].keys() >= {"loss/score", "loss/total", "data_wait", "images_per_second"}
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == pytest.approx([learning_rate(step, config.train) for step in (1, 3)])
    best = json.loads((trained.workdir / "best" / "hmean.json").read_text())
    assert best["hmean"] == pytest.approx(max(float(row["hmean"]) for row in rows), abs=1e-6)
    assert (trained.workdir / "best" / f"model.ckpt-{best['step']}.index").exists()


def test_its_events(trained: Trained, tiny: None) -> None:
    (path,) = trained.workdir.glob("events*")
    scalars: dict[str, dict[int, float]] = {}
    pictures = []
    for event in tf.train.summary_iterator(str(path)):
        for value in event.summary.value:
            if value.HasField("image"):
                pictures.append((event.step, value.tag))
                assert value.image.encoded_image_string.startswith(b"\xff\xd8\xff")
            else:
                scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    assert pictures == [(2, "crops, truth, prediction"), (4, "crops, truth, prediction")]
    train = load(str(trained.workdir / "config.yaml")).train
    expected = {step + 1: learning_rate(step, train) for step in range(4)}
    assert scalars["learning_rate"] == pytest.approx(expected)
    assert scalars.keys() >= {"loss/model", "loss/total", "gradient_norm", "images_per_second", "data_wait"}
    assert scalars["validation/hmean"].keys() == {2, 4}
    for step in range(1, 5):
        assert scalars["loss/total"][step] > scalars["loss/model"][step] > 0  # the difference is L2


# --- interruption and resumption


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
from helpers.graphs import toy_with_draws
from efficientnet_east import model
from efficientnet_east.cli.main import main
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
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


# --- what stops a run


def test_non_finite_loss_names_the_images_and_spares_the_checkpoint(
    quick_run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []

    def spoil(number: int, batch: Batch) -> Batch:
        seen.append(batch)
        return dataclasses.replace(batch, score=batch.score * np.nan) if number == 2 else batch

    patch_stream(monkeypatch, spoil)
    code, out, err = quick_run("run", "--steps", "5", "--save-every", "2", "--no-color")
    assert code == 2 and "interrupted" not in out
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: step 3: the loss is not finite on {', '.join(seen[-1].names)}. Try")
    assert "Traceback" not in err
    assert tf_checkpoints.find(tmp_path / "run") == str(tmp_path / "run" / "model.ckpt-2")
    assert all(np.isfinite(value).all() for value in tensors(tmp_path / "run").values())


# --- options that change the graph


def test_bifpn_trains_detects_and_keeps_to_its_merge(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data")
    words = ["--merge=bifpn", "--fpn-width=8", "--fpn-repeats=2", "--learning-rate=0.01", "--warmup-steps=0"]
    where = ["--data", str(data), "--workdir", str(tmp_path / "run")]
    assert main(["train", *SMALL, *words, "--steps=3", *where]) == 0, capsys.readouterr().err
    values = tensors(tmp_path / "run")
    assert all(np.isfinite(value).all() for value in values.values())
    fusions = [name for name in values if name.endswith("/fusion")]
    assert len(fusions) == 6 + 3
    for name in fusions:
        assert (values[name] != 1).all(), f"{name} does not learn"
        assert (values[name + tf_checkpoints.AVERAGE_SUFFIX] != 1).all(), f"{name} has no average"
    score, _, _ = Detector.load(tmp_path / "run", {"threads": 1}).maps(np.full((50, 70, 3), 99, np.uint8))
    assert score.shape == (13, 18) and np.isfinite(score).all()
    capsys.readouterr()
    assert main(["train", *SMALL, *where]) == 2
    assert "was trained with merge 'bifpn', not 'u'" in capsys.readouterr().err


def test_options_of_the_network_train_together(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data")
    words = ["--output-stride=2", "--optimizer=adamw", "--ema-decay=0", "--batch-norm=frozen", "--steps=1"]
    words += ["--pre-stride=expand", "--activation=hard-swish", "--recompute", "--frozen=stage1"]
    words += ["--accumulate=2"]
    where = ["--data", str(data), "--workdir", str(tmp_path / "run")]
    assert main(["train", *SMALL, *words, *where]) == 0, capsys.readouterr().err
    values = tensors(tmp_path / "run")
    assert not [name for name in values if name.endswith(tf_checkpoints.AVERAGE_SUFFIX)]
    assert not [name for name in values if "accumulated" in name] and values["global_step"] == 1
    assert "feature_fusion/merge_f1_3x3/weights" in values and "efficientnet-tiny/head/weights" in values
    learned = {name.split("/")[1] for name in values if name.endswith("weights/Adam")}
    assert "stem" not in learned and "blocks_0" not in learned and {"blocks_1", "head"} <= learned
    for name, value in values.items():
        if name.startswith("efficientnet") and name.endswith("moving_mean"):
            assert not value.any(), "the backbone's statistics are frozen"
    assert values["feature_fusion/merge_final/BatchNorm/moving_mean"].any()


def test_statistics_are_estimated_before_the_first_step(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first checkpoint holds the estimate; a run that goes on does not estimate again."""
    seen: list[dict[str, np.ndarray]] = []
    estimate = session.recalibrated

    def remember(*arguments: Any) -> dict[str, np.ndarray]:
        seen.append(estimate(*arguments))
        return seen[-1]

    monkeypatch.setattr(session, "recalibrated", remember)
    words = ["--recalibrate=3", "--learning-rate=1e-9"]
    code, printed, _ = run("run", "--steps=1", *words)
    assert code == 0 and f"estimated {len(seen[0])} batch-norm statistics anew from 3 batches" in printed
    saved = tensors(tmp_path / "run")
    names = {name for name in saved if name.endswith(("/moving_mean", "/moving_variance"))}
    assert names == seen[0].keys()
    for name, value in seen[0].items():
        # One step with decay .99, and with blocks dropped, has moved the variable since.
        np.testing.assert_allclose(saved[name], value, atol=0.05 * (np.abs(value).max() + 1))
    variance = next(name for name in names if name.endswith("stem/BatchNorm/moving_variance"))
    assert np.abs(seen[0][variance] - 1).max() > 0.1
    run("run", "--steps=2", *words)
    assert len(seen) == 1


def test_quad_trains_evaluates_and_detects(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data, workdir = make_data(tmp_path / "data"), tmp_path / "run"
    words = ["--geometry=quad", "--quad-weight=0.5", "--steps=3", "--log-every=1"]
    words += ["--picture-every=3", "--validate-every=3", "--score-threshold=0.02"]
    words += ["--data", str(data), "--val-data", str(data)]
    assert main(["train", *SMALL, *words, "--workdir", str(workdir)]) == 0, capsys.readouterr().err
    assert tensors(workdir)["feature_fusion/Conv_8/weights"].shape == (1, 1, 32, 8)
    (events,) = workdir.glob("events*")
    values = [value for event in tf.train.summary_iterator(str(events)) for value in event.summary.value]
    logged = {value.tag: [] for value in values if value.tag.startswith("loss/")}
    for value in values:
        logged.get(value.tag, []).append(value.simple_value)
    assert logged.keys() == {"loss/score", "loss/quad", "loss/model", "loss/total"}
    assert np.isfinite(list(logged.values())).all() and max(logged["loss/quad"]) > 0
    weighted = np.array(logged["loss/score"]) + 0.5 * np.array(logged["loss/quad"])
    np.testing.assert_allclose(logged["loss/model"], weighted, rtol=1e-5)
    assert any(value.HasField("image") for value in values)

    detector = Detector.load(workdir, {"threads": 1})
    image = read_image(data / "images" / "img_1.png")
    assert detector.maps(image)[1].shape == (24, 32, 8)
    assert len(detector(image)) > 0
    capsys.readouterr()
    assert main(["eval", "--checkpoint", str(workdir), "--data", str(data)]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["hmean"] <= 1

    assert main(["train", *SMALL, "--data", str(data), "--workdir", str(workdir)]) == 2
    assert "was trained with geometry 'quad', not 'rbox'" in capsys.readouterr().err


def test_pictures_of_both_geometries_are_the_same() -> None:
    """For texts that are rectangles: quad shows the angle of its box where rbox shows its channel."""
    quads = np.array([[[20, 30], [100, 20], [104, 52], [24, 62]]], np.float32)
    sheets = []
    for form in ("rbox", "quad"):
        maps = encode(quads, np.array([False]), (128, 128), geometry=form)
        score, mask = maps.score[None, ..., None], maps.mask[None, ..., None]
        batch = Batch(np.full((1, 128, 128, 3), 90, np.uint8), score, maps.geometry[None], mask, ("a",))
        sheets.append(maps_sheet(batch, batch.score, batch.geometry).astype(int))
    assert np.ptp(sheets[0]) > 100
    assert np.abs(sheets[0] - sheets[1]).max() <= 8, "a level of the colours at most"


def test_a_run_may_be_thawed_and_frozen_again(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was frozen begins to learn with moments from zero; everything else goes on."""
    words = [*SMALL, "--data", str(make_data(tmp_path / "data")), "--workdir", str(tmp_path / "run")]
    stem, head = "efficientnet-tiny/stem/weights", "feature_fusion/Conv_7/weights"
    seen = []
    for steps, part in ((1, "stage7"), (2, "none"), (3, "stem")):
        assert main(["train", *words, f"--steps={steps}", f"--frozen={part}"]) == 0, capsys.readouterr().err
        seen.append(tensors(tmp_path / "run"))
    first, thawed, again = seen
    assert f"{stem}/Adam" not in first and thawed[f"{stem}/Adam"].any() and f"{stem}/Adam" not in again
    assert (first[stem] != thawed[stem]).any() and (thawed[stem] == again[stem]).all()
    for before, after in ((first, thawed), (thawed, again)):
        assert (before[f"{head}/Adam"] != after[f"{head}/Adam"]).any()
    assert [values["global_step"] for values in seen] == [1, 2, 3]


def test_what_is_frozen_is_trained_from_a_step_on(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights, moments and batch norm's statistics: still before the step, moving after it, in one command.

    Two commands, of which the second begins after that step, are the same run.
    """
    words = [*SMALL, "--data", str(make_data(tmp_path / "data")), "--frozen=stage7", "--unfreeze-at=2"]
    words += ["--warmup-steps=0", "--learning-rate=0.01", "--save-every=1", "--keep-checkpoints=9"]
    words += ["--schedule=constant"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["train", *words, "--steps=4", "--workdir", str(whole)]) == 0
    assert "training what was frozen up to stage7, too" in capsys.readouterr().out
    stem, mean = "efficientnet-tiny/stem/weights", "efficientnet-tiny/stem/BatchNorm/moving_mean"
    first, second, third = (tf_checkpoints.read(str(whole / f"model.ckpt-{step}")) for step in (1, 2, 3))
    assert (first[stem] == second[stem]).all() and not second[mean].any() and f"{stem}/Adam" not in second
    moved = np.abs(third[stem] - second[stem])
    assert moved.max() == pytest.approx(0.01, rel=0.2), "a first step of Adam has the rate's size"
    assert third[mean].any() and third[f"{stem}/Adam"].any()
    for steps in ("3", "4"):
        assert main(["train", *words, f"--steps={steps}", "--workdir", str(parts)]) == 0
    assert "resuming from step 3" in capsys.readouterr().out
    found = tensors(parts)
    for name, value in tensors(whole).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# --- what a run leaves, and early stopping


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
