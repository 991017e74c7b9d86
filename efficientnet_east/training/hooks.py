"""What falls due between two steps: small objects with one method, called in the order of a list.

You can add your own, after these. Have a class with the method `after_step`, and hand an object of it to
`training.session.train` (or `pjrt.trainer.train`):

    from efficientnet_east import config
    from efficientnet_east.training import session

    class StopBelow:
        def __init__(self, loss):
            self.loss = loss

        def after_step(self, run):
            if run.is_due(100) and run.scalars()["loss/model"] < self.loss:
                run.stop(f"the loss is below {self.loss}")

    session.train(config.load("train.yaml"), hooks=[StopBelow(0.1)])

`training.run.Run` lists what a hook can read and ask for. A hook keeps nothing in the checkpoint: what it has
to know after a resume it must find again by itself.
"""

from __future__ import annotations

from typing import Protocol

from efficientnet_east.config import Train
from efficientnet_east.errors import WriteError
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.evaluation.predictions import detect_all, quads_of
from efficientnet_east.structures import Source
from efficientnet_east.training.messages import unfailing_logger
from efficientnet_east.training.results import Results
from efficientnet_east.training.run import Run
from efficientnet_east.training.schedule import is_due

logger = unfailing_logger(__name__)


class Hook(Protocol):
    """Something that happens between steps."""

    def after_step(self, run: Run) -> None:
        """Do what is due, if anything is. KeyboardInterrupt stops the run as Ctrl-C does."""


class FirstBatches:
    """Leave the first batches as pictures, so that you can look at the crops and their labels."""

    def after_step(self, run: Run) -> None:
        """See `Hook`."""
        first = (run.done - 1) * len(run.batches)
        for number, batch in enumerate(run.batches, start=first):
            run.recorder.first_batch(number, batch)


class Progress:
    """Show and record losses, learning rate and speed."""

    def after_step(self, run: Run) -> None:
        """See `Hook`."""
        if run.is_due(run.config.train.log_every):
            run.recorder.scalars(run.done, run.scalars() | {"learning_rate": run.rate})


class MapPictures:
    """Record crops beside their true and their predicted maps."""

    def after_step(self, run: Run) -> None:
        """See `Hook`."""
        if not run.is_due(run.config.train.picture_every):
            return
        run.settle()
        batch = run.batches[-1]
        if maps := run.engine.predict(batch.images):
            run.recorder.picture(run.done, batch, *maps)


class Save:
    """Save a checkpoint: periodically, at the end, and before each validation."""

    def after_step(self, run: Run) -> None:
        """See `Hook`."""
        if is_due_to_save(run) or is_due_to_validate(run):
            run.save(last=run.done == run.until)


class Validate:
    """Score the checkpoint just saved, and add a row to the results."""

    def after_step(self, run: Run) -> None:
        """See `Hook`."""
        if is_due_to_validate(run) and run.saved == run.done:
            self.validate(run)

    def validate(self, run: Run) -> None:
        """Validate now. A run that was killed before a validation begins with it."""
        last, result = run.done == run.config.train.steps, None
        if run.validation is not None:
            with run.recorder.pause():
                result = _score(run, run.validation, last)
        run.recorder.row(run.done, run.rate, result)


class ResultsRow:
    """Add a row to the results of a run without validation."""

    def after_step(self, run: Run) -> None:
        """See `Hook`."""
        if run.validation is None and is_due_to_save(run):
            run.recorder.row(run.done, run.rate, None)


class Patience:
    """Stop early: after so many validations in a row that were not better than the best one."""

    def after_step(self, run: Run) -> None:
        """See `Hook`."""
        if why := patience_is_over(run.config.train, run.results):
            run.stop(why)


# The order matters: a validation loads the checkpoint, and patience counts the validation.
HOOKS: tuple[Hook, ...] = (
    FirstBatches(),
    Progress(),
    MapPictures(),
    Save(),
    Validate(),
    ResultsRow(),
    Patience(),
)


def is_due_to_save(run: Run) -> bool:
    """Tell whether it is time for a checkpoint of its own, not for one to be validated."""
    return is_due(run.done, run.config.train.save_every, run.until)


def is_due_to_validate(run: Run) -> bool:
    """Tell whether it is time to validate, and there is something to validate on."""
    return run.validation is not None and run.is_due(run.config.train.validate_every)


def patience_is_over(train: Train, results: Results) -> str:
    """Explain why a run ends early, and how to make it go on; an empty text if it does not end."""
    if not train.patience or results.without_gain < train.patience:
        return ""
    last, (step, hmean) = results.rows[-1]["step"], results.best
    return (
        f"ended at step {last:.0f}: {results.without_gain} validations in a row were not better "
        f"than that of step {step} (hmean {hmean:.4f}). To go on, raise train.patience or set it to 0"
    )


def _score(run: Run, samples: Source, last: bool) -> icdar2015.Result | None:
    """Score the averaged weights as if you had loaded the checkpoint; None if the engine cannot detect."""
    detector = run.engine.detector()
    if detector is None:
        return None
    found, truths = detect_all(detector, samples)
    result = icdar2015.score(quads_of(found), truths)
    try:
        run.engine.save_if_best(result.hmean)
    except WriteError as error:
        if last:
            raise
        logger.warning("%s. Training goes on", error)
    run.recorder.extremes(samples, found, result)
    return result
