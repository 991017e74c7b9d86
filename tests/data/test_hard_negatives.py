"""Places without text where a network sees some: found, kept in a file, cropped."""

import collections
from pathlib import Path

import numpy as np
import pytest
from helpers.project import make_data
from helpers.truths import rectangle, truth_of

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.cli.main import main
from efficientnet_east.config import load
from efficientnet_east.data import hard_negatives
from efficientnet_east.data.augment import Augmentation, augment
from efficientnet_east.data.datasets import ImageDataset, find_records
from efficientnet_east.data.hard_negatives import HardNegative, HardNegatives
from efficientnet_east.data.loader import batches
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation.predictions import false_alarms
from efficientnet_east.inference.detector import Detector
from efficientnet_east.structures import Detections, Sample, Truth
from efficientnet_east.training import sources


def scene(*ignore: bool) -> Sample:
    """A text at (10, 10) to (60, 30), and one at (100, 100) to (160, 120)."""
    quads = np.stack([rectangle(10, 10, 60, 30), rectangle(100, 100, 160, 120)])
    return Sample("scene.png", np.zeros((200, 300, 3), np.uint8), Truth(quads, np.array(ignore), ("a", "b")))


def seen(*quads: np.ndarray) -> Detections:
    scores = np.linspace(0.9, 0.5, len(quads), dtype=np.float32)
    return Detections(np.array(quads, np.float32).reshape(-1, 4, 2), scores)


def test_false_alarms_share_no_pixel_with_any_text() -> None:
    planted, over_the_border = rectangle(200, 150, 240, 170), rectangle(280, 50, 320, 60)
    found = seen(planted, rectangle(59, 29, 90, 60), rectangle(90, 90, 170, 130), over_the_border)
    places = false_alarms(lambda image: found, [scene(False, True)], progress=False)
    assert [(place.image, round(place.score, 4)) for place in places] == [
        ("scene.png", 0.9),
        ("scene.png", 0.5),
    ]
    np.testing.assert_array_equal(places[0].corners, planted)
    np.testing.assert_array_equal(places[1].corners, rectangle(280, 50, 299, 60))


def test_where_there_is_no_text_every_box_is_a_false_alarm() -> None:
    blank = Sample("blank.png", np.zeros((90, 90, 3), np.uint8), truth_of())
    assert len(false_alarms(lambda image: seen(rectangle(1, 1, 9, 9)), [blank], progress=False)) == 1
    assert not false_alarms(lambda image: seen(), [scene(False, False)], progress=False)


@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_crops_show_the_place_and_no_text(rotation: float) -> None:
    """The place is painted; texts cover most of the image."""
    image = np.zeros((400, 700, 3), np.uint8)
    place = rectangle(620, 60, 650, 80)
    image[60:81, 620:651] = 255
    quads = np.stack(
        [rectangle(x, y, x + 80, y + 20) for x in (10, 150, 300, 440) for y in range(10, 390, 40)]
    )
    truth = Truth(quads, np.arange(len(quads)) % 2 == 0, ("text",) * len(quads))
    options = Augmentation(size=160, scale=(1, 1), aspect=1, rotation=rotation, color=None)
    centers, touched = [], []
    for seed in range(60):
        crop = augment(Sample("a", image, truth, place), np.random.default_rng(seed), options)
        touched.append(len(crop.truth.texts))
        painted = crop.image[..., 0] > 127
        assert painted.sum() > 0.96 * 31 * 21, "wholly inside"
        centers.append(np.argwhere(painted).mean(axis=0))
    assert np.mean(touched) <= (0.3 if rotation else 0), "a turned window may have nowhere else to go"
    assert np.std(centers, axis=0).min() > 3, "not always in the same spot"


def test_without_a_focus_nothing_changes() -> None:
    sample, options = scene(False, False), Augmentation(size=96)
    first, again = (augment(sample, np.random.default_rng(3), options) for _ in range(2))
    assert first.name == again.name and first.focus is None
    np.testing.assert_array_equal(first.image, again.image)


