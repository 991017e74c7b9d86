"""Measure what each choice of the recipe is worth: B0 on a small budget, with one choice changed each time.

    python benchmarks/recipe.py results/recipe --data DIR --other MLT --runs RUNS --weights B0.npz
    python benchmarks/recipe.py results/more --start model --weights default --data DIR --runs RUNS
    python benchmarks/recipe.py results/heads --start backbone --weights default --data DIR --runs RUNS

`--start` says what the weights are: ImageNet weights, a whole model that learns more, or a model whose
backbone is kept under a fresh head. Add the model's configuration, `--train config=configs/shipped.yaml`.
Every row of a table is trained for the same number of steps and scored on the validation images at two sizes.
The row of another seed says how much of a difference is chance. Writes recipe.csv and recipe.md.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trials

from efficientnet_east.checkpoints import bundled, model_file, weight_files

BASE = "the base"
SEEDS: dict[str, Sequence[str]] = {BASE: [], "another seed": ["--seed=2"]}
FROM_IMAGENET: dict[str, Sequence[str]] = {
    **SEEDS,
    "ReLU": ["--activation=relu", "--recalibrate=20"],
    "no ImageNet weights": ["--init=none"],
    "batch norm frozen": ["--batch-norm=frozen"],
    "text at .3 to .9 of its size": ["--scale-min=0.3", "--scale-max=0.9"],
    "text at .7 to 1.7": ["--scale-min=0.7", "--scale-max=1.7"],
    "BiFPN": ["--merge=bifpn"],
    "QUAD": ["--geometry=quad"],
    "output stride 2": ["--output-stride=2"],
    "score loss doubled": ["--score-weight=2"],
    "angle loss doubled": ["--angle-weight=20"],
}
FROM_A_MODEL: dict[str, Sequence[str]] = {
    **SEEDS,
    "half as many crops of 384": ["--crop-size=384", "--batch-size=2"],
    "words pasted into 30 %": ["--paste=0.3"],
    "colors twice as strong": ["--color-strength=2"],
}
FROM_A_BACKBONE: dict[str, Sequence[str]] = {
    **SEEDS,
    "BiFPN": ["--merge=bifpn"],
    "QUAD": ["--geometry=quad"],
    "dice alone": ["--score-loss=dice"],
    "each cell of text alike": ["--balance=0"],
    "background between words doubled": ["--between=2"],
    "text at .5 to 2.6 of its size": ["--scale-min=0.5", "--scale-max=2.6"],
}
MIXED, SYNTHETIC = "other photographs mixed in", "generated scenes mixed in"
SCALES = 1.0, 1.3
COLUMNS = {
    "name": "changed",
    "precision": "precision",
    "recall": "recall",
    "hmean": "hmean",
    "difference": "difference",
    "hmean_enlarged": f"hmean, images {SCALES[1]} times as large",
    "minutes": "minutes of training",
}


def changes(options: argparse.Namespace) -> dict[str, list[str]]:
    """List the options of each row."""
    if options.start == "model":
        return {name: [f"--init={options.weights}", *more] for name, more in FROM_A_MODEL.items()}
    if options.start == "backbone":
        weights = backbone_of(options.weights, options.folder / "backbone.npz")
        return {name: [f"--init={weights}", *more] for name, more in FROM_A_BACKBONE.items()}
    base = ["--activation=swish", f"--init={options.weights}"]
    own = f"--mix={options.data}@{options.list}="
    mixed = {SYNTHETIC: [f"{own}2", "--mix=synthetic=1"]}
    if options.other:
        mixed[MIXED] = [f"{own}2", f"--mix={options.other}=1"]
    return {name: [*base, *more] for name, more in (FROM_IMAGENET | mixed).items()}


def backbone_of(model: str, path: Path) -> Path:
    """Write a model's weights without its head, for trainings that begin with a fresh one."""
    weights = model_file.read_weights(bundled.resolve(model))
    kept = {name: value for name, value in weights.items() if not name.startswith("feature_fusion/")}
    weight_files.write(path, kept)
    return path


def row(name: str, words: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Train and score one."""
    seen = trials.train(name, words, options)
    found, enlarged = (trials.score(name, options.steps, options, scale) for scale in SCALES)
    minutes = round(seen[-1]["seconds"] / 60, 1)
    return {"name": name, **found, "hmean_enlarged": enlarged["hmean"], "minutes": minutes}


def main() -> None:
    """Train and score what is not done yet, write the table and print it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    trials.add_options(parser)
    parser.add_argument("--start", choices=("imagenet", "model", "backbone"), default="imagenet")
    parser.add_argument("--weights", required=True, help="of ImageNet, for B0 with swish; or a model")
    parser.add_argument("--other", help="another folder of photographs, for the row that mixes them in")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name, words in changes(options).items():
        found = trials.kept(name, options, functools.partial(row, name, words, options))
        base = rows[0]["hmean"] if rows else found["hmean"]
        difference = f"{found['hmean'] - base:+.3f}".replace("0.", ".", 1)
        rows.append(found | {"difference": difference})
        trials.write_csv(options.folder / "recipe.csv", list(COLUMNS), rows)
        (options.folder / "recipe.md").write_text(trials.markdown(COLUMNS, rows), encoding="utf-8")
    print(trials.markdown(COLUMNS, rows))


if __name__ == "__main__":
    main()
