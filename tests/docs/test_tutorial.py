"""The commands of the tutorial run in their order, on tiny photographs, with few steps of a tiny network."""

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.bundles import bundle
from helpers.programs import make_workdir
from helpers.project import TINY

from efficientnet_east import scaling
from efficientnet_east.cli import main

ROOT = Path(__file__).resolve().parents[2]
# What makes a command quick; the later of two options counts.
QUICK = {
    "train": ["--steps=2", "--batch-size=2", "--crop-size=64", "--workers=0", "--warmup-steps=1",
              "--validate-every=2", "--save-every=2", "--score-threshold=0.02"],
    "eval": ["--sweep=none"],
    "export": ["--no-verify"],
}  # fmt: skip


def commands() -> list[list[str]]:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return [shlex.split(line)[1:] for line in re.findall(r"^efficientnet-east .*$", text, re.MULTILINE)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with annotated photographs, and a small network in the place of the bundled one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(scaling.VARIANTS, "b0", TINY)
    make_workdir(tmp_path / "small", backbone="b0", activation="swish")
    assert main.main(["export-weights", "--model=small", "--output=small.npz"]) == 0
    bundle(monkeypatch, tmp_path / "small.npz")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "photos").mkdir()
    for number in range(10):
        annotate(tmp_path / "photos" / f"photo_{number}.png")
    capsys.readouterr()
    return tmp_path


def annotate(path: Path) -> None:
    """A photograph with one word, as LabelMe leaves it."""
    image = np.full((96, 128, 3), 200, np.uint8)
    cv2.putText(image, path.stem[-3:], (20, 52), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20), 2)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    shape = {"label": "word", "points": [[18, 28], [90, 56]], "shape_type": "rectangle", "flags": {}}
    tree = {"version": "5.2.1", "flags": {}, "shapes": [shape], "imagePath": path.name, "imageData": None,
            "imageHeight": 96, "imageWidth": 128}  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(tree))


def test_every_command_works(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands():
        if words[0] == "demo":  # would serve until Ctrl-C
            assert main.parser().parse_args(words) and Path(words[2]).is_file()
        else:
            code = main.main([*words, *QUICK.get(words[0], [])])
            assert code == 0, (words, capsys.readouterr().err)
    for left in ("check/mosaic.jpg", "lists/fold0_val.txt", "report-before/report.html", "report/report.html",
                 "runs/mine/train_batch0.jpg", "runs/mine/best", "after/photo_0_words.png"):  # fmt: skip
        assert (here / left).exists(), left
    assert [words[0] for words in commands()] == [
        "detect", "check-data", "folds", "eval", "train", "eval", "export", "detect", "demo"]  # fmt: skip
