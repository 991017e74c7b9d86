"""A folder of photographs through `detect`: images a second from end to end, and where the time goes.

    python benchmarks/folder.py benchmarks/results/folder.json --images DIR [--limit 60] [--model default]

Two ways alternate, in a process of their own each: one step after the other, and overlapped, as `detect` does
it. Both read the same files and write the same results, `--formats icdar,picture`. Then the first images are
taken apart: milliseconds of each step, and the processor's milliseconds of the thread that does it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from step import machine

from efficientnet_east.checkpoints import bundled

WAYS = ("one after the other", "overlapped")
FORMATS = ("icdar", "picture")
PARTS = ("read", "resize", "network", "boxes", "draw", "encode", "write")
PACKAGES = ("onnxruntime", "opencv-python-headless", "pillow", "numpy")


def one_after_the_other(items: Any, read: Any, detect: Any, write: Any) -> Iterator[Any]:
    """Do what `overlapped` does, in one thread."""
    for item in items:
        yield write(detect(read(item)))


def run(way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Detect in all images, but for the first, which is the warm-up; return images a second."""
    from efficientnet_east import Detector
    from efficientnet_east.cli import detect_results
    from efficientnet_east.data import inputs
    from efficientnet_east.inference.overlap import overlapped

    detector = Detector.load(options.model, {"threads": options.threads})
    found = inputs.find_files([str(options.images)])[: options.limit + 1]
    pictures = [picture for entry in found for picture in inputs.images_of(entry)]
    steps = overlapped if way == WAYS[1] else one_after_the_other
    with tempfile.TemporaryDirectory() as folder:
        results = detect_results.Results(Path(folder), FORMATS, {}, False)
        work = detect_results.read, partial(detect_results.detect, detector, False), results.take
        for part in (pictures[:1], pictures[1:]):
            begun = time.perf_counter()
            for _ in steps(part, *work):
                pass
        seconds = time.perf_counter() - begun
    return {"images": len(pictures) - 1, "images_per_second": len(pictures[1:]) / seconds}


def parts(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Take the steps one by one: by part the median milliseconds, by the clock and of this thread."""
    from efficientnet_east import Detector
    from efficientnet_east.data import inputs

    detector = Detector.load(options.model, {"threads": options.threads})
    laps: dict[str, list[tuple[float, float]]] = {part: [] for part in PARTS}
    paths = [entry.path for entry in inputs.find_files([str(options.images)])[: options.parts + 1]]
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            _take_apart(path, detector, Path(folder), laps)
    return {
        part: {
            name: round(statistics.median(lap[index] for lap in found[1:]), 2)
            for index, name in enumerate(("milliseconds", "thread_milliseconds"))
        }
        for part, found in laps.items()
    }


def _take_apart(path: Path, detector: Any, folder: Path, laps: dict[str, list[tuple[float, float]]]) -> None:
    """One image; what it took is appended."""
    from efficientnet_east.data.images import encode_image, read_image
    from efficientnet_east.files.atomic import write_file

    network: list[tuple[float, float]] = []
    watched = detector.with_run(lambda batch: _timed(network, lambda: detector.run(batch)))
    image = _timed(laps["read"], lambda: read_image(path))
    around: list[tuple[float, float]] = []
    maps = _timed(around, lambda: watched.maps_per_scale(image))
    spent = tuple(sum(lap[index] for lap in network) for index in range(2))
    laps["network"].append((spent[0], spent[1]))
    laps["resize"].append((around[0][0] - spent[0], around[0][1] - spent[1]))
    found = _timed(laps["boxes"], lambda: detector.boxes(maps))
    picture = _timed(laps["draw"], lambda: found.draw(image))
    data = _timed(laps["encode"], lambda: encode_image(picture, ".png"))
    _timed(laps["write"], lambda: write_file(folder / f"{path.stem}.png", data))


def _timed(laps: list[tuple[float, float]], work: Callable[[], Any]) -> Any:
    begun = time.perf_counter(), time.thread_time()
    result = work()
    laps.append((1e3 * (time.perf_counter() - begun[0]), 1e3 * (time.thread_time() - begun[1])))
    return result


def in_process(way: str) -> Any:
    """This program once more, with the same options; what it printed last."""
    command = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--way", way]
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", type=Path, help="file to write")
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--limit", type=int, default=60, help="of them [60]")
    parser.add_argument("--parts", type=int, default=10, help="of them for the parts [10]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default=bundled.DEFAULT)
    parser.add_argument("--way", choices=(*WAYS, "parts"), help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Run the ways in turn, then the parts; write and print the figures."""
    options = parser().parse_args()
    if options.way:
        print(json.dumps(parts(options) if options.way == "parts" else run(options.way, options)))
        return
    rounds = [{way: in_process(way) for way in WAYS} for _ in range(options.rounds)]
    rates = {way: [round(one[way]["images_per_second"], 3) for one in rounds] for way in WAYS}
    ratios = [one[WAYS[1]]["images_per_second"] / one[WAYS[0]]["images_per_second"] for one in rounds]
    figures = {
        "machine": machine(PACKAGES) | {"threads": options.threads}, "model": options.model,
        "images": rounds[0][WAYS[0]]["images"], "images_per_second": rates,
        "overlapped_to_the_other": round(statistics.median(ratios), 3), "parts": in_process("parts"),
    }  # fmt: skip
    options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
