"""Measure how long a detector takes for an image, part by part.

The parts: `file` (decoding it), `resize` (scaling, padding, tiles, and putting
their maps together), `network`, `boxes` (decoding the maps and merging), `draw`. `detector` is what
`Detector.__call__` does with an array: resize, network and boxes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from efficientnet_east.data.images import read_image
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.runtimes.runtime import Run
from efficientnet_east.structures import Detections

PARTS = ("file", "resize", "network", "boxes", "draw")
DETECTOR = "detector"
_IN_DETECTOR = ("resize", "network", "boxes")


def time_image(
    detector: Detector, data: bytes, clock: Callable[[], float] = time.perf_counter
) -> tuple[dict[str, float], Detections]:
    """Detect in one image, and read the clock between the parts.

    Args:
      detector: any.
      data: the bytes of an image file.
      clock: returns seconds.

    Returns:
      Seconds by part, with `detector`; and what was found.

    Raises:
      UserError: the bytes are no image.
    """
    inside: list[float] = []
    watched = detector.with_run(watch(detector.run, inside, clock))
    marks = [clock()]
    image = read_image(data)
    marks.append(clock())
    maps = watched.maps_per_scale(image)
    marks.append(clock())
    found = detector.boxes(maps)
    marks.append(clock())
    found.draw(image)
    marks.append(clock())
    file, with_network, boxes, draw = np.diff(marks).tolist()
    taken = file, with_network - sum(inside), sum(inside), boxes, draw
    seconds = dict(zip(PARTS, taken, strict=True))
    return seconds | {DETECTOR: sum(seconds[part] for part in _IN_DETECTOR)}, found


def watch(run: Run, seconds: list[float], clock: Callable[[], float]) -> Run:
    """Wrap a network, and note how long each of its runs takes.

    Args:
      run: the network.
      seconds: to which they are appended.
      clock: returns seconds.
    """

    def watched(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        begun = clock()
        maps = run(batch)
        seconds.append(clock() - begun)
        return maps

    return watched


def summarize(laps: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Summarize the times of many images.

    Args:
      laps: seconds by part, of each image; at least one.

    Returns:
      By part, in milliseconds: `median`, `p90` (nine of ten images take no longer) and `least`.
    """
    found = {}
    for part in laps[0]:
        values = sorted(lap[part] * 1000 for lap in laps)
        p90 = values[min(len(values) - 1, int(len(values) * 0.9))]
        numbers = {"median": statistics.median(values), "p90": p90, "least": values[0]}
        found[part] = {name: round(value, 3) for name, value in numbers.items()}
    return found
