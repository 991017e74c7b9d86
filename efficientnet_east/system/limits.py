"""What this process may use of the machine: processors and memory, by the limits of its container, too.

On Linux a container, a batch system or a service limits a process by control groups. Groups are nested, and
each group above the process may have a limit of its own. The tightest one counts. Both versions of the
control groups are read.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def available_threads(root: str | os.PathLike[str] = ROOT) -> int:
    """Count the processors that this process may use, by its affinity and by its control groups.

    Args:
      root: where the system's files are; tests give another one.

    Returns:
      A number of threads, at least 1.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(own, cpu_quota(root))))


def cpu_quota(root: str | os.PathLike[str] = ROOT) -> float:
    """Read how much processor time the control groups allow, as `docker run --cpus` sets it.

    Args:
      root: where the system's files are.

    Returns:
      A number of processors, which need not be whole; infinite without a limit.
    """
    return min((_quota_of(group, new) for group, new in _groups(Path(root), "cpu")), default=math.inf)


def available_memory(root: str | os.PathLike[str] = ROOT) -> float:
    """Read how much more memory this process can use.

    Args:
      root: where the system's files are.

    Returns:
      Bytes: what is free, or what is left of the control groups' limits if that is less. Files that the
      system keeps in memory and may drop count as free. Infinite where the system does not say.
    """
    left = [_free_of_machine(Path(root))]
    for group, new in _groups(Path(root), "memory"):
        left += _memory_of(group, new)
    return min(left)


def _free_of_machine(root: Path) -> float:
    found = re.search(r"^MemAvailable:\s+(\d+)", "\n".join(_lines(root / "proc/meminfo")), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    try:
        import psutil
    except ImportError:
        return math.inf
    return int(psutil.virtual_memory().available)


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The control groups of this process, its own first, then those above; True for version 2."""
    mounted = root / "sys/fs/cgroup"
    seen = set()
    for base, path, new in _memberships(root, mounted, controller):
        folder = base / path.strip("/")
        for group in (folder, *folder.parents):
            if group not in seen:
                seen.add(group)
                yield group, new
            if group == base:
                break


def _memberships(root: Path, mounted: Path, controller: str) -> Iterator[tuple[Path, str, bool]]:
    """Where groups are mounted, this process's path in them, and whether they are of version 2."""
    for line in _lines(root / "proc/self/cgroup"):
        _, kinds, path = line.split(":", 2)
        if not kinds:
            yield mounted, path, True
        elif controller in kinds.split(","):
            for name in (kinds, controller):  # a link `cpu` leads to `cpu,cpuacct`, not everywhere
                yield mounted / name, path, False


def _quota_of(group: Path, new: bool) -> float:
    if new:
        words = (_lines(group / "cpu.max") or [""])[0].split()  # "150000 100000", or "max 100000"
    else:
        words = [(_lines(group / f"cpu.cfs_{name}_us") or [""])[0] for name in ("quota", "period")]
    try:
        quota, period = map(float, words)
        return quota / period if quota > 0 else math.inf  # version 1 says -1 for no limit
    except (ValueError, ZeroDivisionError):
        return math.inf


def _memory_of(group: Path, new: bool) -> list[int]:
    """What is left of a group's limit, in bytes; nothing if it has no limit."""
    names = ("memory.max", "memory.current") if new else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limit, used = (_lines(group / name) for name in names)
    if not limit or not used or limit[0] == "max":
        return []
    statistics = dict(line.split() for line in _lines(group / "memory.stat"))
    dropped = statistics.get("inactive_file" if new else "total_inactive_file", "0")
    return [max(0, int(limit[0]) - int(used[0]) + int(dropped))]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
