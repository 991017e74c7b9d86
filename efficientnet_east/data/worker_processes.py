"""Worker processes that prepare batches, through Grain."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from absl import flags

if TYPE_CHECKING:
    import grain

# Parameters of glibc's mallopt, from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def start_workers(iterable: grain.IterDataset, workers: int) -> grain.DatasetIterator:
    """Start worker processes, and return an iterator of their batches: worker w makes w, w + workers, ..."""
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
