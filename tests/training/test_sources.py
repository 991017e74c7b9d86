"""Several data sets in one run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.annotated import WORD, picture, ring
from helpers.project import make_data

from efficientnet_east.cli import main
from efficientnet_east.config import load
from efficientnet_east.data.augment import Augmentation
from efficientnet_east.data.datasets import ImageDataset
from efficientnet_east.data.loader import LabelOptions, Mixture, batches
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError
from efficientnet_east.training import sources


def opened(*mix: str, **options: Any) -> tuple[Any, str]:
    config = load(None, {"mix": list(mix)} | options)
    source = sources.training_source(config.data, 3, [])
    return source, sources.describe(config.data, source)


def test_generated_scenes_a_folder_and_a_part_of_another(tmp_path: Path) -> None:
    first, second = make_data(tmp_path / "first"), make_data(tmp_path / "second", range(1, 6))
    (tmp_path / "some.txt").write_text("img_4.png\nimg_2.png\n")
    mix = (f"{second}@{tmp_path}/some.txt=1", f"{first}=2", "synthetic=5")
    source, said = opened(*mix, synthetic_scenes=7, synthetic_size=200)
    assert isinstance(source, Mixture) and source.weights == (2, 1, 5)
    folder, part, scenes = source.sources
    assert isinstance(folder, ImageDataset) and len(folder) == 2
    assert isinstance(part, ImageDataset)
    assert [record.image.name for record in part.records] == ["img_2.png", "img_4.png"]
    assert isinstance(scenes, SyntheticScenes) and (len(scenes), scenes.seed, scenes.size) == (
        7,
        3,
        (200, 200),
    )
    assert said == (f"2 images of {first} (25 %), 2 images of {second}@{tmp_path}/some.txt (12.5 %), "
                    "7 synthetic scenes (62.5 %)")  # fmt: skip


def test_a_folder_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    data = make_data(tmp_path / "me@home")
    source, _ = opened(f"{data}=1")
    assert len(source.sources[0]) == 2


def test_a_folder_without_text_teaches_background_beside_others(tmp_path: Path) -> None:
    blank, data = make_data(tmp_path / "blank", text="###"), make_data(tmp_path / "data")
    assert len(opened(f"{blank}=1", f"{data}=1")[0].sources) == 2
    assert len(opened(f"{blank}=1", "synthetic=1")[0].sources) == 2
    with pytest.raises(UserError, match=r"data.mix: no trainable text in 2 images of 1 source. Add a source"):
        opened(f"{blank}=1")


@pytest.mark.parametrize("text", ["###", None])
def test_images_without_text_are_hard_negatives(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Crops of such a folder are background everywhere (or masked), and nothing falls over them."""
    blank, data = make_data(tmp_path / "blank", range(1, 4), text=text or ""), make_data(tmp_path / "data")
    if text is None:
        for path in (blank / "gts").iterdir():
            path.write_text("")
    source, said = opened(f"{blank}=1", f"{data}=1")
    assert f"3 images of {blank} (50 %)" in said
    options = {"augmentation": Augmentation(size=64, color=None), "labels": LabelOptions()}
    with batches(source, batch_size=4, seed=3, **options) as stream:
        drawn = [next(stream) for _ in range(6)]
    names = {name for batch in drawn for name in batch.names}
    assert "img_3.png" in names, "of the folder without text"
    assert any(batch.score.any() for batch in drawn), "of the other"
    for batch in drawn:
        assert np.isfinite(batch.geometry).all()
        for index in [number for number, name in enumerate(batch.names) if name == "img_3.png"]:
            assert not (batch.score[index] * batch.mask[index]).any()
            assert text is not None or batch.mask[index].all(), "background everywhere"
    assert main.main(["check-data", "--data", str(blank)]) == 1
    out = capsys.readouterr().out
    assert "no trainable text in 3 images" in out
    assert "You can mix images without text with others (data.mix)" in out


def test_nothing_but_folders_without_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blanks = [make_data(tmp_path / name, text="###") for name in ("one", "two")]
    words = [word for folder in blanks for word in ("--mix", f"{folder}=1")]
    assert main.main(["train", *words, "--workdir", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: --mix: no trainable text in 4 images of 2 sources. Add a source with text, or `synthetic`."
    )


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    for entry, said in (("nowhere", "nowhere: cannot be listed"), (f"{data}@no.txt", r"no\.txt: "),
                        ("mined.json", r"mined\.json: cannot be read")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            opened(f"{entry}=1")
    (data / "images" / "img_1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"img_1\.png"):
        opened(f"{data}=1")
    skipped: list[UserError] = []
    config = load(None, {"mix": [f"{data}=1"], "skip_bad": True})
    assert len(sources.training_source(config.data, 1, skipped).sources[0]) == 1 and len(skipped) == 1


@pytest.mark.parametrize(("share", "usable"), [("0.5", True), ("0.4", False)])
def test_a_list_of_images_that_are_gone_stops_by_its_share(share: str, usable: bool, tmp_path: Path) -> None:
    """Two of four images are lost: one is not there, and of one the texts cannot be read."""
    for number in range(1, 4):
        picture(tmp_path / "data" / f"{number}.png")
    texts = json.dumps([{"transcription": "word", "points": ring(WORD)}])
    lines = [f"1.png\t{texts}", f"2.png\t{texts}", "3.png\t[{", f"gone.png\t{texts}"]
    (tmp_path / "data" / "Label.txt").write_text("\n".join(lines))
    config = load(None, {"data": str(tmp_path / "data"), "skip_bad": True, "skip_share": share})
    skipped: list[UserError] = []
    if usable:
        assert len(sources.training_source(config.data, 1, skipped)) == 2 == len(skipped)
    else:
        with pytest.raises(UserError, match=r"2 of 4 images cannot be used \(the first: .*Label\.txt:3\)"):
            sources.training_source(config.data, 1, skipped)


def test_a_mix_is_validated_on_what_is_named_only(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    alone = load(None, {"mix": ["synthetic=1"]})
    assert sources.validation_source(alone.data, 1, []) is None
    with pytest.raises(UserError, match="had no validation images"):
        sources.evaluation_source(alone.data, 1, [], given=False)
    beside = load(None, {"mix": ["synthetic=1"], "val_data": str(data)})
    assert len(sources.validation_source(beside.data, 1, []) or ()) == 2
