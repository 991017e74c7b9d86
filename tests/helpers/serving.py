"""Servers for tests: detectors that see one word, and fall over certain images in every way."""

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.networks import one_box

from efficientnet_east.config import Detect
from efficientnet_east.inference.detector import Detector

# The colour of an image's first pixel, and what becomes of whoever looks at it.
CRASH, HANG, RAISE, SLOW = (1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)


def network(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A network that sees the word of `make_data`."""
    first = tuple(batch[0, 0, 0].tolist())
    if first == CRASH:
        os.kill(os.getpid(), signal.SIGSEGV)
    if first == RAISE:
        raise MemoryError("no room for /secret/place")
    time.sleep({HANG: 60, SLOW: 0.2}.get(first, 0))
    return one_box(batch)


def load() -> dict[str, Detector]:
    """Two of it; called in the worker's process."""
    return {"first": Detector(network, Detect()), "second": Detector(network, Detect(score_threshold=0.96))}


def image_file(first: tuple[int, int, int] = (200, 200, 200), **size: int) -> bytes:
    """A PNG of one colour, in which `network` sees its word."""
    shape = size.get("height", 96), size.get("width", 128), 3
    pixels = np.full(shape, first, np.uint8)
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def ask(
    port: int, method: str = "POST", path: str = "/detect", body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request; gives status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def error(status: int, answer: tuple[int, dict[str, str], bytes]) -> str:
    """The one line of a refusal."""
    found, headers, body = answer
    assert (found, headers["content-type"]) == (status, "application/json"), body
    assert body.count(b"\n") == 1 and b"Traceback" not in body
    (line,) = json.loads(body).values()
    return line


@contextlib.contextmanager
def running(**options: Any) -> Iterator[int]:
    """A server in a thread of this process; gives its port."""
    app = pytest.importorskip("efficientnet_east.demo.app")
    from efficientnet_east.demo import limits, server, worker

    silent = options.pop("silent_seconds", 5.0)
    working = worker.Worker(load, options.pop("seconds", 10.0), options.pop("waiting", 8))
    working.start()
    built = app.build(working, limits.Limits(**options), 1_000_000)
    made = server.make(built, silent)
    listening = server.listen("127.0.0.1", 0)
    ready = threading.Event()
    thread = threading.Thread(target=server.serve, args=(made, listening, ready.set))
    thread.start()
    try:
        assert ready.wait(30)
        yield listening.getsockname()[1]
    finally:
        made.should_exit = True
        thread.join(20)
        working.close()
        listening.close()
    assert not thread.is_alive()
