"""The machine: processor, threads, memory, disks, GPUs. Needs nothing but Python's own library."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from efficientnet_east import __version__
from efficientnet_east.doctor.libraries import ALL, BAD, NOTE, OK, TRAIN, CheckResult
from efficientnet_east.system import limits

GIGABYTE = 1 << 30
LEAST_MEMORY, LEAST_DISK, LEAST_SHARED = 2 * GIGABYTE, GIGABYTE, GIGABYTE // 4
DEVICES = Path("/dev")


def check_machine() -> list[CheckResult]:
    """Check everything but the devices, which TensorFlow finds."""
    folders = {"temporary files": (tempfile.gettempdir, "TMPDIR"), "cache": (cache_folder, "XDG_CACHE_HOME")}
    of_folders = [_folder(name, *place) for name, place in folders.items()]
    return [_python(), _processor(), _threads(), _memory(), *of_folders, *_shared()]


def _python() -> CheckResult:
    detail = f"{platform.python_version()}, {platform.platform()}"
    where = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    return CheckResult("Python", OK, f"{detail}; efficientnet_east {__version__} in {where}")


def _processor() -> CheckResult:
    text = _read("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = set((re.search(r"^flags\s*: (.+)$", text, re.MULTILINE) or ["", ""])[1].split())
    known = [flag for flag in ("avx", "avx2", "avx512f", "avx512_vnni", "amx_int8") if flag in flags]
    model = name[1] if name else platform.processor() or platform.machine()
    detail = f"{model}; {', '.join(known) or 'no AVX'}"
    if flags and "avx" not in flags:
        problem = f"{detail}; TensorFlow needs AVX"
        return CheckResult("processor", NOTE, problem, "use .onnx files for detection", TRAIN)
    return CheckResult("processor", OK, detail)


def _threads() -> CheckResult:
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = limits.cpu_quota()
    limit = f", with a quota of {quota:g}" if quota < float("inf") else ""
    detail = f"uses {limits.available_threads()}; may use {own} of {os.cpu_count()} processors{limit}"
    return CheckResult("threads", OK, detail)


def _memory() -> CheckResult:
    free = limits.available_memory()
    if free == float("inf"):
        return CheckResult("memory", OK, "unknown")
    detail = f"{free / GIGABYTE:.1f} GiB free"
    if free < LEAST_MEMORY:
        problem, fix = f"{detail}; training needs 2 or more", "use a smaller batch_size and crop_size"
        return CheckResult("memory", NOTE, problem, fix, TRAIN)
    return CheckResult("memory", OK, detail)


def nvidia_gpus() -> list[str]:
    """Name the NVIDIA GPUs of this machine, as its driver lists them; none without a driver."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
        names = re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*\))?$", done.stdout, re.MULTILINE)
    except (OSError, subprocess.SubprocessError):
        names = []
    return names or [f"the NVIDIA GPU {path}" for path in sorted(DEVICES.glob("nvidia[0-9]*"))]


def _folder(name: str, place: Callable[[], str], variable: str) -> CheckResult:
    """Check that a file can be written."""
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
        return CheckResult(name, BAD, f"cannot write a file ({error.strerror or error})", fix, use)
    enough, detail = free >= LEAST_DISK, f"{folder}, {free / GIGABYTE:.1f} GiB free"
    return CheckResult(name, OK if enough else NOTE, detail, "" if enough else fix)


def cache_folder() -> str:
    """Give the folder where libraries keep what they have computed."""
    return os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


def _shared() -> list[CheckResult]:
    """Check /dev/shm, through which the loader's processes pass batches; a container has 64 MiB of it."""
    if not Path("/dev/shm").exists():
        return []
    free = shutil.disk_usage("/dev/shm").free
    detail = f"{free / GIGABYTE:.2f} GiB free"
    if free < LEAST_SHARED:
        problem = f"{detail}; data loading with workers needs more"
        return [
            CheckResult(
                "/dev/shm", NOTE, problem, "set workers to 0, or run docker with --shm-size=1g", TRAIN
            )
        ]
    return [CheckResult("/dev/shm", OK, detail)]


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
