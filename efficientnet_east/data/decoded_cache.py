"""Decoded images in memory, once for all processes of a run.

A block of memory has room for every image and holds nothing at first: pages that nobody wrote take no
memory. Whichever process decodes an image first writes it there; all others then look at these very pages.
Two that decode the same image at the same time write the same bytes.

On Linux the block is an anonymous file, which no container's small /dev/shm limits, and which is gone with
the last process that has it open, however that ended. Elsewhere it is a temporary file.
"""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from efficientnet_east.data.icdar import IcdarImages
from efficientnet_east.data.loader import Mixture
from efficientnet_east.errors import UserError
from efficientnet_east.structures import Sample, Source

# Nothing more is kept once less than this is free: what trains needs some, too.
_SPARE = 1 << 29
# Images begin at multiples of this many bytes: a line of the processor's cache.
_ALIGNMENT = 64


class Block:
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
        """An image, if it is there: uint8 (height, width, 3), read-only."""
        height, width = divmod(int(self._table[index]), 1 << 32)
        size = height * width * 3
        # Nothing there yet, or an entry that another process is writing at this very moment.
        if not size or size != self._rooms[index]:
            return None
        return self._bytes[self._begin(index) :][:size].reshape(height, width, 3)

    def put(self, index: int, image: np.ndarray) -> bool:
        """Keep an image; whether it was kept.

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
            raise UserError(
                "data.cache_megabytes", problem, "expected --cache-megabytes 0 on this machine"
            ) from None
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

    source: IcdarImages
    block: Block

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
        """The largest number of texts of any image."""
        return self.source.most_texts


def keep_decoded(source: Source | Mixture, megabytes: int | None = None) -> tuple[Any, str]:
    """Keep the decoded images of data sets in memory.

    Args:
      source: of a mixture, all data sets share the memory. Generated scenes are not kept.
      megabytes: of memory for the images; as many are kept as fit. None: all of them where they fit in
        half of the available memory, else none.

    Returns:
      A source of the very same samples (the given one if nothing is kept), and a line that says what is kept;
      an empty line if there is nothing to keep.
    """
    parts = source.sources if isinstance(source, Mixture) else (source,)
    rooms = [part.image_bytes() if isinstance(part, IcdarImages) else [] for part in parts]
    count, total = sum(map(len, rooms)), sum(map(sum, rooms))
    if megabytes == 0 or total == 0:
        return source, ""
    available = available_memory()
    if megabytes is None and total > available / 2:
        problem = f"{count} images would take {_amount(total)} of {_amount(available)} that are free"
        return source, f"decoded images are not kept in memory: {problem}; --cache-megabytes N keeps some"
    fitting = _fitting(rooms, total if megabytes is None else megabytes * 10**6)
    try:
        kept = tuple(map(_cached, parts, fitting))
    except OSError as error:
        return source, f"decoded images are not kept in memory: {error.strerror}"
    line = f"{sum(map(np.count_nonzero, fitting))} images, {_amount(sum(map(sum, fitting)))}"
    if sum(map(sum, fitting)) < total:
        line += f" of {count} images, {_amount(total)}"
    whole = dataclasses.replace(source, sources=kept) if isinstance(source, Mixture) else kept[0]
    return whole, f"decoded images are kept in memory: {line}"


def available_memory(root: str | os.PathLike[str] = "/") -> int:
    """Bytes that this process can still use: what is free, or what is left of its control groups' limits.

    Args:
      root: where the system's files are.
    """
    left = [psutil.virtual_memory().available]
    for limit, used, cached in _control_groups(Path(root)):
        left.append(max(0, limit - used + cached))
    return min(left)


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
    return CachedImages(part, Block(rooms)) if isinstance(part, IcdarImages) and any(rooms) else part


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


def _control_groups(root: Path) -> list[tuple[int, int, int]]:
    """Limit, use, and how much of the use is files that can be dropped: of each group that has a limit."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        base = root / "sys/fs/cgroup" / kinds
        folder = base / path.strip("/")
        for group in (folder, *folder.parents):
            found += _limits(group, new=not kinds)
            if group == base:
                break
    return found


def _limits(group: Path, new: bool) -> list[tuple[int, int, int]]:
    names = ("memory.max", "memory.current") if new else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limit, used = (_lines(group / name) for name in names)
    if not limit or not used or limit[0] == "max":
        return []
    statistics = dict(line.split() for line in _lines(group / "memory.stat"))
    dropped = statistics.get("inactive_file" if new else "total_inactive_file", "0")
    return [(int(limit[0]), int(used[0]), int(dropped))]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"
