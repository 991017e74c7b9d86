"""Ten thousand small images through one process of `detect --shard`: whether its memory stays level.

    python benchmarks/many.py benchmarks/results/many.json [--count 10000] [--model default]

Fifty generated images of 160 x 160 pixels have ten thousand names by hard links, so the disk stays small.
Written down is the resident memory after every 500th image, with the numbers of threads and of open files.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from soak import LIMIT, state
from step import machine

from efficientnet_east.checkpoints import bundled

KINDS, SIDE = 50, 160
EVERY = 500
PACKAGES = ("onnxruntime", "opencv-python-headless", "pillow", "numpy")


def make(folder: Path, count: int) -> None:
    """Write the images, and link to them under as many names as are asked for."""
    from efficientnet_east.data.images import write_image
    from efficientnet_east.data.synthetic.scenes import SyntheticScenes

    scenes = SyntheticScenes(KINDS, 0, (SIDE, SIDE))
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if number < KINDS:
            write_image(path, scenes[number].image)
        else:
            path.hardlink_to(folder / f"{number % KINDS:05d}.jpg")


def watched(lines: Iterable[bytes], states: list[dict[str, Any]]) -> Iterator[bytes]:
    """Pass on the lines of results, and note the state of this process after every so many."""
    for number, line in enumerate(lines, 1):
        if number % EVERY == 0 or number == 1:
            states.append({"images": number} | dataclasses.asdict(state()))
            print(json.dumps(states[-1]), flush=True)
        yield line


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Detect in all images, and sum up."""
    from efficientnet_east import Detector
    from efficientnet_east.data import inputs
    from efficientnet_east.inference import shards

    make(folder, options.count)
    detector = Detector.load(options.model, {"threads": options.threads, "scales": options.scales})
    pictures = [one for entry in inputs.find_files([str(folder)]) for one in inputs.images_of(entry)]
    states: list[dict[str, Any]] = []
    begun = time.perf_counter()
    found = shards.detect_all(
        detector, pictures, folder / "out" / "words.jsonl", track=lambda lines, total: watched(lines, states)
    )
    settled, last = states[1]["resident"], states[-1]["resident"]
    return {
        "machine": machine(PACKAGES) | {"threads": options.threads}, "model": options.model,
        "images": found.images, "words": found.words, "failures": len(found.failures),
        "seconds": round(time.perf_counter() - begun, 1), "growth_mb": round(last - settled, 1),
        "states": states,
    }  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", type=Path, help="file to write")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scales", default="1")
    parser.add_argument("--model", default=bundled.DEFAULT)
    return parser


def main() -> None:
    """Detect in a temporary folder, and write and judge the figures."""
    options = parser().parse_args()
    if options.count < 2 * EVERY:
        raise SystemExit(f"--count {options.count}: at least {2 * EVERY}")
    with tempfile.TemporaryDirectory() as folder:
        figures = run(options, Path(folder))
    options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"{figures['images']} images, growth {figures['growth_mb']} MB")
    if figures["growth_mb"] >= LIMIT:
        raise SystemExit(f"memory grows by {LIMIT:g} MB and more")


if __name__ == "__main__":
    main()
