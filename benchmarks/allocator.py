"""What TensorFlow's CPU allocator costs: training steps and an evaluation, with freed memory kept or not.

    python benchmarks/allocator.py benchmarks/results/allocator.json --data DIR [--limit 30] [--rounds 2]

Every command of this project sets `TF_CPU_ALLOCATOR_USE_BFC=true` (`system.environment.keep_memory`); here
it is `true` in one arm and `false` in the other. Each measurement is a process of its own, and a round has
both arms of both jobs, so that other work on the machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import step

from efficientnet_east.checkpoints import bundled
from efficientnet_east.system.environment import ALLOCATOR

ROOT = Path(__file__).resolve().parents[1]
ARMS = {"kept": "true", "given back": "false"}
TRAINING = {"backbone": "b0", "activation": "swish", "crop_size": 384, "batch_size": 8}


def train(arm: str, steps: int) -> dict[str, float]:
    """Time training steps: medians of a step, and images a second."""
    os.environ[ALLOCATOR] = ARMS[arm]
    times = step.in_process(TRAINING, steps)
    found = {kind: statistics.median(times[kind]) for kind in step.KINDS}
    return found | {"images/s": round(TRAINING["batch_size"] / found[step.KINDS[0]], 2)}


def evaluate(arm: str, data: str, limit: int) -> dict[str, float]:
    """Time `eval.py` with the weights in the package, from the start of the process to its end."""
    environment = os.environ | {ALLOCATOR: ARMS[arm], "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", str(ROOT / "eval.py"), "--data", data, "--limit", str(limit)]
    command += ["--checkpoint", str(bundled.resolve(bundled.DEFAULT))]  # which TensorFlow runs
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    clock, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    times = (clock, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)
    return {kind: round(value, 1) for kind, value in zip(step.KINDS, times, strict=True)}


def main() -> None:
    """Measure, print, write."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", required=True, help="folder of photographs with ground truth")
    parser.add_argument("--limit", type=int, default=30, help="so many of them are evaluated")
    parser.add_argument("--steps", type=int, default=6, help="of training in each round")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(arguments.rounds):
        for arm in ARMS:
            found.setdefault(("train", arm), []).append(train(arm, arguments.steps))
            found.setdefault(("eval", arm), []).append(evaluate(arm, arguments.data, arguments.limit))
    rows: list[dict[str, Any]] = []
    for (job, arm), times in found.items():
        medians = {name: round(statistics.median(each[name] for each in times), 2) for name in times[0]}
        rows.append({"job": job, "freed memory is": arm} | medians)
        print(rows[-1])
    arguments.output.write_text(json.dumps({"machine": step.machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
