"""How many training crops a core prepares, from a JPEG (or a kept image) to a batch with labels.

    python benchmarks/pipeline.py DATA [--images N] [--crops 800] [--sizes 512] [--workers 0 1 2]
    python benchmarks/pipeline.py DATA --growth 20000
    python benchmarks/pipeline.py --table FILE

DATA holds images with ICDAR ground truth, in any layout that `data/datasets.py` knows; the published figures
are for JPEGs of 1280 x 720 pixels. The first form measures the stages of one crop in one thread, and whole
streams with and without kept images: crops per second of processor time (of this process and its workers,
so that other programs on the machine disturb it little) and by the clock, and what both use while nobody
takes a batch. The second one watches their memory. FILE keeps what the other form has written.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from efficientnet_east.data.augment import Augmentation, augment
from efficientnet_east.data.datasets import ImageDataset, find_records
from efficientnet_east.data.decoded_cache import keep_decoded
from efficientnet_east.data.loader import LabelOptions, batches
from efficientnet_east.geometry.label_maps import encode

BATCH = 8
IDLE_SECONDS = 10
GROWTH_WORKERS, GROWTH_SIZE = 2, 512
READING_EVERY = 400  # crops between two readings of memory


def processes() -> list[psutil.Process]:
    """List this process and its workers."""
    children = [child.pid for child in multiprocessing.active_children()]
    return [psutil.Process(), *(psutil.Process(pid) for pid in children if pid is not None)]


def processor_seconds() -> float:
    """Time on all cores of this process and of the workers that run now."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes()))


def memory_mb() -> float:
    """Measure resident megabytes of this process and its workers; a shared page counts once."""
    return sum(process.memory_full_info().pss for process in processes()) / 1e6


def measure_stages(source: Any, size: int, count: int) -> dict[str, float]:
    """Measure milliseconds of processor time of each stage for one crop, in one thread."""
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


def measure_stream(source: Any, size: int, count: int, workers: int) -> dict[str, float]:
    """Measure a whole stream: crops by processor time and by the clock, and the processor time of a pause."""
    wanted = -(-count // BATCH)
    with open_batches(source, size, workers) as stream:
        for _ in range(4 + 4 * workers):  # all are started, and all buffers full
            next(stream)
        begin, used = time.perf_counter(), processor_seconds()
        for _ in range(wanted):
            next(stream)
        seconds, used = time.perf_counter() - begin, processor_seconds() - used
        time.sleep(IDLE_SECONDS / 2)
        idle = processor_seconds()
        time.sleep(IDLE_SECONDS)
        idle = processor_seconds() - idle
    return {
        "crops_per_core_second": round(wanted * BATCH / used, 1),
        "crops_per_second": round(wanted * BATCH / seconds, 1),
        "idle_percent_of_a_core": round(100 * idle / IDLE_SECONDS, 2),
    }


def open_batches(source: Any, size: int, workers: int) -> Any:
    """Open the stream that is measured."""
    crops, labels = Augmentation(size=size), LabelOptions()
    return batches(source, batch_size=BATCH, seed=0, augmentation=crops, labels=labels, workers=workers)


def measure_speed(images: ImageDataset, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure a row for each size, with and without kept images, and number of workers."""
    rows = []
    kept = keep_decoded(images)
    for i in range(len(kept)):
        kept[i]
    for size in options.sizes:
        for cache, source in ((False, images), (True, kept)):
            stages = measure_stages(source, size, options.crops)
            for workers in options.workers:
                stream = measure_stream(source, size, options.crops, workers)
                rows.append({"size": size, "cache": cache, "workers": workers, **stages, **stream})
                print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    return rows


def measure_growth(source: Any, count: int) -> dict[str, Any]:
    """Measure memory of a stream and its workers over `count` crops, once every image was seen twice."""
    readings = []
    with open_batches(source, GROWTH_SIZE, GROWTH_WORKERS) as stream:
        for _ in range(2 * len(source) // BATCH):
            next(stream)
        for number in range(-(-count // BATCH)):
            if number % (READING_EVERY // BATCH) == 0:
                readings.append(memory_mb())
            next(stream)
        readings.append(memory_mb())
    row: dict[str, Any] = {"crops": count, "images": len(source)}
    row |= {"size": GROWTH_SIZE, "workers": GROWTH_WORKERS}
    # Batches come and go: the ends are means over a tenth of the readings.
    part = max(1, len(readings) // 10)
    begin, end = float(np.mean(readings[:part])), float(np.mean(readings[-part:]))
    ends = {"start": begin, "peak": max(readings), "end": end}
    return row | {f"{name}_mb": round(value, 1) for name, value in ends.items()}


def table(results: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    lines = ["| crop | images | workers | crops/s and core | crops/s | read, augment, labels (ms) | paused |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in results.get("speed", []):
        images = "kept" if row["cache"] else "decoded"
        stages = ", ".join(f"{row[f'{stage}_ms']:.2f}" for stage in ("read", "augment", "labels"))
        figures = f"{row['crops_per_core_second']:.0f} | {row['crops_per_second']:.0f} | {stages}"
        idle = f"{row['idle_percent_of_a_core']:.1f} % of a core"
        lines.append(f"| {row['size']}² | {images} | {row['workers']} | {figures} | {idle} |")
    if results.get("growth"):
        lines += [
            "",
            "| crops | images | memory at the start (MB) | peak | at the end |",
            "|---|---|---|---|---|",
        ]
    for row in results.get("growth", []):
        images = "kept" if row["cache"] else "decoded"
        memory = " | ".join(f"{row[f'{end}_mb']:.0f}" for end in ("start", "peak", "end"))
        lines.append(f"| {row['crops']:,} | {images} | {memory} |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> None:
    """Measure, print the table and, if asked, write JSON."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--images", type=int, help="take so many images only")
    parser.add_argument("--crops", type=int, default=800)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--growth", type=int, metavar="CROPS")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, help="only print what this file says")
    options = parser.parse_args(words)
    if options.table is not None:
        print(table(json.loads(options.table.read_text())))
        return
    cv2.setNumThreads(1)
    images = ImageDataset(find_records(options.folder, limit=options.images))
    known = options.json is not None and options.json.exists()
    results: dict[str, Any] = json.loads(options.json.read_text()) if known else {}
    if options.growth:
        measure = functools.partial(measure_growth, count=options.growth)
        sources = {False: images, True: keep_decoded(images)}
        results["growth"] = [{"cache": cache, **measure(source)} for cache, source in sources.items()]
    else:
        results["speed"] = measure_speed(images, options)
    print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
