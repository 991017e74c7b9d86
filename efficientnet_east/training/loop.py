"""The training run: data in, steps, and what falls due between them; what computes the steps is an engine."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

from efficientnet_east.config import Config, Train
from efficientnet_east.data.decoded_cache import keep_decoded
from efficientnet_east.data.loader import Batch, Batches, LabelOptions, Mixture, TextOptions, batches
from efficientnet_east.errors import UserError, WriteError
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.evaluation.run import detect_all, quads_of
from efficientnet_east.structures import Source
from efficientnet_east.training import sources
from efficientnet_east.training.engine import FINITE, Engine
from efficientnet_east.training.logger import Log
from efficientnet_east.training.results import Results
from efficientnet_east.training.schedule import is_due, learning_rate


def run(
    config: Config,
    engine: Engine,
    source: Source | Mixture,
    validation: Source | None,
    say: Callable[[str], None],
    until: int = 0,
    labels: LabelOptions | TextOptions | None = None,
) -> bool:
    """Step from where the engine stands to the configuration's last step.

    Args:
      config: the whole of it.
      engine: at the step from which the run goes on.
      source: what is trained on.
      validation: what is validated on, or None.
      say: receives lines for the user, before the first step.
      until: the step to save at and return, if that is before the last; 0 for the last.
      labels: what the engine takes; None: the maps that the configuration asks for.

    Returns:
      True if the run reached that step, False if it was interrupted (and saved).

    Raises:
      UserError: the data cannot be used, or the loss is not finite.
      WriteError: the last checkpoint could not be saved.
    """
    train, done = config.train, engine.done
    if train.patience and validation is None:
        raise UserError(
            "--patience", "waits for validations, and there are none", "expected --val-data beside it"
        )
    results = Results(Path(train.workdir), done)
    owed = validation is not None and _owes_validation(train, done, results)
    if not owed and (end := _ended(train, done, results)):
        say(end)
        return True
    with (
        Log(config, results, done, _images(source)) as log,
        open_stream(config, source, done, log.say, labels, engine.shares) as stream,
    ):
        if validation is not None and owed:
            result = _validate(engine, validation, log, last=done == train.steps)
            log.row(done, learning_rate(done - 1, train), result)
        until = min(until or train.steps, train.steps)
        return _steps(config, engine, stream, validation, log, results, until)


def _owes_validation(train: Train, done: int, results: Results) -> bool:
    """Whether an earlier process ended between a step's checkpoint and its validation."""
    due = done > 0 and is_due(done, train.validate_every, train.steps)
    return due and not results.has_validation(done)


def _ended(train: Train, done: int, results: Results) -> str:
    """Why there is nothing left to do, and how to go on; empty if there is."""
    if done >= train.steps:
        return f"all {train.steps} steps are done; raise --steps to go on"
    if train.patience and results.without_gain >= train.patience:
        step, hmean = results.best
        return (
            f"ended at step {done}: no validation was better than that of step {step} (hmean {hmean:.4f}) "
            f"{results.without_gain} times in a row; raise --patience, or set it to 0, to go on"
        )
    return ""


def _images(source: Source | Mixture) -> int:
    """How many images an epoch has; of a mixture, all of its sources'."""
    return sum(map(len, source.sources)) if isinstance(source, Mixture) else len(source)


def open_data(config: Config, say: Callable[[str], None]) -> tuple[Source | Mixture, Source | None]:
    """Open what a configuration trains and validates on.

    Args:
      config: its sections `data` and `train` are read.
      say: receives lines for the user.

    Returns:
      The two; None if there is nothing to validate on.

    Raises:
      UserError: a data set cannot be used.
    """
    skipped: list[UserError] = []
    source = sources.training_source(config.data, config.train.seed, skipped)
    validation = sources.validation_source(config.data, config.train.seed, skipped)
    for error in skipped:
        say(f"skipped: {error}")
    trained_on = sources.describe(config.data, source)
    say(f"training on {trained_on}, validating on {len(validation) if validation else 'none'}")
    source, kept = keep_decoded(source, config.data.cache_megabytes)
    if kept:
        say(kept)
    return source, validation


def open_stream(
    config: Config,
    source: Source | Mixture,
    done: int,
    say: Callable[[str], None],
    labels: LabelOptions | TextOptions | None = None,
    shares: tuple[int, int] = (0, 1),
) -> Batches[Any]:
    """Open the stream of batches that follows a number of steps.

    Args:
      config: the whole of it.
      source: what is trained on.
      done: number of steps done.
      say: receives a line for each image that is left out.
      labels: as for `run`.
      shares: of an engine; this process's share of each batch is made.

    Returns:
      The stream, to be closed.
    """

    def report(error: UserError) -> None:
        say(f"skipped: {error}")

    wanted: Any = labels or sources.labels(config.data, config.model)
    return batches(
        source,
        batch_size=config.train.batch_size // shares[1],
        seed=config.train.seed,
        augmentation=sources.augmentation(config.data),
        labels=wanted,
        workers=config.data.workers,
        start=done * config.train.accumulate,
        shard=shares,
        on_bad=report if config.data.skip_bad else None,
    )


