"""The results sheet: several backbones trained for the same number of images, and what each of them costs.

    python benchmarks/sheet.py results --data DIR --runs RUNS --weights b0=B0.npz --weights b4=B4.npz

trains each row of `ROWS` with the same options, seed and images (a run that was interrupted goes on in its
folder in RUNS), scores it on the validation images, times training steps and detection of all rows
(`step.py`, `runtimes.py`), and writes sheet.csv, sheet.md and sheet.png, hmean against latency.

Two budgets are compared: the same images, and the time by the clock that the quickest row needed for them, at
which the others have seen less. The threshold of each row is the best of the validation images, and so is a
little too good for all of them alike.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import merges
import runtimes

from efficientnet_east import config as configuration
from efficientnet_east.chart import Panel, Series, draw

ROOT = Path(__file__).resolve().parents[1]
SIDE = 512  # of the image that multiply-adds are counted for
ROWS: dict[str, dict[str, str]] = {
    "ResNet-50": {"backbone": "resnet50", "activation": "relu"},
    "B0, ReLU": {"backbone": "b0", "activation": "relu"},
    "B0, swish": {"backbone": "b0", "activation": "swish"},
    "modified B4, ReLU": {"backbone": "b4-modified", "activation": "relu"},
    "B4, swish": {"backbone": "b4", "activation": "swish"},
}
WAYS = {"tensorflow_ms": runtimes.REFERENCE, "onnx_ms": "ONNX Runtime"}
COLUMNS = {
    "name": "backbone",
    "init": "begins from",
    "images": "images",
    "minutes": "minutes",
    "precision": "precision",
    "recall": "recall",
    "hmean": "hmean",
    "threshold": "at threshold",
    "hmean_same_time": "hmean in the same time",
    "parameters": "parameters",
    "multiply_adds": f"multiply-adds, {SIDE}x{SIDE}",
    "images_per_second": "training images/s",
    "training_gb": "training, GB",
    "tensorflow_ms": "ms, TensorFlow",
    "onnx_ms": "ms, ONNX Runtime",
}


def train(name: str, folder: Path, options: argparse.Namespace, weights: Mapping[str, str]) -> None:
    """Train a row, or go on with it."""
    fields = ROWS[name]
    words = [f"--{field}={value}" for field, value in fields.items()]
    if fields["backbone"] in weights:
        words += ["--init", weights[fields["backbone"]]]
        if fields["activation"] == "relu":  # the statistics of batch norm are those of swish
            words += ["--recalibrate", "20"]
    words += [f"--data={options.data}", f"--list={options.list}", f"--workdir={folder}"]
    words += [f"--val-data={options.data}", f"--val-list={options.val_list}", "--drop-connect=0"]
    words += [f"--crop-size={options.crop_size}"]
    words += [f"--batch-size={options.batch_size}", f"--steps={options.steps}", "--warmup-steps=100"]
    words += [f"--validate-every={max(1, options.steps // 4)}", "--save-every=100", "--ema-decay=0.99"]
    run("train.py", *words, *options.train)


def score(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The best threshold of a trained row, and its figures there."""
    report = folder / "report"
    if not (report / "report.json").exists():
        words = [f"--checkpoint={folder}", f"--data={options.data}", f"--list={options.val_list}"]
        run("eval.py", *words, f"--report={report}", "--gallery=4")
    found = json.loads((report / "report.json").read_text(encoding="utf-8"))["best"]
    shares = {name: round(found[name], 4) for name in ("precision", "recall", "hmean")}
    return shares | {"threshold": found["score_threshold"]}


