"""The training run: data in, steps, and what falls due between them. What computes a step is an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from efficientnet_east.config import Config, Train
from efficientnet_east.data.decoded_cache import keep_decoded
from efficientnet_east.data.loader import Batch, Batches, LabelOptions, Mixture, TextOptions, batches
from efficientnet_east.errors import UserError
from efficientnet_east.structures import Source
from efficientnet_east.system import interruption
from efficientnet_east.training import sources
from efficientnet_east.training.engine import Engine
from efficientnet_east.training.hooks import HOOKS, Hook, Patience, Validate, patience_is_over
from efficientnet_east.training.messages import unfailing_logger
from efficientnet_east.training.recorder import Recorder
from efficientnet_east.training.results import Results
from efficientnet_east.training.run import Run
from efficientnet_east.training.schedule import is_due

logger = unfailing_logger(__name__)


def run_steps(
    config: Config,
    engine: Engine,
    source: Source | Mixture,
    validation: Source | None,
    *,
    until: int = 0,
    labels: LabelOptions | TextOptions | None = None,
    hooks: Sequence[Hook] = (),
) -> bool:
    """Step from where the engine stands to the configuration's last step.

    Args:
      config: the whole of it.
      engine: at the step from which the run goes on.
      source: what is trained on.
      validation: what is validated on, or None.
      until: the step to save at and return, if that is before the last; 0 for the last.
      labels: what the engine takes; None for the maps that the configuration asks for.
      hooks: of your own, called after each step and after those of `training.hooks`.

    Returns:
      True if the run reached that step, False if it was interrupted (and saved).

    Raises:
      UserError: the data cannot be used, or the loss is not finite.
      WriteError: the last checkpoint could not be saved.
    """
    train, done = config.train, engine.done
    if train.patience and validation is None:
        raise UserError("train.patience", "needs something to validate on", "Give data.val_data, too.")
    results = Results(Path(train.workdir), done)
    owed = validation is not None and _owes_validation(train, done, results)
    if not owed and (end := _nothing_left(train, done, results)):
        logger.info(end)
        return True
    with (
        Recorder(config, results, done, _images(source)) as recorder,
        open_stream(config, source, done, labels, engine.shares) as stream,
    ):
        until = min(until or train.steps, train.steps)
        state = Run(config, engine, validation, recorder, results, until)
        if owed:
            Validate().validate(state)
            Patience().after_step(state)
        return _steps(state, stream, (*HOOKS, *hooks))


def _steps(run: Run, stream: Iterator[Batch], hooks: Sequence[Hook]) -> bool:
    """Step until the run is over (True), or until Ctrl-C (False)."""
    try:
        while not run.is_over:
            interruption.raise_pending()
            run.advance(stream)
            for hook in hooks:
                hook.after_step(run)
            run.settle(run.engine.lag)
    except KeyboardInterrupt:
        run.settle()
        if run.engine.done > run.saved:
            run.save(last=True)
        logger.info("interrupted; saved at step %d. Run the same command to resume", run.engine.done)
        return False
    if run.done < run.until:  # a hook has stopped the run
        if run.done > run.saved:
            run.save(last=True)
        logger.info(run.why_stopped)
    return True


def _owes_validation(train: Train, done: int, results: Results) -> bool:
    """Tell whether an earlier process ended between a step's checkpoint and its validation."""
    due = done > 0 and is_due(done, train.validate_every, train.steps)
    return due and not results.has_validation(done)


def _nothing_left(train: Train, done: int, results: Results) -> str:
    """Explain why no step is left to do, and how to go on; an empty text if there is one."""
    if done >= train.steps:
        return f"all {train.steps} steps are done. To go on, raise train.steps"
    return patience_is_over(train, results)


def _images(source: Source | Mixture) -> int:
    """Count the images of an epoch; of a mixture, those of all its sources."""
    return sum(map(len, source.sources)) if isinstance(source, Mixture) else len(source)


def open_data(config: Config) -> tuple[Source | Mixture, Source | None]:
    """Open what a configuration trains and validates on.

    Args:
      config: its sections `data` and `train` are read.

    Returns:
      The two; None if there is nothing to validate on.

    Raises:
      UserError: a data set cannot be used.
    """
    skipped: list[UserError] = []
    source = sources.training_source(config.data, config.train.seed, skipped)
    validation = sources.validation_source(config.data, config.train.seed, skipped)
    for error in skipped:
        logger.warning("skipped: %s", error)
    trained_on = sources.describe(config.data, source)
    logger.info("training on %s, validating on %s", trained_on, len(validation) if validation else "none")
    return keep_decoded(source, config.data.cache_megabytes), validation


def open_stream(
    config: Config,
    source: Source | Mixture,
    done: int,
    labels: LabelOptions | TextOptions | None = None,
    shares: tuple[int, int] = (0, 1),
) -> Batches[Any]:
    """Open the stream of batches that follows a number of steps.

    Args:
      config: the whole of it.
      source: what is trained on.
      done: number of steps done.
      labels: as for `run_steps`.
      shares: of an engine; this process's share of each batch is made.

    Returns:
      The stream, to be closed.
    """

    def report(error: UserError) -> None:
        logger.warning("skipped: %s", error)

    chosen: Any = labels or sources.labels(config.data, config.model)
    return batches(
        source,
        batch_size=config.train.batch_size // shares[1],
        seed=config.train.seed,
        augmentation=sources.augmentation(config.data),
        labels=chosen,
        workers=config.data.workers,
        start=done * config.train.accumulate,
        shard=shares,
        on_bad=report if config.data.skip_bad else None,
    )
