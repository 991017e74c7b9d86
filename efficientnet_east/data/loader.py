"""Samples to training batches, deterministic and without end, through Grain.

The stream of batches is a function of the sources, the seed, the batch size and the options. The number
of workers does not enter, and batch k is computed from k alone: a run resumes with `start=k`, nothing is
replayed, and one integer in a checkpoint is the whole position.

Errors cross from the workers as values inside a batch, not as exceptions: an exception that cannot be
pickled, or one that is no `Exception`, would leave Grain's consumer waiting for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import cv2
import numpy as np
from absl import flags

from efficientnet_east.data.augment import Augmentation, augment, mosaic
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.label_maps import encode
from efficientnet_east.structures import Sample, Source

if TYPE_CHECKING:  # who detects and evaluates needs no Grain, but this module's names
    import grain

# Crops until a stream ends: never, and still exact in the floating point with which Grain counts batches.
_ENDLESS = 2**52
# A source with more broken images than this in a row is not repaired by skipping them.
_MOST_SKIPPED = 64
# Parameters of glibc's mallopt, from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """Several sources in one stream.

    Attributes:
      sources: each is shuffled and repeated on its own.
      weights: each source's share of the crops, relative to the others, more than 0.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.sources) or not all(0 < weight < np.inf for weight in self.weights):
            raise UserError(
                "weights", f"are {list(self.weights)}", f"expected {len(self.sources)} numbers above 0"
            )
        if not self.sources or not all(len(source) for source in self.sources):
            raise UserError("data", "a source holds no images", "expected at least one image in each")


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """How texts become maps; the meaning is given at `geometry.maps.encode`."""

    stride: int = 4
    shrink: float = 0.3
    min_side: float = 0.0
    ring: bool = False
    geometry: str = "rbox"
    core: float = 0.0
    balance: float = 0.0


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """Texts as they are, for labels that are made later, inside a graph.

    Attributes:
      most: the largest number of texts in any crop, 1 or more; see `most_texts`.
    """

    most: int

    def __post_init__(self) -> None:
        _check_least(most=(self.most, 1))


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """One training batch of b crops of s x s pixels, with its labels.

    Attributes:
      images: uint8 (b, s, s, 3), RGB.
      score: float32 (b, s / stride, s / stride, 1), 1 inside the shrunk texts.
      geometry: float32 (b, s / stride, s / stride, 5 or 8), see `geometry.maps`.
      mask: float32 (b, s / stride, s / stride, 1), what a cell counts in the loss; 0 where it must not look.
      names: the b image names.
    """

    images: np.ndarray
    score: np.ndarray
    geometry: np.ndarray
    mask: np.ndarray
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class TextBatch:
    """One training batch of b crops of s x s pixels, with its texts padded to N = `TextOptions.most`.

    Attributes:
      images: uint8 (b, s, s, 3), RGB.
      quads: float32 (b, N, 4, 2), (x, y) in pixels of the crop, clockwise, in the order of the annotation;
        they may reach out of the crop. Rows from `count` on are 0.
      ignore: bool (b, N), True for texts that are illegible or cut off; rows from `count` on are False.
      count: int32 (b,), the number of texts of each crop.
      names: the b image names.
    """

    images: np.ndarray
    quads: np.ndarray
    ignore: np.ndarray
    count: np.ndarray
    names: tuple[str, ...]


AnyBatch = TypeVar("AnyBatch", Batch, TextBatch)


