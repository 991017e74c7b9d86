"""What several test files share: a tiny network, small data sets, and one run of the real program."""

import contextlib
import gc
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from helpers import sessions
from helpers.project import SMALL, TINY, Runner, Trained, make_data

from efficientnet_east import config as configuration
from efficientnet_east import scaling
from efficientnet_east.cli import main

# B0 with a third of its channels and half of its blocks; one of them has a residual, which may be dropped.
# One thread adds numbers up in one order, so that runs can be compared bit by bit.
SMALL += ["--drop-connect=0.9"]


# Files that take a minute, or most of one, on a slow machine.
LONGEST = [
    "training/test_training", "export/test_write", "training/test_distributed", "training/test_resuming",
    "docs/test_examples",
    "backbones/test_backbones", "inference/test_runtimes", "backbones/test_options", "pjrt/test_train",
    "checkpoints/test_weights", "checkpoints/test_weights_keras", "checkpoints/test_weights_torch",
    "pjrt/test_graph_labels", "cli/test_quiet", "backbones/test_arg_scopes", "docs/test_tutorial",
]  # fmt: skip
GRAPHS: dict[str, Any] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that processes that share the tests a file at a time end together."""
    order = {f"tests/{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


def pytest_collection_finish() -> None:
    """Spare the garbage collector the modules of TensorFlow, and call it less often: graphs are large."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Have a test's sessions run graphs as they were built, unless it is marked `rewritten`."""
    if "tensorflow" in sys.modules:
        sessions.let_tests_choose()
    with sessions.rewriting(item.get_closest_marker("rewritten") is not None):
        return (yield)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `--backbone tiny` known, and lets training runs share graphs."""
    share(monkeypatch)


def share(patch: pytest.MonkeyPatch) -> None:
    """Have all runs whose graphs are alike use one: to build it is most of a short run's work.

    Sessions, and with them variables and random states, are each run's own.
    """
    from efficientnet_east.training import session

    build_graph = session.build_graph

    def build_once(config: Any, devices: Any, thawed: bool) -> Any:
        if devices.strategy is not None:
            return build_graph(config, devices, thawed)
        key = key_of(config, thawed)
        if key not in GRAPHS:
            GRAPHS[key] = build_graph(config, devices, thawed)
        return GRAPHS[key]

    patch.setitem(scaling.VARIANTS, "tiny", TINY)
    patch.setattr(session, "build_graph", build_once)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`train` with everything that falls due, on a data set that is smaller than a batch."""
    folder = tmp_path_factory.mktemp("trained")
    data = make_data(folder / "data", range(1, 2))
    words = ["train", *SMALL, "--data", str(data), "--val-data", str(data), "--workdir", str(folder / "run")]
    words += ["--steps=4", "--warmup-steps=2", "--learning-rate=0.01", "--score-threshold=0.02"]
    words += ["--log-every=1", "--save-every=2", "--picture-every=2", "--validate-every=2"]
    output = io.StringIO()
    # As it is for users, who have TensorFlow rewrite their graphs.
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), sessions.rewriting(True):
        share(patch)
        code = main.main(words)
        config = configuration.load(str(folder / "run" / "config.yaml"))
    graph, (feeds, step, *_) = GRAPHS[key_of(config, False)]
    return Trained(folder / "run", data, code, output.getvalue(), graph, (feeds, step))


def key_of(config: configuration.Config, thawed: bool) -> str:
    """What of a configuration a training graph depends on; the learning rate is fed."""
    from efficientnet_east import model

    of_the_run = {"workdir", "init", "recalibrate", "steps"}
    of_the_run |= {"save_every", "log_every", "validate_every", "picture_every"}
    of_the_run |= {"keep_checkpoints", "patience"}
    fed = {"learning_rate", "schedule", "warmup_steps", "final_rate", "rise", "milestones", "step_factor"}
    fed |= {"decay_steps", "decay_factor", "staircase"}
    if not thawed:
        of_the_run |= {"unfreeze_at"}
    train = config.train.model_dump(exclude=of_the_run | fed)
    return repr((config.model, config.data.crop_size, train, thawed, model.build))


@pytest.fixture
def one_graph(tiny: None, trained: Trained) -> Any:
    """The graph of `trained`, which runs with the options of `run` share."""
    return trained.graph


@pytest.fixture
def run(tmp_path: Path, one_graph: Any, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Calls `train` in a workdir of the test; gives exit code, stdout and stderr."""
    return runner(tmp_path, capsys)


@pytest.fixture
def quick_run(tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Runner:
    """`run` with a network of four layers, for what does not hang on the network: most of what a run does."""
    from helpers.graphs import toy_with_draws

    from efficientnet_east import model

    monkeypatch.setattr(model, "build", toy_with_draws)
    return runner(tmp_path, capsys)


def runner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Runner:
    data = make_data(tmp_path / "data")

    def train(workdir: str, *words: str) -> tuple[int, str, str]:
        given = ["--data", str(data), "--workdir", str(tmp_path / workdir), *words]
        code = main.main(["train", *SMALL, *given])
        return code, *capsys.readouterr()

    return train
