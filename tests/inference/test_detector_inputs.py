"""What a detector takes: arrays, files, bytes, images of Pillow, sequences; and what it refuses."""

import collections
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.spots import BrightSpots, assert_same, noise, spots
from PIL import Image

from efficientnet_east.config import Detect
from efficientnet_east.data.images import write_image
from efficientnet_east.errors import UserError
from efficientnet_east.inference.detector import Detector, as_rgb
from efficientnet_east.inference.preprocess import pad, rescale
from efficientnet_east.structures import Detections


def test_arrays_paths_and_sequences(tmp_path: Path) -> None:
    images = [spots(70, 90, (5, 5), (12, 14)), spots(64, 96, (3, 9)), spots(40, 40)]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for image, path in zip(images, paths, strict=True):
        write_image(path, image)
    detector = Detector(BrightSpots(), Detect())
    alone = [detector(image) for image in images]
    assert [len(found) for found in alone] == [2, 1, 0]
    mixed: list[Any] = [str(paths[0]), images[1], paths[2]]
    for together in (detector(images), detector(tuple(paths)), detector(mixed), detector(iter(images))):
        assert isinstance(together, list)
        for found, expected in zip(together, alone, strict=True):
            assert_same(found, expected)
    assert detector([]) == []
    assert_same(detector(images[0][..., ::-1], bgr=True), alone[0])
    assert_same(detector([paths[0], images[1][..., ::-1]], bgr=True)[0], alone[0])
    assert_same(detector(paths[0].read_bytes()), alone[0])
    assert_same(detector([paths[0].read_bytes()])[0], alone[0])
    assert len(detector(images[0][..., ::-1])) == 0
    with pytest.raises(UserError, match=r"gone\.png: does not exist"):
        detector(tmp_path / "gone.png")


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)),
     np.zeros((0, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)],
)  # fmt: skip
def test_what_is_no_image_is_refused(wrong: np.ndarray) -> None:
    detector = Detector(BrightSpots(), Detect())
    with pytest.raises(ValueError, match=r"uint8 \(height, width, 3\)"):
        detector(wrong)
    with pytest.raises(ValueError, match=r"an array of NumPy, a path, .*; received int$"):
        detector([spots(32, 32), 5])  # type: ignore[list-item]


class Tensor:
    """An array of another library: it can be iterated, and NumPy could read it."""

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))

    def __array__(self) -> np.ndarray:
        return np.zeros((4, 4, 3), np.uint8)


def test_what_is_unknown_is_named_by_its_type(tmp_path: Path) -> None:
    """Not taken for a list, as all that can be iterated might be; cv2.imread gives `None` for no file."""
    detector = Detector(BrightSpots(), Detect())
    (tmp_path / "text.txt").write_text("a line\n")
    with open(tmp_path / "text.txt", encoding="utf-8") as text:
        wrong = {"NoneType": None, "int": 5, "float": 0.5, f"{__name__}.Tensor": Tensor(), "dict": {"a": 1},
                 "cv2.VideoCapture": cv2.VideoCapture(), "_io.StringIO": io.StringIO("a"),
                 "_io.TextIOWrapper": text, "type": Tensor}  # fmt: skip
        for name, value in wrong.items():
            with pytest.raises(ValueError, match=rf"; received {name}$"):
                detector(value)  # type: ignore[call-overload]
            with pytest.raises(ValueError, match=rf"; received {name}$"):
                detector.maps(value)  # type: ignore[arg-type]


def test_images_come_in_many_forms(tmp_path: Path) -> None:
    image = spots(64, 96, (4, 5), (9, 14))
    path = tmp_path / "spots.png"
    write_image(path, image)
    data, pillow = path.read_bytes(), Image.fromarray(image)
    written = io.BytesIO()
    pillow.save(written, "png")  # which leaves it at its end
    detector = Detector(BrightSpots(), Detect())
    expected = detector(image)
    assert len(expected) == 2
    with open(path, "rb") as file, zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("spots.png", data)
        forms = [path, str(path), data, bytearray(data), memoryview(data), memoryview(image), file, written,
                 io.BufferedReader(io.BytesIO(data)), pillow, Image.open(path), archive.open("spots.png"),
                 *(entry for entry in os.scandir(tmp_path) if entry.name == path.name)]  # fmt: skip
        for form in forms:
            found = detector(form)  # type: ignore[call-overload]
            assert isinstance(found, Detections), type(form)
            assert_same(found, expected)
        gathered = [tuple(forms[:4]), {path}, (form for form in forms[:3]), map(str, [path]), iter([written]),
                    collections.deque([image])]  # fmt: skip
        for several in gathered:
            found = detector(several)
            assert isinstance(found, list) and found, type(several)
            for one in found:
                assert_same(one, expected)
    assert detector([]) == detector(iter(())) == []


def test_an_image_of_pillow_is_read_like_its_file(tmp_path: Path) -> None:
    """Turned as its EXIF data say, on white, in eight bits; the image itself stays as it is."""
    turned = Image.fromarray(noise(8, 20))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    clear = Image.fromarray(np.dstack([noise(9, 9), noise(10, 9)[:9, :, :1]]), "RGBA")
    clear.save(tmp_path / "clear.png")
    deep = Image.fromarray(np.arange(0, 60000, 1000, dtype=np.uint16).reshape(6, 10))
    deep.save(tmp_path / "deep.png")
    for name in ("turned", "clear", "deep"):
        opened = Image.open(tmp_path / f"{name}.png")
        mode, size = opened.mode, opened.size
        np.testing.assert_array_equal(as_rgb(opened), as_rgb(tmp_path / f"{name}.png"))
        assert (opened.mode, opened.size) == (mode, size)
    assert as_rgb(Image.open(tmp_path / "turned.png")).shape == (20, 8, 3)
    with pytest.raises(UserError, match="at most 100000000 in all"):
        as_rgb(Image.new("1", (20000, 6000)))


def test_images_of_one_size_share_a_run() -> None:
    network = BrightSpots()
    images = [spots(60, 90, (number, 3)) for number in range(5)] + [spots(90, 60), spots(60, 90)]
    found = Detector(network, Detect(batch_pixels=3 * 64 * 96))(images)
    assert network.batches == [(3, 64, 96), (2, 64, 96), (1, 96, 64), (1, 64, 96)]
    assert [len(each) for each in found] == [1, 1, 1, 1, 1, 0, 0]
    np.testing.assert_allclose(
        [each.quads[0].mean(axis=0) for each in found[:5]], [[12, 4 * y] for y in range(5)], atol=0.1
    )


@pytest.mark.parametrize(
    "view", [lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a[..., ::-1], np.asfortranarray]
)
def test_any_view_of_an_image(view: Callable[[np.ndarray], np.ndarray]) -> None:
    image = view(noise(40, 50))
    np.testing.assert_array_equal(pad(image)[:40, :50], image)
    np.testing.assert_array_equal(rescale(image, 0.5)[0], rescale(np.ascontiguousarray(image), 0.5)[0])
