"""What a run shows and records: the progress bar, TensorBoard events, validation figures against time."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from efficientnet_east.config import Config
from efficientnet_east.data.loader import Batch
from efficientnet_east.draw import contact_sheet, maps_picture
from efficientnet_east.errors import WriteError
from efficientnet_east.geometry.maps import angles
from efficientnet_east.training.events import EventFile

VALIDATION_FILE = "validation.csv"
PICTURES = 4  # crops of a batch that are shown


class Log:
    """The record of one process's share of a run; closed by `with`.

    Args:
      config: its section `train` is read.
      done: number of steps done before.
    """

    def __init__(self, config: Config, done: int) -> None:
        self._crops = config.train.batch_size * config.train.accumulate
        self._bar = tqdm(total=config.train.steps, initial=done, unit="step", smoothing=0.05)
        self._events = EventFile(Path(config.train.workdir), done)
        self._figures = Path(config.train.workdir) / VALIDATION_FILE
        self._failures: set[str] = set()
        self._before, self._begun, self._waited = last_seconds(self._figures), time.monotonic(), 0.0

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._bar.close()

    def say(self, line: str) -> None:
        """Print a line above the progress bar, if it can be printed."""
        with contextlib.suppress(OSError):  # the output goes to a full disk, or its reader has gone
            tqdm.write(line)

    def record(self, write: Callable[..., None], *arguments: Any) -> None:
        """Let one of the other methods write; what cannot be written does not stop a run, and is said once.

        Args:
          write: the method.
          arguments: of the method.
        """
        try:
            write(*arguments)
        except (OSError, WriteError) as error:
            problem = error.problem if isinstance(error, WriteError) else error.strerror or ""
            if problem not in self._failures:
                self._failures.add(problem)
                self.say(f"warning: {error}. Training goes on without this record")

    def wait_for(self, stream: Iterator[Batch]) -> Batch:
        """Take the next batch, and count the time that the device waited for it."""
        begun = time.monotonic()
        batch = next(stream)
        self._waited += time.monotonic() - begun
        return batch

    def advance(self) -> None:
        """Count one step."""
        with contextlib.suppress(OSError):
            self._bar.update()

    def scalars(self, done: int, values: dict[str, float]) -> None:
        """Record the scalars of a step, with the speed and the share of time spent waiting for data.

        Args:
          done: number of steps done.
          values: tag -> value, `loss/model` and `learning_rate` among them.
        """
        speed = self._crops * (self._bar.format_dict["rate"] or 0.0)
        share = self._waited / max(1e-9, time.monotonic() - self._begun)
        self._write_scalars(done, values | {"images_per_second": speed, "data_wait": share})
        loss, rate = values["loss/model"], values["learning_rate"]
        with contextlib.suppress(OSError):
            self._bar.set_postfix_str(f"loss {loss:.3f}, rate {rate:.1e}, {speed:.1f} images/s")

    def picture(self, done: int, batch: Batch, score: np.ndarray, geometry: np.ndarray) -> None:
        """Record crops with true and predicted maps.

        Args:
          done: number of steps done.
          batch: the crops and the true maps.
          score: float32 (b, h, w, 1), predicted.
          geometry: float32 (b, h, w, 5 or 8), predicted.
        """
        sheet = maps_sheet(batch, score, geometry)
        self._events.picture(done, "crops, truth, prediction", sheet)

    def validation(self, done: int, figures: dict[str, float], best: bool) -> None:
        """Record the figures of a validation against the run's wall time.

        Args:
          done: number of steps done.
          figures: name -> value.
          best: whether they are the best so far.
        """
        seconds = self._before + time.monotonic() - self._begun
        self._write_scalars(done, {f"validation/{name}": value for name, value in figures.items()})
        new = not self._figures.exists()
        with self._figures.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "seconds", *figures])
            writer.writerow([done, f"{seconds:.0f}", *(f"{value:.6f}" for value in figures.values())])
        shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.say(f"step {done}, {seconds / 60:.1f} min: {shown}{' (best so far)' if best else ''}")

    def _write_scalars(self, done: int, values: dict[str, float]) -> None:
        self._events.scalars(done, values)


def last_seconds(path: Path) -> float:
    """The wall time of a run up to its last validation, over all its processes; 0 before the first."""
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    return float(rows[-1]["seconds"]) if rows else 0.0


def validated(workdir: str, step: int) -> bool:
    """Whether the figures of a step's validation are recorded."""
    path = Path(workdir) / VALIDATION_FILE
    return path.exists() and str(step) in {row["step"] for row in csv.DictReader(path.open())}


def maps_sheet(batch: Batch, score: np.ndarray, geometry: np.ndarray) -> np.ndarray:
    """Put crops, true maps and predicted maps side by side.

    Args:
      batch: with the true maps.
      score: float32 (b, h, w, 1), predicted.
      geometry: float32 (b, h, w, 5 or 8), predicted.

    Returns:
      uint8 RGB; a row for each of the first crops: the truth on the left, the prediction on the right.
    """
    panels = []
    for i in range(min(PICTURES, len(batch.images))):
        image, mask = batch.images[i], batch.mask[i, ..., 0]
        panels.append(maps_picture(image, batch.score[i, ..., 0], angles(batch.geometry[i]), mask))
        panels.append(maps_picture(image, score[i, ..., 0], angles(geometry[i])))
    return contact_sheet(panels, columns=2)
