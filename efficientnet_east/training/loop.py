"""The training run: data in, steps, and what falls due between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from efficientnet_east import checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.config import Config
from efficientnet_east.data.images import make_folder
from efficientnet_east.data.loader import Batch, Batches, batches
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation import icdar
from efficientnet_east.evaluation.evaluate import detect_all, quads_of
from efficientnet_east.geometry.maps import CHANNELS
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.graph import session_config
from efficientnet_east.structures import Source
from efficientnet_east.training import sources
from efficientnet_east.training import step as training_step
from efficientnet_east.training.checkpoint import Checkpoints, compare, with_averages
from efficientnet_east.training.log import Log
from efficientnet_east.training.recalibrate import recalibrated
from efficientnet_east.training.schedule import is_due, learning_rate


def train(config: Config, say: Callable[[str], None] = print) -> bool:
    """Train, or go on training, in the configuration's workdir.

    Args:
      config: the whole of it.
      say: receives lines for the user, before the first step.

    Returns:
      True if the run reached its last step, False if it was interrupted (and saved).

    Raises:
      UserError: the data or a weight file cannot be used, or the loss is not finite.
    """
    workdir = Path(config.train.workdir)
    for change in compare(workdir, config):
        say(f"changed since the last run: {change}")
    source, validation = _open_data(config, say)
    make_folder(workdir, "--workdir")
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.train.seed)
        feeds, step = build(config)
        with tf.Session(graph=graph, config=session_config(config.train.threads)) as session:
            kept = Checkpoints(workdir, config)
            say(kept.begin(session))
            done = int(session.run(step.global_step))
            if done >= config.train.steps:
                say(f"all {config.train.steps} steps are done; raise --steps to go on")
                return True
            if done == 0 and config.train.recalibrate:
                say(_recalibrate(session, config, source))
            with Log(config, done) as log, _open_stream(config, source, done, log.say) as stream:
                return _loop(config, session, feeds, step, kept, stream, validation, log)


def build(config: Config) -> tuple[dict[str, Any], training_step.Step]:
    """Build the step over placeholders.

    Args:
      config: the whole of it.

    Returns:
      The placeholders, by the names of `Batch`'s fields and `learning_rate`, and the step.
    """
    size, batch = config.data.crop_size, config.train.batch_size
    cells, channels = size // config.model.output_stride, CHANNELS[config.model.geometry]
    feeds = {
        "images": tf.placeholder(tf.uint8, [batch, size, size, 3], "images"),
        "score": tf.placeholder(tf.float32, [batch, cells, cells, 1], "score"),
        "geometry": tf.placeholder(tf.float32, [batch, cells, cells, channels], "geometry"),
        "mask": tf.placeholder(tf.float32, [batch, cells, cells, 1], "mask"),
        "learning_rate": tf.placeholder(tf.float32, [], "learning_rate"),
    }
    return feeds, training_step.build(**feeds, config=config)


def _open_data(config: Config, say: Callable[[str], None]) -> tuple[Source, Source | None]:
    skipped: list[UserError] = []
    source = sources.training_source(config.data, config.train.seed, skipped)
    validation = sources.validation_source(config.data, config.train.seed, skipped)
    for error in skipped:
        say(f"skipped: {error}")
    say(f"training on {len(source)} images, validating on {len(validation) if validation else 'none'}")
    return source, validation


def _recalibrate(session: Any, config: Config, source: Source) -> str:
    """Replace the batch-norm statistics of a run that has not begun yet."""
    count, variables = config.train.recalibrate, tf.global_variables()
    model_variables = tf.model_variables()
    names = [variable.op.name for variable in model_variables]
    weights = dict(zip(names, session.run(model_variables), strict=True))
    with _open_stream(config, source, 0, lambda line: None) as stream:
        statistics = recalibrated(weights, config, stream, count)
    known = {variable.op.name for variable in variables}
    checkpoints.assign(session, with_averages(statistics, known), variables)
    return f"estimated {len(statistics)} batch-norm statistics anew from {count} batches"


def _open_stream(config: Config, source: Source, done: int, say: Callable[[str], None]) -> Batches:
    def report(error: UserError) -> None:
        say(f"skipped: {error}")

    return batches(
        source,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        augmentation=sources.augmentation(config.data),
        labels=sources.labels(config.data, config.model),
        workers=config.data.workers,
        start=done,
        on_bad=report if config.data.skip_bad else None,
    )


def _loop(
    config: Config,
    session: Any,
    feeds: dict[str, Any],
    step: training_step.Step,
    kept: Checkpoints,
    stream: Batches,
    validation: Source | None,
    log: Log,
) -> bool:
    """Step until the last one, or until Ctrl-C; whether the last was reached."""
    train = config.train
    done = saved = stream.position
    try:
        while done < train.steps:
            batch = log.wait_for(stream)
            scalars = _advance(session, feeds, step, batch, learning_rate(done, train))
            done += 1
            log.advance()
            if is_due(done, train.log_every, train.steps):
                log.scalars(done, scalars)
            if is_due(done, train.picture_every, train.steps):
                log.picture(done, batch, *session.run(step.outputs, {feeds["images"]: batch.images}))
            if validation and is_due(done, train.validate_every, train.steps):
                _validate(session, kept, done, validation, log)
                saved = done
            elif is_due(done, train.save_every, train.steps):
                kept.save(session, done)
                saved = done
    except KeyboardInterrupt:
        done = int(session.run(step.global_step))
        if done > saved:
            kept.save(session, done)
        log.say(f"interrupted; saved at step {done}. The same command goes on from there")
        return False
    return True


def _advance(
    session: Any, feeds: dict[str, Any], step: training_step.Step, batch: Batch, rate: float
) -> dict[str, float]:
    """Run one step and give its scalars; stop before anything is saved if they are not finite."""
    feed = {feeds[name]: getattr(batch, name) for name in ("images", "score", "geometry", "mask")}
    feed[feeds["learning_rate"]] = rate
    _, scalars, finite = session.run([step.update, step.scalars, step.finite], feed)
    if not finite:
        problem = f"the loss is not finite on {', '.join(batch.names)}"
        expected = "a finite one: try a lower --learning-rate; the last checkpoint is untouched"
        raise UserError(f"step {int(session.run(step.global_step))}", problem, expected)
    return scalars | {"learning_rate": rate}


def _validate(session: Any, kept: Checkpoints, done: int, samples: Source, log: Log) -> None:
    """Save, then score the averaged weights as somebody would who loads the checkpoint."""
    detector = Detector.load(kept.save(session, done))
    found, truths = detect_all(detector, samples)
    result = icdar.score(quads_of(found), truths)
    figures = {"precision": result.precision, "recall": result.recall, "hmean": result.hmean}
    log.validation(done, figures, best=kept.save_if_best(session, done, result.hmean))
