"""The table of what each choice of the recipe is worth: its rows, and how it is written."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import bundled, model_file, weight_files

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(REPOSITORY / "benchmarks"), *sys.path])
    import recipe

    return recipe


def options_of(folder: Path, start: str, weights: str) -> argparse.Namespace:
    return argparse.Namespace(folder=folder, start=start, data="D", list="L", other="O", weights=weights)


@pytest.mark.parametrize(("start", "least"), [("imagenet", 12), ("model", 5), ("backbone", 8)])
def test_rows_are_configurations(recipe: Any, tmp_path: Path, start: str, least: int) -> None:
    """Each row's options are known and of a value that may be, and every other row changes something."""
    from efficientnet_east.cli.main import parser

    rows = recipe.changes(options_of(tmp_path, start, "fast"))
    given = {name: vars(parser().parse_args(["train", *words])) for name, words in rows.items()}
    for fields in given.values():
        del fields["command"], fields["config"], fields["verbose"]
    base = None if start == "imagenet" else REPOSITORY / "configs" / "shipped.yaml"
    configs = {name: configuration.load(base, fields).model_dump_json() for name, fields in given.items()}
    assert len(set(configs.values())) == len(rows) >= least


def test_a_backbone_has_all_but_the_head(recipe: Any, tmp_path: Path) -> None:
    found = weight_files.read(recipe.backbone_of("fast", tmp_path / "backbone.npz")).arrays
    whole = model_file.read_weights(bundled.resolve("fast"))
    assert {name for name in whole if name not in found} == {
        n for n in whole if n.startswith("feature_fusion/")
    }
    assert 0 < len(found) < len(whole)
    for name, array in found.items():
        assert (array == whole[name]).all()


def test_kept_trials(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The differences are to the base, and what is kept is neither trained nor scored again."""
    options = options_of(tmp_path, "imagenet", "W")
    options.other = None
    hmeans = {name: 0.25 + 0.05 * (number % 3 - 1) for number, name in enumerate(recipe.changes(options), 1)}
    hmeans[recipe.BASE] = 0.25
    kept = {"budget": {"steps": 8, "batch_size": 8, "crop_size": 320}}
    kept["trials"] = {
        name: {"name": name, "precision": 0.5, "recall": 0.5, "hmean": hmean, "hmean_enlarged": 0.125}
        for name, hmean in hmeans.items()
    }
    (tmp_path / "trials.json").write_text(json.dumps(kept))
    given = ["recipe.py", str(tmp_path), "--data=D", "--runs=R", "--weights=W", "--steps=8"]
    monkeypatch.setattr("sys.argv", given)
    recipe.main()
    lines = (tmp_path / "recipe.md").read_text().splitlines()[2:]
    cells = {name: line.split(" | ")[3:6] for name, line in zip(hmeans, lines, strict=True)}
    expected = {0.2: "-.050", 0.25: "+.000", 0.3: "+.050"}
    for name, hmean in hmeans.items():
        assert cells[name] == [f"{hmean:.3f}"[1:], expected[round(hmean, 2)], ".125"]
    assert {cell[1] for cell in cells.values()} == set(expected.values())
