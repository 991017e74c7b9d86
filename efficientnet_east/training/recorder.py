"""What a run shows and records: progress, events for TensorBoard, results, pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from efficientnet_east.config import Config
from efficientnet_east.data.images import write_image
from efficientnet_east.data.loader import Batch, TextBatch
from efficientnet_east.errors import WriteError
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.evaluation.pictures import extremes, validation_picture
from efficientnet_east.files.atomic import write_file
from efficientnet_east.structures import Detections, Source
from efficientnet_east.training import curves, previews, versions
from efficientnet_east.training.events import EventFile
from efficientnet_east.training.messages import unfailing_logger
from efficientnet_east.training.results import Results, Row

logger = unfailing_logger(__name__)
FIRST_BATCHES = 3  # that are left as pictures
VALIDATION_FOLDER = "validation"


@dataclasses.dataclass
class _Span:
    """What has happened since the last line, or the last row: steps, and the time that they took."""

    begun: float
    steps: int = 0
    waited: float = 0.0
    paused: float = 0.0
    summed: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)

    def speed(self, crops: int) -> dict[str, float]:
        """Compute images per second, and the share of time spent waiting for them; pauses do not count."""
        seconds = max(1e-9, time.monotonic() - self.begun - self.paused)
        return {"images_per_second": self.steps * crops / seconds, "data_wait": self.waited / seconds}

    def means(self) -> dict[str, float]:
        """Average the scalars of the steps."""
        return {name: total / self.summed for name, total in self.sums.items()}


class Recorder:
    """Record what one process does of a run; closed by `with`.

    A file that cannot be written costs a warning, not the run.

    Args:
      config: its section `train` is read.
      results: the rows so far.
      done: number of steps done before.
      images: in an epoch.
    """

    def __init__(self, config: Config, results: Results, done: int, images: int) -> None:
        self._train, self._results, self._images = config.train, results, images
        self._folder = Path(config.train.workdir)
        self._title = f"{config.model.backbone}, {config.train.steps} steps"
        self._crops = config.train.batch_size * config.train.accumulate
        self._events = EventFile(self._folder, done)
        terminal = sys.stderr.isatty()
        self._bar = (
            tqdm(total=config.train.steps, initial=done, unit="step", smoothing=0.05) if terminal else None
        )
        self._first, self._before, self._begun = done, results.seconds, time.monotonic()
        self._line, self._row = _Span(time.monotonic()), _Span(time.monotonic())
        self._warned: set[str] = set()
        self._attempt(versions.record, self._folder, done)
        self._attempt(write_file, self._folder / curves.SCHEDULE_FILE, curves.schedule_chart(config.train))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()

    def wait_for(self, stream: Iterator[Any]) -> Any:
        """Take the next batch, and count the time that the device waited for it."""
        begun = time.monotonic()
        batch = next(stream)
        waited = time.monotonic() - begun
        self._line.waited += waited
        self._row.waited += waited
        return batch

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Keep what is done within out of the speed of training."""
        begun = time.monotonic()
        yield
        paused = time.monotonic() - begun
        self._line.paused += paused
        self._row.paused += paused

    def advance(self) -> None:
        """Count one step."""
        self._line.steps += 1
        self._row.steps += 1
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.update()

    def add(self, scalars: Mapping[str, float]) -> None:
        """Count the scalars of one step into the means of the next row."""
        self._row.summed += 1
        for name, value in scalars.items():
            self._row.sums[name] = self._row.sums.get(name, 0.0) + value

    def scalars(self, done: int, values: dict[str, float]) -> None:
        """Record the scalars of a step, with the speed and the share of time spent waiting for data.

        Args:
          done: number of steps done.
          values: tag -> value, `loss/model` and `learning_rate` among them.
        """
        speed = self._line.speed(self._crops)
        self._line = _Span(time.monotonic())
        self._attempt(self._events.scalars, done, values | speed)
        shown = f"loss {values['loss/model']:.3f}, rate {values['learning_rate']:.1e}"
        shown += f", {speed['images_per_second']:.1f} images/s"
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.set_postfix_str(shown)
            return
        steps = self._train.steps
        left = (time.monotonic() - self._begun) / max(1, done - self._first) * (steps - done)
        waiting = f"{speed['data_wait']:.1%} waiting for data"
        line = f"step {done} of {steps} ({done / steps:.1%}): {shown}, {waiting}, {_duration(left)} left"
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    def picture(self, done: int, batch: Batch, score: np.ndarray, geometry: np.ndarray) -> None:
        """Record crops with true and predicted maps.

        Args:
          done: number of steps done.
          batch: the crops and the true maps.
          score: float32 (b, h, w, 1), predicted.
          geometry: float32 (b, h, w, 5 or 8), predicted.
        """
        with self.pause():
            sheet = previews.maps_sheet(batch, score, geometry)
            self._attempt(self._events.picture, done, "crops, truth, prediction", sheet)

    def first_batch(self, number: int, batch: Batch | TextBatch) -> None:
        """Leave one of the first batches as a picture, with its labels; later ones are not looked at.

        Args:
          number: of the batch, from 0.
          batch: as the network gets it.
        """
        if number < FIRST_BATCHES:
            with self.pause():
                path = self._folder / f"train_batch{number}.jpg"
                self._attempt(write_image, path, previews.crops_sheet(batch))

    def row(self, done: int, rate: float, result: icdar2015.Result | None) -> Row:
        """Add a row to the results, and draw them.

        Args:
          done: number of steps done.
          rate: the learning rate of the last step.
          result: of the validation, if there was one.

        Returns:
          The row.
        """
        figures = {name: getattr(result, name) for name in ("precision", "recall", "hmean") if result}
        seconds = self._before + time.monotonic() - self._begun
        seen = done * self._crops
        row = {"step": done, "seconds": round(seconds, 1), "images": seen, "epochs": seen / self._images}
        row |= self._row.means() | {"learning_rate": rate} | figures
        if self._row.steps:  # none, where a validation is made up for
            row |= self._row.speed(self._crops)
        added = self._results.append(row)
        with self.pause():
            self._attempt(self._results.write)
            chart = curves.results_chart(self._title, self._results.rows)
            self._attempt(write_file, self._folder / curves.RESULTS_FILE, chart)
        self._row = _Span(time.monotonic())
        if figures:
            tags = {f"validation/{name}": value for name, value in figures.items()}
            self._attempt(self._events.scalars, done, tags)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            best = " (best so far)" if added["best"] else ""
            logger.info("step %d, %.1f min: %s%s", done, seconds / 60, shown, best)
        return added

    def extremes(self, samples: Source, found: Mapping[str, Detections], result: icdar2015.Result) -> None:
        """Leave pictures of the best and the worst images of a validation in the place of earlier ones.

        Args:
          samples: that were validated on.
          found: image name without suffix -> detections, in the order of the samples.
          result: of the validation.
        """
        numbers = {name: number for number, name in enumerate(result.images)}
        for kind, name in extremes(result.images).items():
            sample = samples[numbers[name]]
            picture = validation_picture(sample, found[name], result.images[name])
            self._attempt(write_image, self._folder / VALIDATION_FOLDER / f"{kind}.jpg", picture)

    def _attempt(self, write: Callable[..., Any], *arguments: Any) -> None:
        """Write something. A failure does not stop the run; the same reason is only shown once."""
        try:
            write(*arguments)
        except (OSError, WriteError) as error:
            problem = error.problem if isinstance(error, WriteError) else error.strerror or ""
            if problem not in self._warned:
                self._warned.add(problem)
                logger.warning("%s. Training goes on without this record", error)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
