"""One process at a time in a workdir."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.disks import REPOSITORY

from efficientnet_east.errors import UserError, WriteError
from efficientnet_east.files import atomic
from efficientnet_east.training import workdir as workdirs
from efficientnet_east.training.workdir import LOCK, expect_posix, hold

HOLD = """
import sys, time
from pathlib import Path
from efficientnet_east.files import atomic
from efficientnet_east.training.workdir import hold
with hold(Path(sys.argv[1])), atomic.replacing(sys.argv[1] + "/best/model") as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workdirs, "PATIENCE", 0.1)


def test_the_second_process_is_refused_until_the_first_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workdir = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(workdir)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with pytest.raises(UserError) as refused, hold(workdir):
            raise AssertionError("both train")
        host = os.uname().nodename
        expected = f"{workdir}: is in use by process {process.pid} on {host}. Wait for it to finish"
        assert str(refused.value).startswith(expected)
        process.kill()
    assert (workdir / LOCK).exists() and len(list((workdir / "best").iterdir())) == 1
    with hold(workdir):
        assert (workdir / LOCK).read_text() == f"process {os.getpid()} on {host}"
        assert not list((workdir / "best").iterdir()), "what the killed one was writing is gone"
        with pytest.raises(UserError, match=f"process {os.getpid()}"), hold(workdir):
            raise AssertionError("a process may hold it once")
    assert [path.name for path in workdir.iterdir()] == ["best"] and not caplog.messages


def test_the_lock_goes_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with hold(tmp_path):
        pass


def test_a_lock_that_is_removed_at_the_wrong_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened before its owner removed it, locked after: that file keeps nobody out; another one is made."""
    lock, removed = fcntl.flock, []

    def remove_first(descriptor: int, how: int) -> None:
        if not removed:
            removed.append((tmp_path / LOCK).unlink())
        lock(descriptor, how)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", remove_first)
        with hold(tmp_path):
            patch.undo()
            assert removed and (tmp_path / LOCK).exists()
            with pytest.raises(UserError, match="in use"), hold(tmp_path):
                raise AssertionError("both train")


@pytest.mark.parametrize("number", workdirs.NO_LOCKS)
def test_a_file_system_without_locks(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with hold(tmp_path):
        atomic.write_file(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith(f"{tmp_path / LOCK} cannot be locked ({os.strerror(number)}). Make sure")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_workdir_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(WriteError, match="Read-only file system"), hold(tmp_path):
        raise AssertionError("it goes on")


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError) as refused:
        expect_posix()
    assert str(refused.value) == "training: runs on Linux and macOS only. On Windows use WSL."
