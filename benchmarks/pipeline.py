"""How many training crops one core prepares: decoding, crop, colour, labels, batching.

    python benchmarks/pipeline.py DATA_FOLDER [--sizes 384 512] [--crops 400] [--workers 0] [--json FILE]

DATA_FOLDER holds images with ICDAR ground truth, in any layout that `data/icdar.py` knows; the figures
published in the documentation are for JPEGs of 1280 x 720 pixels. Crops per core are counted in processor
time, so that other programs on the machine disturb them little; crops per second are by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from efficientnet_east.data.augment import Augmentation, augment
from efficientnet_east.data.icdar import IcdarImages, find_records
from efficientnet_east.data.loader import LabelOptions, batches
from efficientnet_east.geometry.maps import encode


def processor_seconds() -> float:
    """Time on all cores of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure_stages(source: IcdarImages, size: int, count: int) -> dict[str, float]:
    """Milliseconds of each stage for one crop, in one thread."""
    options, rng = Augmentation(size=size), np.random.default_rng(0)
    total = {"read": 0.0, "augment": 0.0, "labels": 0.0}

    def timed(stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.process_time()
        result = work(*arguments)
        total[stage] += time.process_time() - begin
        return result

    for i in range(count):
        sample = timed("read", source.__getitem__, i % len(source))
        crop = timed("augment", augment, sample, rng, options)
        timed("labels", encode, crop.truth.quads, crop.truth.ignore, (size, size))
    return {f"{stage}_ms": round(1e3 * seconds / count, 2) for stage, seconds in total.items()}


def measure_loader(source: IcdarImages, size: int, count: int, workers: int) -> dict[str, float]:
    """Crops of the whole loader, by the clock and by processor time."""
    batch_size = 8
    used = processor_seconds()
    with batches(source, batch_size=batch_size, seed=0, augmentation=Augmentation(size=size),
                 labels=LabelOptions(), workers=workers) as stream:
        next(stream)
        begin = time.perf_counter()
        used = used if workers else processor_seconds()
        wanted = -(-count // batch_size)
        for _ in range(wanted):
            next(stream)
        seconds = time.perf_counter() - begin
    # Children count when they end: with workers, their start is included.
    return {"crops_per_second": round(wanted * batch_size / seconds, 1),
            "crops_per_core_second": round(wanted * batch_size / (processor_seconds() - used), 1)}


def main() -> None:
    """Prints one line for each crop size and, if asked, writes them as JSON."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("folder")
    parser.add_argument("--sizes", type=int, nargs="+", default=[384, 512])
    parser.add_argument("--crops", type=int, default=400)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    source = IcdarImages(find_records(options.folder))
    rows = []
    for size in options.sizes:
        rows.append({"size": size, "workers": options.workers,
                     **measure_stages(source, size, options.crops),
                     **measure_loader(source, size, options.crops, options.workers)})
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
