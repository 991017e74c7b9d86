"""Memory and time of a training step, measured, beside what the calculator estimates.

    python benchmarks/memory.py OUT.json

Each case is a process of its own: the training graph of the whole detector, its variables initialized, one
step on a small crop, then steps of full size on random arrays. After the small step everything is there that
does not depend on the size of the images: weights, moments and averages, and TensorFlow's own form of the
graph (given as graph_mb). Two peaks are measured above that:

* resident: of the process's resident set over three steps, which is what the machine needs; it contains what
  the allocator keeps for later and the kernels' scratch memory;
* allocated: of the bytes that TensorFlow's allocator has handed out, read at the end of every operation of a
  fourth, traced step; it contains the rounding of each piece.

The estimate has the activations of the backbone (`costs.activation_bytes`, `costs.recomputed_bytes`) and of
the head, and one array for each weight's gradient.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.backbones import catalog, costs

SIZE, SMALL, STEPS = 512, 64, 3
NETWORKS = [("b0", "relu", 2), ("b0", "relu", 4), ("b0", "swish", 2), ("b4", "relu", 2), ("b4", "swish", 2),
            ("resnet50", "relu", 2)]  # fmt: skip
MEGABYTE = 1e6


def cases() -> list[dict[str, Any]]:
    """List the fields of the configuration of each case, without and with recomputation in turn."""
    return [
        {"backbone": name, "activation": activation, "batch_size": batch, "recompute": recompute}
        for name, activation, batch in NETWORKS
        for recompute in (False, True)
    ]


# --- one case, in a process of its own


def resident(field: str) -> int:
    """Read bytes from this process's status: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{field}:")]
    return 1024 * int(line.split()[1])


def placeholders(tf: Any) -> dict[str, Any]:
    """Make the arguments of `training.step.build`, for any batch and size."""
    channels = {"images": 3, "score": 1, "geometry": 5, "mask": 1}
    kinds = {"images": tf.uint8}
    feeds = {
        name: tf.placeholder(kinds.get(name, tf.float32), [None, None, None, count], name)
        for name, count in channels.items()
    }
    return feeds | {"learning_rate": tf.placeholder(tf.float32, [], "learning_rate")}


def random_feed(feeds: dict[str, Any], batch: int, size: int) -> dict[Any, Any]:
    """Make a batch: noise for images, a tenth of the cells text, boxes of any size."""
    rng = np.random.default_rng(0)
    cells = batch, size // 4, size // 4
    return {
        feeds["images"]: rng.integers(0, 256, (batch, size, size, 3), np.uint8),
        feeds["score"]: (rng.random((*cells, 1)) < 0.1).astype(np.float32),
        feeds["geometry"]: rng.uniform(0.1, 0.7, (*cells, 5)).astype(np.float32),
        feeds["mask"]: np.ones((*cells, 1), np.float32),
        feeds["learning_rate"]: 1e-5,
    }


def measure(case: dict[str, Any]) -> dict[str, float]:
    """Measure peaks of memory in megabytes, and the processor time of the fastest step in seconds."""
    from efficientnet_east import config as configuration
    from efficientnet_east.compat import tf
    from efficientnet_east.inference.graph import session_config
    from efficientnet_east.training import step as training_step

    config = configuration.load(None, {**case, "crop_size": SIZE})
    with tf.Graph().as_default() as graph:
        feeds = placeholders(tf)
        step = training_step.build(**feeds, config=config)
        with tf.Session(graph=graph, config=session_config(config.train.threads)) as session:
            session.run(tf.global_variables_initializer())
            initialized = resident("VmRSS")
            advance = functools.partial(session.run, [step.update, step.finite])
            advance(random_feed(feeds, 1, SMALL))
            feed = random_feed(feeds, config.train.batch_size, SIZE)
            before, seconds = resident("VmRSS"), []
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
            for _ in range(STEPS):
                start = time.process_time()
                finite = advance(feed)[1]
                seconds.append(time.process_time() - start)
            peak = resident("VmHWM") - before
            allocated = traced_peak(tf, advance, feed)
    if not finite:
        raise SystemExit(f"{case}: the loss is not finite")
    return {
        "graph_mb": round((before - initialized) / MEGABYTE),
        "resident_mb": round(peak / MEGABYTE),
        "allocated_mb": round(allocated / MEGABYTE),
        "processor_seconds": round(min(seconds), 2),
    }


