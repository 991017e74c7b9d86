"""Small data sets of every format of annotations, made by hand, and what must be read from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from efficientnet_east.geometry.quads import area
from efficientnet_east.structures import Truth

Texts = list[tuple[list[int], bool, str]]
"""Left, top, right, bottom; whether it is ignored; the transcription."""

WORD, FAINT, CURVED = [10, 10, 60, 30], [70, 10, 120, 30], [10, 50, 110, 90]


def picture(path: Path, width: int = 128, height: int = 96) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 200, np.uint8))
    return path


def ring(box: list[int], upper: int = 2) -> list[list[int]]:
    """The outline of a box, clockwise, with so many corners on the upper and the lower side each."""
    left, top, right, bottom = box
    xs = np.linspace(left, right, upper).round().astype(int).tolist()
    return [[x, top] for x in xs] + [[x, bottom] for x in reversed(xs)]


def flat(box: list[int], upper: int = 2) -> list[int]:
    return [number for corner in ring(box, upper) for number in corner]


def joined(*values: Any) -> str:
    return ",".join(str(value) for value in values)


def icdar(folder: Path) -> dict[str, Texts]:
    picture(folder / "images" / "img_1.png")
    (folder / "gts").mkdir()
    content = joined(*flat(WORD), "word, two") + "\r\n" + joined(*flat(FAINT), "###") + "\r\n"
    (folder / "gts" / "gt_img_1.txt").write_bytes(content.encode("utf-8-sig"))
    return {"img_1.png": [(WORD, False, "word, two"), (FAINT, True, "###")]}


def mlt(folder: Path) -> dict[str, Texts]:
    picture(folder / "images" / "img_1.png")
    (folder / "gts").mkdir()
    content = joined(*flat(WORD), "Latin", "word") + "\n" + joined(*flat(FAINT), "Korean", "###") + "\n"
    (folder / "gts" / "gt_img_1.txt").write_text(content)
    return {"img_1.png": [(WORD, False, "word"), (FAINT, True, "###")]}


def icdar_2013(folder: Path) -> dict[str, Texts]:
    picture(folder / "images" / "100.png")
    (folder / "gts").mkdir()
    content = ", ".join(map(str, WORD)) + ', "word"\n' + " ".join(map(str, FAINT)) + ' "###"\n'
    (folder / "gts" / "gt_100.txt").write_text(content)
    return {"100.png": [(WORD, False, "word"), (FAINT, True, "###")]}


def rctw(folder: Path) -> dict[str, Texts]:
    picture(folder / "train_images" / "image_0.png")
    (folder / "train_gts").mkdir()
    rows = [(WORD, 0, "标识, two"), (FAINT, 1, "faint"), (CURVED, 0, "###")]
    content = "".join(joined(*flat(box), hard, f'"{text}"') + "\r\n" for box, hard, text in rows)
    (folder / "train_gts" / "image_0.txt").write_bytes(content.encode("utf-8-sig"))
    return {"image_0.png": [(WORD, False, "标识, two"), (FAINT, True, "faint"), (CURVED, True, "###")]}


def ctw1500(folder: Path) -> dict[str, Texts]:
    """Both of its forms: 32 numbers, and the test part's 14 corners with a transcription."""
    picture(folder / "train" / "text_image" / "1001.png")
    (folder / "train" / "text_label_curve").mkdir()
    left, top, _, _ = CURVED
    offsets = [value for x, y in ring(CURVED, 7) for value in (x - left, y - top)]
    content = joined(*CURVED, *offsets) + "\n" + joined(*flat(WORD, 7), "####word") + "\n"
    content += joined(*flat(FAINT, 7), "####" + "###") + "\n"
    (folder / "train" / "text_label_curve" / "1001.txt").write_text(content)
    return {"1001.png": [(CURVED, False, ""), (WORD, False, "word"), (FAINT, True, "###")]}


def polygons(folder: Path) -> dict[str, Texts]:
    picture(folder / "img_1.png")
    content = joined(*flat(CURVED, 5), "curved, text") + "\n" + joined(*flat(WORD, 3), "word") + "\n"
    content += joined(*flat(FAINT, 3), "###") + "\n"
    (folder / "gt_img_1.txt").write_text(content)
    return {"img_1.png": [(CURVED, False, "curved, text"), (WORD, False, "word"), (FAINT, True, "###")]}


def total_text_folder(folder: Path) -> dict[str, Texts]:
    picture(folder / "Images" / "Train" / "img11.png")
    (folder / "Groundtruth" / "Polygon" / "Train").mkdir(parents=True)

    def row(box: list[int], upper: int, kind: str, text: str) -> str:
        xs, ys = (" ".join(str(corner[axis]) for corner in ring(box, upper)) for axis in (0, 1))
        broken = xs.replace(" ", "\n ", 1)  # as NumPy breaks long rows
        return f"x: [[{broken}]], y: [[{ys}]], ornt: [u'{kind}'], transcriptions: [u'{text}']\n"

    content = row(CURVED, 5, "c", "it's") + row(WORD, 2, "h", "WORD") + row(FAINT, 2, "#", "#")
    (folder / "Groundtruth" / "Polygon" / "Train" / "poly_gt_img11.txt").write_text(content)
    return {"img11.png": [(CURVED, False, "it's"), (WORD, False, "WORD"), (FAINT, True, "#")]}