def run(*words: str) -> None:
    """A program of this repository."""
    done = subprocess.run([sys.executable, "-W", "ignore", *words], cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{words[0]} ended with {done.returncode}")


def progress(folder: Path) -> list[dict[str, float]]:
    """A run's validations: seconds, images, hmean."""
    with open(folder / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = ("seconds", "images", "hmean")
    return [{name: float(row[name]) for name in columns} for row in rows if row["hmean"]]


def within(rows: Sequence[Mapping[str, float]], seconds: float) -> float:
    """The hmean of the last validation of a run that was not later than `seconds`; 0 before the first."""
    return max((row["seconds"], row["hmean"]) for row in [{"seconds": 0, "hmean": 0}, *rows]
               if row["seconds"] <= seconds)[1]  # fmt: skip


def costs(name: str) -> dict[str, int]:
    """Weights that are trained, and one image's multiply-adds, of the whole network."""
    found = merges.counts(configuration.load(None, ROWS[name]), SIDE)
    return {part: found[part] for part in ("parameters", "multiply_adds")}


def speed(folder: Path, names: Sequence[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Training and detection of every row, round after round in turns."""
    cases = {f"{ROWS[name]['backbone']} {ROWS[name]['activation']}": name for name in names}
    paths = {part: folder / f"{part}.json" for part in ("step", "runtimes")}
    if not paths["step"].exists():
        run("benchmarks/step.py", str(paths["step"]), f"--rounds={rounds}", "--cases", *cases)
    if not paths["runtimes"].exists():
        words = ["--networks", *(case.removesuffix(" relu") for case in cases), "--ways", *WAYS.values()]
        run("benchmarks/runtimes.py", str(paths["runtimes"]), f"--rounds={rounds}", *words)
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for row in json.loads(paths["step"].read_text())["rows"]:
        if row["case"] in cases:
            parts = {"images_per_second": row["images_per_second"], "training_gb": row["peak_gb"]}
            found[cases[row["case"]]] |= parts
    shortened = {case.removesuffix(" relu"): name for case, name in cases.items()}
    for row in json.loads(paths["runtimes"].read_text())["rows"]:
        columns = [column for column, way in WAYS.items() if way == row["runtime"]]
        if row["network"] in shortened and columns:
            found[shortened[row["network"]]][columns[0]] = row["whole_ms"]
    return found


# --- the sheet


def sheet(folder: Path, options: argparse.Namespace, weights: Mapping[str, str]) -> list[dict[str, Any]]:
    """Train and score what is not trained yet, measure, and collect a row for each backbone."""
    rows: list[dict[str, Any]] = []
    for name in options.rows:
        workdir = options.runs / name.lower().replace(", ", "_").replace(" ", "_")
        train(name, workdir, options, weights)
        seen = progress(workdir)
        init = "ImageNet" if ROWS[name]["backbone"] in weights else "random weights"
        minutes = round(seen[-1]["seconds"] / 60, 1)
        row = {"name": name, "init": init, "images": int(seen[-1]["images"]), "minutes": minutes}
        rows.append(row | score(workdir, options) | costs(name) | {"seen": seen})
    measured = speed(folder, options.rows, options.rounds)
    quickest = min(row["seen"][-1]["seconds"] for row in rows)
    same_time = [{"hmean_same_time": within(row.pop("seen"), quickest)} for row in rows]
    return [row | more | measured[row["name"]] for row, more in zip(rows, same_time, strict=True)]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sheet as a table."""
    lines = [f"| {' | '.join(COLUMNS.values())} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(_cell(column, row.get(column, '')) for column in COLUMNS)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(column: str, value: Any) -> str:
    if column in ("precision", "recall", "hmean", "hmean_same_time"):
        return f"{value:.3f}".removeprefix("0")
    if column == "multiply_adds":
        return f"{value / 1e9:.2f} G"
    return f"{value:,}" if isinstance(value, int) else str(value)


def chart(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """hmean against the latency of ONNX Runtime; a PNG."""
    points = [Series(row["name"], [row["onnx_ms"]], [row["hmean"]], {"marker": "o", "linestyle": "none"})
              for row in rows]  # fmt: skip
    title = f"{rows[0]['images']:,} images each"
    return draw(title, "ms for 1280x720, ONNX Runtime", [Panel("hmean", points, limits=(0, None))], columns=1)


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The three forms of the sheet."""
    with open(folder / "sheet.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "sheet.md").write_text(markdown(rows), encoding="utf-8")
    (folder / "sheet.png").write_bytes(chart(rows))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("folder", type=Path, help="for the sheet")
    parser.add_argument("--data", required=True, help="images and ground truth")
    parser.add_argument("--list", default="configs/icdar15_train.txt")
    parser.add_argument("--val-list", default="configs/icdar15_val.txt")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the workdirs")
    parser.add_argument("--weights", action="append", default=[], metavar="BACKBONE=FILE", help="of ImageNet")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop-size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3, help="of the measurements of speed")
    parser.add_argument("--train", nargs="*", default=[], metavar="OPTION", help="more options of train.py")
    return parser


def main() -> None:
    """Trains, measures, writes the sheet and prints it."""
    options = parser().parse_args()
    weights = dict(text.split("=", 1) for text in options.weights)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = sheet(options.folder, options, weights)
    write(options.folder, rows)
    print(markdown(rows))


if __name__ == "__main__":
    main()
