"""Worker processes: failures reach the caller, and nothing outlives its stream."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers.streams import Failing, Unsendable, assert_equal, stream, take

from efficientnet_east.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("bug", ZeroDivisionError, "a bug in the source"),
        ("unpicklable", RuntimeError, "firstsecond"),
        ("exit", RuntimeError, "SystemExit"),
    ],
)
def test_any_failure_reaches_the_caller(kind: str, error: type[Exception], text: str, workers: int) -> None:
    failing = stream(Failing(kind), workers=workers, on_bad=print)
    with failing as opened, pytest.raises(error, match=text) as raised:
        next(opened)
    if kind == "bug":  # it shows its place, through the boundary of processes too
        assert "streams.py" in raised.value.__notes__[0]


def test_workers_run_one_thread_of_opencv() -> None:
    with stream(Failing("threads"), workers=1) as opened, pytest.raises(ValueError, match="runs 1 threads"):
        next(opened)


def test_a_source_that_cannot_be_sent_is_an_error() -> None:
    with stream(Unsendable(3), workers=1) as opened, pytest.raises(TypeError, match="open file"):
        next(opened)


@pytest.mark.parametrize(("workers", "before"), [(2, 1), (1, 0)])
def test_a_killed_worker_is_an_error(workers: int, before: int) -> None:
    with stream(workers=workers) as opened:
        for _ in range(before):
            next(opened)
        while len(multiprocessing.active_children()) < workers:
            time.sleep(0.01)
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL)
        with pytest.raises(UserError, match=r"data workers: Worker process .* exit code -9"):
            for _ in range(20):  # some batches are ready
                next(opened)


def test_closing_early_and_twice() -> None:
    opened = stream(workers=2)
    opened.close()
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        next(opened)


@pytest.mark.parametrize("workers", [0, 1])
def test_nobody_works_while_batches_are_not_taken(workers: int) -> None:
    """Once the buffers are full, neither this process nor the workers use processor time or make batches."""
    with stream(workers=workers) as opened:
        next(opened)
        time.sleep(1)
        pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
        before = [psutil.Process(pid).cpu_times() for pid in pids]
        time.sleep(1)
        after = [psutil.Process(pid).cpu_times() for pid in pids]
    used = [new.user + new.system - old.user - old.system for old, new in zip(before, after, strict=True)]
    assert len(used) == 1 + workers and max(used) < 0.1


def test_closing_while_a_full_buffer_waits() -> None:
    for workers in (0, 1):
        opened = stream(workers=workers)
        next(opened)
        time.sleep(0.3)
        begin = time.monotonic()
        opened.close()
        assert time.monotonic() - begin < 5


def test_two_streams_at_once() -> None:
    with stream(workers=1) as first, stream(workers=1, seed=2) as second:
        taken = [(next(first), next(second)) for _ in range(3)]
    assert_equal([pair[0] for pair in taken], take(3))
    assert_equal([pair[1] for pair in taken], take(3, seed=2))


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
    }


def test_no_tensorflow_and_a_quiet_end() -> None:
    """Batches kept and streams left open to the end of the interpreter, and nothing to be read on stderr."""
    code = """
import sys
from helpers.streams import stream
streams = stream(), stream(workers=1)
batches = [next(opened) for opened in streams]
print("tensorflow" in sys.modules, "jax" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment()
    )
    assert ended.stdout == "False False\n" and ended.returncode == 0
    assert [line for line in ended.stderr.splitlines() if "jax profiler" not in line] == []


@pytest.mark.parametrize("module", ["efficientnet_east.__main__", "efficientnet_east.cli.main"])
def test_grain_says_nothing_in_workers_of_a_program(module: str, tmp_path: Path) -> None:
    """Neither of the command nor of train.py, whose workers load these modules first: JAX is not missed."""
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import importlib, multiprocessing
import {module}
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=importlib.import_module, args=("grain",))
    worker.start()
    worker.join()
    print(worker.exitcode)
"""
    )
    command = [sys.executable, program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
    assert (ended.stdout, ended.stderr) == ("0\n", "")


def test_workers_end_when_their_parent_is_killed() -> None:
    code = """
import multiprocessing, time
from helpers.streams import stream
opened = stream(workers=1)
next(opened)
print(*[process.pid for process in multiprocessing.active_children()], flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        worker = int(process.stdout.readline()) if process.stdout is not None else 0
        process.kill()
    deadline = time.monotonic() + 10
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    if is_running(worker):
        os.kill(worker, signal.SIGKILL)
        pytest.fail("a worker outlives its parent")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
