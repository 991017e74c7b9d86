"""The training run: data in, steps, and what falls due between them."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from efficientnet_east.compat import tf
from efficientnet_east.config import Config
from efficientnet_east.data.loader import Batch, batches
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation import icdar
from efficientnet_east.evaluation.evaluate import detect_all, quads_of
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.graph import session_config
from efficientnet_east.structures import Source
from efficientnet_east.training import sources
from efficientnet_east.training import step as training_step
from efficientnet_east.training.checkpoint import Checkpoints, compare
from efficientnet_east.training.schedule import is_due, learning_rate
from efficientnet_east.training.summary import Summary, maps_sheet

VALIDATION_FILE = "validation.csv"


def train(config: Config, say: Callable[[str], None] = print) -> bool:
    """Train, or go on training, in the configuration's workdir.

    Args:
      config: the whole of it.
      say: receives lines for the user.

    Returns:
      True if the run reached its last step, False if it was interrupted (and saved).

    Raises:
      UserError: the data or a weight file cannot be used, or the loss is not finite.
    """
    workdir = Path(config.train.workdir)
    for change in compare(workdir, config):
        say(f"changed since the last run: {change}")
    skipped: list[UserError] = []
    source = sources.training_source(config.data, config.train.seed, skipped)
    validation = sources.validation_source(config.data, config.train.seed, skipped)
    for error in skipped:
        say(f"skipped: {error}")
    say(f"training on {len(source)} images, validating on {len(validation) if validation else 'none'}")
    workdir.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.train.seed)
        feeds, step = build(config)
        with tf.Session(graph=graph, config=session_config(config.train.threads)) as session:
            kept = Checkpoints(workdir, config)
            say(kept.begin(session))
            return Run(config, session, feeds, step, kept, validation, say).go(source)


def build(config: Config) -> tuple[dict[str, Any], training_step.Step]:
    """Build the step over placeholders.

    Args:
      config: the whole of it.

    Returns:
      The placeholders, by the names of `Batch`'s fields and `learning_rate`, and the step.
    """
    size, batch = config.data.crop_size, config.train.batch_size
    cells = size // config.model.output_stride
    feeds = {
        "images": tf.placeholder(tf.uint8, [batch, size, size, 3], "images"),
        "score": tf.placeholder(tf.float32, [batch, cells, cells, 1], "score"),
        "geometry": tf.placeholder(tf.float32, [batch, cells, cells, 5], "geometry"),
        "mask": tf.placeholder(tf.float32, [batch, cells, cells, 1], "mask"),
        "learning_rate": tf.placeholder(tf.float32, [], "learning_rate"),
    }
    return feeds, training_step.build(**feeds, config=config)


class Run:
    """One process's share of a training run: the loop, and the work that falls due between steps.

    Args:
      config: the whole of it.
      session: with variables brought to where the run begins.
      feeds: placeholders, from `build`.
      step: the tensors of a step.
      kept: the workdir's checkpoints.
      validation: samples to validate on, or None.
      say: receives lines for the user.
    """

    def __init__(
        self,
        config: Config,
        session: Any,
        feeds: dict[str, Any],
        step: training_step.Step,
        kept: Checkpoints,
        validation: Source | None,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.session, self.feeds, self.step = config, session, feeds, step
        self.kept, self.validation, self.say = kept, validation, say
        self.summary = Summary(config.train.workdir)
        self.clock = Clock(kept.workdir / VALIDATION_FILE)

    def go(self, source: Source) -> bool:
        """Train until the last step or an interruption.

        Args:
          source: what is trained on.

        Returns:
          Whether the last step was reached.

        Raises:
          UserError: the loss is not finite.
        """
        train, data = self.config.train, self.config.data
        done = int(self.session.run(self.step.global_step))
        if done >= train.steps:
            self.say(f"all {train.steps} steps are done; raise --steps to go on")
            return True
        stream = batches(
            source,
            batch_size=train.batch_size,
            seed=train.seed,
            augmentation=sources.augmentation(data),
            labels=sources.labels(data, self.config.model.output_stride),
            workers=data.workers,
            start=done,
            on_bad=(lambda error: self.say(f"skipped: {error}")) if data.skip_bad else None,
        )
        bar = tqdm(total=train.steps, initial=done, unit="step", smoothing=0.05)
        saved = done
        try:
            with stream, bar:
                while done < train.steps:
                    begun = time.monotonic()
                    batch = next(stream)
                    self.clock.waited += time.monotonic() - begun
                    scalars = self._advance(batch, done)
                    done += 1
                    bar.update()
                    if is_due(done, train.log_every, train.steps):
                        self._log(done, scalars, bar)
                    if is_due(done, train.picture_every, train.steps):
                        self._picture(done, batch)
                    if self.validation and is_due(done, train.validate_every, train.steps):
                        self._validate(done, self.validation)
                        saved = done
                    elif is_due(done, train.save_every, train.steps):
                        self.kept.save(self.session, done)
                        saved = done
        except KeyboardInterrupt:
            done = int(self.session.run(self.step.global_step))
            if done > saved:
                self.kept.save(self.session, done)
            self.say(f"interrupted; saved at step {done}. The same command goes on from there")
            return False
        finally:
            self.summary.close()
        return True

    def _advance(self, batch: Batch, done: int) -> dict[str, float]:
        """Run one step; its scalars come back. Stop before anything is saved if they are not finite."""
        rate = learning_rate(done, self.config.train)
        names = ("images", "score", "geometry", "mask")
        feed = {self.feeds[name]: getattr(batch, name) for name in names} | {
            self.feeds["learning_rate"]: rate
        }
        _, scalars, finite = self.session.run([self.step.update, self.step.scalars, self.step.finite], feed)
        if not finite:
            expected = "a finite loss: try a lower --learning-rate; the last checkpoint is untouched"
            raise UserError(
                f"step {done + 1}", f"the loss is not finite on {', '.join(batch.names)}", expected
            )
        return scalars | {"learning_rate": rate}

    def _log(self, done: int, scalars: dict[str, float], bar: Any) -> None:
        images = self.config.train.batch_size * (bar.format_dict["rate"] or 0.0)
        extra = {"images_per_second": images, "data_wait": self.clock.share_waited()}
        self.summary.scalars(done, scalars | extra)
        bar.set_postfix_str(
            f"loss {scalars['loss/model']:.3f}, rate {scalars['learning_rate']:.1e}, {images:.1f} images/s"
        )

    def _picture(self, done: int, batch: Batch) -> None:
        score, geometry = self.session.run(self.step.outputs, {self.feeds["images"]: batch.images})
        self.summary.picture(done, "crops, truth, prediction", maps_sheet(batch, score, geometry))

    def _validate(self, done: int, samples: Source) -> None:
        """Save, then score the averaged weights, as somebody would who loads the checkpoint just saved."""
        detector = Detector.load(self.kept.save(self.session, done))
        found, truths = detect_all(detector, samples)
        result = icdar.score(quads_of(found), truths)
        figures = {"precision": result.precision, "recall": result.recall, "hmean": result.hmean}
        self.summary.scalars(done, {f"validation/{name}": value for name, value in figures.items()})
        best = self.kept.save_if_best(self.session, done, result.hmean)
        self.clock.note(done, figures)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        tqdm.write(
            f"step {done}, {self.clock.seconds() / 60:.1f} min: {shown}{' (best so far)' if best else ''}"
        )


class Clock:
    """The wall time of a run over all its processes, and the validation figures against it.

    Args:
      path: CSV file that the figures are added to.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.waited = path, 0.0
        self._begun = time.monotonic()
        rows = list(csv.DictReader(path.open())) if path.exists() else []
        self._before = float(rows[-1]["seconds"]) if rows else 0.0

    def seconds(self) -> float:
        """Wall time spent so far, earlier processes counted up to their last validation."""
        return self._before + time.monotonic() - self._begun

    def share_waited(self) -> float:
        """Share of this process's time in which the device waited for data."""
        return self.waited / max(1e-9, time.monotonic() - self._begun)

    def note(self, step: int, figures: dict[str, float]) -> None:
        """Add a row.

        Args:
          step: number of steps done.
          figures: name -> value.
        """
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "seconds", *figures])
            writer.writerow([step, f"{self.seconds():.0f}", *(f"{value:.6f}" for value in figures.values())])
