"""Training steps of several networks on one machine: time by the clock and the processor's, and memory.

    python benchmarks/step.py benchmarks/results/step.json [--rounds 3] [--steps 4] [--cases "b0 relu" ...]

A step is the whole of it: forward, losses, backward, clipping, Adam, batch-norm statistics, averages of the
weights, over random crops of 512x512. Each case is a process of its own, started anew in every round,
with `TF_CPU_ALLOCATOR_USE_BFC` as all commands set it, and a
round has all cases, so that other work on the machine disturbs all alike. Figures are medians over all steps;
the ratios to ResNet-50 are medians over the rounds, each within one round.

Time by the clock counts if the machine does nothing else: then `cores` is close to the number of threads.
Otherwise the processor's time is the better measure; it is given as spent by the program and by the system.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from efficientnet_east.system.environment import ALLOCATOR

SIZE = 512
WARM_UP = 2  # steps that are not timed: the first one optimizes the graph
BASELINE = "resnet50 relu"
CASES: dict[str, dict[str, Any]] = {
    BASELINE: {"backbone": "resnet50"},
    "b0 relu": {"backbone": "b0"},
    "b0 swish": {"backbone": "b0", "activation": "swish"},
    "b4 relu": {"backbone": "b4"},
    "b4 swish": {"backbone": "b4", "activation": "swish"},
    "b4-modified relu": {"backbone": "b4-modified"},
    "b0 relu, QUAD": {"backbone": "b0", "geometry": "quad"},
    "b0 relu, BiFPN": {"backbone": "b0", "merge": "bifpn"},
    "b0 relu, recomputed": {"backbone": "b0", "recompute": True},
    "b4 relu, recomputed": {"backbone": "b4", "recompute": True},
    "b0 relu, bfloat16": {"backbone": "b0", "precision": "bfloat16"},
    "b0 relu, float16": {"backbone": "b0", "precision": "float16"},
}
PACKAGES = ("tensorflow", "tf-slim", "numpy")
KINDS = ("wall", "user", "system")  # seconds of a step


class Run:
    """A training step in a graph and session of its own, fed with the same random batch every time.

    Args:
      fields: of the configuration.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        from efficientnet_east import config as configuration
        from efficientnet_east.compat import tf
        from efficientnet_east.inference.graph import session_config
        from efficientnet_east.training import session

        config = configuration.load(None, fields)
        with tf.Graph().as_default() as graph:
            feeds, self.step = session.build(config)
            self.session = tf.Session(graph=graph, config=session_config(config.train.threads))
            self.session.run(tf.global_variables_initializer())
        self.feed = {feeds[name]: value for name, value in random_batch(feeds).items()}

    def seconds(self) -> dict[str, float]:
        """Do a step; its time by the clock, and the processor's for the program and the system."""
        before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        step = self.step
        *_, finite = self.session.run([step.update, step.scalars, step.finite], self.feed)
        end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        if not finite:
            raise SystemExit("the loss is not finite")
        times = (end - begin, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)
        return dict(zip(KINDS, times, strict=True))


def random_batch(feeds: dict[str, Any]) -> dict[str, Any]:
    """Make a batch: noise for images, a tenth of the cells text, boxes of any size."""
    rng = np.random.default_rng(0)
    shapes = {name: tensor.shape.as_list() for name, tensor in feeds.items()}
    channels = shapes["geometry"][3]
    return {
        "images": rng.integers(0, 256, shapes["images"], dtype=np.uint8),
        "score": rng.random(shapes["score"]) > 0.9,
        "geometry": rng.uniform(1, 50, shapes["geometry"]) * ([1, 1, 1, 1, 0.01] if channels == 5 else 1),
        "mask": np.ones(shapes["mask"]),
        "learning_rate": 1e-5,
    }


def measure(fields: dict[str, Any], steps: int) -> dict[str, Any]:
    """Measure a case in this process: the time of each step, and the peak of its memory in GB."""
    run = Run(fields)
    times = [run.seconds() for _ in range(WARM_UP + steps)][WARM_UP:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {kind: [round(each[kind], 4) for each in times] for kind in KINDS} | {"peak_gb": round(peak, 2)}


def in_process(fields: dict[str, Any], steps: int) -> dict[str, Any]:
    """Run `measure` in a process of its own."""
    words = ["--measure", json.dumps(fields), "--steps", str(steps)]
    command = [sys.executable, "-W", "ignore", __file__, *words]
    environment = {ALLOCATOR: "true"} | os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def summary(rounds: list[dict[str, dict[str, Any]]], batch: int) -> list[dict[str, Any]]:
    """Make a row for each case from what `measure` returned in each round."""
    rows = []
    for case in rounds[0]:
        every = {kind: [value for done in rounds for value in done[case][kind]] for kind in KINDS}
        seconds = {kind: round(statistics.median(every[kind]), 3) for kind in KINDS}
        ratios = {}
        for name, kinds in (("clock", KINDS[:1]), ("processor", KINDS[1:])):
            each = [_seconds(done[BASELINE], kinds) / _seconds(done[case], kinds) for done in rounds]
            ratios[f"{name}_ratio"] = round(statistics.median(each), 2)
        rows.append(
            {"case": case, "batch": batch, **seconds}
            | {
                "images_per_second": round(batch / seconds["wall"], 2),
                "images_per_processor_second": round(batch / (seconds["user"] + seconds["system"]), 2),
                "cores": round((seconds["user"] + seconds["system"]) / seconds["wall"], 2),
                "peak_gb": max(done[case]["peak_gb"] for done in rounds),
            }
            | ratios
        )
    return rows


def _seconds(measured: dict[str, Any], kinds: tuple[str, ...]) -> float:
    """Compute the median step of one process, all kinds of time added up."""
    return statistics.median(sum(parts) for parts in zip(*(measured[kind] for kind in kinds), strict=True))


def table(rows: list[dict[str, Any]]) -> str:
    """Write Markdown."""
    lines = [
        f"| {SIZE}x{SIZE}, batch {rows[0]['batch']} | step | images/s | of ResNet-50 | processor time "
        "(program + system) | images per processor second | of ResNet-50 | cores | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['case']} | {row['wall']:.2f} s | {row['images_per_second']:.2f} "
            f"| **{row['clock_ratio']:.2f}** | {row['user']:.2f} + {row['system']:.2f} s "
            f"| {row['images_per_processor_second']:.2f} | **{row['processor_ratio']:.2f}** "
            f"| {row['cores']:.2f} | {row['peak_gb']:.1f} GB |"
        )
    return "\n".join(lines)


def machine(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Describe the machine that was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line for line in lines if line.startswith("model name")]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "threads": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", type=Path, nargs="?", help="file to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a case in a round")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Run all cases, round after round, write what was measured and print the table."""
    options = parser().parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.steps)))
        return
    cases = {case: CASES[case] for case in dict.fromkeys([BASELINE, *options.cases])}
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(options.rounds):
        rounds.append({})
        for case, fields in cases.items():
            fields = fields | {"crop_size": SIZE, "batch_size": options.batch}
            rounds[-1][case] = in_process(fields, options.steps)
            print(f"round {number + 1}: {case}: {rounds[-1][case]}", file=sys.stderr, flush=True)
    rows = summary(rounds, options.batch)
    print(table(rows))
    if options.json:
        figures = {"machine": machine(), "rows": rows, "rounds": rounds}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
