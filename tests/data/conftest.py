"""What all tests of data share."""

import multiprocessing
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Grain keeps one pool of threads for freeing shared memory; apart from it nothing may stay."""
    yield
    assert multiprocessing.active_children() == []
    left = [thread for thread in threading.enumerate() if thread.name.startswith("grain")]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)
