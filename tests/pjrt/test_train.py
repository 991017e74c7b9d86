"""An exported train step, of a small network: it is TensorFlow's, runs without it, resumes, comes back."""

import dataclasses
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.graphs import toy_with_draws
from helpers.project import make_data

from efficientnet_east import config, model
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.cli import main
from efficientnet_east.compat import tf
from efficientnet_east.config import Config
from efficientnet_east.data.loader import TextBatch, TextOptions, batches
from efficientnet_east.pjrt import __main__ as program
from efficientnet_east.pjrt import export_step, manifest, state, trainer
from efficientnet_east.pjrt.device import Device
from efficientnet_east.system import interruption
from efficientnet_east.training import sources

pytest.importorskip("jaxlib")
ROOT = Path(__file__).resolve().parents[2]
FIELDS = ["--crop-size=64", "--batch-size=2", "--workers=0", "--threads=1", "--steps=6", "--log-every=1"]
FIELDS += ["--save-every=2", "--warmup-steps=2", "--schedule=constant", "--min-text-side=2"]
FIELDS += ["--scale-min=0.4", "--scale-max=0.5", "--text-crops=1", "--rotation=0", "--drop-connect=0.5"]
# Of a step's rate for what the rate moves, else of the largest value in the tensor.
TOLERANCES = {"weight": 0.1, "average": 0.1, "statistic": 1e-4, "moment": 1e-3, "counter": 0}


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[None]:
    """All tests on the small network; what it compiles to is compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "build", toy_with_draws)
        patch.setattr(trainer, "Device", functools.cache(Device))
        patch.setattr(Device, "compile", functools.cache(Device.compile))
        yield


@dataclasses.dataclass(frozen=True)
class Exported:
    """A folder that `export` made, what it is, and the data set that it was made for."""

    folder: Path
    described: manifest.Manifest
    data: Path

    def run(self, workdir: Path, *words: str) -> int:
        return program.main([str(self.folder), "--platform=cpu", "--workdir", str(workdir), *words])

    def states(self, folder: Path) -> list[dict[str, np.ndarray]]:
        return [state.load(path, self.described.state) for path in state.found_in(folder)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    data = make_data(folder / "data", range(1, 4))
    words = ["export", "--format=stablehlo-train", "--output", str(folder / "step"), "--data", str(data)]
    assert main.main([*words, *FIELDS]) == 0
    return Exported(folder / "step", manifest.read(folder / "step"), data)


@pytest.fixture(scope="module")
def finished(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a whole run, in a process in which TensorFlow cannot be imported."""
    folder = tmp_path_factory.mktemp("finished")
    for name in ("tensorflow", "tf_slim", "jax"):
        (folder / f"{name}.py").write_text("raise ImportError('not here')\n")
    command = [sys.executable, "-m", "efficientnet_east.pjrt", str(exported.folder), "--platform=cpu"]
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [*command, "--workdir", str(folder / "run")],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "starting from" in done.stdout
    return folder / "run"


def batch_of(exported: Exported, number: int) -> TextBatch:
    settings = exported.described.config
    source = sources.training_source(settings.data, settings.train.seed, [])
    with batches(
        source,
        batch_size=2,
        seed=settings.train.seed,
        augmentation=sources.augmentation(settings.data),
        labels=TextOptions(exported.described.texts),
        start=number,
    ) as stream:
        return next(stream)


# --- the step


