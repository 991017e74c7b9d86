"""`check-data`: it finds what the loader finds, no more and no less, says where, and touches no file."""

import csv
import json
import random
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.mutations import mutated
from helpers.project import make_data, snapshot
from PIL import Image

from efficientnet_east.cli import main
from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.data.augment import Augmentation, augment
from efficientnet_east.data.check import check, draw_mosaic, shorter_side
from efficientnet_east.data.datasets import (
    ImageDataset,
    Record,
    check_images,
    find_records,
    require_text,
)
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.label_maps import encode

LINE = "18,28,112,28,112,56,18,56,"


def spoil(data: Path) -> dict[str, str]:
    """One fault of each kind; what must be said of which file and line."""
    images, gts = data / "images", data / "gts"
    (images / "img_2.png").write_bytes(b"")
    (gts / "gt_img_3.txt").unlink()
    (images / "img_4.png").unlink()
    (gts / "gt_img_5.txt").write_text(f"{LINE}word\n1,1,1,1,1,1,1,1,dot\n{LINE}again\n1,2,3\n")
    (images / "img_6.png").write_bytes((images / "img_6.png").read_bytes()[:1500])
    shutil.copy(images / "img_1.png", images / "img_1.bmp")
    return {
        "images/img_2.png": "is empty or not an image",
        "images/img_3.png": "has no ground truth",
        "gts/gt_img_4.txt": "belongs to no image",
        "gts/gt_img_5.txt:2": "enclose 0 square pixels",
        "gts/gt_img_5.txt:4": "3 coordinates instead of 8",
        "images/img_6.png": "cannot be read",
        "images/img_1.png": "differs from img_1.bmp in its suffix only",
    }


def test_every_problem_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", range(1, 8))
    expected, before = spoil(data), snapshot(data)
    report = tmp_path / "report"
    assert main.main(["check-data", "--data", str(data), "--report", str(report)]) == 1
    lines = capsys.readouterr().out.splitlines()
    problems = [line for line in lines if line.startswith("problem: ")]
    assert len(problems) == len(expected)
    for where, problem in expected.items():
        (line,) = [line for line in problems if line.startswith(f"problem: {data}/{where}: ")]
        assert problem in line and "; expected " in line
    assert lines[-1] == f"{data} has problems"
    figures = json.loads((report / "check.json").read_text())
    by_place = {(Path(f["file"]).name, f["line"]) for f in figures["problems"]}
    assert {("gt_img_5.txt", 2), ("gt_img_5.txt", 4), ("img_2.png", None)} <= by_place
    assert figures["usable"] == ["img_1.bmp", "img_5.png", "img_7.png"]
    assert figures["counts"]["images"] == 3 and figures["counts"]["legible texts"] == 4
    rows = list(csv.DictReader((report / "findings.csv").read_text().splitlines()))
    assert sum(row["kind"] == "problem" for row in rows) == len(expected)
    for name, size in (("texts.png", (1000, 520)), ("mosaic.jpg", None)):
        with Image.open(report / name) as image:
            assert size is None or image.size == size
    assert snapshot(data) == before, "no file is touched"


