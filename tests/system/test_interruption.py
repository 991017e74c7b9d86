"""Signals: the first is a request, the second an order; and one process at a time in a workdir."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.disks import REPOSITORY

from efficientnet_east.errors import UserError, WriteError
from efficientnet_east.files import atomic
from efficientnet_east.system import interruption
from efficientnet_east.training.workdir import LOCK, hold


def started(code: str, *words: str) -> subprocess.Popen[str]:
    """A Python program that has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


# --- signals


@pytest.fixture(autouse=True)
def same_handlers() -> Iterator[None]:
    before = [signal.getsignal(number) for number in interruption.SIGNALS]
    yield
    assert [signal.getsignal(number) for number in interruption.SIGNALS] == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_first_signal_can_be_caught(number: signal.Signals, code: int) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # a shell, or nohup, may have had it ignored
    with interruption.watch() as told, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
        time.sleep(5)
    signal.signal(number, before)
    assert told.received == number and told.exit_code == code


def test_what_was_ignored_stays_ignored() -> None:
    """As nohup and shells without job control ask for."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruption.watch() as told:
        os.kill(os.getpid(), signal.SIGHUP)
    assert told.received is None and signal.signal(signal.SIGHUP, before) == signal.SIG_IGN


def test_another_thread_changes_nothing() -> None:
    received = []

    def work() -> None:
        with interruption.watch() as told:
            received.append(told.exit_code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert received == [130]


STOP_SLOWLY = """
import sys, time
from efficientnet_east.system.interruption import watch
with watch() as told:
    try:
        print("ready", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("saving", flush=True)
        time.sleep(float(sys.argv[1]))
        print("saved", flush=True)
sys.exit(told.exit_code)
"""


def test_the_second_signal_ends_at_once() -> None:
    with started(STOP_SLOWLY, "600") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None and process.stdout.readline() == "saving\n"
        time.sleep(2 * interruption.ECHO)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


def test_an_echo_is_no_second_signal() -> None:
    with started(STOP_SLOWLY, "0.5") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None and process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "saved\n" and process.wait(10) == 143


# --- one process in a workdir


HOLD = """
import sys, time
from pathlib import Path
from efficientnet_east.files import atomic as safe_files
from efficientnet_east.training.workdir import hold
with hold(Path(sys.argv[1]), print), safe_files.replacing(sys.argv[1] + "/best/model") as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    time.sleep(600)
"""


def no_line(line: str) -> None:
    raise AssertionError(line)


def test_the_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    with started(HOLD, str(workdir)) as process:
        with pytest.raises(UserError) as refused, hold(workdir, no_line):
            raise AssertionError("both train")
        host = os.uname().nodename
        expected = f"{workdir}: is in use by process {process.pid} on {host}; expected another --workdir"
        assert str(refused.value).startswith(expected)
        process.kill()
    assert (workdir / LOCK).exists() and len(list((workdir / "best").iterdir())) == 1
    with hold(workdir, no_line):
        assert (workdir / LOCK).read_text() == f"process {os.getpid()} on {host}"
        assert not list((workdir / "best").iterdir()), "what the killed one was writing is gone"
        with pytest.raises(UserError, match=f"process {os.getpid()}"), hold(workdir, no_line):
            raise AssertionError("a process may hold it once")
    assert [path.name for path in workdir.iterdir()] == ["best"]


def test_the_lock_goes_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path, no_line):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with hold(tmp_path, no_line):
        pass


def test_a_lock_that_is_removed_at_the_wrong_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened before its owner removed it, locked after: that file keeps nobody out; another one is made."""
    lock, removed = atomic.fcntl.flock, []

    def remove_first(descriptor: int, how: int) -> None:
        if not removed:
            removed.append((tmp_path / LOCK).unlink())
        lock(descriptor, how)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.fcntl, "flock", remove_first)
        with hold(tmp_path, no_line):
            patch.undo()
            assert removed and (tmp_path / LOCK).exists()
            with pytest.raises(UserError, match="in use"), hold(tmp_path, no_line):
                raise AssertionError("both train")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(atomic.fcntl, "flock", refuse)
    lines: list[str] = []
    with hold(tmp_path, lines.append):
        atomic.write_file(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    (line,) = lines
    assert line.startswith(f"warning: {tmp_path / LOCK} cannot be locked (Function not implemented)")


def test_a_workdir_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(WriteError, match="Read-only file system"), hold(tmp_path, no_line):
        raise AssertionError("it goes on")
