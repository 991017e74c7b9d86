"""The results sheet: several backbones trained for the same number of images, and what each of them costs.

    python benchmarks/sheet.py results/sheet --data DIR --runs RUNS --weights b0=B0.npz --weights b4=B4.npz

times training steps and detection of all rows (`step.py`, `runtimes.py`), trains each row of `ROWS` with the
same options, seed and images, scores it on the validation images, and writes sheet.csv, sheet.md and
sheet.png, hmean against latency. What is in the folder already is not done again.

Two budgets are compared: the same images, and the time that the quickest row needs for them, in which the
others have seen less; that follows from the measured steps, so that other work beside the training does not
matter.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import merges
import runtimes
import trials

from efficientnet_east import config as configuration
from efficientnet_east.drawing.charts import Panel, Series, draw

SIDE = 512  # of the image that multiply-adds are counted for
ROWS: dict[str, dict[str, str]] = {
    "ResNet-50": {"backbone": "resnet50", "activation": "relu"},
    "B0, ReLU": {"backbone": "b0", "activation": "relu"},
    "B0, ReLU, random weights": {"backbone": "b0", "activation": "relu", "init": "none"},
    "B0, swish": {"backbone": "b0", "activation": "swish"},
    "modified B4, ReLU": {"backbone": "b4-modified", "activation": "relu"},
    "B4, swish": {"backbone": "b4", "activation": "swish"},
}
STEP = {"images_per_second": "images_per_second", "training_gb": "peak_gb"}
WAYS = {"tensorflow_ms": runtimes.REFERENCE, "onnx_ms": "ONNX Runtime"}
COLUMNS = {
    "name": "backbone",
    "init": "begins from",
    "images": "images",
    "minutes": "minutes",
    "precision": "precision",
    "recall": "recall",
    "hmean": "hmean",
    "score_threshold": "at threshold",
    "hmean_same_time": "hmean in the same time",
    "parameters": "parameters",
    "multiply_adds": f"multiply-adds, {SIDE}x{SIDE}",
    "images_per_second": "training images/s",
    "training_gb": "training, GB",
    "tensorflow_ms": "ms, TensorFlow",
    "onnx_ms": "ms, ONNX Runtime",
}


def words(name: str, weights: Mapping[str, str]) -> list[str]:
    """A row's options of train.py."""
    fields = {"init": weights.get(ROWS[name]["backbone"], "none")} | ROWS[name]
    if fields["init"] != "none" and fields["activation"] == "relu":
        fields["recalibrate"] = "20"  # batch norm's statistics are those of swish
    return [f"--{field}={value}" for field, value in fields.items()]


def steps_in(share: float, steps: int) -> int:
    """The last checkpoint within a share of a run; 0 if that is before the first."""
    every = trials.saved_every(steps)
    return min(steps, int(steps * share / every) * every)


def row(name: str, share: float, options: argparse.Namespace, weights: Mapping[str, str]) -> dict[str, Any]:
    """Train and score one backbone.

    Args:
      name: of the row.
      share: of its steps that it makes in the time in which the quickest makes all.
      options: of the command line.
      weights: backbone -> file of ImageNet weights.

    Returns:
      Its part of the sheet, without times of inference.
    """
    seen = trials.train(name, words(name, weights), options)
    early = steps_in(share, options.steps)
    init = "random weights" if "--init=none" in words(name, weights) else "ImageNet"
    found = {"name": name, "init": init, "images": int(seen[-1]["images"])}
    found |= {"minutes": round(seen[-1]["seconds"] / 60, 1)} | trials.score(name, options.steps, options)
    same_time = trials.score(name, early, options)["hmean"] if early else 0.0
    return found | costs(name) | {"hmean_same_time": same_time}


def costs(name: str) -> dict[str, int]:
    """Weights that are trained, and one image's multiply-adds, of the whole network."""
    fields = {field: value for field, value in ROWS[name].items() if field != "init"}
    found = merges.counts(configuration.load(None, fields), SIDE)
    return {part: found[part] for part in ("parameters", "multiply_adds")}


def network_of(name: str) -> str:
    """What `step.py` calls a row's network."""
    return f"{ROWS[name]['backbone']} {ROWS[name]['activation']}"


def speed(folder: Path, names: Sequence[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Training and detection of every row's network, round after round in turns."""
    cases = dict.fromkeys(map(network_of, names))
    networks = {case: case.removesuffix(" relu") for case in cases}
    paths = {part: folder / f"{part}.json" for part in ("step", "runtimes")}
    if not paths["step"].exists():
        trials.run("benchmarks/step.py", str(paths["step"]), f"--rounds={rounds}", "--cases", *cases)
    if not paths["runtimes"].exists():
        options = ["--networks", *networks.values(), "--ways", *WAYS.values()]
        trials.run("benchmarks/runtimes.py", str(paths["runtimes"]), f"--rounds={rounds}", *options)
    steps, times = (json.loads(path.read_text())["rows"] for path in paths.values())
    found = {row["case"]: {column: row[part] for column, part in STEP.items()} for row in steps}
    whole = {(row["network"], row["runtime"]): row["whole_ms"] for row in times}
    for case, network in networks.items():
        found[case] |= {column: whole[network, way] for column, way in WAYS.items()}
    return {name: found[network_of(name)] for name in names}


# --- the sheet


def sheet(options: argparse.Namespace, weights: Mapping[str, str]) -> list[dict[str, Any]]:
    """Measure the speed of all, train and score what is not done yet, and collect a row for each backbone."""
    measured = speed(options.folder, options.rows, options.rounds)
    timed = json.loads((options.folder / "step.json").read_text(encoding="utf-8"))["rows"]
    quickest = max(row["images_per_second"] for row in timed)  # of all that were timed, whatever --rows are
    rows = []
    for name in options.rows:
        share = measured[name]["images_per_second"] / quickest
        found = trials.kept(name, options, functools.partial(row, name, share, options, weights))
        rows.append(found | measured[name])
    return rows


def chart(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """hmean against the latency of ONNX Runtime; a PNG."""
    points = [Series(row["name"], [row["onnx_ms"]], [row["hmean"]], {"marker": "o", "linestyle": "none"})
              for row in rows]  # fmt: skip
    title = f"{rows[0]['images']:,} images each"
    return draw(title, "ms for 1280x720, ONNX Runtime", [Panel("hmean", points, limits=(0, None))], columns=1)


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The three forms of the sheet."""
    trials.write_csv(folder / "sheet.csv", list(COLUMNS), rows)
    shown = [dict(row) | {"multiply_adds": f"{row['multiply_adds'] / 1e9:.2f} G"} for row in rows]
    (folder / "sheet.md").write_text(trials.markdown(COLUMNS, shown), encoding="utf-8")
    (folder / "sheet.png").write_bytes(chart(rows))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    trials.add_options(parser)
    parser.add_argument("--weights", action="append", default=[], metavar="BACKBONE=FILE", help="of ImageNet")
    names = ", ".join(repr(name) for name in ROWS)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW",
                        help=f"those to do [all: {names}]")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="of the measurements of speed")
    return parser


def main() -> None:
    """Trains, measures, writes the sheet and prints it."""
    options = parser().parse_args()
    weights = dict(text.split("=", 1) for text in options.weights)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = sheet(options, weights)
    write(options.folder, rows)
    print((options.folder / "sheet.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
