"""Training in TensorFlow: the graph of the step, its session, and the engine that the loop drives."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np

from efficientnet_east.backbones import replicas
from efficientnet_east.checkpoints import tf_checkpoints, weight_files
from efficientnet_east.compat import tf
from efficientnet_east.config import Config, Train
from efficientnet_east.data.loader import Batch, Mixture
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.label_maps import CHANNELS
from efficientnet_east.inference.detector import Detector
from efficientnet_east.structures import Source
from efficientnet_east.training import loop
from efficientnet_east.training import step as training_step
from efficientnet_east.training.checkpointing import Checkpoints, changed_fields, with_averages
from efficientnet_east.training.cluster import Cluster, from_environment
from efficientnet_east.training.distributed import DeviceSetup, StopVote
from efficientnet_east.training.engine import FINITE
from efficientnet_east.training.hooks import Hook
from efficientnet_east.training.recalibrate import recalibrated
from efficientnet_east.training.workdir import expect_posix, hold

logger = logging.getLogger(__name__)
Built = tuple[dict[str, Any], training_step.Step, Any | None, StopVote | None]
ALONE = Cluster()
FED = ("images", "score", "geometry", "mask")  # fields of Batch


def train(config: Config, hooks: Sequence[Hook] = ()) -> bool:
    """Train, or go on training, in the configuration's workdir.

    Args:
      config: the whole of it.
      hooks: of your own, called after each step; see `training.hooks`.

    Returns:
      True if the run reached its last step, False if it was interrupted (and saved).

    Raises:
      UserError: the data or a weight file cannot be used, another process trains in the workdir, the loss is
        not finite, the devices cannot be had, or another process of the cluster is lost.
      WriteError: the last checkpoint could not be saved.
    """
    expect_posix()
    cluster = from_environment()
    if cluster.is_chief:
        return _train_in(config, cluster, hooks)
    with tempfile.TemporaryDirectory() as folder:  # the chief alone writes what stays
        private = {"workdir": folder, "init": None, "recalibrate": 0}
        own = config.train.model_copy(update=private)
        return _train_in(config.model_copy(update={"train": own}), cluster, hooks, config.train.workdir)


@dataclasses.dataclass(frozen=True)
class _Given:
    """What a run is made of, whatever its graph."""

    config: Config
    devices: DeviceSetup
    source: Source | Mixture
    validation: Source | None
    hooks: Sequence[Hook]


def _train_in(config: Config, cluster: Cluster, hooks: Sequence[Hook], shared: str = "") -> bool:
    """Train in the chief's workdir, or beside it with `shared`, the chief's."""
    workdir = Path(config.train.workdir)
    if config.train.init and tf_checkpoints.newest_in(workdir) is None:
        weight_files.expect_there(config.train.init)
    for change in changed_fields(workdir, config):
        logger.info("changed since the last run: %s", change)
    source, validation = loop.open_data(config)
    with hold(workdir):
        given = _Given(config, DeviceSetup(config, cluster), source, validation, hooks)
        return _train(given, shared)


def _train(given: _Given, shared: str) -> bool:
    """Build a graph, load or begin the run and train; twice if parts are thawed on the way."""
    train = given.config.train
    done, reached = _step_of(tf_checkpoints.newest_in(Path(shared or train.workdir))), True
    while reached:
        thawed = is_thawed(done, train)
        reached, done = _train_graph(given, thawed)
        if done >= train.steps or is_thawed(done, train) == thawed:
            break
    return reached


def _train_graph(given: _Given, thawed: bool) -> tuple[bool, int]:
    """Train as far as one graph can; whether it was not interrupted, and the number of steps done."""
    reached, config = True, given.config
    logger.info("building the graph of a training step")
    graph, built = build_graph(config, given.devices, thawed)
    with graph.as_default(), given.devices.session(graph) as session:
        engine = SessionEngine(config, session, *built, given.devices.cluster)
        _begin(given, engine)
        if is_thawed(engine.done, config.train) == thawed:  # if not, it is an older checkpoint
            with engine.synchronized_stop():
                reached = _run(given, engine, thawed)
        done = engine.done
        engine.barrier()
    return reached, done


def _begin(given: _Given, engine: SessionEngine) -> None:
    """Bring all copies of the variables, in all processes, to where the run begins."""
    config = given.config
    logger.info(engine.begin())
    if engine.done == 0 and config.train.recalibrate:
        with loop.open_stream(config, given.source, 0, shares=engine.shares) as stream:
            logger.info(engine.recalibrate(stream))
    engine.broadcast_initial_values()


def _run(given: _Given, engine: SessionEngine, thawed: bool) -> bool:
    """Step to the end of what one graph can do."""
    config, source, validation = given.config, given.source, given.validation
    if thawed:
        logger.info("training what was frozen up to %s, too", config.train.frozen)
    until = 0 if thawed else config.train.unfreeze_at
    return loop.run_steps(config, engine, source, validation, until=until, hooks=given.hooks)


def is_thawed(done: int, train: Train) -> bool:
    """Tell whether what follows so many steps is trained although it was frozen in the beginning.

    Args:
      done: number of steps done.
      train: the configuration's section.

    Returns:
      True from the step `unfreeze_at` on.
    """
    return 0 < train.unfreeze_at <= done


def _step_of(prefix: str | None) -> int:
    digits = (prefix or "").rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def build(config: Config, thawed: bool = False) -> tuple[dict[str, Any], training_step.Step]:
    """Build the step over placeholders, for one device.

    Args:
      config: the whole of it.
      thawed: see `step.build`.

    Returns:
      The placeholders, by the names of `Batch`'s fields and `learning_rate`, and the step.
    """
    feeds = _placeholders(config, config.train.batch_size)
    return feeds, training_step.build(**feeds, config=config, thawed=thawed)


def build_graph(config: Config, devices: DeviceSetup, thawed: bool) -> tuple[Any, Built]:
    """Build a graph with the step for a process's devices.

    Args:
      config: the whole of it.
      devices: of this process.
      thawed: see `step.build`.

    Returns:
      The graph, and the first arguments of `SessionEngine` after its session. The placeholders take this
      process's part of the batch.
    """
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.train.seed)
        if devices.strategy is None:
            return graph, (*build(config, thawed), None, None)
        feeds = _placeholders(config, config.train.batch_size // len(devices.cluster.addresses))
        step = functools.partial(training_step.build, config=config, thawed=thawed)
        return graph, (feeds, *devices.build(feeds, step))


def _placeholders(config: Config, batch: int) -> dict[str, Any]:
    size = config.data.crop_size
    cells, channels = size // config.model.output_stride, CHANNELS[config.model.geometry]
    return {
        "images": tf.placeholder(tf.uint8, [batch, size, size, 3], "images"),
        "score": tf.placeholder(tf.float32, [batch, cells, cells, 1], "score"),
        "geometry": tf.placeholder(tf.float32, [batch, cells, cells, channels], "geometry"),
        "mask": tf.placeholder(tf.float32, [batch, cells, cells, 1], "mask"),
        "learning_rate": tf.placeholder(tf.float32, [], "learning_rate"),
    }


class SessionEngine:
    """`training.engine.Engine` over a session; its steps are over when `advance` returns.

    Args:
      config: the whole of it.
      session: of the graph in which `feeds` and `step` were built, which must be the default one.
      feeds: from `build`.
      step: from `build`.
      broadcast: from `distributed.DeviceSetup.build`.
      vote: from there, too.
      cluster: of this process.
    """

    lag = 0

    def __init__(
        self,
        config: Config,
        session: Any,
        feeds: Mapping[str, Any],
        step: training_step.Step,
        broadcast: Any | None = None,
        vote: StopVote | None = None,
        cluster: Cluster = ALONE,
    ) -> None:
        self._broadcast, self._vote, self._cluster, self.shares = broadcast, vote, cluster, cluster.shares()
        self._config, self._session, self._feeds, self._step = config, session, feeds, step
        self._checkpoints = Checkpoints(Path(config.train.workdir), config)

    @property
    def done(self) -> int:
        """See `Engine`; asked of the graph, because Ctrl-C may fall between a step and what follows it."""
        return int(self._session.run(self._step.global_step))

    def begin(self) -> str:
        """Bring the variables to where the run begins, see `training.checkpointing`; return what was done."""
        return self._checkpoints.begin(self._session)

    def recalibrate(self, stream: Iterable[Batch]) -> str:
        """Replace the batch-norm statistics of a run that has not begun yet; return what was done."""
        count, variables = self._config.train.recalibrate, replicas.firsts(tf.global_variables())
        model_variables = replicas.firsts(tf.model_variables())
        names = [variable.op.name for variable in model_variables]
        weights = dict(zip(names, self._session.run(model_variables), strict=True))
        statistics = recalibrated(weights, self._config, stream, count)
        known = {variable.op.name for variable in variables}
        tf_checkpoints.assign(self._session, with_averages(statistics, known), variables)
        return f"estimated {len(statistics)} batch-norm statistics anew from {count} batches"

    def broadcast_initial_values(self) -> None:
        """Give all copies of the variables, in all processes, the values of the chief's first ones."""
        if self._broadcast is not None:
            self._session.run(self._broadcast)

    def synchronized_stop(self) -> contextlib.AbstractContextManager[None]:
        """Have Ctrl-C in one process stop all of them after the same step, within a `with` block."""
        return self._vote.watch() if self._vote else contextlib.nullcontext()

    def barrier(self) -> None:
        """Wait until no other process needs this one any more."""
        if self._vote:
            with contextlib.suppress(UserError):  # the others may have ended since
                self._session.run(self._vote.fetch)

    def advance(self, batches: Sequence[Batch], rate: float) -> Mapping[str, SupportsFloat]:
        """See `Engine`."""
        *before, last = ({self._feeds[name]: getattr(batch, name) for name in FED} for batch in batches)
        for feed in before:
            self._session.run(self._step.add, feed)
        last[self._feeds["learning_rate"]] = rate
        fetches = [self._step.update, self._step.scalars, self._step.finite]
        if self._vote is None:
            _, scalars, finite = self._session.run(fetches, last)
        else:
            fetched = self._session.run([*fetches, self._vote.fetch], last | self._vote.feed())
            _, scalars, finite, votes = fetched
            if finite:
                self._vote.stop_if_any(votes)
        return {**scalars, FINITE: finite}

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine`."""
        score, geometry = self._session.run(self._step.outputs, {self._feeds["images"]: images})
        return score, geometry

    def save(self) -> None:
        """See `Engine`; the chief alone does."""
        if self._cluster.is_chief:
            self._checkpoints.save(self._session, self.done)

    def detector(self) -> Detector | None:
        """See `Engine`; of the checkpoint that was saved last."""
        return Detector.load(self._checkpoints.current) if self._cluster.is_chief else None

    def save_if_best(self, hmean: float) -> bool:
        """See `Engine`."""
        return self._checkpoints.save_if_best(self._session, self.done, hmean)
