"""A run between two steps: where it stands, and what may be asked of it there."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsFloat

from efficientnet_east.config import Config
from efficientnet_east.data.loader import Batch
from efficientnet_east.errors import UserError, WriteError
from efficientnet_east.structures import Source
from efficientnet_east.training.engine import FINITE, Engine
from efficientnet_east.training.messages import unfailing_logger
from efficientnet_east.training.recorder import Recorder
from efficientnet_east.training.results import Results
from efficientnet_east.training.schedule import is_due, learning_rate

logger = unfailing_logger(__name__)
Scalars = Mapping[str, SupportsFloat]


@dataclasses.dataclass
class Run:
    """What a hook gets, see `training.hooks`.

    Attributes:
      config: the whole of it.
      engine: computes the steps; see `training.engine.Engine`.
      validation: what is validated on, or None.
      recorder: writes figures, pictures and events.
      results: the rows of `results.csv` so far.
      until: the step at which these steps end, at most `config.train.steps`.
      done: number of steps done.
      saved: step of the last checkpoint.
      rate: learning rate of the last step.
      batches: the batches of the last step, one for each pass.
      why_stopped: why the run ends before its last step; empty if it does not.
    """

    config: Config
    engine: Engine
    validation: Source | None
    recorder: Recorder
    results: Results
    until: int
    done: int = dataclasses.field(init=False, default=0)
    saved: int = dataclasses.field(init=False, default=0)
    rate: float = dataclasses.field(init=False, default=0.0)
    batches: Sequence[Batch] = dataclasses.field(init=False, default=())
    why_stopped: str = dataclasses.field(init=False, default="")

    def __post_init__(self) -> None:
        self.done = self.saved = self.engine.done
        self._scalars: Scalars = {}
        self._under_way: collections.deque[tuple[int, Sequence[Batch], Scalars]] = collections.deque()
        self.rate = learning_rate(max(0, self.done - 1), self.config.train)

    @property
    def is_over(self) -> bool:
        """Whether there is no further step to do."""
        return self.done >= self.until or bool(self.why_stopped)

    def is_due(self, every: int) -> bool:
        """Tell whether periodic work falls on the step just done: every so many steps, and on the last."""
        return is_due(self.done, every, self.config.train.steps)

    def advance(self, stream: Iterator[Batch]) -> None:
        """Do one step. Its scalars may still be on their way afterwards."""
        self.batches = [self.recorder.wait_for(stream) for _ in range(self.config.train.accumulate)]
        self.rate = learning_rate(self.done, self.config.train)
        self._scalars = self.engine.advance(self.batches, self.rate)
        self.done += 1
        self._under_way.append((self.done, self.batches, self._scalars))
        self.recorder.advance()

    def settle(self, lag: int = 0) -> None:
        """Wait for steps, and check that each of them was finite.

        Args:
          lag: so many of the last steps may stay on their way.

        Raises:
          UserError: a step was not finite.
        """
        while len(self._under_way) > lag:
            expect_finite_loss(*self._under_way[0])
            self.recorder.add(_floats(self._under_way.popleft()[2]))

    def scalars(self) -> dict[str, float]:
        """Wait for the last step, and return its scalars: `loss/model`, `gradient_norm` and others."""
        self.settle()
        return _floats(self._scalars)

    def stop(self, why: str) -> None:
        """End the run after this step; a checkpoint is saved if this step has none.

        Args:
          why: for the user.
        """
        self.why_stopped = why

    def save(self, last: bool) -> None:
        """Save a checkpoint. As long as there will be another occasion, a failure is only a warning.

        Args:
          last: whether this is the last occasion.

        Raises:
          UserError: a step was not finite; nothing is saved then.
          WriteError: the last checkpoint could not be saved.
        """
        self.settle()
        done = self.engine.done  # asked for again: Ctrl-C may have come between a step and its count
        try:
            with self.recorder.pause():
                self.engine.save()
        except WriteError as error:
            also = f"; the last checkpoint is that of step {self.saved}" if self.saved else ""
            failure = WriteError(error.where, error.problem + also, error.hint)
            if last:
                raise failure from None
            logger.warning("%s. Training goes on and saves again when that is due", failure)
        else:
            self.saved = done


def expect_finite_loss(step: int, batches: Sequence[Batch], scalars: Scalars) -> None:
    """Stop a run before it saves anything that came out of a step gone wrong.

    Args:
      step: its number.
      batches: of the step.
      scalars: of the step.

    Raises:
      UserError: the scalars say that the step was not finite.
    """
    if not float(scalars[FINITE]):
        names = ", ".join(name for batch in batches for name in batch.names)
        hint = "Try a lower train.learning_rate. The last checkpoint is untouched."
        raise UserError(f"step {step}", f"the loss is not finite on {names}", hint)


def _floats(scalars: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in scalars.items() if name != FINITE}
