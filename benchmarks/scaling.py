"""How training speeds up from one device to two, and from one process to two.

    python benchmarks/scaling.py benchmarks/results/scaling.json [--rounds 2] [--steps 30]

Each case is a run of `train` on generated scenes, B0 at 256x256, batch 4 of all devices together, with
synchronised batch norm where there are several. Threads are divided honestly: what two devices or two
processes have together stands in the table, and one device is measured with as many, too. The speed is that
of `results.csv`, in which saving and validating do not count; a run's first third is left out as warm-up.
On a machine with as many cores as threads, and with nothing else to do, two devices can at best be twice as
quick as one with one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Case -> options of each of its processes.
CASES: dict[str, list[list[str]]] = {
    "1 device, 1 thread": [["--devices=cpu", "--threads=1"]],
    "1 device, 2 threads": [["--devices=cpu", "--threads=2"]],
    "2 devices, 2 threads": [["--devices=cpu:2", "--threads=2", "--batch-norm=sync"]],
    "2 processes, 1 thread each": [["--devices=cpu", "--threads=1", "--batch-norm=sync"]] * 2,
}
BASELINE = "1 device, 1 thread"
WORDS = ["--backbone=b0", "--crop-size=256", "--batch-size=4", "--synthetic-size=512", "--val-limit=1",
         "--warmup-steps=5", "--save-every=100000", "--picture-every=100000"]  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def environments(count: int) -> list[dict[str, str]]:
    """The variables of a run's processes: of several, each has its TF_CONFIG."""
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    plain = os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    plain.pop("TF_CONFIG", None)
    if count == 1:
        return [plain]
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [
        plain | {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})} for task in tasks
    ]


def measure(processes: list[list[str]], steps: int) -> float:
    """Images a second of one run.

    Args:
      processes: options of each.
      steps: of the run, a multiple of 3.

    Returns:
      Over the last two thirds of the steps.

    Raises:
      SystemExit: a process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [*WORDS, f"--steps={steps}", f"--validate-every={steps // 3}", "--workdir", f"{folder}/run"]
        command = [sys.executable, "-W", "ignore", "-m", "efficientnet_east", "train", *words]
        started = [
            subprocess.Popen([*command, *own], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for own, env in zip(processes, environments(len(processes)), strict=True)
        ]
        errors = [process.communicate()[1].decode(errors="replace") for process in started]
        if any(process.returncode for process in started):
            raise SystemExit("\n".join(errors))
        with (Path(folder) / "run" / "results.csv").open() as file:
            speeds = [float(row["images_per_second"]) for row in csv.DictReader(file)]
    return statistics.harmonic_mean(speeds[1:])


def summary(speeds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """The rows of the result: medians over the rounds, and of the ratios within a round."""
    return [
        {
            "case": case,
            "images_per_second": round(statistics.median(found), 2),
            "of_one_device": round(
                statistics.median(own / one for own, one in zip(found, speeds[BASELINE], strict=True)), 2
            ),
            "rounds": [round(speed, 2) for speed in found],
        }
        for case, found in speeds.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| | images/s | of one device with one thread |", "|---|---|---|"]
    lines += [f"| {row['case']} | {row['images_per_second']} | {row['of_one_device']} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Measure every case in every round, write JSON, print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    speeds: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(options.rounds):
        for case, processes in CASES.items():
            speeds[case].append(measure(processes, options.steps))
            print(f"{case}: {speeds[case][-1]:.2f} images/s", file=sys.stderr, flush=True)
    rows = summary(speeds)
    cores = len(os.sched_getaffinity(0))
    options.output.write_text(json.dumps({"cores": cores, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
