"""How many threads to compute with: as many as this process may use, not as many as the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_threads() -> int:
    """The number of processors that this process may use, by its affinity and by its container's quota."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(own, cgroup_quota(CGROUP))))


def cgroup_quota(root: Path) -> float:
    """The processor time per time that a Linux container may use, as `docker run --cpus` sets it.

    Args:
      root: where the control groups are mounted; a container sees its own at the root.

    Returns:
      A number of processors, infinite without a limit.
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()  # version 2: "150000 100000" or "max 100000"
    except (OSError, ValueError):
        try:
            quota, period = (
                (root / f"cpu/cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except OSError:
            return math.inf
    try:
        limit = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):
        return math.inf
    return limit if limit > 0 else math.inf  # version 1 says -1
