"""One training step on several devices, of one machine or of several, by TensorFlow's own strategies.

A process's graph holds a copy of the step for each of its devices. A batch is cut into equal parts; what
belongs to the whole of it (the losses' sums, gradients, batch-norm statistics) is exchanged by `replicas`,
and every copy of the variables is moved in the same way. Between steps all copies are equal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from efficientnet_east import model
from efficientnet_east.backbones import replicas
from efficientnet_east.compat import Tensor, tf
from efficientnet_east.config import Config, Train
from efficientnet_east.errors import UserError
from efficientnet_east.inference.graph import session_config
from efficientnet_east.training import cluster as clusters
from efficientnet_east.training.cluster import Cluster
from efficientnet_east.training.step import Step

logger = logging.getLogger(__name__)

PERIOD = 3.0  # seconds between two checks of whether the other processes can be reached
MISSES = 3  # checks in a row that must fail


class DeviceSetup:
    """Where a process computes: its devices, and the processes beside it.

    Args:
      config: its fields `devices`, `batch_size`, `threads` and `peer_timeout` are read.
      cluster: of this process.

    Attributes:
      strategy: a `tf.distribute` strategy, or None for a single device.
      cluster: of this process.

    Raises:
      UserError: devices or addresses cannot be had, or they do not fit the batch.
    """

    def __init__(self, config: Config, cluster: Cluster) -> None:
        train = config.train
        self.cluster, self._seconds, self._server = cluster, train.peer_timeout, None
        devices = choose_devices(train.devices)
        self.config, several = session_config(train.threads), len(cluster.addresses) > 1
        self.strategy: Any = None
        if several:
            _expect_usable_in_cluster(train, devices)
            self._make_cluster_strategy()
        elif devices:
            self._make_local_strategy(devices)
        count = 1 if self.strategy is None else int(self.strategy.num_replicas_in_sync)
        if train.batch_size % count:
            problem = f"is {train.batch_size} on {count} devices"
            raise UserError("train.batch_size", problem, f"expected a multiple of {count}")
        if count > 1:
            logger.info("training on %d devices with %d crops each", count, train.batch_size // count)
        if several:
            self._server = _start_server(cluster, self.config)
            clusters.wait_for_all(cluster, self._seconds)

    def _make_cluster_strategy(self) -> None:
        clusters.expect_free_port(self.cluster)
        with tf.Graph().as_default():  # in eager mode the strategy would start a server of its own
            self.strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy()
        self.config = self.strategy.update_config_proto(self.config)

    def _make_local_strategy(self, devices: list[str]) -> None:
        # At least so many; of GPUs a session takes what is visible.
        self.config.device_count["CPU"] = len(devices)
        os.environ.pop(clusters.VARIABLE, None)  # the strategy reads it, too, and not if it is empty
        self.strategy = tf.distribute.MirroredStrategy(devices)

    def session(self, graph: Any) -> Any:
        """Open a session of a graph, for a `with` statement."""
        if self._server is None:
            return tf.Session(graph=graph, config=self.config)
        return PeerSession(self._server.target, graph, self.config, self.cluster, self._seconds)

    def build(
        self, feeds: Mapping[str, Any], build: Callable[..., Step]
    ) -> tuple[Step, Any | None, StopVote | None]:
        """Build a step on every device.

        Args:
          feeds: name -> placeholder of this process's part of the batch, or a scalar.
          build: takes a device's parts by these names.

        Returns:
          The step of all devices together; the operation that gives every copy of the variables the chief's
          values, None for a single device; and the stop vote, None for a single process.
        """
        if self.strategy is None:
            return build(**feeds), None, None
        vote = StopVote() if self._server else None
        built: list[Step] = []
        broadcasts: list[Any] = []

        def replica() -> None:
            own = replicas.count() // len(self.cluster.addresses)
            parts = {name: _part(feed, replicas.index() % own, own) for name, feed in feeds.items()}
            built.append(build(**parts))
            broadcasts.append(_broadcast_from_chief())
            if vote is not None:
                vote.count()

        with self.strategy.scope():
            self.strategy.run(replica)
        return _together(built), tf.group(*broadcasts), vote


def _expect_usable_in_cluster(train: Train, devices: list[str]) -> None:
    if devices and devices[0].startswith("CPU"):
        hint = "Each process of a cluster takes one CPU, or GPUs."
        raise UserError("train.devices", f"is {train.devices} in a cluster", hint)
    if train.patience:
        hint = "Only the chief validates. Set it to 0."
        raise UserError("train.patience", "cannot be used in a cluster", hint)


def choose_devices(devices: str) -> list[str]:
    """Prepare TensorFlow for the devices that were asked for; call it before it uses any.

    Args:
      devices: `auto`, `cpu`, `cpu:N`, or the numbers of GPUs such as `0,1`.

    Returns:
      Their names if they are several; a single one is TensorFlow's default, and needs none.

    Raises:
      UserError: there are none such.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if devices.startswith("cpu"):
        count = int(devices.partition(":")[2] or 1)
        tf.config.set_visible_devices([], "GPU")
        if count > 1:
            (cpu,) = tf.config.list_physical_devices("CPU")
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        return [f"CPU:{number}" for number in range(count)] if count > 1 else []
    if devices != "auto":
        numbers = list(dict.fromkeys(int(number) for number in devices.split(",")))
        if max(numbers) >= len(gpus):
            problem = f"is {devices}, but TensorFlow finds {len(gpus)} GPUs"
            raise UserError("train.devices", problem, "expected numbers of GPUs from 0 on, or cpu")
        gpus = [gpus[number] for number in numbers]
        tf.config.set_visible_devices(gpus, "GPU")
    return [f"GPU:{number}" for number in range(len(gpus))] if len(gpus) > 1 else []


