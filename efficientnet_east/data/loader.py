"""Turn samples into an endless, deterministic stream of training batches, through Grain.

The stream of batches is a function of the sources, the seed, the batch size and the options. The number
of workers has no influence, and batch k is computed from k alone. So a run resumes with `start=k`, nothing is
replayed, and one integer in a checkpoint is the whole position.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from efficientnet_east.data.augment import Augmentation
from efficientnet_east.data.crops import LabelOptions, TextOptions, check_least, load_crop, stack_crops
from efficientnet_east.data.worker_processes import start_workers
from efficientnet_east.errors import UserError
from efficientnet_east.structures import Source

if TYPE_CHECKING:  # detection and evaluation import this module, and need no Grain
    import grain

# Crops until a stream ends: never, and still exact in the floating point with which Grain counts batches.
_ENDLESS = 2**52


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
            hint = f"expected {len(self.sources)} numbers above 0"
            raise UserError("weights", f"are {list(self.weights)}", hint)
        if not self.sources or not all(len(source) for source in self.sources):
            raise UserError("data", "a source holds no images", "expected at least one image in each")


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """One training batch of b crops of s x s pixels, with its labels.

    Attributes:
      images: uint8 (b, s, s, 3), RGB.
      score: float32 (b, s / stride, s / stride, 1), 1 inside the shrunk texts.
      geometry: float32 (b, s / stride, s / stride, 5 or 8), see `geometry.label_maps`.
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
        """Return the next batch.

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
                    "Free some memory or room in /dev/shm, or set data.workers to a smaller number.",
                ) from error
            raise
        self._report(parts["skipped"])
        self.position += 1
        arrays = {name: part for name, part in parts.items() if isinstance(part, np.ndarray)}
        return self._kind(**arrays, names=tuple(parts["names"]))

    def close(self) -> None:
        """End threads and worker processes. You may call it twice; it also runs at exit."""
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
    """Open an endless stream of shuffled, augmented, labeled batches, and starts preparing them.

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
      start: index of the first batch.
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
    check_least(
        batch_size=(batch_size, 1), seed=(seed, 0), workers=(workers, 0), start=(start, 0), buffer=(buffer, 1)
    )
    if not 0 <= shard[0] < shard[1]:
        hint = "expected (index, count) with an index from 0 and below the count"
        raise UserError("shard", f"is {shard}", hint)
    load = functools.partial(
        load_crop, sources=mixture.sources, augmentation=augmentation, labels=labels, skip=on_bad is not None
    )
    stream = _positions(mixture, seed).random_map(load, seed=_seed(seed, len(mixture.sources)))
    # Batch m of the shares' size holds crops m * batch_size and on: the shards take them in turn.
    index, count = shard
    stream = stream.batch(batch_size, batch_fn=stack_crops).slice(slice(start * count + index, None, count))
    # Every item is a whole batch already: Grain's own threads inside a process would gain nothing.
    iterable = stream.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    iterator = start_workers(iterable, workers) if workers else iter(iterable)
    iterator = grain.experimental.ThreadPrefetchDatasetIterator(iterator, buffer)
    iterator.start_prefetch()
    return Batches(iterator, Batch if isinstance(labels, LabelOptions) else TextBatch, start, on_bad)


def most_texts(source: Source | Mixture) -> int:
    """Return the number of texts that no crop of a source can exceed: what `TextOptions` asks for.

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


def _seed(seed: int, purpose: int) -> int:
    """One 32-bit seed for each purpose; nearby seeds share nothing."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])
