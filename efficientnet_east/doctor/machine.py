"""The machine: processor, threads, memory, disks. Nothing but Python's own library is needed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from efficientnet_east import __version__
from efficientnet_east.doctor.libraries import ALL, BAD, NOTE, OK, TRAIN, Finding
from efficientnet_east.inference.threads import available_threads, cgroup_quota

GIGABYTE = 1 << 30
LEAST_MEMORY, LEAST_DISK, LEAST_SHARED = 2 * GIGABYTE, GIGABYTE, GIGABYTE // 4
CGROUP = Path("/sys/fs/cgroup")


def look() -> list[Finding]:
    """Look at everything; TensorFlow's devices are found where TensorFlow is."""
    folders = {"temporary files": (tempfile.gettempdir, "TMPDIR"), "cache": (cache_folder, "XDG_CACHE_HOME")}
    of_folders = [_folder(name, *place) for name, place in folders.items()]
    return [_python(), _processor(), _threads(), _memory(), *of_folders, *_shared()]


def _python() -> Finding:
    told = f"{platform.python_version()}, {platform.platform()}"
    where = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    return Finding("Python", OK, f"{told}; efficientnet_east {__version__} in {where}")


def _processor() -> Finding:
    text = _read("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = set((re.search(r"^flags\s*: (.+)$", text, re.MULTILINE) or ["", ""])[1].split())
    known = [flag for flag in ("avx", "avx2", "avx512f", "avx512_vnni", "amx_int8") if flag in flags]
    model = name[1] if name else platform.processor() or platform.machine()
    told = f"{model}; {', '.join(known) or 'no AVX known'}"
    if flags and "avx" not in flags:
        problem = f"{told}; TensorFlow's packages need AVX"
        return Finding("processor", NOTE, problem, "detect with an .onnx file", TRAIN)
    return Finding("processor", OK, told)


def _threads() -> Finding:
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cgroup_quota(CGROUP)
    limit = f", a quota of {quota:g}" if quota < float("inf") else ""
    told = f"{available_threads()} are used: of {os.cpu_count()} processors this process may use {own}{limit}"
    return Finding("threads", OK, told)


def _memory() -> Finding:
    kilobytes = re.search(r"^MemAvailable:\s+(\d+)", _read("/proc/meminfo"), re.MULTILINE)
    if not kilobytes:
        return Finding("memory", OK, "unknown")
    free = int(kilobytes[1]) * 1024
    limit = _read(CGROUP / "memory.max").strip()
    if limit.isdecimal():
        used = _read(CGROUP / "memory.current").strip()
        free = min(free, int(limit) - int(used if used.isdecimal() else 0))
    told = f"{free / GIGABYTE:.1f} GiB free"
    if free < LEAST_MEMORY:
        problem = f"{told}; training takes 2 or more"
        return Finding(
            "memory", NOTE, problem, "a smaller --batch-size and --crop-size, or more memory", TRAIN
        )
    return Finding("memory", OK, told)


def _folder(name: str, place: Callable[[], str], variable: str) -> Finding:
    """Whether a file can be written there."""
    fix = f"export {variable}=/a/folder/with/space"
    try:
        folder = Path(place())
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        use = ALL if variable == "TMPDIR" else ""
        return Finding(name, BAD, f"no file can be written ({error.strerror or error})", fix, use)
    enough, told = free >= LEAST_DISK, f"{folder}, {free / GIGABYTE:.1f} GiB free"
    return Finding(name, OK if enough else NOTE, told, "" if enough else fix)


def cache_folder() -> str:
    """Where libraries keep what they have computed."""
    return os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


def _shared() -> list[Finding]:
    """Through /dev/shm the loader's processes pass on batches; containers get 64 MiB of it."""
    if not Path("/dev/shm").exists():
        return []
    free = shutil.disk_usage("/dev/shm").free
    told = f"{free / GIGABYTE:.2f} GiB free"
    if free < LEAST_SHARED:
        problem = f"{told}; --workers above 0 need more"
        return [Finding("/dev/shm", NOTE, problem, "--workers 0, or docker run --shm-size=1g", TRAIN)]
    return [Finding("/dev/shm", OK, told)]


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