def labelme_folder(folder: Path) -> dict[str, Texts]:
    picture(folder / "a.png")
    shapes = [
        {"label": "word", "points": [WORD[:2], WORD[2:]], "shape_type": "rectangle", "flags": {}},
        {"label": "faint", "points": ring(FAINT), "shape_type": "polygon", "flags": {"difficult": True}},
        {"label": "curved", "points": ring(CURVED, 6), "shape_type": "polygon", "group_id": None},
        {"label": "text", "description": "###", "points": ring([10, 40, 60, 48]), "flags": None},
    ]
    tree = {"version": "5.2.1", "flags": {}, "shapes": shapes, "imagePath": "a.png", "imageData": None,
            "imageHeight": 96, "imageWidth": 128}  # fmt: skip
    (folder / "a.json").write_text(json.dumps(tree, indent=2))
    (folder / "mined.json").write_text('{"data": "/somewhere"}')  # others may lie there
    return {"a.png": [(WORD, False, "word"), (FAINT, True, "faint"), (CURVED, False, "curved"),
                      ([10, 40, 60, 48], True, "###")]}  # fmt: skip


def label_txt(folder: Path) -> dict[str, Texts]:
    """As PPOCRLabel leaves a folder."""
    for name in ("a b.png", "c.png", "not yet.png"):
        picture(folder / name)
    picture(folder / "crop_img" / "a b_crop_0.png")
    texts = [
        {"transcription": "wörd", "points": ring(WORD), "difficult": False},
        {"transcription": "faint", "points": ring(FAINT), "difficult": True},
        {"transcription": "*", "points": ring(CURVED, 4)},
    ]
    content = f"{folder.name}/a b.png\t{json.dumps(texts, ensure_ascii=False)}\n{folder.name}/c.png\t[]\n"
    (folder / "Label.txt").write_text(content, encoding="utf-8")
    (folder / "rec_gt.txt").write_text("crop_img/a b_crop_0.png\twörd\n", encoding="utf-8")
    (folder / "fileState.txt").write_text("a b.png\t1\n")
    expected = [(WORD, False, "wörd"), (FAINT, True, "faint"), (CURVED, True, "*")]
    return {"a b.png": expected, "c.png": []}


def coco(folder: Path) -> dict[str, Texts]:
    """COCO-Text 2: `mask` and `legibility`, texts of both parts in one file."""
    for name in ("COCO_train2014_000000000001.png", "COCO_train2014_000000000002.png", "COCO_val.png"):
        picture(folder / "train2014" / name)
    images = {
        str(number): {"id": number, "set": part, "width": 128, "height": 96, "file_name": name}
        for number, part, name in (
            (1, "train", "COCO_train2014_000000000001.png"),
            (2, "train", "COCO_train2014_000000000002.png"),
            (3, "val", "COCO_val.png"),
        )
    }
    texts = {
        "7": {"image_id": 1, "legibility": "legible", "utf8_string": "word", "mask": flat(WORD)},
        "8": {"image_id": 1, "legibility": "illegible", "mask": flat(FAINT), "bbox": [0, 0, 1, 1]},
        "9": {"image_id": 1, "legibility": "legible", "utf8_string": "curved", "mask": flat(CURVED, 5)},
        "10": {"image_id": 3, "legibility": "legible", "utf8_string": "val", "bbox": [10, 10, 50, 20]},
    }
    (folder / "cocotext.v2.json").write_text(
        json.dumps({"cats": {}, "anns": texts, "imgs": images, "imgToAnns": {"1": [7, 8, 9]}})
    )
    expected = [(WORD, False, "word"), (FAINT, True, ""), (CURVED, False, "curved")]
    return {"COCO_train2014_000000000001.png": expected, "COCO_train2014_000000000002.png": []}


def textocr(folder: Path) -> dict[str, Texts]:
    """Two files, one for each part; `.` is what nobody can read."""
    for part in ("train", "val"):
        picture(folder / "train_images" / f"{part}.png")
        images = {part: {"width": 128, "height": 96, "set": part, "file_name": f"train/{part}.png"}}
        texts = {
            f"{part}_1": {"image_id": part, "utf8_string": "word", "points": flat(WORD)},
            f"{part}_2": {"image_id": part, "utf8_string": ".", "points": flat(FAINT)},
        }
        tree = {"imgs": images, "anns": texts, "imgToAnns": {part: list(texts)}}
        (folder / f"TextOCR_0.1_{part}.json").write_text(json.dumps(tree))
    return {"train.png": [(WORD, False, "word"), (FAINT, True, ".")]}


MADE: dict[str, Callable[[Path], dict[str, Texts]]] = {
    made.__name__: made
    for made in (icdar, mlt, icdar_2013, rctw, ctw1500, polygons, total_text_folder, labelme_folder,
                 label_txt, coco, textocr)
}  # fmt: skip


def make(kind: str, folder: Path) -> dict[str, Texts]:
    folder.mkdir()
    return MADE[kind](folder)


def texts_of(truth: Truth) -> Texts:
    """The texts, which must be upright rectangles that run clockwise."""
    found = []
    for quad, ignore, text in zip(truth.quads, truth.ignore, truth.texts, strict=True):
        low, high = quad.min(axis=0), quad.max(axis=0)
        assert area(quad) == pytest.approx(np.prod(high - low), rel=1e-5)
        box = np.concatenate([low, high])
        assert box == pytest.approx(box.round(), abs=1e-4)
        found.append((box.round().astype(int).tolist(), bool(ignore), text))
    return found


def texts_of_one(quad: np.ndarray) -> list[int]:
    return [*quad.min(axis=0).round().astype(int).tolist(), *quad.max(axis=0).round().astype(int).tolist()]