class Batches(Iterator[AnyBatch], Generic[AnyBatch]):
    """The stream that `batches` returns: an iterator to be closed, or used in a `with` statement.

    Attributes:
      position: index of the next batch, counted from the very first one; what a checkpoint keeps.
    """

    def __init__(
        self, iterator: Any, kind: type[AnyBatch], start: int, on_bad: Callable[[UserError], None] | None
    ) -> None:
        self.position = start
        self._kind: type[AnyBatch] = kind
        self._on_bad = on_bad
        # A list, so that closing can let go of the iterator, whose own end fails late in the interpreter's.
        self._held = [iterator]
        self._end: Callable[[], Any] = weakref.finalize(self, _close_held, self._held)
        self._reported: set[str] = set()

    def __next__(self) -> AnyBatch:
        """Returns the next batch.

        Raises:
          UserError: an image cannot be used, or a worker process died. The stream is closed then.
          ValueError: the stream is closed.
        """
        if not self._held:
            raise ValueError("this stream of batches is closed")
        try:
            parts = next(self._held[0])
            if parts["error"] is not None:
                raise parts["error"]
        except Exception as error:
            self.close()
            if "Worker process was terminated" in str(error):
                raise UserError(
                    "data workers",
                    str(error).split(". ")[0],
                    "expected enough memory and room in /dev/shm for them; try fewer workers",
                ) from error
            raise
        self._report(parts["skipped"])
        self.position += 1
        arrays = {name: part for name, part in parts.items() if isinstance(part, np.ndarray)}
        return self._kind(**arrays, names=tuple(parts["names"]))

    def close(self) -> None:
        """Ends threads and worker processes; may be called twice, and comes by itself at exit."""
        self._end()

    def __enter__(self) -> Batches[AnyBatch]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _report(self, skipped: Sequence[UserError]) -> None:
        for error in skipped:
            if self._on_bad is not None and str(error) not in self._reported:
                self._reported.add(str(error))
                self._on_bad(error)


def _close_held(held: list[Any]) -> None:
    while held:
        held.pop().close()


@overload
def batches(
    source: Source | Mixture,
    *,
    batch_size: int,
    seed: int,
    augmentation: Augmentation,
    labels: LabelOptions,
    workers: int = 0,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    on_bad: Callable[[UserError], None] | None = None,
    buffer: int = 2,
) -> Batches[Batch]: ...


@overload
def batches(
    source: Source | Mixture,
    *,
    batch_size: int,
    seed: int,
    augmentation: Augmentation,
    labels: TextOptions,
    workers: int = 0,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    on_bad: Callable[[UserError], None] | None = None,
    buffer: int = 2,
) -> Batches[TextBatch]: ...


def batches(
    source: Source | Mixture,
    *,
    batch_size: int,
    seed: int,
    augmentation: Augmentation,
    labels: LabelOptions | TextOptions,
    workers: int = 0,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    on_bad: Callable[[UserError], None] | None = None,
    buffer: int = 2,
) -> Batches[Any]:
    """Opens an endless stream of shuffled, augmented, labelled batches, and starts preparing them.

    Each epoch of a source is a new permutation; batches run on across epochs, so a source may be smaller
    than a batch. Call `close()` at the end or use `with`.

    Args:
      source: a sequence of Samples, or several with their shares.
      batch_size: crops in a batch of this stream: with `shard`, this process's share of them.
      seed: of the order and of every crop; 0 or more.
      augmentation: what a crop may look like.
      labels: how the texts become maps; TextOptions leaves them texts.
      workers: processes that prepare batches; 0 prepares them in one thread of this process. A script
        that uses them must start under `if __name__ == "__main__":`, as always with spawned processes.
      start: index of the first batch wanted.
      shard: (index, count) of this process among several that train together. Their batches number k, one
        behind the other by index, are batch k of a single process with `batch_size` times count crops; a
        process computes its own share only.
      on_bad: called once for each distinct UserError that a sample raises; the sample's place is then
        taken by the next good one of its source, and all others keep theirs. None raises the error.
      buffer: batches kept ready in this process; each worker keeps two more.

    Returns:
      An iterator of Batch, or of TextBatch where `labels` are TextOptions.

    Raises:
      UserError: an argument is out of range, or a source is empty.
    """
    import grain

    mixture = source if isinstance(source, Mixture) else Mixture((source,), (1.0,))
    _check_least(
        batch_size=(batch_size, 1), seed=(seed, 0), workers=(workers, 0), start=(start, 0), buffer=(buffer, 1)
    )
    if not 0 <= shard[0] < shard[1]:
        raise UserError(
            "shard", f"is {shard}", "expected (index, count) with an index from 0 and below the count"
        )
    load = functools.partial(
        _load, sources=mixture.sources, augmentation=augmentation, labels=labels, skip=on_bad is not None
    )
    stream = _positions(mixture, seed).random_map(load, seed=_seed(seed, len(mixture.sources)))
    # Batch m of the shares' size holds crops m * batch_size and on: the shards take them in turn.
    index, count = shard
    stream = stream.batch(batch_size, batch_fn=_stack).slice(slice(start * count + index, None, count))
    # Every item is a whole batch already: Grain's own threads inside a process would gain nothing.
    iterable = stream.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    iterator = _start_workers(iterable, workers) if workers else iter(iterable)
    iterator = grain.experimental.ThreadPrefetchDatasetIterator(iterator, buffer)
    iterator.start_prefetch()
    return Batches(iterator, Batch if isinstance(labels, LabelOptions) else TextBatch, start, on_bad)


