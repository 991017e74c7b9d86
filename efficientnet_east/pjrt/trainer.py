"""Train an exported step on a PJRT device: the engine that the loop drives, and the run."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np

from efficientnet_east import config as configuration
from efficientnet_east.config import Config
from efficientnet_east.data.decoded_cache import keep_decoded
from efficientnet_east.data.loader import TextOptions, most_texts
from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import write_file
from efficientnet_east.inference.detector import CONFIG_FILE
from efficientnet_east.pjrt import manifest as manifests
from efficientnet_east.pjrt import state
from efficientnet_east.pjrt.device import Buffer, Device, fetch
from efficientnet_east.pjrt.manifest import STEP_NAME, Manifest, TensorSpec
from efficientnet_east.system.interruption import SIGNALS
from efficientnet_east.training import loop, sources
from efficientnet_east.training.hooks import Hook
from efficientnet_east.training.workdir import expect_posix, hold

logger = logging.getLogger(__name__)


def train(
    folder: Path, overrides: Mapping[str, Any], platform: str = "auto", hooks: Sequence[Hook] = ()
) -> bool:
    """Train, or go on training, in the workdir.

    Args:
      folder: of the export.
      overrides: fields of the configuration of `manifest.RUN_FIELDS`, `workdir` among them.
      platform: of `device.PLATFORMS`.
      hooks: of your own, called after each step; see `training.hooks`.

    Returns:
      True if the run reached its last step, False if it was interrupted (and saved).

    Raises:
      UserError: the export, the data or a state cannot be used, another process trains in the workdir, or the
        loss is not finite.
    """
    expect_posix()
    described = manifests.read(folder)
    program = manifests.read_program(folder, described)
    config = configuration.load(str(folder / CONFIG_FILE), overrides)
    manifests.check_config(described, config, folder / CONFIG_FILE)
    source = _open_data(config, described)
    workdir = Path(config.train.workdir)
    with hold(workdir):
        arrays = _begin(folder, workdir, described)
        _keep_description(folder, workdir, config)
        device = Device(platform)
        logger.info("compiling for %s", device.name)
        engine = PjrtEngine(device, program, described, arrays, workdir, config.train.keep_checkpoints)
        return loop.run_steps(config, engine, source, None, labels=TextOptions(described.texts), hooks=hooks)


def _open_data(config: Config, described: Manifest) -> Any:
    skipped: list[UserError] = []
    source = sources.training_source(config.data, config.train.seed, skipped)
    for error in skipped:
        logger.warning("skipped: %s", error)
    most = most_texts(source)
    if most > described.texts:
        problem = f"has images with up to {most} texts, but the program takes at most {described.texts}"
        raise UserError("training data", problem, f"Export again with `--texts {most}` or more.")
    logger.info("training on %s", sources.describe(config.data, source))
    return keep_decoded(source, config.data.cache_megabytes)


def _begin(folder: Path, workdir: Path, described: Manifest) -> dict[str, np.ndarray]:
    """Read the state from which the run begins: the workdir's newest, else the export's."""
    if (workdir / manifests.MANIFEST_FILE).exists():
        if manifests.read(workdir).sha256 != described.sha256:
            hint = "Use the export that this run started with, or another train.workdir."
            raise UserError(workdir, "holds a run of another program", hint)
        if found := state.newest(workdir, described.state):
            logger.info("resuming from step %d (%s)", found[1][STEP_NAME], found[0])
            return found[1]
    elif state.found_in(workdir):
        raise UserError(workdir, "holds states without their manifest", "Use another train.workdir.")
    first = state.newest(folder, described.state)
    if first is None:
        raise UserError(folder, "holds no state to begin from", "expected a complete export")
    logger.info("starting from %s", first[0])
    return first[1]


def _keep_description(folder: Path, workdir: Path, config: Config) -> None:
    """Copy configuration and manifest to the workdir, so that its states can be read without the export."""
    write_file(workdir / CONFIG_FILE, configuration.dump(config).encode())
    write_file(workdir / manifests.MANIFEST_FILE, (folder / manifests.MANIFEST_FILE).read_bytes())


class PjrtEngine:
    """`training.engine.Engine` over a device; the state stays there, and steps are dispatched ahead.

    Args:
      device: to train on.
      program: StableHLO text.
      described: its manifest.
      arrays: the state to begin from.
      workdir: for the states.
      keep: number of states to keep.
    """

    lag = 2  # one step on the device, one waiting for it; more would only keep batches in memory
    shares = 0, 1  # one device, one process, whatever TF_CONFIG says

    def __init__(
        self,
        device: Device,
        program: str,
        described: Manifest,
        arrays: Mapping[str, np.ndarray],
        workdir: Path,
        keep: int,
    ) -> None:
        self._device, self._described, self._workdir, self._keep = device, described, workdir, keep
        self._program = device.compile(program)
        self._state: list[Buffer] = []
        self._done = 0
        self.restore(arrays)

    @property
    def done(self) -> int:
        """See `Engine`."""
        return self._done

    def advance(self, batches: Sequence[Any], rate: float) -> Mapping[str, SupportsFloat]:
        """See `Engine`; takes a `TextBatch`, and returns as soon as the step is on its way."""
        (batch,) = batches
        inputs = [self._put(argument, batch, rate) for argument in self._described.arguments]
        results = len(self._described.results)
        with uninterrupted():  # between the old state, which is gone then, and the new one
            outputs = self._program([*inputs, *self._state])
            new = iter(outputs[results:])
            pairs = zip(self._described.state, self._state, strict=True)
            self._state = [next(new) if tensor.updated else old for tensor, old in pairs]
            self._done += 1
        names = (tensor.name for tensor in self._described.results)
        return dict(zip(names, map(_Scalar, outputs[:results]), strict=True))

    def _put(self, argument: TensorSpec, batch: Any, rate: float) -> Buffer:
        value = np.float32(rate) if argument.name == "learning_rate" else getattr(batch, argument.name)
        array = np.asarray(value)
        if difference := argument.differs_from(array):
            raise ValueError(difference)
        return self._device.put(array)

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the state: variable name -> array."""
        self._state = [self._device.put(np.asarray(arrays[tensor.name])) for tensor in self._described.state]
        self._done = int(arrays[STEP_NAME])

    def state(self) -> dict[str, np.ndarray]:
        """Fetch the whole state from the device, once its steps are over: variable name -> array."""
        pairs = zip(self._described.state, self._state, strict=True)
        return {tensor.name: fetch(buffer) for tensor, buffer in pairs}

    def predict(self, images: np.ndarray) -> None:
        """See `Engine`: the program has no such part."""

    def detector(self) -> None:
        """See `Engine`: the program has no such part."""

    def save(self) -> None:
        """See `Engine`."""
        state.save(self._workdir, self.state(), self._keep)

    def save_if_best(self, hmean: float) -> bool:
        """See `Engine`; nothing is validated."""
        return False


class _Scalar:
    """A scalar of a step that may be on its way; asking for it waits."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def __float__(self) -> float:
        return float(fetch(self._buffer))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay signals that stop the run until the block is over. Only the main thread receives any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    usual = {
        int(number): signal.signal(number, lambda number, frame: caught.append(number)) for number in SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    for number in caught[:1]:
        signal.raise_signal(number)
