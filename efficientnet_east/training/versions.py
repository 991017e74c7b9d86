"""`versions.json`: the versions that a run was made with, an entry for each process that worked on it."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from efficientnet_east import __version__
from efficientnet_east.files.atomic import write_file
from efficientnet_east.system.limits import available_threads

FILE = "versions.json"
PACKAGES = (
    "tensorflow", "tf-keras", "tf-slim", "jaxlib", "numpy", "opencv-python-headless", "opencv-python",
    "grain", "pillow", "pydantic", "lanms-neo",
)  # fmt: skip


def record(folder: Path, step: int) -> None:
    """Append an entry for this process, unless it is the last one's.

    Args:
      folder: of the run.
      step: number of steps done before.

    Raises:
      UserError: the file cannot be written.
    """
    path = folder / FILE
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or a damaged one: it is only a record
        earlier = []
    entries = earlier if isinstance(earlier, list) else []
    if entries and entries[-1].get("started") == started():
        return
    entries.append({"step": step} | describe())
    write_file(path, (json.dumps(entries, indent=2) + "\n").encode())


def describe() -> dict[str, Any]:
    """Describe this process: command, versions, processor; no name of a user, a folder or a machine."""
    program = Path(sys.argv[0])
    name = f"-m {program.parent.name}" if program.name == "__main__.py" else program.name
    found = {package: _version(package) for package in PACKAGES}
    return {
        "started": started(),
        "command": f"{name} {shlex.join(sys.argv[1:])}".strip(),
        "efficientnet-east": __version__,
        "commit": commit(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        **{package: version for package, version in found.items() if version},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "threads": available_threads(),
    }


@functools.cache
def started() -> str:
    """Return the time of the first call in this process."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def commit(folder: Path) -> str | None:
    """Find the commit that is checked out in a folder; with a `+` behind it if tracked files differ from it.

    Args:
      folder: the top of a working tree, or any other folder, such as an installation's.

    Returns:
      The hash, or None.
    """
    if not (folder / ".git").exists():
        return None
    try:
        head, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + "+" * bool(changes)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Name the processor, with the number of its logical cores."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:  # no Linux
        pass
    return f"{name}, {os.cpu_count()} logical cores"
