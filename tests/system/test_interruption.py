"""Signals: the first is a request, the second an order."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from helpers.disks import REPOSITORY

from efficientnet_east.system import interruption


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_was_lost_is_raised_again() -> None:
    """Python drops exceptions in destructors; a signal that arrives there must stop the run all the same."""

    class Doomed:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)  # the handler runs here

    with interruption.watch() as watched:
        interruption.raise_pending()
        doomed = Doomed()
        del doomed
        assert watched.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            interruption.raise_pending()
    interruption.raise_pending()
