"""ICDAR folders: every layout is found, every fault is one line with its place, no user file is touched."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientnet_east.data.datasets import (
    ImageDataset,
    check_images,
    find_records,
    require_text,
    truths,
)
from efficientnet_east.data.folders import natural_key
from efficientnet_east.data.image_lists import read_image_list
from efficientnet_east.data.layouts import LAYOUTS
from efficientnet_east.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LINE = "1,2,31,2,31,12,1,12,"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20), "navy").save(path)


def make(
    folder: Path, numbers: list[int], images: str = "images", gts: str = "gts", prefix: str = "gt_"
) -> Path:
    for number in numbers:
        image(folder / images / f"img_{number}.jpg")
        (folder / gts).mkdir(parents=True, exist_ok=True)
        (folder / gts / f"{prefix}img_{number}.txt").write_bytes(f"{LINE}word {number}\r\n".encode())
    return folder


def snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize(("split", "pair"), [(split, pair) for split in LAYOUTS for pair in LAYOUTS[split]])
@pytest.mark.parametrize("prefix", ["gt_", ""])
def test_every_layout(split: str, pair: tuple[str, str], prefix: str, tmp_path: Path) -> None:
    make(tmp_path, [10, 9, 100], *pair, prefix)
    before = snapshot(tmp_path)
    records = find_records(tmp_path, split=split)
    assert [record.image.name for record in records] == ["img_9.jpg", "img_10.jpg", "img_100.jpg"]
    assert [record.truth.texts for record in records] == [("word 9",), ("word 10",), ("word 100",)]
    check_images(records)
    assert ImageDataset(records)[0].image.shape == (20, 40, 3)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("prefix", ["gt_", ""])
def test_one_folder_for_everything(prefix: str, tmp_path: Path) -> None:
    make(tmp_path, [2, 1], ".", ".", prefix)
    (tmp_path / "readme.txt").write_text("not a ground truth")
    (tmp_path / "._img_1.jpg").write_bytes(b"left by macOS")
    assert [record.image.name for record in find_records(str(tmp_path))] == ["img_1.jpg", "img_2.jpg"]


def test_splits_side_by_side(tmp_path: Path) -> None:
    make(make(tmp_path, [1], "train_images", "train_gts"), [2], "test_images", "test_gts")
    assert find_records(tmp_path)[0].image.name == "img_1.jpg"
    assert find_records(tmp_path, split="test")[0].image.name == "img_2.jpg"


def test_other_suffixes_and_names(tmp_path: Path) -> None:
    for name in ("a.PNG", "b.jpeg", "東 京.webp", "two.dots.tif"):
        image(tmp_path / name)
        (tmp_path / f"gt_{Path(name).stem}.txt").write_text("")
    assert len(find_records(tmp_path)) == 4


def test_limit_counts_usable_images(tmp_path: Path) -> None:
    make(tmp_path, [1, 2, 3, 4])
    (tmp_path / "gts" / "gt_img_1.txt").unlink()
    assert [record.image.name for record in find_records(tmp_path, limit=2, skipped=[])] == [
        "img_2.jpg",
        "img_3.jpg",
    ]


def test_names_choose(tmp_path: Path) -> None:
    make(tmp_path, [1, 2, 3])
    (tmp_path / "gts" / "gt_img_1.txt").unlink()
    records = find_records(tmp_path, ["img_3.jpg", "img_2.jpg", "img_3.jpg"])
    assert [record.image.name for record in records] == ["img_2.jpg", "img_3.jpg"]


@pytest.mark.parametrize(
    "name", ["img_9.jpg", "../images/img_1.jpg", "/etc/passwd", "", "img_1", "\0", "IMG_1.JPG"]
)
def test_name_that_is_not_there(name: str, tmp_path: Path) -> None:
    make(tmp_path, [1])
    with pytest.raises(UserError, match=r"is not in .*images; expected the name of an image in that folder"):
        find_records(tmp_path, ["img_1.jpg", name])
    skipped: list[UserError] = []
    assert len(find_records(tmp_path, ["img_1.jpg", name], skipped=skipped)) == 1 == len(skipped)


def test_missing_empty_and_unknown_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: cannot be listed .No such file.*\. Check the path\.$"):
        find_records(tmp_path / "gone")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="Not a directory"):
        find_records(tmp_path / "file")
    (tmp_path / "folder" / "pictures").mkdir(parents=True)
    looked_for = (
        "no train images found; expected ch4_training_images + ch4_training_localization_transcription_gt, "
        "train_images + train_gts, Images/Train + Groundtruth/Polygon/Train, "
        "train/text_image + train/text_label_curve, images + gts, images and gt_*.txt in one folder, or an "
        "annotation file of many images"
    )
    with pytest.raises(UserError, match=re.escape(looked_for)):
        find_records(tmp_path / "folder")
    (tmp_path / "train_images").mkdir()
    with pytest.raises(UserError, match=r"train_images: has no ground truth; expected a folder .*train_gts"):
        find_records(tmp_path)
    (tmp_path / "train_gts").mkdir()
    with pytest.raises(UserError, match="no image can be used"):
        find_records(tmp_path)


def faults(folder: Path) -> dict[str, str]:
    """A data set with every fault that can be seen in names and text files; file to message."""
    make(folder, [1, 2, 3, 4, 5, 6])
    (folder / "gts" / "gt_img_2.txt").unlink()
    (folder / "images" / "img_3.jpg").unlink()
    image(folder / "images" / "img_4.png")
    with open(folder / "gts" / "gt_img_5.txt", "a") as file:
        file.write("1,2,3\n")
    (folder / "gts" / "gt_img_6.txt").unlink()
    (folder / "gts" / "gt_img_6.txt").mkdir()
    return {
        "img_2.jpg": "has no ground truth; expected gt_img_2.txt, img_2.txt, poly_gt_img_2.txt or img_2.json",
        "gt_img_3.txt": "belongs to no image; expected an image named img_3.jpg or .png",
        "img_4.png": "differs from img_4.jpg in its suffix only",
        "gt_img_5.txt:2": "3 coordinates",
        "img_6.jpg": "has no ground truth",
    }


def test_a_huge_ground_truth_is_not_read(tmp_path: Path) -> None:
    make(tmp_path, [1, 2])
    with open(tmp_path / "gts" / "gt_img_2.txt", "wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(UserError, match=r"gt_img_2\.txt: is larger than 32 MiB; expected a text file"):
        find_records(tmp_path)
    assert len(find_records(tmp_path, skipped=[])) == 1


def test_faults_are_collected(tmp_path: Path) -> None:
    expected = faults(tmp_path)
    before = snapshot(tmp_path)
    skipped: list[UserError] = []
    records = find_records(tmp_path, skipped=skipped)
    assert [record.image.name for record in records] == ["img_1.jpg", "img_4.jpg", "img_5.jpg"]
    found = {Path(error.where).name: str(error) for error in skipped}
    assert found.keys() == expected.keys() and len(skipped) == len(expected)
    for name, message in expected.items():
        assert message in found[name]
    assert snapshot(tmp_path) == before


def test_first_fault_stops_without_a_list(tmp_path: Path) -> None:
    faults(tmp_path)
    with pytest.raises(UserError, match=r"gt_img_3\.txt: belongs to no image"):
        find_records(tmp_path)


def test_nothing_left_names_the_first_problem(tmp_path: Path) -> None:
    make(tmp_path, [1])
    (tmp_path / "gts" / "gt_img_1.txt").unlink()
    with pytest.raises(UserError, match=r"no image can be used.*first problem: .*img_1\.jpg: has no"):
        find_records(tmp_path, skipped=[])


def test_check_images_finds_what_cannot_be_read(tmp_path: Path) -> None:
    make(tmp_path, [1, 2, 3, 4])
    whole = (tmp_path / "images" / "img_1.jpg").read_bytes()
    for number, data in ((2, b""), (3, whole[: len(whole) // 2]), (4, b"GIF?")):
        (tmp_path / "images" / f"img_{number}.jpg").write_bytes(data)
    records = find_records(tmp_path)
    with pytest.raises(UserError, match=r"img_2\.jpg: is empty or not an image"):
        check_images(records)
    skipped: list[UserError] = []
    assert [record.image.name for record in check_images(records, skipped)] == ["img_1.jpg"]
    assert [Path(error.where).name for error in skipped] == ["img_2.jpg", "img_3.jpg", "img_4.jpg"]
    with pytest.raises(UserError, match=r"none of the images can be read.*img_3\.jpg: cannot be read"):
        check_images(records[2:], [])
    source = ImageDataset(records)
    for index in (1, 2, 3):
        with pytest.raises(UserError, match=f"img_{index + 1}.jpg"):
            source[index]


def test_require_text(tmp_path: Path) -> None:
    make(tmp_path, [1, 2])
    (tmp_path / "gts" / "gt_img_1.txt").write_text(LINE + "###\n" + LINE + "###\n")
    require_text(find_records(tmp_path))
    (tmp_path / "gts" / "gt_img_2.txt").write_text("")
    with pytest.raises(UserError, match=r"mine: no trainable text in 2 images \(2 texts, all marked ###\)"):
        require_text(find_records(tmp_path), "mine")


def test_source_is_a_sequence_that_travels(tmp_path: Path) -> None:
    source = ImageDataset(find_records(make(tmp_path, [1, 2, 3])))
    again = pickle.loads(pickle.dumps(source))
    assert len(again) == 3 and repr(again) == repr(source)
    assert [sample.name for sample in again] == ["img_1.jpg", "img_2.jpg", "img_3.jpg"]
    assert again[np.int64(1)].name == "img_2.jpg" and source[-1].truth.texts == ("word 3",)
    assert list(truths(source.records)) == ["img_1", "img_2", "img_3"]


def test_repr_changes_with_the_data(tmp_path: Path) -> None:
    make(tmp_path, [1, 2])
    first = repr(ImageDataset(find_records(tmp_path)))
    assert re.fullmatch(r"ImageDataset\(2 images, [0-9a-f]{8}\)", first)
    assert repr(ImageDataset(find_records(tmp_path))) == first
    (tmp_path / "gts" / "gt_img_2.txt").write_text(LINE.replace("31", "32") + "word")
    assert repr(ImageDataset(find_records(tmp_path))) != first


def test_natural_order() -> None:
    names = ["img_1.jpg", "img_2.jpg", "img_10.jpg", "img_10b.jpg", "img_100.jpg", "x1_y20", "x2_y3"]
    assert sorted(reversed(names), key=natural_key) == names


def test_read_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeff# chosen by hand\r\n\r\n img_2.jpg \r\n東京.jpg\r\n".encode())
    assert read_image_list(path) == ["img_2.jpg", "東京.jpg"]
    path.write_text("a.jpg\nb.jpg\na.jpg\n")
    with pytest.raises(UserError, match=r"list\.txt:3: 'a\.jpg' already stands in line 1"):
        read_image_list(path)
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match="names no image"):
        read_image_list(path)
    with pytest.raises(UserError, match=r"cannot be read .No such file"):
        read_image_list(tmp_path / "gone.txt")


def test_lists_of_the_development_split() -> None:
    train, val = (read_image_list(CONFIGS / f"icdar15_{name}.txt") for name in ("train", "val"))
    assert [*train, *val] == [f"img_{number}.jpg" for number in range(1, 1001)] and len(val) == 100


@pytest.mark.skipif(not (DATA / "icdar2015").is_dir(), reason="needs ICDAR 2015 beside the repository")
def test_icdar_2015() -> None:
    records = find_records(DATA / "icdar2015")
    ignore = np.concatenate([record.truth.ignore for record in records])
    assert (len(records), len(ignore), int((~ignore).sum())) == (1000, 11886, 4468)
    val = find_records(DATA / "icdar2015", read_image_list(CONFIGS / "icdar15_val.txt"))
    assert [record.image.name for record in val] == [f"img_{number}.jpg" for number in range(901, 1001)]
    assert ImageDataset(val)[0].image.shape == (720, 1280, 3)
    assert records[0].truth.texts[0] == "Genaxis Theatre"


@pytest.mark.skipif(not (DATA / "mlt17_latin").is_dir(), reason="needs the MLT images beside the repository")
def test_mlt17_latin() -> None:
    records = find_records(DATA / "mlt17_latin")
    require_text(records)
    assert len(records) == 400
