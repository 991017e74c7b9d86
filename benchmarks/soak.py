"""Hundreds of images of changing sizes through one detector: whether memory, threads and open files grow.

    python benchmarks/soak.py OUT.json --checkpoint runs/b0 --checkpoint b0.onnx [--images DIR]

Each detector is a process of its own, as users have it. Every image has another size: photographs are
scaled to it, and without a folder it is noise with bars. The first images are the warm-up: the largest is one
of them, for whatever a runtime keeps for it. Growth is the mean of the resident set over the last fifty
images, less that over the fifty after the warm-up; the peaks of both are written down, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
LARGEST, SMALLEST = (720, 1280), (32, 48)
WARM_UP, WINDOW = 100, 50
LIMIT = 20.0  # MB
MEGABYTE = 1e6


@dataclasses.dataclass(frozen=True)
class State:
    """Of this process after an image."""

    resident: float  # MB
    threads: int
    files: int


def state() -> State:
    """The state now."""
    process = psutil.Process()
    return State(process.memory_info().rss / MEGABYTE, process.num_threads(), process.num_fds())


def pictures(folder: Path | None, count: int) -> Iterator[np.ndarray]:
    """Images of all sizes, uint8 RGB; the first one has the largest."""
    from efficientnet_east.data.images import SUFFIXES, read_image

    rng = np.random.default_rng(0)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder else []
    for number in range(count):
        drawn = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))).astype(int)
        height, width = LARGEST if number == 0 else drawn.tolist()
        if files:
            image = read_image(files[number % len(files)])
            yield cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        else:
            image = rng.integers(120, 255, (height, width, 3), np.uint8)
            image[height // 3 : height // 2, width // 4 : width // 2] = 20
            yield image


def soak(path: str, folder: Path | None, count: int, threads: int) -> dict[str, Any]:
    """Detect in all images, and look at this process after each."""
    from efficientnet_east import Detector
    from efficientnet_east.system.environment import keep_memory

    keep_memory()
    detector = Detector.load(path, {"threads": threads})
    begun, states, boxes = time.perf_counter(), [], 0
    for image in pictures(folder, count):
        boxes += len(detector(image))
        states.append(state())
    before, after = states[WARM_UP : WARM_UP + WINDOW], states[-WINDOW:]
    resident = [float(np.mean([one.resident for one in part])) for part in (before, after)]
    peaks = [max(one.resident for one in part) for part in (states[:WARM_UP], states[WARM_UP:])]
    return {
        "images": count, "boxes": boxes, "seconds": round(time.perf_counter() - begun, 1),
        "after_warm_up_mb": round(resident[0], 1), "at_the_end_mb": round(resident[1], 1),
        "growth_mb": round(resident[1] - resident[0], 1),
        "peak_of_warm_up_mb": round(peaks[0], 1), "peak_afterwards_mb": round(peaks[1], 1),
        "threads": [before[0].threads, after[-1].threads], "files": [before[0].files, after[-1].files],
        "every_50th_mb": [round(one.resident, 1) for one in states[::WINDOW]],
    }  # fmt: skip


def main() -> None:
    """Soak each detector in a process of its own, and write down what it took."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", metavar="OUT.json", type=Path)
    parser.add_argument("--checkpoint", metavar="PATH", action="append", required=True)
    parser.add_argument("--images", metavar="DIR", type=Path, help="of photographs")
    parser.add_argument("--count", metavar="N", type=int, default=500)
    parser.add_argument("--threads", metavar="N", type=int, default=2)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count < WARM_UP + 2 * WINDOW:
        raise SystemExit(f"--count {options.count}: at least {WARM_UP + 2 * WINDOW}")
    if options.inside:
        (path,) = options.checkpoint
        found = soak(path, options.images, options.count, options.threads)
        options.json.write_text(json.dumps(found), encoding="utf-8")
        return
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "real": options.images is not None,
    }  # fmt: skip
    for path in options.checkpoint:
        words = [sys.executable, __file__, str(options.json), "--checkpoint", path, "--inside"]
        words += ["--count", str(options.count), "--threads", str(options.threads)]
        words += ["--images", str(options.images)] if options.images else []
        subprocess.run(words, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        kind = Path(path).suffix.removeprefix(".") or "checkpoint"
        report[kind] = json.loads(options.json.read_text(encoding="utf-8"))
        print(f"{kind}: {json.dumps(report[kind])}", flush=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    grown = [kind for kind, one in report.items() if isinstance(one, dict) and one["growth_mb"] >= LIMIT]
    if grown:
        raise SystemExit(f"memory grows by {LIMIT:g} MB and more: {', '.join(grown)}")


if __name__ == "__main__":
    main()
