"""From maps to boxes: how long decoding and merging take on a dense map, beside `lanms` as EAST programs do.

    python benchmarks/decode.py OUT.json [GT_FOLDER]

The map is that of a 1280x720 image made of the texts of real ground truths (ICDAR 2015; generated ones where
the folder is absent), as many as find room beside each other, with noise on scores and geometry as a network
makes it. All ways run in turn on one thread, on the same candidates, and must find the same boxes.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.folders import natural_key
from efficientnet_east.geometry import label_maps, nms
from efficientnet_east.geometry.quads import rectangle
from efficientnet_east.system import installed

GROUND_TRUTH = Path(__file__).resolve().parents[2] / "shared" / "data" / "icdar2015" / "train_gts"
SHAPE = 720, 1280
CELLS, WORDS = 5000, 100
ROUNDS = 30
THRESHOLD, IOU = 0.9, 0.2
# Standard deviations of top, right, bottom, left (pixels) and angle (radians).
NOISE = 1, 2, 1, 2, 0.02
AGREEMENT = 0.1  # pixels; lanms rounds every mean to 1e-4, which adds up over a large text


def real_texts(folder: Path) -> Iterator[np.ndarray]:
    for path in sorted(folder.glob("gt_img_*.txt"), key=lambda path: natural_key(path.name)):
        yield from parse_truth(path.read_bytes(), path.name).quads


def generated_texts(rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        across, along = rng.uniform(4, 16), rng.uniform(10, 60)
        center = rng.uniform((0, 0), SHAPE[::-1])
        yield rectangle(center, np.array([across, along, across, along]), np.array(rng.normal(0, 0.1)))


def scene(texts: Iterator[np.ndarray]) -> np.ndarray:
    """Texts whose bounds lie in the image and do not overlap, until cells and words are enough."""
    taken: list[np.ndarray] = []
    free = np.ones(SHAPE, bool)
    for quad in texts:
        (left, top), (right, bottom) = (
            np.floor(quad.min(axis=0)).astype(int),
            np.ceil(quad.max(axis=0)).astype(int),
        )
        room = free[top : bottom + 1, left : right + 1]
        if min(left, top) < 0 or right >= SHAPE[1] or bottom >= SHAPE[0] or not room.all():
            continue
        room[:] = False
        taken.append(quad)
        quads = np.array(taken)
        if (
            len(taken) >= WORDS
            and label_maps.encode(quads, np.zeros(len(quads), bool), SHAPE).score.sum() >= CELLS
        ):
            break
    return np.array(taken)


def noisy_maps(quads: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels as a network would say them."""
    labels = label_maps.encode(quads, np.zeros(len(quads), bool), SHAPE)
    score = labels.score * rng.uniform(THRESHOLD + 0.01, 1, labels.score.shape)
    least = [0.5, 0.5, 0.5, 0.5, -np.pi / 4]
    geometry = np.maximum(labels.geometry + rng.normal(0, NOISE, labels.geometry.shape), least)
    return score.astype(np.float32), geometry.astype(np.float32)


def lanms_as_programs_call_it(quads: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The usual lines: a float32 table of nine columns in, one out."""
    table = np.concatenate([quads.reshape(-1, 8), scores[:, None]], axis=1).astype("float32")
    return nms.lanms().merge_quadrangle_n9(table, IOU)


def opencv(quads: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Standard suppression, for which each box becomes a RotatedRect."""
    rectangles = [cv2.minAreaRect(quad) for quad in quads]
    return quads[np.ravel(cv2.dnn.NMSBoxesRotated(rectangles, scores.tolist(), THRESHOLD, IOU)).astype(int)]


def milliseconds(ways: dict[str, Callable[[], Any]]) -> dict[str, dict[str, float]]:
    """The least time of each, and the median; they take turns, so that a busy moment hits all."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append((time.perf_counter() - start) * 1000)
    return {
        name: {"min_ms": round(min(times), 2), "median_ms": round(statistics.median(times), 2)}
        for name, times in taken.items()
    }


def farthest(found: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """Pixels between the corners of two results, which must be the same boxes."""
    if found[0].shape != other[0].shape:
        raise SystemExit(f"{len(found[0])} boxes, but {len(other[0])} the other way")
    distance = float(np.abs(found[0] - other[0]).max())
    if distance > AGREEMENT or not np.allclose(found[1], other[1], atol=1e-5):
        raise SystemExit(f"boxes differ by {distance} pixels")
    return round(distance, 4)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", type=Path, help="file to write")
    parser.add_argument("folder", type=Path, nargs="?", help="of gt_*.txt")
    options = parser.parse_args()
    if options.folder and not options.folder.is_dir():
        raise SystemExit(f"{options.folder}: no such folder")
    cv2.setNumThreads(1)
    where = options.folder or GROUND_TRUTH
    rng = np.random.default_rng(0)
    quads = scene(real_texts(where) if where.is_dir() else generated_texts(rng))
    score, geometry = noisy_maps(quads, rng)
    decode = functools.partial(label_maps.decode, score, geometry, threshold=THRESHOLD)
    candidates = decode()
    ways: dict[str, Callable[[], Any]] = {
        "decode": decode,
        "decode + locality-aware": lambda: nms.locality_aware(*decode(), IOU),
        "decode + standard": lambda: nms.standard(*decode(), IOU),
        "OpenCV's NMSBoxesRotated alone": lambda: opencv(*candidates),
    }
    report: dict[str, Any] = {
        "machine": platform.machine(), "numpy": np.__version__, "real": where.is_dir(),
        "words": len(quads), "cells": len(candidates[0]),
        "boxes": len(nms.locality_aware(*candidates, IOU)[0]),
    }  # fmt: skip
    if installed.find("lanms"):
        ways["decode + locality-aware by lanms"] = lambda: nms.locality_aware(*decode(), IOU, compiled=True)
        ways["lanms alone, as EAST programs call it"] = lambda: lanms_as_programs_call_it(*candidates)
        both = (nms.locality_aware(*candidates, IOU, compiled=flag) for flag in (False, True))
        report["farthest_corner_px"] = farthest(*both)
    report["ways"] = milliseconds(ways)
    options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{report['words']} words, {report['cells']} cells, {report['boxes']} boxes")
    for name, times in report["ways"].items():
        print(f"{name:40} {times['min_ms']:8.2f} ms, median {times['median_ms']:8.2f}")


if __name__ == "__main__":
    main()
