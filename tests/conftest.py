"""What several test files share: a tiny network, small data sets, and one run of the real program."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from efficientnet_east import cli, scaling
from efficientnet_east.data.loader import Batch

Runner = Callable[..., tuple[int, str, str]]

# B0 with a third of its channels and half of its blocks; one of them has a residual, which may be dropped.
TINY = scaling.Variant(width=0.3, depth=0.3, resolution=64, dropout=0.2)
# One thread adds numbers up in one order, so that runs can be compared bit by bit.
SMALL = ["--backbone=tiny", "--crop-size=64", "--batch-size=2", "--workers=0", "--threads=1"]
SMALL += ["--drop-connect=0.9"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `--backbone tiny` known."""
    monkeypatch.setitem(scaling.VARIANTS, "tiny", TINY)


def make_data(folder: Path, numbers: range = range(1, 3), text: str = "word") -> Path:
    """A data set in the layout images + gts: dark words on light ground, 128 x 96 pixels."""
    for part in ("images", "gts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image = np.random.default_rng(number).integers(170, 230, (96, 128, 3), dtype=np.uint8)
        cv2.putText(image, f"WORD{number}", (20, 52), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20), 2)
        cv2.imwrite(str(folder / "images" / f"img_{number}.png"), image)
        line = f"18,28,112,28,112,56,18,56,{text}\r\n"
        (folder / "gts" / f"gt_img_{number}.txt").write_text(line, encoding="utf-8")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file, to see what a run touched."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run, and the graph that it built."""

    workdir: Path
    data: Path
    code: int
    printed: str
    graph: Any
    built_for: tuple[Any, ...]
    parts: Any


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
        code = cli.main(words)
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
        code = cli.main(["train", *SMALL, *given])
        return code, *capsys.readouterr()

    return train


def tensors(workdir: Path) -> dict[str, np.ndarray]:
    """Everything in a workdir's newest checkpoint."""
    from efficientnet_east import checkpoints

    return checkpoints.read(checkpoints.find(workdir))


class Patched:
    """A stream of batches that passes each batch, with its number from 0, through a function."""

    def __init__(self, stream: Any, change: Callable[[int, Batch], Batch]) -> None:
        self.stream, self.change = stream, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __enter__(self) -> "Patched":
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        number = self.stream.position
        return self.change(number, next(self.stream))


def patch_stream(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, Batch], Batch]) -> None:
    """Has the next runs' batches passed through a function, see `Patched`."""
    from efficientnet_east.training import loop

    batches = loop.batches
    monkeypatch.setattr(loop, "batches", lambda *a, **options: Patched(batches(*a, **options), change))
