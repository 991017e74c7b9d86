"""How training speeds up from one device to two, and from one process to two.

    python benchmarks/scaling.py benchmarks/results/scaling.json [--rounds 2] [--steps 30]

Each case is a run of `train`, B0 at 256x256, batch 4 of all devices together, on a few generated scenes that
were written to files first and stay in memory, so that nobody waits for data; `data_wait` tells. Batch norm
is synchronised where there are several devices. Threads are divided honestly: what two devices or two
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
sys.path.insert(0, str(ROOT))

# Case -> options of each of its processes.
CASES: dict[str, list[list[str]]] = {
    "1 device, 1 thread": [["--devices=cpu", "--threads=1"]],
    "1 device, 2 threads": [["--devices=cpu", "--threads=2"]],
    "2 devices, 2 threads": [["--devices=cpu:2", "--threads=2", "--batch-norm=sync"]],
    "2 processes, 1 thread each": [["--devices=cpu", "--threads=1", "--batch-norm=sync"]] * 2,
}
BASELINE = "1 device, 1 thread"
SCENES, SIDE = 8, 512
WORDS = ["--backbone=b0", "--crop-size=256", "--batch-size=4", "--val-limit=1", "--warmup-steps=5",
         "--save-every=100000", "--picture-every=100000"]  # fmt: skip


def write_scenes(folder: Path) -> None:
    """Write a small data set in the layout images + gts."""
    from efficientnet_east.data.images import write_image
    from efficientnet_east.data.synthetic.scenes import SyntheticScenes

    scenes = SyntheticScenes(SCENES, 0, (SIDE, SIDE))
    for part in ("images", "gts"):
        (folder / part).mkdir(parents=True)
    for number in range(SCENES):
        scene = scenes[number]
        write_image(folder / "images" / f"img_{number}.png", scene.image)
        lines = [
            ",".join(f"{value:.0f}" for value in quad.ravel()) + f",{'###' if ignored else 'text'}\n"
            for quad, ignored in zip(scene.truth.quads, scene.truth.ignore, strict=True)
        ]
        (folder / "gts" / f"gt_img_{number}.txt").write_text("".join(lines), encoding="utf-8")


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def environments(count: int) -> list[dict[str, str]]:
    """Make the environments of a run's processes; if there are several, each has its TF_CONFIG."""
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


def measure(data: Path, processes: list[list[str]], steps: int) -> tuple[float, float]:
    """Measure one run.

    Args:
      data: what is trained and validated on.
      processes: options of each.
      steps: of the run, a multiple of 3.

    Returns:
      Images a second and the share of the time spent waiting for data, over the last two thirds of it.

    Raises:
      SystemExit: a process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [*WORDS, f"--steps={steps}", f"--validate-every={steps // 3}", "--workdir", f"{folder}/run",
                 f"--data={data}", f"--val-data={data}"]  # fmt: skip
        command = [sys.executable, "-W", "ignore", "-m", "efficientnet_east", "train", *words]
        started = [
            subprocess.Popen([*command, *own], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for own, env in zip(processes, environments(len(processes)), strict=True)
        ]
        errors = [process.communicate()[1].decode(errors="replace") for process in started]
        if any(process.returncode for process in started):
            raise SystemExit("\n".join(errors))
        with (Path(folder) / "run" / "results.csv").open() as file:
            rows = list(csv.DictReader(file))[1:]
    speed = statistics.harmonic_mean([float(row["images_per_second"]) for row in rows])
    return speed, statistics.mean(float(row["data_wait"]) for row in rows)


def summary(found: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Make the rows of the result: medians over the rounds, and of the ratios within a round."""
    rows = []
    for case, runs in found.items():
        ratios = [run[0] / one[0] for run, one in zip(runs, found[BASELINE], strict=True)]
        rows.append(
            {
                "case": case,
                "images_per_second": round(statistics.median(run[0] for run in runs), 2),
                "of_one_device": round(statistics.median(ratios), 2),
                "data_wait": round(max(run[1] for run in runs), 3),
                "rounds": [round(run[0], 2) for run in runs],
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as Markdown."""
    lines = ["| | images/s | of one device, one thread | waiting for data, at most |", "|---|---|---|---|"]
    lines += [
        f"| {row['case']} | {row['images_per_second']} | {row['of_one_device']} | {row['data_wait']:.1%} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure every case in every round, write JSON, print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder))
        for _ in range(options.rounds):
            for case, processes in CASES.items():
                found[case].append(measure(Path(folder), processes, options.steps))
                print(case, *(f"{value:.3g}" for value in found[case][-1]), file=sys.stderr, flush=True)
    rows = summary(found)
    cores = len(os.sched_getaffinity(0))
    options.output.write_text(json.dumps({"cores": cores, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
