"""Keep decoded images in memory, once for all processes of a run.

A block of memory has room for every image and is empty at first: pages that nobody wrote take no memory. The
first process that decodes an image writes it there, and all others read the same pages. Two processes that
decode the same image at the same time write the same bytes.

On Linux the block is an anonymous file, which the small /dev/shm of a container does not limit. It is gone
with the last process that has it open, even if that one was killed. Elsewhere it is a temporary file.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from efficientnet_east.data.datasets import ImageDataset
from efficientnet_east.data.loader import Mixture
from efficientnet_east.errors import UserError
from efficientnet_east.structures import Sample, Source
from efficientnet_east.system.limits import available_memory

logger = logging.getLogger(__name__)

# Nothing more is kept once less than this is free: training needs some, too.
_SPARE = 1 << 29
# Images begin at multiples of this many bytes, a cache line of the processor.
_ALIGNMENT = 64


class SharedMemory:
    """Room for images in memory that processes share; pickle it to give it to another process.

    Args:
      rooms: bytes that each image may take; 0 for one that is not kept.

    Raises:
      OSError: the system gives no such memory.
    """

    def __init__(self, rooms: Sequence[int]) -> None:
        aligned = -(-np.asarray(rooms, np.int64) // _ALIGNMENT) * _ALIGNMENT
        # In front of the images stands a table: height and width of those that are there, 0 for the others.
        self._ends = np.cumsum(aligned) + len(rooms) * 8
        self._rooms = tuple(rooms)
        descriptor, self._path = _shareable_file(self)
        os.ftruncate(descriptor, int(self._ends[-1]))
        self._identity = _identity(descriptor)
        self._map(descriptor)

    def __len__(self) -> int:
        return len(self._rooms)

    def get(self, index: int) -> np.ndarray | None:
        """Return an image, if it is there: uint8 (height, width, 3), read-only."""
        height, width = divmod(int(self._table[index]), 1 << 32)
        size = height * width * 3
        # Nothing there yet, or an entry that another process is writing at this very moment.
        if not size or size != self._rooms[index]:
            return None
        return self._bytes[self._begin(index) :][:size].reshape(height, width, 3)

    def put(self, index: int, image: np.ndarray) -> bool:
        """Keep an image, and return whether it was kept.

        Args:
          index: its number.
          image: uint8 (height, width, 3).
        """
        # A file that changed since the room was measured is left out, as is what memory cannot hold.
        if image.nbytes != self._rooms[index] or available_memory() < image.nbytes + _SPARE:
            return False
        entry = np.int64(image.shape[0] << 32 | image.shape[1])
        try:
            # Written through the file: in a mapping, a full disk would end the process. The table is last.
            written = os.pwrite(self._descriptor, np.ascontiguousarray(image).data, self._begin(index))
            return written == image.nbytes and os.pwrite(self._descriptor, entry.tobytes(), index * 8) == 8
        except OSError:
            return False

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_ends", "_rooms", "_path", "_identity")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        try:
            descriptor = os.open(self._path, os.O_RDWR)
            # Where the owner has closed the block, its path may lead to another of the owner's files by now.
            if _identity(descriptor) != self._identity:
                os.close(descriptor)
                raise FileNotFoundError(errno.ENOENT, "is gone")
        except OSError as error:
            problem = f"the memory of decoded images cannot be shared between processes ({error.strerror})"
            raise UserError("data.cache_megabytes", problem, "Set it to 0 on this machine.") from None
        self._map(descriptor)

    def _map(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        mapped = mmap.mmap(descriptor, int(self._ends[-1]), access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(mapped, np.uint8)
        self._table = self._bytes[: len(self) * 8].view(np.int64)

    def _begin(self, index: int) -> int:
        return int(self._ends[index - 1]) if index else len(self) * 8


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CachedImages:
    """A data set whose images are decoded once and kept; its samples' images are read-only.

    Attributes:
      source: the data set.
      block: has room for some or all of its images.
    """

    source: ImageDataset
    block: SharedMemory

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        image = self.block.get(index)
        if image is None:
            image = self.source.read(index)
            self.block.put(index, image)
        return self.source.sample(index, image)

    def __repr__(self) -> str:
        return repr(self.source)

    @property
    def most_texts(self) -> int:
        """Return the largest number of texts of any image."""
        return self.source.most_texts


def keep_decoded(source: Source | Mixture, megabytes: int | None = None) -> Any:
    """Keep the decoded images of data sets in memory, and log how many are kept.

    Args:
      source: of a mixture, all data sets share the memory. Generated scenes are not kept.
      megabytes: of memory for the images; as many are kept as fit. None: all of them where they fit in
        half of the available memory, else none.

    Returns:
      A source of the very same samples: the given one if nothing is kept.
    """
    parts = source.sources if isinstance(source, Mixture) else (source,)
    sizes = [part.image_bytes() if isinstance(part, ImageDataset) else [] for part in parts]
    count, total = sum(map(len, sizes)), sum(map(sum, sizes))
    if megabytes == 0 or total == 0:
        return source
    available = available_memory()
    if megabytes is None and total > available / 2:
        problem = f"{count} images need {_amount(total)}, and {_amount(available)} are free"
        logger.info(
            "decoded images are not kept in memory: %s. Set data.cache_megabytes to keep some", problem
        )
        return source
    fitting = _fitting(sizes, total if megabytes is None else megabytes * 10**6)
    try:
        kept = tuple(map(_cached, parts, fitting))
    except OSError as error:
        logger.info("decoded images are not kept in memory: %s", error.strerror)
        return source
    line = f"{sum(map(np.count_nonzero, fitting))} images, {_amount(sum(map(sum, fitting)))}"
    if sum(map(sum, fitting)) < total:
        line += f" of {count} images, {_amount(total)}"
    logger.info("decoded images are kept in memory: %s", line)
    return dataclasses.replace(source, sources=kept) if isinstance(source, Mixture) else kept[0]


def _fitting(rooms: Sequence[Sequence[int]], budget: int) -> list[list[int]]:
    """The same rooms, but 0 for those images that the budget has no room for."""
    fitting: list[list[int]] = []
    for part in rooms:
        fitting.append([])
        for size in part:
            fitting[-1].append(size if size <= budget else 0)
            budget -= fitting[-1][-1]
    return fitting


def _cached(part: Source, rooms: Sequence[int]) -> Source:
    return CachedImages(part, SharedMemory(rooms)) if isinstance(part, ImageDataset) and any(rooms) else part


def _shareable_file(owner: object) -> tuple[int, str]:
    """A file that lives as long as its owner, and the path at which other processes find it until then."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("efficientnet-east-images")
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        if os.path.exists(path):
            return descriptor, path
        os.close(descriptor)
    descriptor, path = tempfile.mkstemp(prefix="efficientnet-east-images-")
    weakref.finalize(owner, os.unlink, path)
    return descriptor, path


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _amount(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"
