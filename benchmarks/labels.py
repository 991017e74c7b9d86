"""Time of labels, decoding and merging per 1280x720 image, and how good the labels of each geometry can be.

    python benchmarks/labels.py labels.json [folder of gt_*.txt]

Labels of training crops (512x512, in batches of 8) are made twice: by NumPy, as the data pipeline does, and
inside the graph (`pjrt.graph_labels`). Without a folder, and without the ICDAR 2015 ground truth
beside the repository, generated texts are used. All times are processor time of one core.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.compat import tf
from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.augment import Augmentation, augment
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.geometry import label_maps, nms
from efficientnet_east.geometry.quads import rectangle
from efficientnet_east.pjrt import graph_labels
from efficientnet_east.structures import Sample, Truth
from efficientnet_east.system import installed

GROUND_TRUTH = Path(__file__).resolve().parents[2] / "shared" / "data" / "icdar2015" / "train_gts"
IMAGE, PADDED = (720, 1280), (736, 1280)
REPEATS = 5
CROP, BATCH, CROPS, PADDED_TEXTS = 512, 8, 160, 64


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


def cut_crops(truths: dict[str, Truth]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The texts of random training crops: quads and which of them to ignore."""
    blank = np.zeros((*IMAGE, 3), np.uint8)
    crops = []
    for number, (name, truth) in zip(range(CROPS), truths.items(), strict=False):
        sample, rng = Sample(name, blank, truth), np.random.default_rng(number)
        crops.append(augment(sample, rng, Augmentation(size=CROP, color=None)).truth)
    return [(crop.quads[:PADDED_TEXTS], crop.ignore[:PADDED_TEXTS]) for crop in crops]


def padded(crops: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    quads = np.zeros((BATCH, PADDED_TEXTS, 4, 2), np.float32)
    ignore, count = np.zeros((BATCH, PADDED_TEXTS), bool), np.zeros(BATCH, np.int32)
    for row, (corners, skip) in enumerate(crops):
        quads[row, : len(corners)], ignore[row, : len(corners)], count[row] = corners, skip, len(corners)
    return quads, ignore, count


def measure_crops(crops: list[tuple[np.ndarray, np.ndarray]], geometry: str) -> dict[str, float]:
    """Milliseconds per crop of both versions, and the share of cells to which they give another label."""
    options: Any = {"geometry": geometry, "min_side": 6.0}
    shape = (CROP, CROP)
    arrays = [padded(crops[start : start + BATCH]) for start in range(0, len(crops) - BATCH + 1, BATCH)]
    with tf.Graph().as_default():
        feeds = [tf.placeholder(array.dtype, array.shape) for array in arrays[0]]
        quads, ignore, count = feeds
        made = graph_labels.encode(quads, ignore, count, shape, **options)
        one_core = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        with tf.Session(config=one_core) as session:

            def in_graph(*texts: np.ndarray) -> list[np.ndarray]:
                return session.run(made, dict(zip(feeds, texts, strict=True)))

            graph_ms = milliseconds(in_graph, arrays) / BATCH
            found = np.concatenate([in_graph(*texts)[0][..., 0] for texts in arrays])
    expected = [label_maps.encode(*crop, shape, **options).score for crop in crops[: len(found)]]
    encode = functools.partial(label_maps.encode, shape=shape, **options)
    return {
        "encode_crop_ms": milliseconds(encode, crops),
        "graph_crop_ms": round(graph_ms, 3),
        "graph_cells_differ": float((found != np.stack(expected)).mean()),
    }


def measure(truths: dict[str, Truth], geometry: str) -> dict[str, float]:
    encode = functools.partial(label_maps.encode, geometry=geometry)
    made = [encode(truth.quads, truth.ignore, PADDED) for truth in truths.values()]
    cells = [(label.score, label.geometry) for label in made]
    candidates = [label_maps.decode(*each) for each in cells]
    found = {name: nms.locality_aware(*each)[0] for name, each in zip(truths, candidates, strict=True)}
    result = icdar2015.score(found, truths)
    timed = {
        "encode_ms": milliseconds(encode, [(truth.quads, truth.ignore, IMAGE) for truth in truths.values()]),
        "decode_ms": milliseconds(label_maps.decode, cells),
        "suppress_ms": milliseconds(nms.locality_aware, candidates[:100]),
    }
    if installed.find("lanms") and geometry == "rbox":  # which it is right for
        compiled = functools.partial(nms.locality_aware, compiled=True)
        timed["suppress_lanms_ms"] = milliseconds(compiled, candidates[:100])
    return timed | {"oracle_recall": result.recall, "oracle_precision": result.precision}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", type=Path, help="file to write")
    parser.add_argument("folder", type=Path, nargs="?", help="of gt_*.txt")
    options = parser.parse_args()
    where = options.folder or GROUND_TRUTH
    if options.folder and not where.is_dir():
        raise SystemExit(f"{where}: no such folder")
    truths = read_truths(where) if where.is_dir() else generate_truths()
    texts = sum(len(truth.texts) for truth in truths.values())
    real = {"real": where.is_dir(), "images": len(truths), "texts": texts}
    crops = cut_crops(truths)
    measured = {
        geometry: measure(truths, geometry) | measure_crops(crops, geometry)
        for geometry in label_maps.CHANNELS
    }
    report = json.dumps(real | measured, indent=2)
    options.json.write_text(report + "\n", encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