def planted(data: Path, path: Path) -> list[HardNegative]:
    found = [("img_2.png", (100, 70, 120, 80), 0.9), ("img_1.png", (2, 2, 20, 9), 0.8)]
    found.append(("img_2.png", (1, 80, 20, 90), 0.7))
    places = [HardNegative(image, rectangle(*ends), score) for image, ends, score in found]
    hard_negatives.write_hard_negatives(path, str(data), "run/model.ckpt-7", places)
    return places


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    places = planted(tmp_path, tmp_path / "mined.json")
    folder, again = hard_negatives.read_hard_negatives(tmp_path / "mined.json")
    assert folder == str(tmp_path)
    for place, other in zip(places, again, strict=True):
        assert (place.image, place.score) == (other.image, other.score)
        np.testing.assert_array_equal(place.corners, other.corners)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no list of places"),
        ("[1]", "no list of places"),
        ('{"data": "x"}', "no list of places (KeyError: 'places')"),
        ('{"data": "x", "places": []}', "holds no places"),
        ('{"data": "x", "places": [{"image": "a", "score": 1, "corners": [[1, 2]]}]}', "corners"),
        (
            '{"data": "x", "places": [{"image": "a", "score": 1, "corners": [[1,2],[1,2],[1,2],[1,NaN]]}]}',
            "nan",
        ),
    ],
)
def test_a_file_that_is_none(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mined.json").write_text(content)
    with pytest.raises(UserError) as error:
        hard_negatives.read_hard_negatives(tmp_path / "mined.json")
    assert said in error.value.problem and error.value.where == str(tmp_path / "mined.json")
    with pytest.raises(UserError, match="No such file"):
        hard_negatives.read_hard_negatives(tmp_path / "none.json")


def test_places_in_images_that_are_not_there(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    images, places = ImageDataset(find_records(data)), planted(data, tmp_path / "mined.json")
    assert len(HardNegatives(images, [*places, HardNegative("img_9.png", places[0].corners, 0.5)])) == 3
    with pytest.raises(UserError, match="no place in 2 images"):
        HardNegatives(images, [HardNegative("img_9.png", places[0].corners, 0.5)])


def test_a_mix_with_mined_places_keeps_its_share_and_its_stream(tmp_path: Path) -> None:
    """Batch k is a function of k, whoever makes it."""
    data, mined = make_data(tmp_path / "data", range(1, 4)), tmp_path / "mined.json"
    planted(data, mined)
    config = load(None, {"mix": [f"{data}=0.75", f"{mined}=0.25"], "crop_size": 64})
    source = sources.training_source(config.data, 1, [])
    assert sources.describe(config.data, source) == (f"3 images of {data} (75 %), 3 places of {mined} (25 %)")
    stream = {"batch_size": 8, "seed": 1, "augmentation": sources.augmentation(config.data),
              "labels": sources.labels(config.data, config.model)}  # fmt: skip
    with batches(source, **stream) as plain, batches(source, **stream, workers=1, start=3) as late:
        made = [next(plain) for _ in range(4)]
        np.testing.assert_array_equal(made[3].images, next(late).images)
    names = collections.Counter(name for batch in made for name in batch.names)
    # 24 crops of three images, and 8 of places, of which two in three are in img_2.
    assert names["img_3.png"] == 8 and 12 <= names["img_2.png"] <= 14


def test_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`make_data` writes a word at (18, 28) to (112, 56); a detector sees it, and something below it."""
    data, asked = make_data(tmp_path / "data", range(1, 4)), []

    def loaded(checkpoint: str, overrides: dict[str, object]) -> object:
        asked.append((checkpoint, overrides))
        return lambda image: seen(rectangle(18, 28, 112, 56), rectangle(60, 70, 90, 85))

    monkeypatch.setattr(Detector, "load", loaded)
    monkeypatch.setattr(tf_checkpoints, "find", lambda path: f"{path}/model.ckpt-5")
    words = ["mine", "--checkpoint", "run", "--data", str(data), "--limit", "2", "--score-threshold", "0.6"]
    assert main([*words, "--output", str(tmp_path / "mined.txt")]) == 2
    assert not asked and "does not end in .json" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path / "mined.json")]) == 0
    assert asked == [("run/model.ckpt-5", {"score_threshold": "0.6"})]
    assert "2 places without text in 2 of 2 images" in capsys.readouterr().out
    folder, places = hard_negatives.read_hard_negatives(tmp_path / "mined.json")
    assert folder == str(data) and [place.image for place in places] == ["img_1.png", "img_2.png"]
    np.testing.assert_array_equal(places[0].corners, rectangle(60, 70, 90, 85))
