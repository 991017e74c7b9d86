"""What several test files share: a tiny network, small data sets, and one run of the real program."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from helpers.project import SMALL, TINY, Runner, Trained, make_data

from efficientnet_east import scaling
from efficientnet_east.cli import main

# B0 with a third of its channels and half of its blocks; one of them has a residual, which may be dropped.
# One thread adds numbers up in one order, so that runs can be compared bit by bit.
SMALL += ["--drop-connect=0.9"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `--backbone tiny` known."""
    monkeypatch.setitem(scaling.VARIANTS, "tiny", TINY)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`train` with everything that falls due, on a data set that is smaller than a batch."""
    from efficientnet_east.training import session

    folder = tmp_path_factory.mktemp("trained")
    data = make_data(folder / "data", range(1, 2))
    words = ["train", *SMALL, "--data", str(data), "--val-data", str(data), "--workdir", str(folder / "run")]
    words += ["--steps=4", "--warmup-steps=2", "--learning-rate=0.01", "--score-threshold=0.02"]
    words += ["--log-every=1", "--save-every=2", "--picture-every=2", "--validate-every=2"]
    built: list[Any] = []
    build, output = session.build, io.StringIO()

    def build_and_tell(config: Any, thawed: bool) -> Any:
        parts = build(config, thawed)
        built.extend((session.tf.get_default_graph(), seen_in_the_graph(config), parts))
        return parts

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setitem(scaling.VARIANTS, "tiny", TINY)
        patch.setattr(session, "build", build_and_tell)
        code = main.main(words)
    return Trained(folder / "run", data, code, output.getvalue(), *built)


def seen_in_the_graph(config: Any) -> tuple[Any, ...]:
    """What of a configuration a training graph depends on; the learning rate is fed."""
    of_the_run = {"workdir", "init", "recalibrate", "steps"}
    of_the_run |= {"save_every", "log_every", "validate_every", "picture_every"}
    of_the_run |= {"keep_checkpoints", "patience"}
    fed = {"learning_rate", "schedule", "warmup_steps", "final_rate", "rise", "milestones", "step_factor"}
    fed |= {"decay_steps", "decay_factor", "staircase"}
    train = config.train.model_dump(exclude=of_the_run | fed)
    return config.model, config.data.crop_size, train


@pytest.fixture
def one_graph(monkeypatch: pytest.MonkeyPatch, tiny: None, trained: Trained) -> Any:
    """All training runs of a test go over the graph of `trained`: to build it is most of a short run's work.

    Sessions, and with them variables and random states, are each run's own. Gives the graph.
    """
    from efficientnet_east.training import session

    tf = session.tf

    def build(config: Any, thawed: bool) -> Any:
        known = not thawed and seen_in_the_graph(config) == trained.built_for
        assert known, "a run with another graph needs one of its own"
        return trained.parts

    class OneGraph:
        @staticmethod
        def Graph() -> Any:
            return trained.graph

        def __getattr__(self, name: str) -> Any:
            return getattr(tf, name)

    monkeypatch.setattr(session, "tf", OneGraph())
    monkeypatch.setattr(session, "build", build)
    return trained.graph


@pytest.fixture
def run(tmp_path: Path, one_graph: Any, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Calls `train` in a workdir of the test; gives exit code, stdout and stderr."""
    data = make_data(tmp_path / "data")

    def train(workdir: str, *words: str) -> tuple[int, str, str]:
        given = ["--data", str(data), "--workdir", str(tmp_path / workdir), *words]
        code = main.main(["train", *SMALL, *given])
        return code, *capsys.readouterr()

    return train