def traced_peak(tf: Any, advance: Callable[..., Any], feed: dict[Any, Any]) -> int:
    """Measure the most bytes that the allocator gave out during a step, without those it begins with."""
    options, trace = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), tf.RunMetadata()
    advance(feed, options=options, run_metadata=trace)
    used = [
        memory.allocator_bytes_in_use
        for device in trace.step_stats.dev_stats
        for node in device.node_stats
        for memory in node.memory
        if memory.allocator_bytes_in_use
    ]
    return max(used) - min(used)


# --- the estimate, and the table


def estimate(case: dict[str, Any]) -> float:
    """Estimate megabytes of activations and of the weights' gradients."""
    backbone = catalog.get_backbone(case["backbone"])
    count = backbone.recomputed_bytes if case["recompute"] else backbone.activation_bytes
    total = count(SIZE, SIZE, batch=case["batch_size"], activation=case["activation"])
    head = head_layers(backbone)
    if not case["recompute"]:  # with it, the head's maps are gone before the largest block comes back
        joined = sum(layer.inputs * layer.cells(SIZE, SIZE) for layer in head if layer.kernel == 1)
        total += costs.activation_bytes(head, SIZE, SIZE, "relu", case["batch_size"])
        total += 4 * case["batch_size"] * joined
    return (total + 4 * (backbone.parameters + costs.parameters(head))) / MEGABYTE


def head_layers(backbone: catalog.Backbone) -> list[costs.Layer]:
    """List the layers of the EAST head, whose 1x1 convolutions read the joined maps."""
    from efficientnet_east.east_head import FINAL_CHANNELS, MERGE_CHANNELS

    layers, net = [], backbone.channels[-1]
    for level, channels in zip((4, 3, 2), MERGE_CHANNELS, strict=False):
        feature = backbone.features[level - 1]
        layers.append(costs.Layer(f"1x1_{level}", 1, net + feature.channels, channels, feature.stride))
        layers.append(costs.Layer(f"3x3_{level}", 3, channels, channels, feature.stride))
        net = channels
    return [*layers, costs.Layer("final", 3, net, FINAL_CHANNELS, backbone.strides[1])]


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Make one row: the case, what it needs, what it was expected to need."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return case | {"estimated_mb": round(estimate(case))} | json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict[str, Any]]) -> str:
    """Write Markdown; `of plain` is memory and time with recomputation, divided by those without."""
    lines = [
        f"| {SIZE}x{SIZE} | estimated | allocated | resident | of estimated | processor time | of plain |",
        "|---|---|---|---|---|---|---|",
    ]
    for plain, again in zip(rows[::2], rows[1::2], strict=True):
        memory, seconds = (again[key] / plain[key] for key in ("resident_mb", "processor_seconds"))
        lines.append(_line(plain, "", ""))
        lines.append(_line(again, ", recomputed", f"{memory:.0%} memory, {seconds:.0%} time"))
    return "\n".join(lines)


def _line(row: dict[str, Any], kind: str, share: str) -> str:
    name = f"{row['backbone']} {row['activation']}, batch {row['batch_size']}{kind}"
    sizes = " | ".join(f"{row[key]:,} MB" for key in ("estimated_mb", "allocated_mb", "resident_mb"))
    ratio = row["resident_mb"] / row["estimated_mb"]
    return f"| {name} | {sizes} | {ratio:.2f} | {row['processor_seconds']:.1f} s | {share} |"


def main(words: list[str]) -> None:
    """Run every case, one after the other; write and print the rows."""
    if words[:1] == ["--case"]:
        print(json.dumps(measure(json.loads(words[1]))))
        return
    (output,) = words
    rows = []
    for case in cases():
        rows.append(run(case))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    Path(output).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