def _steps(
    config: Config,
    engine: Engine,
    stream: Batches,
    validation: Source | None,
    log: Log,
    results: Results,
    until: int,
) -> bool:
    """Step until one, until there is no gain, or until Ctrl-C; whether one of the first two came about."""
    train = config.train
    under_way: collections.deque[tuple[int, list[Batch], Mapping[str, SupportsFloat]]] = collections.deque()
    done = saved = engine.done
    try:
        while done < until and not _ended(train, done, results):
            first = stream.position
            passes = [log.wait_for(stream) for _ in range(train.accumulate)]
            rate = learning_rate(done, train)
            scalars = engine.advance(passes, rate)
            done += 1
            under_way.append((done, passes, scalars))
            log.advance()
            for number, batch in enumerate(passes, start=first):
                log.first_batch(number, batch)
            due = _due(train, done, until)
            while len(under_way) > (0 if due else engine.lag):
                expect_finite(*under_way[0])
                log.add(_floats(under_way.popleft()[2]))
            if "log" in due:
                log.scalars(done, _floats(scalars) | {"learning_rate": rate})
            if "picture" in due and (maps := engine.predict(passes[-1].images)):
                log.picture(done, passes[-1], *maps)
            if "save" in due or ("validate" in due and validation):
                saved = _save(engine, saved, log, last=done == until)
            if "validate" in due and validation and saved == done:
                log.row(done, rate, _validate(engine, validation, log, last=done == train.steps))
            elif "save" in due and not validation:
                log.row(done, rate, None)
        if done < until:
            log.say(_ended(train, done, results))
    except KeyboardInterrupt:
        while under_way:
            expect_finite(*under_way.popleft())
        done = engine.done
        if done > saved:
            _save(engine, saved, log, last=True)
        log.say(f"interrupted; saved at step {done}. The same command goes on from there")
        return False
    return True


def _due(train: Train, done: int, until: int) -> set[str]:
    """What falls due after a step; `until` is where the steps end for now."""
    every = {"log": train.log_every, "picture": train.picture_every, "validate": train.validate_every}
    due = {name for name, period in every.items() if is_due(done, period, train.steps)}
    return due | ({"save"} if is_due(done, train.save_every, until) else set())


def _save(engine: Engine, saved: int, log: Log, last: bool) -> int:
    """Save; as long as there will be another occasion a failure only warns. The step saved last."""
    done = engine.done
    try:
        with log.pause():
            engine.save()
    except WriteError as error:
        problem = f"{error.problem}; the last checkpoint is that of step {saved}" if saved else error.problem
        failure = WriteError(error.where, problem, error.hint)
        if last:
            raise failure from None
        log.say(f"warning: {failure}. Training goes on, and saves again when that is due")
        return saved
    return done


def expect_finite(step: int, passes: Sequence[Batch], scalars: Mapping[str, SupportsFloat]) -> None:
    """Stop a run before anything is saved that came out of a step gone wrong.

    Args:
      step: its number.
      passes: the batches of the step.
      scalars: of the step.

    Raises:
      UserError: they say that the step was not finite.
    """
    if not float(scalars[FINITE]):
        names = ", ".join(name for batch in passes for name in batch.names)
        problem = f"the loss is not finite on {names}"
        expected = "a finite one: try a lower --learning-rate; the last checkpoint is untouched"
        raise UserError(f"step {step}", problem, f"expected {expected}")


def _floats(scalars: Mapping[str, SupportsFloat]) -> dict[str, float]:
    return {name: float(value) for name, value in scalars.items() if name != FINITE}


def _validate(engine: Engine, samples: Source, log: Log, last: bool) -> icdar2015.Result | None:
    """Score the averaged weights as somebody would who loads the checkpoint; None if the engine cannot."""
    with log.pause():
        detector = engine.detector()
        if detector is None:
            return None
        found, truths = detect_all(detector, samples)
        result = icdar2015.score(quads_of(found), truths)
        try:
            engine.save_if_best(result.hmean)
        except WriteError as error:
            if last:
                raise
            log.say(f"warning: {error}. Training goes on")
        log.extremes(samples, found, result)
    return result
