"""Files are whole or not there: after errors, on a full disk, when the program is killed while it writes."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.disks import REPOSITORY, python_on_small_disk

from efficientnet_east.errors import UserError
from efficientnet_east.files import atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    atomic.write_file(path, b"old")
    with atomic.replacing(path) as file:
        file.write(b"newer")
        file.seek(0)
        assert file.read(3) == b"new" and path.read_bytes() == b"old"
    assert path.read_bytes() == b"newer" and names(path.parent) == ["a.bin"]
    reference = tmp_path / "plain"
    reference.touch()
    assert path.stat().st_mode == reference.stat().st_mode


def test_an_error_in_between_changes_nothing(tmp_path: Path) -> None:
    atomic.write_file(tmp_path / "a", b"old")
    with pytest.raises(ZeroDivisionError), atomic.replacing(tmp_path / "a") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]
    with pytest.raises(ZeroDivisionError), atomic.partial_folder(tmp_path) as folder:
        (folder / "b").write_bytes(b"new")
        raise ZeroDivisionError
    assert names(tmp_path) == ["a"]


@contextlib.contextmanager
def no_large_files() -> Iterator[None]:
    """Within, the system refuses every byte after a file's thousandth; also one that is printed to."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_half_way(tmp_path: Path) -> None:
    atomic.write_file(tmp_path / "a", b"old")
    refused = pytest.raises(UserError, match=r"a: cannot be written \(File too large\); expected a writable")
    with refused, no_large_files():
        atomic.write_file(tmp_path / "a", bytes(100_000))
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


FILL = """
import os
from efficientnet_east.files import atomic as safe_files
from efficientnet_east.errors import UserError
safe_files.write_file("a", b"old")
try:
    safe_files.write_file("a", bytes(100_000))
except UserError as error:
    print(error)
print(open("a").read(), os.listdir())
"""


def test_a_full_disk(tmp_path: Path) -> None:
    done = python_on_small_disk("64k", tmp_path / "disk", "-c", FILL)
    expected = "a: cannot be written (No space left on device); expected a writable folder with free space\n"
    assert done.stdout == expected + "old ['a']\n", done.stderr


def test_files_move_in_their_order_and_the_disk_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content of all files is on the disk before the first move, each move before the next."""
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def tell_sync(descriptor: int) -> None:
        done.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def tell_replace(path: Path, target: Path) -> Path:
        done.append(f"move {path.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", tell_sync)
    monkeypatch.setattr(Path, "replace", tell_replace)
    final = tmp_path / "final"
    with atomic.partial_folder(final) as folder:
        for name in ("data", "index"):
            (folder / name).write_text(name)
        atomic.move_into_place([folder / "data", folder / "index"], final)
    moves = ["move data", "sync final", "move index", "sync final"]
    assert done == ["sync data", "sync index", *moves]
    assert names(final) == ["data", "index"] and (final / "index").read_text() == "index"
    done.clear()
    atomic.write_file(final / "index", b"")
    assert [word.split()[0] for word in done] == ["sync", "move", "sync"] and done[2] == "sync final"


WRITE_FOR_EVER = """
import sys, time
from pathlib import Path
from efficientnet_east.files import atomic as safe_files
with safe_files.partial_folder(Path(sys.argv[1])) as folder, safe_files.replacing(sys.argv[1] + "/a") as file:
    (folder / "part").write_bytes(b"half")
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(600)
"""


def test_leftovers_of_a_killed_program(tmp_path: Path) -> None:
    """They go once their writer is dead; the file itself, and what others put there, stays."""
    atomic.write_file(tmp_path / "a", b"old")
    (tmp_path / "partial-notes").write_bytes(b"mine")
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        writing = names(tmp_path)
        assert len(writing) == 4
        atomic.remove_leftovers(tmp_path)
        assert names(tmp_path) == writing, "it is alive"
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path) == writing
    atomic.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["a", "partial-notes"] and (tmp_path / "a").read_bytes() == b"old"
    atomic.remove_leftovers(tmp_path / "nowhere")