class TensorFlowStep:
    """The same step in a session, over placeholders."""

    def __init__(self, described: manifest.Manifest) -> None:
        with tf.Graph().as_default() as graph:
            self.feeds = {
                argument.name: tf.placeholder(argument.dtype, argument.shape)
                for argument in described.arguments
            }
            self.step = export_step.build(self.feeds, described.config)
            self.variables = {variable.op.name: variable for variable in tf.global_variables()}
            self.session = tf.Session(graph=graph)

    def __call__(
        self, values: dict[str, np.ndarray], batch: TextBatch, rate: float
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        tf_checkpoints.assign(self.session, values, list(self.variables.values()))
        feed = {
            tensor: rate if name == "learning_rate" else getattr(batch, name)
            for name, tensor in self.feeds.items()
        }
        _, scalars = self.session.run([self.step.update, self.step.scalars], feed)
        return scalars, self.session.run(self.variables)


def pjrt_engine(exported: Exported, workdir: Path) -> trainer.PjrtEngine:
    text = manifest.read_program(exported.folder, exported.described)
    (first,) = exported.states(exported.folder)
    return trainer.PjrtEngine(trainer.Device("cpu"), text, exported.described, first, workdir, 3)


def test_five_steps_are_those_of_tensorflow(exported: Exported, tmp_path: Path) -> None:
    """Each from the same state: the losses, and every weight, statistic, average, moment and counter."""
    rate = 0.01
    mine, theirs = pjrt_engine(exported, tmp_path), TensorFlowStep(exported.described)
    assert {tensor.kind for tensor in exported.described.state} == set(TOLERANCES)
    for number in range(5):
        before, batch = mine.state(), batch_of(exported, number)
        assert batch.count.sum() > 0
        expected, after = theirs(before, batch, rate)
        found = {name: float(value) for name, value in mine.advance([batch], rate).items()}
        assert found.pop("finite") == 1.0
        for name, value in expected.items():
            assert found.pop(name) == pytest.approx(value, rel=1e-5), name
        assert not found and mine.done == number + 1
        values = mine.state()
        for tensor in exported.described.state:
            new, limit = values[tensor.name], TOLERANCES[tensor.kind]
            assert (new != before[tensor.name]).any(), f"{tensor.name} does not change"
            scale = rate if tensor.kind in ("weight", "average") else np.abs(after[tensor.name]).max()
            error = np.abs(new.astype(float) - after[tensor.name]).max()
            assert error <= limit * scale, f"{tensor.name} at step {number}: {error / scale}"


def test_what_is_dropped_hangs_on_the_step(exported: Exported, tmp_path: Path) -> None:
    """The same batch from the same weights, at another step: another loss; at the same step the same one."""
    batch, losses = batch_of(exported, 0), []
    text = manifest.read_program(exported.folder, exported.described)
    (first,) = exported.states(exported.folder)
    step = trainer.PjrtEngine(trainer.Device("cpu"), text, exported.described, first, tmp_path, 3)
    for number in (0, 0, *range(1, 8)):
        step.restore(first | {"global_step": np.int64(number)})
        losses.append(float(step.advance([batch], 0.01)["loss/model"]))
    assert losses[0] == losses[1] and len(set(losses)) >= 3


# --- the run


def test_a_run_without_tensorflow(exported: Exported, finished: Path) -> None:
    steps = [int(path.stem.removeprefix("state-")) for path in state.found_in(finished)]
    assert steps == [6, 4, 2]
    last, *_, first = exported.states(finished)
    assert last["global_step"] == 6 and all((last[name] != first[name]).any() for name in last)
    assert config.load(str(finished / "config.yaml")).train.workdir == str(finished)
    assert manifest.read(finished) == exported.described
    assert list(finished.glob("events.*"))


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_damaged_state_is_passed_over_and_the_run_goes_on_to_the_same_end(
    exported: Exported, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a machine leaves that stopped while it saved: a truncated state, and one that was never moved."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "state-2.npz").unlink()
    whole = (run / "state-6.npz").read_bytes()
    (run / "state-6.npz").write_bytes(whole[: len(whole) * 2 // 3])
    (run / ".partial-0123456789abcdef").write_bytes(whole[:1000])
    assert exported.run(run) == 0
    said = capsys.readouterr()
    assert "warning: passed over: " in said.err and "resuming from step 4" in said.out
    assert not list(run.glob(".partial-*"))
    assert_equal(exported.states(run)[0], exported.states(finished)[0])


def test_a_kill_before_the_move_loses_nothing_that_was_saved(
    exported: Exported, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    script = (
        "import os, pathlib\n"
        "pathlib.Path.replace = lambda *a: os.kill(os.getpid(), 9)\n"
        "import numpy as np\n"
        "from efficientnet_east.pjrt import state\n"
        f"state.save(pathlib.Path({str(run)!r}), {{'global_step': np.int64(8)}}, 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == -9
    assert len(list(run.glob(".partial-*"))) == 1 and len(state.found_in(run)) == 3
    found = state.newest(run, exported.described.state)
    assert found is not None and found[0].name == "state-6.npz" and not caplog.messages


def test_states_are_thinned_out_from_the_oldest(tmp_path: Path) -> None:
    """A damaged file of a later step, which a run went back behind, takes nobody's place."""
    (tmp_path / "state-90.npz").write_bytes(b"damaged")
    for step in (10, 20, 30):
        state.save(tmp_path, {"global_step": np.int64(step)}, keep=2)
    assert [path.name for path in state.found_in(tmp_path)] == [
        "state-90.npz",
        "state-30.npz",
        "state-20.npz",
    ]


# --- the way back


def test_the_state_comes_back_and_trains_and_detects(
    exported: Exported, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "back"
    assert (
        main.main(["import-weights", "--format=pjrt", "--source", str(finished), "--output", str(workdir)])
        == 0
    )
    assert_equal(tf_checkpoints.read(tf_checkpoints.find(workdir)), exported.states(finished)[0])
    again = [
        "export",
        "--format=stablehlo-train",
        "--checkpoint",
        str(workdir),
        "--output",
        str(tmp_path / "again"),
    ]
    assert main.main(again) == 0
    assert manifest.read(tmp_path / "again").sha256 == exported.described.sha256
    (state_again,) = state.found_in(tmp_path / "again")
    assert_equal(state.load(state_again, exported.described.state), exported.states(finished)[0])
    assert main.main(["train", "--config", str(workdir / "config.yaml"), "--steps=7"]) == 0
    assert "resuming from step 6" in capsys.readouterr().out
    report = tmp_path / "report.json"
    assert (
        main.main(["eval", "--checkpoint", str(workdir), "--data", str(exported.data), "--json", str(report)])
        == 0
    )
    assert json.loads(report.read_text())["hmean"] >= 0
    words = [
        "import-weights",
        "--format=pjrt",
        "--source",
        str(finished / "state-4.npz"),
        "--output",
        str(workdir),
    ]
    assert main.main(words) == 2
    assert "already holds a run" in capsys.readouterr().err


# --- what is refused


def test_a_manifest_comes_back_as_it_was(exported: Exported, tmp_path: Path) -> None:
    program_text = "module @step {\n}\n"
    described = dataclasses.replace(exported.described, sha256=manifest.digest(program_text.encode()))
    manifest.write(tmp_path, described, program_text)
    assert manifest.read(tmp_path) == described
    assert manifest.read_program(tmp_path, described) == program_text
    assert described.texts % 8 == 0
    assert sorted({tensor.kind for tensor in described.state}) == [
        "average",
        "counter",
        "moment",
        "statistic",
        "weight",
    ]


Change = Callable[[dict[str, Any]], Any]
MANIFESTS: list[tuple[Change, str]] = [
    (lambda tree: tree.update(version=2), "version 2"),
    (lambda tree: tree.update(format="another"), "'another'"),
    (lambda tree: tree.pop("state"), "cannot be read"),
    (lambda tree: tree.update(sha256="0" * 64), "not the program"),
    (lambda tree: tree["state"][1].update(name="other"), "lacks other"),
    (lambda tree: tree["state"][1].update(shape=[3]), "not float32 (3,)"),
    (lambda tree: tree["state"][1].update(dtype="float16"), "not float16"),
    (lambda tree: tree["state"].pop(1), "which the program does not have"),
    (lambda tree: tree["config"]["train"].update(batch_size=3), "train.batch_size is 2"),
    (lambda tree: tree["config"]["data"].update(shrink=0.1), "data.shrink is 0.3"),
]


@pytest.mark.parametrize(("change", "said"), MANIFESTS)
def test_what_does_not_fit_the_program_is_refused(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, said: str
) -> None:
    folder = tmp_path / "step"
    shutil.copytree(exported.folder, folder)
    tree = json.loads((folder / "manifest.json").read_text())
    change(tree)
    (folder / "manifest.json").write_text(json.dumps(tree))
    assert program.main([str(folder), "--workdir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.glob("run/*"))


def test_more_texts_than_the_program_takes(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data", range(1, 2))
    truth = data / "gts" / "gt_img_1.txt"
    truth.write_text(truth.read_text() * (exported.described.texts + 1))
    assert exported.run(tmp_path / "run", "--data", str(data)) == 2
    assert f"up to {exported.described.texts + 1} texts" in capsys.readouterr().err


def test_the_workdir_of_another_program(
    exported: Exported, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    other = dataclasses.replace(exported.described, sha256="1" * 64)
    manifest.write(tmp_path / "other", other, "")
    shutil.copy(tmp_path / "other" / "manifest.json", tmp_path / "run")
    assert exported.run(tmp_path / "run") == 2
    assert "another program" in capsys.readouterr().err


def test_accumulation_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "--format=stablehlo-train", "--output", str(tmp_path / "step"), "--accumulate=2"]
    assert main.main(words) == 2
    assert "--accumulate: is 2" in capsys.readouterr().err


def test_a_platform_without_its_plugin(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported.run(tmp_path / "run", "--platform=tpu") == 2
    assert "the package libtpu" in capsys.readouterr().err


def test_the_program_hangs_on_no_field_that_a_run_may_change(exported: Exported) -> None:
    """And every field that is named there exists."""
    settings = exported.described.config
    tree = settings.model_dump()
    for section, names in manifest.RUN_FIELDS.items():
        for name in names:
            before = tree[section][name]
            tree[section][name] = CHANGED[name] if name in CHANGED else changed(before)
            assert tree[section][name] != before or before is None, name
    graphs = []
    for chosen in (settings, Config.model_validate(tree)):
        with tf.Graph().as_default() as graph:
            feeds = {a.name: tf.placeholder(a.dtype, a.shape) for a in exported.described.arguments}
            export_step.build(feeds, chosen)
        graphs.append(graph.as_graph_def())
    # The bodies of loops and branches are numbered over the whole process.
    texts = [re.sub(r"(while|cond)(_\w+?)?_\d+", r"\1\2", str(graph)) for graph in graphs]
    assert sorted(texts[0].splitlines()) == sorted(texts[1].splitlines()) and "while_body" in texts[0]


# Where half of it, one more, or another word would be out of range or the same.
CHANGED = {
    "schedule": "cosine", "milestones": (0.5,), "final_rate": 0.5, "val_limit": 2,
    "rotation": 5.0, "quarter_turns": 0.5, "aspect": 1.5, "box_threshold": 0.1, "decay_factor": 0.5,
    "cache_megabytes": 0, "mix": {"synthetic": 1.0}, "data": None, "list": None, "limit": None,
    "nms": "standard", "skip_share": 0.25, "scales": (0.5, 1.0), "motion_blur": 0.5, "jpeg": 0.5,
    "mosaic": 0.5, "paste": 0.5, "score_offset": 0.5,
}  # fmt: skip


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 2
    return value + 1 if isinstance(value, int) else "other"


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_a_request_to_stop_waits_for_the_new_state(number: signal.Signals) -> None:
    reached = []
    before = signal.signal(number, signal.default_int_handler)  # a shell, or nohup, may have had it ignored
    with pytest.raises(KeyboardInterrupt):
        with trainer.uninterrupted():
            signal.raise_signal(number)
            reached.append("the end of the block")
        reached.append("more")
    assert reached == ["the end of the block"]
    assert signal.signal(number, before) is signal.default_int_handler