def most_texts(source: Source | Mixture) -> int:
    """Returns the number of texts that no crop of a source can exceed: what `TextOptions` asks for.

    Args:
      source: what `batches` takes. A source that has a number `most_texts` is believed; of any other every
        sample is made once.

    Returns:
      1 or more.
    """
    if isinstance(source, Mixture):
        return max(most_texts(part) for part in source.sources)
    known = getattr(source, "most_texts", None)
    if known is None:
        known = max((len(source[i].truth.texts) for i in range(len(source))), default=0)
    return max(1, known)


def _positions(mixture: Mixture, seed: int) -> grain.MapDataset:
    """The endless order: pairs (source, index in it)."""
    import grain

    orders = []
    for number, source in enumerate(mixture.sources):
        order = grain.MapDataset.range(len(source)).shuffle(seed=_seed(seed, number))
        orders.append(order.repeat(_ENDLESS // len(source)).map(functools.partial(_pair, number)))
    return grain.MapDataset.mix(orders, mixture.weights)


def _pair(number: int, index: int) -> tuple[int, int]:
    return number, index


def _start_workers(iterable: grain.IterDataset, workers: int) -> grain.DatasetIterator:
    """An iterator whose worker processes are on their way: worker w makes batches w, w + workers, ..."""
    import grain

    if not flags.FLAGS.is_parsed():  # where JAX is installed, Grain reads a flag of its own
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
    iterator = iter(iterable.mp_prefetch(options, worker_init_fn=_prepare_worker).map(_own))
    iterator.get_state()  # makes the workers' iterators, which Grain otherwise starts one by one
    iterator.start_prefetch()
    return iterator


def _own(parts: dict[str, Any]) -> dict[str, Any]:
    """Copies a batch out of Grain's shared memory, which complains if it outlives the interpreter."""
    return {name: np.array(part) if isinstance(part, np.ndarray) else part for name, part in parts.items()}


def _seed(seed: int, purpose: int) -> int:
    """One 32-bit seed for each purpose; nearby seeds share nothing."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


def _load(
    position: tuple[int, int],
    rng: np.random.Generator,
    *,
    sources: Sequence[Source],
    augmentation: Augmentation,
    labels: LabelOptions | TextOptions,
    skip: bool,
) -> dict[str, Any]:
    """One crop with its maps or texts, or the error that stands in for it."""
    number, index = position
    try:
        crop, skipped = _crop(sources[number], index, rng, augmentation, labels, skip)
        arrays = _maps(crop, labels) if isinstance(labels, LabelOptions) else _texts(crop, labels.most)
    except BaseException as error:
        return {"error": _portable(error)}
    return {"arrays": {"images": crop.image, **arrays}, "name": crop.name, "skipped": skipped, "error": None}


def _crop(
    source: Source,
    index: int,
    rng: np.random.Generator,
    augmentation: Augmentation,
    labels: LabelOptions | TextOptions,
    skip: bool,
) -> tuple[Sample, list[UserError]]:
    """A crop of the sample, or a mosaic of it and three others of its source."""
    sample, skipped = _read(source, index, skip)
    if augmentation.mosaic and rng.random() < augmentation.mosaic:
        samples = [sample]
        for other in rng.integers(len(source), size=3):
            beside, errors = _read(source, int(other), skip)
            samples.append(beside)
            skipped += errors
        crop = mosaic(samples, rng, augmentation)
        # Four windows may show more texts than the program behind TextOptions has room for.
        if isinstance(labels, LabelOptions) or len(crop.truth.texts) <= labels.most:
            return crop, skipped
    return augment(sample, rng, augmentation), skipped


def _maps(crop: Sample, labels: LabelOptions) -> dict[str, np.ndarray]:
    maps = encode(crop.truth.quads, crop.truth.ignore, crop.image.shape[:2], **dataclasses.asdict(labels))
    return {"score": maps.score[..., None], "geometry": maps.geometry, "mask": maps.mask[..., None]}


def _texts(crop: Sample, most: int) -> dict[str, np.ndarray]:
    count = len(crop.truth.texts)
    if count > most:
        raise UserError(
            crop.name, f"has {count} texts in one crop", f"expected at most {most}, see `most_texts`"
        )
    quads, ignore = np.zeros((most, 4, 2), np.float32), np.zeros(most, np.bool_)
    quads[:count], ignore[:count] = crop.truth.quads, crop.truth.ignore
    return {"quads": quads, "ignore": ignore, "count": np.array(count, np.int32)}


def _read(source: Source, index: int, skip: bool) -> tuple[Sample, list[UserError]]:
    """The sample, or the next good one of the source with the errors on the way to it."""
    skipped: list[UserError] = []
    for step in range(min(len(source), _MOST_SKIPPED)):
        try:
            return source[(index + step) % len(source)], skipped
        except UserError as error:
            if not skip:
                raise
            skipped.append(error)
    raise UserError(
        skipped[0].where,
        f"{skipped[0].problem}, and {len(skipped) - 1} more images after it cannot be used either",
        "expected at least some good images",
    )


def _portable(error: BaseException) -> Exception:
    """The error itself where it survives pickling, else its text."""
    if not isinstance(error, Exception):
        return RuntimeError(f"{type(error).__name__} while a sample was prepared: {error}")
    where = "".join(traceback.format_exception(error))
    if not isinstance(error, UserError):
        error.add_note(f"While a sample was prepared:\n{where}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(where)
    return error


def _stack(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The items of one batch as arrays; of several errors, the first."""
    for item in items:
        if item["error"] is not None:
            return {"error": item["error"]}
    batch: dict[str, Any] = {
        name: np.stack([item["arrays"][name] for item in items]) for name in items[0]["arrays"]
    }
    batch["names"] = [item["name"] for item in items]
    batch["skipped"] = [error for item in items for error in item["skipped"]]
    return {**batch, "error": None}


def _prepare_worker(index: int, count: int) -> None:
    """Runs first in a worker process."""
    cv2.setNumThreads(1)  # the workers are the parallelism
    _keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes us
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _keep_freed_memory() -> None:
    """Batch after batch takes the same memory: to give it back to the system costs a fifth of the work."""
    with contextlib.suppress(OSError, AttributeError):  # a system without glibc
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        library.mallopt(_M_TRIM_THRESHOLD, 1 << 28)


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _check_least(**numbers: tuple[int, int]) -> None:
    for name, (value, least) in numbers.items():
        if value < least:
            raise UserError(name, f"is {value}", f"expected {least} or more")
