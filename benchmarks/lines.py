"""Words into lines: pairs of words in one line, against what the generator of scenes knows; and the time.

`python benchmarks/lines.py OUT.json [--scenes N] [--draw DIR]` takes the words of generated scenes as they
are, and moved as a detector moves them. With `--draw` the lines and their order are drawn on the first
scenes, and on the images of `--data`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.data.datasets import ImageDataset, find_records
from efficientnet_east.data.images import write_image
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.drawing.overlays import draw_lines
from efficientnet_east.geometry.lines import Line, find_lines
from efficientnet_east.geometry.quads import thickness

NOISE = (
    0.06  # of a word's height: how far a detector's corners are from the annotated ones, standard deviation
)
DRAWN = 6


def pairs(lines: Iterator[tuple[int, ...]] | list[tuple[int, ...]]) -> set[tuple[int, int]]:
    """Every two words of a line, the lower index first."""
    return {(min(i, j), max(i, j)) for line in lines for n, i in enumerate(line) for j in line[:n]}


def truth_of(numbers: np.ndarray) -> list[tuple[int, ...]]:
    """The words of each line that the generator laid out."""
    return [tuple(np.flatnonzero(numbers == number).tolist()) for number in np.unique(numbers)]


def moved(quads: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Corners as a detector may find them."""
    return (quads + rng.normal(0, NOISE, quads.shape) * thickness(quads)[:, None, None]).astype(np.float32)


def shares(counts: np.ndarray) -> dict[str, float]:
    """Precision and recall from the numbers of right, found and true pairs."""
    right, found, true = counts.tolist()
    return {"precision": round(right / max(found, 1), 4), "recall": round(right / max(true, 1), 4)}


def measure(scenes: SyntheticScenes, noisy: bool) -> dict[str, Any]:
    """Pairs of all scenes together, and lines whose words stand in the order in which they are read."""
    counts, in_order, lines = np.zeros(3, int), 0, 0
    rng = np.random.default_rng(0)
    for index in range(len(scenes)):
        sample, numbers = scenes.with_lines(index)
        truth = truth_of(numbers)
        found = [
            line.words for line in find_lines(moved(sample.truth.quads, rng) if noisy else sample.truth.quads)
        ]
        ours, theirs = pairs(found), pairs(truth)
        counts += (len(ours & theirs), len(ours), len(theirs))
        in_order += sum(line in found for line in truth)  # the generator's words stand from left to right
        lines += len(truth)
    return {
        **shares(counts),
        "pairs": int(counts[2]),
        "whole_lines": round(in_order / lines, 4),
        "lines": lines,
    }


def page(words: int) -> np.ndarray:
    """A page of two columns, (n, 4, 2), leaning by two degrees."""
    number = np.arange(words)
    column, row, place = number % 2, number // 20, number // 2 % 10
    x, y = 40.0 + 900 * column + 80 * place, 40.0 + 30 * row
    quads = np.stack([np.stack([x + dx, y + dy], 1) for dx, dy in ((0, 0), (65, 0), (65, 20), (0, 20))], 1)
    turn = np.radians(2)
    return quads @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def seconds(words: int, times: int = 5) -> float:
    """The median time for a page."""
    quads, taken = page(words), []
    for _ in range(times):
        begun = time.perf_counter()
        find_lines(quads)
        taken.append(time.perf_counter() - begun)
    return round(statistics.median(taken), 4)


def draw(folder: Path, name: str, image: np.ndarray, lines: tuple[Line, ...]) -> None:
    """A picture of the lines, each with its number in the order of reading."""
    write_image(folder / f"{name}.png", draw_lines(image, [line.quad for line in lines]))


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", metavar="OUT.json")
    parser.add_argument("--scenes", metavar="N", type=int, default=300)
    parser.add_argument("--seed", metavar="N", type=int, default=2031)
    parser.add_argument("--draw", metavar="DIR", type=Path)
    parser.add_argument("--data", metavar="DIR", help="images with ground truth, to draw on")
    arguments = parser.parse_args()
    scenes = SyntheticScenes(arguments.scenes, arguments.seed)
    report = {
        "machine": platform.machine(), "numpy": np.__version__, "scenes": len(scenes), "seed": scenes.seed,
        "exact": measure(scenes, False), "moved": measure(scenes, True),
        "seconds": {str(words): seconds(words) for words in (100, 1000, 10_000)},
    }  # fmt: skip
    Path(arguments.output).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    if arguments.draw:
        images: Any = ImageDataset(find_records(arguments.data)) if arguments.data else []
        for source in (scenes, images):
            for index in range(min(DRAWN, len(source))):
                sample = source[index]
                name = Path(sample.name).stem
                draw(arguments.draw, name, sample.image, find_lines(sample.truth.quads))


if __name__ == "__main__":
    main()
