"""Reading, detecting and writing at once: in order, few images in memory, whole after an error."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from efficientnet_east.inference.overlap import overlapped


class Steps:
    """Three steps that note what they did, and how many items were in work at most."""

    def __init__(self) -> None:
        self.asked, self.written = list[int](), list[int]()
        self.most = 0
        self.threads: dict[str, set[int]] = {"read": set(), "detect": set(), "write": set()}

    def items(self, count: int) -> Iterator[int]:
        for number in range(count):
            self.asked.append(number)
            yield number

    def read(self, number: int) -> int:
        self.threads["read"].add(threading.get_ident())
        self.most = max(self.most, len(self.asked) - len(self.written))
        return number

    def detect(self, number: int) -> int:
        self.threads["detect"].add(threading.get_ident())
        return -number

    def write(self, found: int) -> str:
        self.threads["write"].add(threading.get_ident())
        self.written.append(-found)
        return f"wrote {-found}"


def run(steps: Steps, count: int) -> list[str]:
    return list(overlapped(steps.items(count), steps.read, steps.detect, steps.write))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_all_in_order(count: int) -> None:
    steps = Steps()
    assert run(steps, count) == [f"wrote {number}" for number in range(count)]
    assert steps.written == list(range(count))
    assert steps.threads["detect"] <= {threading.get_ident()}
    assert threading.get_ident() not in steps.threads["read"] | steps.threads["write"]


def test_steps_overlap_and_no_more_than_three_items_are_in_work() -> None:
    """The network of one item waits until the next is read and the last is being written."""
    steps, reading, writing = Steps(), threading.Semaphore(0), threading.Semaphore(0)

    def read(number: int) -> int:
        reading.release()
        return steps.read(number)

    def detect(number: int) -> int:
        assert reading.acquire(timeout=60)
        if number:
            assert writing.acquire(timeout=60), "the one before is not being written"
        if number < 19:
            assert reading.acquire(timeout=60), "the next one is not being read"
            reading.release()
        time.sleep(0.001)
        return steps.detect(number)

    def write(found: int) -> str:
        writing.release()
        return steps.write(found)

    assert len(list(overlapped(steps.items(20), read, detect, write))) == 20
    assert steps.most <= 3


@pytest.mark.parametrize("step", ["items", "read", "detect", "write"])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error_comes_out_and_what_was_begun_is_finished(step: str, kind: type[BaseException]) -> None:
    steps = Steps()
    usual = getattr(steps, step)

    def fail(value: int) -> object:
        if abs(value) == 3:
            raise kind("of the test")
        return usual(value)

    def items() -> Iterator[int]:
        return (number for number in range(9) if step != "items" or fail_at(number))

    def fail_at(number: int) -> bool:
        if number == 3:
            raise kind("of the test")
        return True

    chosen = {name: getattr(steps, name) for name in ("read", "detect", "write")}
    if step != "items":
        chosen[step] = fail
    with pytest.raises(kind, match="of the test"):
        list(overlapped(items(), **chosen))
    assert steps.written == [0, 1, 2], "those before it are whole, and nothing came after"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def test_who_leaves_early_closes_it() -> None:
    steps = Steps()
    with contextlib.closing(overlapped(itertools.count(), steps.read, steps.detect, steps.write)) as running:
        assert next(running) == "wrote 0"
    assert steps.written in ([0], [0, 1])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]