def _start_server(cluster: Cluster, config: Any) -> Any:
    spec: dict[str, list[str]] = {"worker": list(cluster.addresses)}
    if cluster.job == "chief" or cluster.index != cluster.number:
        spec = {"chief": [cluster.addresses[0]], "worker": list(cluster.addresses[1:])}
    return tf.train.Server(
        tf.train.ClusterSpec(spec), job_name=cluster.job, task_index=cluster.index, config=config
    )


def _part(feed: Tensor, number: int, count: int) -> Tensor:
    return tf.split(feed, count)[number] if feed.shape.rank and count > 1 else feed


def _broadcast_from_chief() -> Any:
    """Give this replica's copies the values that the first replica has."""
    mine = [replicas.local(variable) for variable in tf.global_variables()]
    values = replicas.of_first([variable.read_value() for variable in mine])
    return tf.group(*(variable.assign(value) for variable, value in zip(mine, values, strict=True)))


def _together(built: list[Step]) -> Step:
    """Join the steps of this process's devices to one."""
    first = built[0]
    maps = zip(*(step.outputs for step in built), strict=True)
    return Step(
        add=None if first.add is None else tf.group(*(step.add for step in built)),
        update=tf.group(*(step.update for step in built)),
        scalars=first.scalars,
        finite=first.finite,
        outputs=model.Outputs(*(tf.concat(parts, 0) for parts in maps)),
        global_step=replicas.firsts([first.global_step])[0],
    )


class StopVote:
    """How processes agree to stop. Who is asked to stop votes for it with its next step; all stop after it.

    If a process stopped in the middle of a step, the others would wait for its gradients.
    """

    def __init__(self) -> None:
        self._feed = tf.placeholder_with_default(0.0, [], "stop")
        self._votes: Tensor | None = None
        self._asked: int | None = None
        self._before: dict[int, Any] = {}

    def count(self) -> None:
        """Build the count of the votes; call it in every replica."""
        votes = replicas.sums_over(self._feed)[0]
        self._votes = votes if self._votes is None else self._votes

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as a vote. A second one does what it did before."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._before = {number: handler for number, handler in handlers.items() if callable(handler)}
        try:
            for number in self._before:
                signal.signal(number, self._receive)
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        if self._asked is not None:
            self._before[number](number, frame)
        self._asked = number

    @property
    def fetch(self) -> Tensor:
        """The number of votes, to be fetched with a step."""
        return self._votes

    def feed(self) -> dict[Any, float]:
        """Return this process's vote."""
        return {self._feed: float(self._asked is not None)}

    def stop_if_any(self, votes: float) -> None:
        """Stop if any process has voted for it.

        Raises:
          KeyboardInterrupt: one has.
        """
        if votes and self._asked is not None:
            self._before[self._asked](self._asked, None)  # as if the signal came now
        if votes:
            raise KeyboardInterrupt


class PeerSession(tf.Session):
    """A session whose operations wait for other processes, but not for ever.

    Args:
      target: of this process's server.
      graph: to be run.
      config: of the session.
      cluster: of this process.
      seconds: the longest wait.
    """

    def __init__(self, target: str, graph: Any, config: Any, cluster: Cluster, seconds: float) -> None:
        super().__init__(target, graph=graph, config=config)
        self._cluster, self._seconds = cluster, seconds
        self._pending_since: float | None = None
        self._lost: list[str] = []
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def run(self, fetches: Any, feed_dict: Mapping[Any, Any] | None = None, **options: Any) -> Any:
        """Run as `tf.Session.run` does.

        Raises:
          UserError: another process is lost.
        """
        options.setdefault("options", tf.RunOptions(timeout_in_ms=int(1000 * self._seconds)))
        self._pending_since = time.monotonic()
        try:
            return super().run(fetches, feed_dict, **options)
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError):
            problem = "is lost"
        except tf.errors.DeadlineExceededError:
            problem = f"does not answer for {self._seconds:g} s"
        finally:
            self._pending_since = None
        raise UserError(
            ", ".join(self._lost or clusters.unreachable(self._cluster)) or "another process", problem,
            "Start all processes again. The run goes on from its last checkpoint.",
        )  # fmt: skip

    def close(self) -> None:
        """Close as `tf.Session.close` does."""
        self._over.set()
        super().close()

    def _watch(self) -> None:
        """Cancel an operation that waits for a process that is gone. TensorFlow fails one that was waiting
        already, but waits for ever if it begins to after the other's end.
        """
        missed = 0
        while not self._over.wait(PERIOD):
            since = self._pending_since
            waits = since is not None and time.monotonic() - since > PERIOD
            lost = clusters.unreachable(self._cluster) if waits else []
            missed = missed + 1 if lost else 0
            if missed == MISSES:
                self._lost = lost
                self.close()
