"""Time of labels, decoding and merging per 1280x720 image, and how good the labels of each geometry can be.

    python benchmarks/labels.py labels.json [folder of gt_*.txt]

Without a folder, and without the ICDAR 2015 ground truth beside the repository, generated texts are used. All
times are processor time of one core.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from efficientnet_east.data.icdar import parse_truth
from efficientnet_east.evaluation import icdar
from efficientnet_east.geometry import maps, nms
from efficientnet_east.geometry.quads import rectangle
from efficientnet_east.structures import Truth

GROUND_TRUTH = Path(__file__).resolve().parents[2] / "shared" / "data" / "icdar2015" / "train_gts"
IMAGE, PADDED = (720, 1280), (736, 1280)
REPEATS = 5


def read_truths(folder: Path) -> dict[str, Truth]:
    return {file.stem: parse_truth(file.read_bytes(), file.name) for file in sorted(folder.glob("*.txt"))}


def generate_truths(images: int = 1000, texts: int = 12) -> dict[str, Truth]:
    """About as many texts of about the same sizes as in ICDAR 2015, anywhere in the image."""
    rng = np.random.default_rng(0)
    truths = {}
    for number in range(images):
        sides = np.exp(rng.normal(np.log([12, 34, 12, 34]), 0.5, (texts, 4)))
        quads = rectangle(rng.uniform((0, 0), IMAGE[::-1], (texts, 2)), sides, rng.normal(0, 0.1, texts))
        ignore = rng.random(texts) < 0.6
        truths[f"generated_{number}"] = Truth(quads.astype(np.float32), ignore, ("",) * texts)
    return truths


def milliseconds(call: Callable[..., object], arguments: list[tuple]) -> float:
    """Mean time of a call over all arguments, the best of a few rounds."""
    rounds = []
    for _ in range(REPEATS):
        start = time.process_time()
        for each in arguments:
            call(*each)
        rounds.append(time.process_time() - start)
    return round(min(rounds) * 1000 / len(arguments), 3)


def measure(truths: dict[str, Truth], geometry: str) -> dict[str, float]:
    encode = functools.partial(maps.encode, geometry=geometry)
    labels = [encode(truth.quads, truth.ignore, PADDED) for truth in truths.values()]
    cells = [(label.score, label.geometry) for label in labels]
    candidates = [maps.decode(*each) for each in cells]
    found = {name: nms.locality_aware(*each)[0] for name, each in zip(truths, candidates, strict=True)}
    result = icdar.score(found, truths)
    plain = functools.partial(nms.locality_aware, compiled=False)
    timed = {
        "encode_ms": milliseconds(encode, [(truth.quads, truth.ignore, IMAGE) for truth in truths.values()]),
        "decode_ms": milliseconds(maps.decode, cells),
        "suppress_numpy_ms": milliseconds(plain, candidates[:100]),
    }
    if nms.lanms is not None and geometry == "rbox":  # rectangles are what it is used for
        timed["suppress_compiled_ms"] = milliseconds(nms.locality_aware, candidates[:100])
    return timed | {"oracle_recall": result.recall, "oracle_precision": result.precision}


def main(output: str, folder: str = "") -> None:
    where = Path(folder or GROUND_TRUTH)
    if folder and not where.is_dir():
        raise SystemExit(f"{folder}: no such folder")
    truths = read_truths(where) if where.is_dir() else generate_truths()
    texts = sum(len(truth.texts) for truth in truths.values())
    real = {"real": where.is_dir(), "images": len(truths), "texts": texts}
    measured = {geometry: measure(truths, geometry) for geometry in maps.CHANNELS}
    report = json.dumps(real | measured, indent=2)
    Path(output).write_text(report + "\n", encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main(*sys.argv[1:])
