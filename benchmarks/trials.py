"""Small trainings that are compared: the same images, seed and options but for what a trial changes.

`sheet.py` compares backbones with it, `recipe.py` the choices of the recipe. What is done is kept: an
interrupted training resumes in its workdir, and a trial whose figures are in the results folder is not done
again. With other data, weights or options, name other folders.

The thresholds of a trial are the best of the validation images, and so are a little too good for all alike.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = 8  # of a run, after each of which there is a checkpoint
SWEEP = "0.2,0.4,0.6,0.8,0.9,0.95,0.98"
BUDGET = "steps", "batch_size", "crop_size"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all comparisons have."""
    parser.add_argument("folder", type=Path, help="for the results")
    parser.add_argument("--data", required=True, help="images and ground truth")
    train, val = "configs/icdar15_train.txt", "configs/icdar15_val.txt"
    parser.add_argument("--list", default=train, help=f"names of the images to train on [{train}]")
    parser.add_argument("--val-list", default=val, help=f"names of those to score on [{val}]")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the workdirs")
    parser.add_argument("--steps", type=int, default=400, help="of each training [400]")
    parser.add_argument("--batch-size", type=int, default=8, help="crops in a step [8]")
    parser.add_argument("--crop-size", type=int, default=320, help="pixels of a crop's side [320]")
    parser.add_argument(
        "--train",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="one more option of train.py, without dashes; repeat it",
    )


def run(*words: str) -> None:
    """Run a program of this repository."""
    done = subprocess.run([sys.executable, "-W", "ignore", *words], cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{words[0]} ended with {done.returncode}")


def workdir(name: str, options: argparse.Namespace) -> Path:
    """Return the folder of a trial's run."""
    return Path(options.runs) / name.lower().replace(", ", "_").replace(" ", "_")


def train(name: str, words: Sequence[str], options: argparse.Namespace) -> list[dict[str, float]]:
    """Train, or resume the training.

    Args:
      name: of the trial.
      words: options of train.py that win over the common ones.
      options: those of `add_options`.

    Returns:
      Step, seconds and images of each checkpoint.
    """
    more = [f"--{option}" for option in options.train]
    mixed = any(word.startswith("--mix") for word in [*more, *words])
    data = [] if mixed else [f"--data={options.data}", f"--list={options.list}"]
    common = [
        f"--workdir={workdir(name, options)}",
        "--learning-rate=8e-4",
        "--warmup-steps=50",
        "--ema-decay=0.99",
    ]
    common += [f"--{field.replace('_', '-')}={getattr(options, field)}" for field in BUDGET]
    common += [
        f"--save-every={saved_every(options.steps)}",
        f"--keep-checkpoints={PARTS + 1}",
        "--drop-connect=0",
    ]
    run("train.py", *common, *data, *more, *words)
    with open(workdir(name, options) / "results.csv", encoding="utf-8") as file:
        return [
            {part: float(row[part]) for part in ("step", "seconds", "images")} for row in csv.DictReader(file)
        ]


def saved_every(steps: int) -> int:
    """Compute the steps between two checkpoints of a trial."""
    return max(1, steps // PARTS)


def score(name: str, step: int, options: argparse.Namespace, scale: float = 1) -> dict[str, float]:
    """Find the best pair of thresholds on the validation images, and the figures there."""
    folder = workdir(name, options)
    report = folder / f"report-{step}-{scale:g}"
    if not (report / "report.json").exists():
        words = [
            f"--checkpoint={folder}/model.ckpt-{step}",
            f"--data={options.data}",
            f"--list={options.val_list}",
        ]
        run("eval.py", *words, f"--scales={scale:g}", f"--sweep={SWEEP}", f"--report={report}", "--gallery=4")
    found = json.loads((report / "report.json").read_text(encoding="utf-8"))
    best = found.get("best", {})  # there is none where nothing was detected
    return {part: round(best.get(part, 0), 4) for part in ("precision", "recall", "hmean", "score_threshold")}


def kept(name: str, options: argparse.Namespace, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Read a trial's figures from the results folder, or make them and put them there."""
    path = Path(options.folder) / "trials.json"
    budget = {field: getattr(options, field) for field in BUDGET}
    found = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"budget": budget, "trials": {}}
    )
    if found["budget"] != budget:
        raise SystemExit(
            f"{path}: is of another budget, {found['budget']}; expected {budget}, or another folder"
        )
    if name not in found["trials"]:
        found["trials"][name] = dict(make())
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return dict(found["trials"][name])


def markdown(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Write a table; names of columns -> headings. Shares have three digits and no zero before the point."""
    lines = [f"| {' | '.join(columns.values())} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(_cell(row.get(column, '')) for column in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float) and abs(value) < 1:
        return f"{value:.3f}".replace("0.", ".", 1)
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the same table for programs."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
