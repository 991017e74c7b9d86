"""Processors and memory: the tightest limit of all control groups above this process."""

import math
import os
from pathlib import Path

import pytest

from efficientnet_east.system import limits


def write_group(root: Path, kind: str, folder: str, **files: str) -> None:
    group = root / "sys/fs/cgroup" / kind / folder
    group.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (group / name.replace("__", ".")).write_text(text + "\n")


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A process two groups below the root, in both versions."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpu,cpuacct:/pods/one\n2:memory:/pods/one\n0::/pods/one\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    1000 kB\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "quota"),
    [("150000 100000", 1.5), ("max 100000", math.inf), ("0 0", math.inf), ("many", math.inf)],
)
def test_quota_of_version_2(words: str, quota: float, pod: Path) -> None:
    write_group(pod, "", "pods/one", cpu__max=words)
    assert limits.cpu_quota(pod) == quota


@pytest.mark.parametrize("kind", ["cpu", "cpu,cpuacct"])
def test_quota_of_version_1(kind: str, pod: Path) -> None:
    write_group(pod, kind, "pods/one", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert limits.cpu_quota(pod) == math.inf
    write_group(pod, kind, "pods", cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
    assert limits.cpu_quota(pod) == 2.5


def test_the_tightest_quota_above_a_process_counts(pod: Path) -> None:
    write_group(pod, "", "pods/one", cpu__max="max 100000")
    write_group(pod, "", "pods", cpu__max="300000 100000")
    write_group(pod, "", "", cpu__max="400000 100000")
    write_group(pod, "", "pods/two", cpu__max="100000 100000")  # of somebody else
    assert limits.cpu_quota(pod) == 3


@pytest.mark.parametrize(("quota", "threads"), [(math.inf, 4), (2.5, 3), (0.1, 1), (8, 4)])
def test_threads(quota: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 4, 6}, raising=False)
    monkeypatch.setattr(limits, "cpu_quota", lambda root: quota)
    assert limits.available_threads() == threads


def test_memory_of_the_machine(pod: Path) -> None:
    assert limits.available_memory(pod) == 1_024_000


@pytest.mark.parametrize(
    ("kind", "limit", "used", "dropped"),
    [
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_memory_of_nested_groups(kind: str, limit: str, used: str, dropped: str, pod: Path) -> None:
    def write(folder: str, most: str, now: int, may_go: int) -> None:
        statistics = f"anon 5\n{dropped} {may_go}\nactive_file 7"
        write_group(pod, kind, folder, **{limit: most, used: str(now), "memory.stat": statistics})

    write("pods/one", "100000", 10_000, 4_000)
    assert limits.available_memory(pod) == 94_000
    write("pods", "50000", 30_000, 1_000)
    assert limits.available_memory(pod) == 21_000
    write("pods/one", "100000", 101_000, 0)
    assert limits.available_memory(pod) == 0


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert limits.cpu_quota(tmp_path) == math.inf
    assert limits.available_memory(tmp_path) > 10**6
