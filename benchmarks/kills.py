"""Kill a short training run again and again, and see whether it ends as the one that nobody killed.

    python benchmarks/kills.py kills.json [--kills 20] [--steps 90] [--seed 0]

Both runs train a network smaller than B0 on synthetic scenes, on one thread, so that the weights must be
equal bit by bit. SIGKILL strikes at random moments of four kinds: while the program starts, between steps,
while a checkpoint is being written (its half-written files are seen first), and while it validates.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east import scaling
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.cli import main as cli

SAVE_EVERY, VALIDATE_EVERY = 3, 10
TRAIN = ["--backbone=tiny", "--crop-size=64", "--batch-size=2", "--threads=1", "--drop-connect=0.9",
         "--warmup-steps=5", "--synthetic-size=128", "--val-limit=2", "--score-threshold=0.1",
         f"--save-every={SAVE_EVERY}", f"--validate-every={VALIDATE_EVERY}"]  # fmt: skip
KINDS = ("start-up", "saving", "steps", "saving", "start-up", "validation", "saving", "steps")
WORKERS_END = 30  # seconds after their parent


class Run:
    """A training process in a group of its own.

    Args:
      workdir: of the run.
      words: more options.
    """

    def __init__(self, workdir: Path, *words: str) -> None:
        self.workdir = workdir
        self.printed = workdir.with_suffix(".out")
        command = [sys.executable, __file__, "train", *TRAIN, "--workdir", str(workdir), *words]
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        with self.printed.open("w") as out, workdir.with_suffix(".err").open("w") as err:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, env=environment, start_new_session=True
            )

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait until the condition is true; tell whether it was before the process ended."""
        while self.process.poll() is None:
            if condition():
                return True
            time.sleep(0.001)
        return False

    def trains(self) -> bool:
        """Tell whether the run has begun."""
        text = self.printed.read_text()
        return "resuming from step" in text or "starting from" in text

    def saves(self) -> bool:
        """Tell whether half a checkpoint is in the workdir."""
        with contextlib.suppress(OSError):
            return any(name.startswith(".partial-") for name in os.listdir(self.workdir))
        return False

    def validates(self) -> bool:
        """Tell whether a checkpoint is there to be validated, without figures yet."""
        with contextlib.suppress(OSError):
            newest = (self.workdir / "checkpoint").read_text().split('"')[1]
            step = int(newest.rpartition("-")[2])
            return step % VALIDATE_EVERY == 0 and str(step) not in {
                row["step"] for row in figures(self.workdir)
            }
        return False

    def kill(self) -> None:
        """Kill the process, and wait until those that it started have ended by themselves."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        end = time.monotonic() + WORKERS_END
        while group_lives(self.process.pid):
            if time.monotonic() > end:
                raise RuntimeError("a worker process outlives the one that was killed")
            time.sleep(0.05)


def group_lives(group: int) -> bool:
    """Tell whether a group still has processes."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def figures(workdir: Path) -> list[dict[str, str]]:
    """Read the validations of a run, without their times."""
    rows = []
    for path in sorted(workdir.glob("*.csv")):
        rows += [row for row in csv.DictReader(path.open()) if row.get("hmean")]
    return [{name: row[name] for name in ("step", "precision", "recall", "hmean")} for row in rows]


def strike(run: Run, kind: str, dice: random.Random, start_up: float, step: float) -> bool:
    """Wait for a moment of a kind and kill; False if the run had ended before."""
    if kind == "start-up":
        delay = dice.uniform(0, start_up)
    else:
        condition = {"steps": run.trains, "saving": run.saves, "validation": run.validates}[kind]
        if not run.wait_until(condition):
            return False
        delay = dice.uniform(0, {"steps": 5 * step, "saving": 0.03, "validation": 0.5}[kind])
    time.sleep(delay)
    if run.process.poll() is not None:
        return False
    run.kill()
    return True


def measure(folder: Path, steps: int) -> tuple[float, float]:
    """Train without a kill; seconds until the first step, and of a step with what falls due between two."""
    begun = time.monotonic()
    run = Run(folder / "whole", f"--steps={steps}", "--workers=0")
    run.wait_until(run.trains)
    start_up = time.monotonic() - begun
    if run.process.wait() != 0:
        raise RuntimeError(run.workdir.with_suffix(".err").read_text()[-3000:])
    return start_up, (time.monotonic() - begun - start_up) / steps


def torment(folder: Path, kills: int, steps: int, dice: random.Random) -> dict[str, Any]:
    """Train with kills; what was found after each of them, and whether the end is the same."""
    start_up, step = measure(folder, steps)
    rows: list[dict[str, Any]] = []
    workdir = folder / "killed"
    while len(rows) < kills:
        kind, workers = KINDS[len(rows) % len(KINDS)], int(len(rows) % 4 == 0)
        run = Run(workdir, f"--steps={steps}", f"--workers={workers}")
        if not strike(run, kind, dice, start_up, step):
            if run.process.returncode:
                raise RuntimeError(workdir.with_suffix(".err").read_text()[-3000:])
            raise RuntimeError(f"the run ended before kill {len(rows) + 1}: take more --steps")
        newest = tf_checkpoints.newest_in(workdir)
        saved = int(tf_checkpoints.read(newest)["global_step"]) if newest else 0
        rows.append({"moment": kind, "workers": workers, "half_written": run.saves(), "newest_step": saved})
        print(len(rows), *rows[-1].values(), sep="\t", flush=True)
    last = Run(workdir, f"--steps={steps}", "--workers=0")
    code = last.process.wait()
    return {"kills": rows, "exit_code": code, "start_up_seconds": round(start_up, 1)} | compare(folder)


def compare(folder: Path) -> dict[str, Any]:
    """Compare two runs: newest checkpoint, best checkpoint, figures."""
    result: dict[str, Any] = {}
    for name, part in (("newest", "."), ("best", "best")):
        whole, killed = (
            tf_checkpoints.read(tf_checkpoints.find(folder / run / part)) for run in ("whole", "killed")
        )
        result[name] = {
            "step": int(killed["global_step"]), "variables": len(whole),
            "equal": whole.keys() == killed.keys()
            and all(np.array_equal(killed[name], value) for name, value in whole.items()),
        }  # fmt: skip
    result["validations"] = len(figures(folder / "whole"))
    result["figures_equal"] = figures(folder / "whole") == figures(folder / "killed")
    result["left_over"] = [path.name for path in (folder / "killed").rglob(".*")]
    return result


def main() -> int:
    """Write the result as JSON and print it; return 1 if the two runs differ."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    print("kill", "moment", "workers", "half written", "newest step", sep="\t")
    try:
        result = torment(folder, options.kills, options.steps, random.Random(options.seed))
    finally:
        shutil.rmtree(folder)
    result |= {"steps": options.steps, "seed": options.seed, "seconds": round(time.monotonic() - begun)}
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print({name: value for name, value in result.items() if name != "kills"})
    same = result["newest"]["equal"] and result["best"]["equal"] and result["figures_equal"]
    return 0 if same and result["exit_code"] == 0 and not result["left_over"] else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        scaling.VARIANTS["tiny"] = scaling.Variant(width=0.3, depth=0.3, resolution=64, dropout=0.2)
        sys.exit(cli.main(sys.argv[1:]))
    sys.exit(main())