def test_a_clean_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", range(1, 4))
    assert main.main(["check-data", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "problem:" not in out and "hint:" not in out and out.endswith(f"{data} is ready for training\n")
    assert f"{3:8d} trainable texts" in out and "size: 24–32 3" in out and "angle: 0–5 3" in out
    assert list(tmp_path.iterdir()) == [data], "nothing is written without --report"


@pytest.mark.parametrize("text", ["###", None])
def test_nothing_to_learn_is_said_before_training(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data", text=text or "")
    if text is None:
        for path in (data / "gts").iterdir():
            path.write_text("")
    assert main.main(["check-data", "--data", str(data)]) == 1
    said = capsys.readouterr().out
    assert f"problem: {data}: no trainable text in 2 images" in said
    assert main.main(["train", "--data", str(data), "--workdir", str(tmp_path / "run")]) == 2
    assert f"{data}: no trainable text in 2 images" in capsys.readouterr().err
    if text is None:
        assert "holds no text" in said


def test_no_ground_truth_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data")
    for path in (data / "gts").iterdir():
        path.rename(path.with_name(path.name.replace("gt_img", "label")))
    assert main.main(["check-data", "--data", str(data)]) == 1
    out = capsys.readouterr().out
    assert out.count("has no ground truth") == 2 and out.count("belongs to no image") == 2
    assert "no trainable text in 0 images" in out


def test_hints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", range(1, 5))
    truth = data / "gts" / "gt_img_1.txt"
    thin, outside = "5,5,60,5,60,8,5,8,thin", "100,5,200,5,200,30,100,30,outside"
    truth.write_text(
        f"{LINE}a\n\n{thin}\n{outside}\n112,56,18,56,18,28,112,28,a again\n5,9,60,9,60,11,5,11,###\n"
    )
    (data / "gts" / "gt_img_2.txt").write_text("")
    assert main.main(["check-data", "--data", str(data), "--report", str(tmp_path / "report")]) == 0
    hints = [line for line in capsys.readouterr().out.splitlines() if line.startswith("hint: ")]
    assert len(hints) == 4
    assert any(f"{truth}:3: the text is 3.0 pixels thick; expected at least 3.7" in hint for hint in hints)
    assert any(f"{truth}:4: 72 % of the text lies outside of the image of 128 x 96" in hint for hint in hints)
    assert any(f"{truth}:5: repeats the corners of line 1" in hint for hint in hints)
    assert any("gt_img_2.txt: holds no text" in hint for hint in hints)
    assert main.main(["check-data", "--data", str(data), "--min-text-side", "2", "--scale-max", "1"]) == 0
    assert "pixels thick" not in capsys.readouterr().out


def test_many_hints_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", range(1, 12))
    for number in range(1, 10):
        (data / "gts" / f"gt_img_{number}.txt").write_text("")
    assert main.main(["check-data", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert out.count("hint: ") == 6 and "hint: no text: 4 more, in the report" in out


def test_turned_photographs_are_measured_upright(tmp_path: Path) -> None:
    """Corners are in pixels of the image as a viewer shows it."""
    data = make_data(tmp_path / "data", range(1, 2))
    path = data / "images" / "img_1.png"
    with Image.open(path) as image:
        turned = image.rotate(90, expand=True)  # as EXIF's 6, turned back by a viewer
        exif = turned.getexif()
        exif[0x0112] = 6
        turned.save(data / "images" / "img_1.jpg", exif=exif)
    path.unlink()
    found = check(str(data))
    assert not found.problems and [hint.kind for hint in found.hints] == ["turned"]
    assert draw_mosaic(found).shape[:2] == (96 + 28, 128)


def test_turned_photographs_are_counted_in_one_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data", range(1, 9))
    for number, orientation in enumerate((1, 3, 6, 8, 2), 1):
        path = data / "images" / f"img_{number}.png"
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = orientation
            image.save(path, exif=exif)
    assert main.main(["check-data", "--data", str(data)]) == 0
    hints = [line for line in capsys.readouterr().out.splitlines() if "turned by" in line]
    assert hints == [
        f"hint: {data}: 4 of 8 images are turned by their EXIF data. "
        "Make sure that the corners fit the turned images, as viewers show them: look at the report."
    ]


def test_polygons_are_hints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data")
    truth = data / "gts" / "gt_img_1.txt"
    truth.write_text(f"{LINE}a\n20,60,50,60,80,60,80,80,50,80,20,80,hexagon\n")
    assert main.main(["check-data", "--data", str(data)]) == 0
    said = f"hint: {truth}:2: a polygon of 6 corners is read as the smallest rectangle around it. Give 4 "
    assert said in capsys.readouterr().out


def test_what_is_skipped_is_masked(tmp_path: Path) -> None:
    """A line that cannot be used is no background: its region counts as illegible, and is not trained on."""
    data = make_data(tmp_path / "data", range(1, 2))
    truth = data / "gts" / "gt_img_1.txt"
    kept = b"10,60,60,60,60,80,10,80," + "菜单".encode("gbk")
    truth.write_bytes(f"{LINE}a\n".encode() + kept + b"\n70,60,120,90,120,60,70,90,CROSSED\n")
    skipped: list[UserError] = []
    source = ImageDataset(find_records(data, skipped=skipped))
    assert len(skipped) == 2 and source[0].truth.ignore.tolist() == [False, False, True]
    maps = encode(source[0].truth.quads, source[0].truth.ignore, (96, 128))
    score, mask = np.squeeze(maps.score), np.squeeze(maps.mask)
    assert score[70 // 4, 35 // 4] == 1 == mask[70 // 4, 35 // 4], "a text like any other"
    assert mask[75 // 4, 95 // 4] == 0, "not looked at"
    counts = check(str(data)).counts()
    assert (counts["problems"], counts["legible texts"], counts["illegible texts"]) == (2, 2, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "{tmp}/gone"], "{tmp}/gone: cannot be listed"),
        (["--data", "{tmp}"], "{tmp}: no train images found"),
        (["--data", "{tmp}/data", "--limit", "0"], "--limit: is 0; expected 1 or more"),
        (["--data", "{tmp}/data", "--scale-max", "nan"], "--scale-max: is nan; expected a number above 0"),
        (["--data", "{tmp}/data", "--list", "{tmp}/none.txt"], "{tmp}/none.txt: cannot be read"),
        (["--data", "{tmp}/data", "--report", "{tmp}/data"], "--report: {tmp}/data is a folder of the data"),
        (["--data", "{tmp}/data", "--report", "{tmp}/data/gts/../images"], "--report: "),
    ],
)
def test_what_cannot_be_looked_at(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(make_data(tmp_path / "data"))
    assert main.main(["check-data", *[word.format(tmp=tmp_path) for word in words]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: " + said.format(tmp=tmp_path))
    assert snapshot(tmp_path / "data") == before and snapshot(tmp_path) == before


def test_list_and_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", range(1, 6))
    spoil_me = data / "gts" / "gt_img_5.txt"
    spoil_me.write_text("1,2,3\n")
    (tmp_path / "list.txt").write_text("img_1.png\nimg_2.png\n")
    assert main.main(["check-data", "--data", str(data), "--list", str(tmp_path / "list.txt")]) == 0
    assert f"{2:8d} images\n" in capsys.readouterr().out
    assert main.main(["check-data", "--data", str(data), "--limit", "3"]) == 0
    assert main.main(["check-data", "--data", str(data)]) == 1


def test_shorter_side_is_what_labels_go_by() -> None:
    """A text just above the limit has labels, one just below has none."""
    quads = np.array([[[10, 10], [60, 20], [58, 30], [8, 20]]], np.float32)
    side = float(shorter_side(quads)[0])
    for least, seen in ((side - 0.01, True), (side + 0.01, False)):
        maps = encode(quads, np.zeros(1, np.bool_), (64, 64), min_side=least)
        assert bool((maps.score * maps.mask).any()) is seen


# --- mutated files: the checker and the loader agree

COUNT = 400  # of images


@pytest.fixture(scope="module")
def mutated_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny images, nine of ten with a mutated ground truth, one of twenty damaged itself."""
    folder, rng = tmp_path_factory.mktemp("mutated"), random.Random(5)
    (folder / "images").mkdir()
    (folder / "gts").mkdir()
    picture = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))[
        1
    ].tobytes()
    good = "".join(
        f"{x},{y},{x + 20},{y + 1},{x + 20},{y + 9},{x},{y + 8},wörd\r\n" for x in (5, 35) for y in (5, 25)
    )
    for number in range(COUNT):
        spoilt = picture if rng.random() > 0.05 else picture[: rng.randrange(len(picture))]
        (folder / "images" / f"img_{number}.png").write_bytes(spoilt)
        content = good.encode() if number % 10 == 0 else mutated(rng, good.encode())
        (folder / "gts" / f"gt_img_{number}.txt").write_bytes(content)
    return folder


def loader_says(folder: Path, number: int) -> list[str]:
    """What the loader finds wrong with one image and its ground truth."""
    errors: list[UserError] = []
    path = folder / "gts" / f"gt_img_{number}.txt"
    truth = parse_truth(path.read_bytes(), str(path), errors)
    try:
        ImageDataset([Record(folder / "images" / f"img_{number}.png", truth)])[0]
    except UserError as error:
        errors.append(error)
    return sorted(str(error) for error in errors)


def test_checker_and_loader_agree_on_mutated_files(mutated_data: Path) -> None:
    before = snapshot(mutated_data)
    found = check(str(mutated_data))
    said: dict[int, list[str]] = {number: [] for number in range(COUNT)}
    for problem in found.problems:
        said[int(Path(problem.file).stem.rpartition("_")[2])].append(str(problem))
    assert 0.3 * COUNT < sum(map(bool, said.values())) < 0.95 * COUNT, "many are bad, and many are good"
    for number, problems in said.items():
        assert sorted(problems) == loader_says(mutated_data, number)
    skipped: list[UserError] = []
    records = check_images(find_records(mutated_data, skipped=skipped), skipped)
    assert [record.image for record in records] == [record.image for record in found.records]
    assert sorted(map(str, skipped)) == sorted(map(str, found.problems))
    require_text(records)
    assert snapshot(mutated_data) == before


def test_what_passes_the_checker_can_be_trained_on(mutated_data: Path) -> None:
    """Every usable image becomes a crop with finite labels: what passes does not fail in training."""
    found = check(str(mutated_data))
    source, options = ImageDataset(found.records), Augmentation(size=32, color=None)
    for index in range(len(source)):
        crop = augment(source[index], np.random.default_rng(index), options)
        maps = encode(crop.truth.quads, crop.truth.ignore, crop.image.shape[:2])
        assert np.isfinite(maps.geometry).all() and np.isfinite(maps.score).all()
    with pytest.raises(UserError):
        find_records(mutated_data)
