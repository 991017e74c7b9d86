"""Hooks of your own: when they are called, what they see, and what they may ask of a run."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.project import make_data

from efficientnet_east.config import Config, load
from efficientnet_east.errors import UserError
from efficientnet_east.system import interruption
from efficientnet_east.training import hooks, loop, sources
from efficientnet_east.training.results import read
from efficientnet_east.training.run import Run


class Counting:
    """An engine that computes nothing, whose scalars come late, and which remembers what it saved."""

    lag, shares = 2, (0, 1)

    def __init__(self, bad: int = 0) -> None:
        self.done, self.bad, self.saved = 0, bad, list[int]()
        self.asked_for: list[int] = []  # the steps whose scalars were waited for

    def advance(self, passes: Any, rate: float) -> dict[str, Any]:
        self.done += 1
        finite = Late(self, self.done, float(self.done != self.bad))
        return {"finite": finite, "loss/model": Late(self, self.done, 1 / self.done)}

    def predict(self, images: np.ndarray) -> None:
        del images

    def save(self) -> None:
        self.saved.append(self.done)


class Late:
    """A scalar of a step."""

    def __init__(self, engine: Counting, step: int, value: float) -> None:
        self.engine, self.step, self.value = engine, step, value

    def __float__(self) -> float:
        self.engine.asked_for.append(self.step)
        return self.value


def configuration(folder: Path, **fields: Any) -> Config:
    words = {"data": str(make_data(folder / "data", range(1, 2))), "workdir": str(folder / "run")}
    (folder / "run").mkdir()
    words |= {"crop_size": 64, "batch_size": 1, "workers": 0, "steps": 6, "save_every": 3, "log_every": 100}
    return load(None, words | fields)


def train(config: Config, engine: Counting, own: Iterable[hooks.Hook]) -> bool:
    source = sources.training_source(config.data, config.train.seed, [])
    return loop.run_steps(config, engine, source, None, hooks=tuple(own))


class Look:
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def after_step(self, run: Run) -> None:
        assert len(run.batches) == 1 and run.rate > 0 and run.engine.done == run.done
        self.seen.append((run.done, run.saved))


def test_a_hook_is_called_after_every_step_and_after_ours(tmp_path: Path) -> None:
    look = Look()
    assert train(configuration(tmp_path), Counting(), [look])
    assert look.seen == [(1, 0), (2, 0), (3, 3), (4, 3), (5, 3), (6, 6)]


class StopBelow:
    """As in the documentation of `training.hooks`."""

    def __init__(self, loss: float) -> None:
        self.loss = loss

    def after_step(self, run: Run) -> None:
        if run.is_due(2) and run.scalars()["loss/model"] < self.loss:
            run.stop(f"the loss is below {self.loss}")


def test_a_hook_can_stop_a_run_which_is_saved_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    engine, look = Counting(), Look()
    assert train(configuration(tmp_path), engine, [StopBelow(0.3), look])
    assert look.seen[-1] == (4, 3) and engine.saved == [3, 4], "1 / 3 is not below 0.3, 1 / 4 is"
    assert caplog.messages[-1] == "the loss is below 0.3"


class PressCtrlC:
    def after_step(self, run: Run) -> None:
        if run.done == 2:
            raise KeyboardInterrupt


def test_ctrl_c_in_a_hook_saves(tmp_path: Path) -> None:
    engine = Counting()
    assert not train(configuration(tmp_path), engine, [PressCtrlC()])
    assert engine.saved == [2]


def test_steps_are_waited_for_when_something_needs_them_and_not_before(tmp_path: Path) -> None:
    """Two steps stay on their way; saving, and a hook that asks for the scalars, wait for all."""
    waited: list[tuple[int, list[int]]] = []

    class Watch:
        def after_step(self, run: Run) -> None:
            waited.append((run.done, sorted(set(engine.asked_for))))

    engine = Counting()
    assert train(configuration(tmp_path, steps=4), engine, [Watch()])
    assert waited == [(1, []), (2, []), (3, [1, 2, 3]), (4, [1, 2, 3, 4])]
    assert [row["loss/model"] for row in read(tmp_path / "run")] == pytest.approx(
        [(1 + 1 / 2 + 1 / 3) / 3, 0.25]
    )


def test_nothing_is_saved_of_a_step_that_is_not_finite(tmp_path: Path) -> None:
    engine = Counting(bad=5)
    with pytest.raises(UserError, match=r"step 5: the loss is not finite on img_1.png. Try a lower"):
        train(configuration(tmp_path), engine, [])
    assert engine.saved == [3]


def test_the_order_of_what_falls_due() -> None:
    """A validation loads the checkpoint of its step, and patience counts the validation."""
    order = [type(hook).__name__ for hook in hooks.HOOKS]
    assert order == ["FirstBatches", "Progress", "MapPictures", "Save", "Validate", "ResultsRow", "Patience"]


class Swallow:
    """Receives a signal at step 2 where its exception is lost, as in a destructor."""

    def after_step(self, run: Run) -> None:
        if run.done == 2:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)  # the handler runs here


def test_a_signal_whose_exception_was_lost_still_stops_the_run(tmp_path: Path) -> None:
    engine = Counting()
    with interruption.watch():
        assert not train(configuration(tmp_path), engine, [Swallow()])
    assert engine.done == 2 and engine.saved == [2]
