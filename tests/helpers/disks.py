"""A disk that is really full: a program runs on a file system of its own that holds a few kilobytes."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# In a mount namespace of its own nothing has to be unmounted, and no other process sees the disk.
NAMESPACES = (["unshare", "--map-root-user", "--mount"], ["unshare", "--mount"])
MOUNT = 'mount -t tmpfs -o size="$0" none "$1" && cd "$1" && shift && exec "$@"'


@functools.cache
def namespace() -> list[str] | None:
    """The command that opens a mount namespace for a user without rights, or for root; None: neither may."""
    for command in NAMESPACES:
        try:
            probe = [*command, "mount", "-t", "tmpfs", "-o", "size=4k", "none", "/mnt"]
            if subprocess.run(probe, capture_output=True, timeout=30).returncode == 0:
                return command
        except OSError:
            pass
    return None


def python_on_small_disk(
    size: str, folder: Path, *words: str, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run Python with the words on an empty disk of `size`, mounted at `folder`, its current folder."""
    command = namespace()
    if command is None:
        pytest.skip("mounting a small disk needs root, or a kernel that lets users have their own namespaces")
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}
    return subprocess.run(
        [*command, "sh", "-c", MOUNT, size, str(folder), sys.executable, *words],
        env=environment, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
