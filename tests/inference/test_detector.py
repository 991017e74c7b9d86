"""From an image to detections: fit, pad, map back, the written contract, and the weights that are used."""

import collections
import io
import itertools
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.project import Trained
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.config import Detect
from efficientnet_east.data.images import write_image
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.label_maps import CHANNELS
from efficientnet_east.geometry.quads import area
from efficientnet_east.inference.detector import Detector, as_rgb
from efficientnet_east.inference.postprocess import find_boxes
from efficientnet_east.inference.preprocess import PADDING, factor_in_tiles, pad, prepare, rescale, tiles
from efficientnet_east.structures import Detections

# In pixels of the network's input: the compiled merge adds up thousands of boxes in single precision.
ROUNDING = 0.05
SIZES = [(1, 1), (1, 4800), (4800, 1), (33, 65), (720, 1280), (32, 32), (2400, 64), (2401, 64)]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def to_input(points: np.ndarray, image: tuple[int, int], fitted: tuple[int, int]) -> np.ndarray:
    """Where points of an image come to lie as it is scaled; a pixel reaches 0.5 around its centre."""
    factors = np.array([fitted[1] / image[1], fitted[0] / image[0]])
    return (points + 0.5) * factors - 0.5


class Painter:
    """A network that sees given boxes (x0, y0, x1, y1 in pixels of its input), and text in the padding."""

    def __init__(
        self, boxes: np.ndarray, fitted: tuple[int, int], scores: tuple[float, ...] = (0.99,)
    ) -> None:
        self.boxes, self.fitted, self.scores = boxes, fitted, scores
        self.seen = np.zeros(0)

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert batch.dtype == np.uint8 and batch.shape[0] == 1 and batch.shape[3] == 3
        assert batch.shape[1] % 32 == batch.shape[2] % 32 == 0
        self.seen = batch[0]
        rows, columns = batch.shape[1] // 4, batch.shape[2] // 4
        y, x = np.mgrid[:rows, :columns] * 4.0
        score, geometry = np.zeros((1, rows, columns, 1)), np.full((1, rows, columns, 5), 9.0)
        geometry[..., 4] = 0
        for (x0, y0, x1, y1), value in zip(self.boxes, self.scores, strict=True):
            inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
            assert inside.any(), "a box must hold a cell"
            score[0, inside, 0] = value
            geometry[0, inside, :4] = np.stack([y - y0, x1 - x, y1 - y, x - x0], axis=-1)[inside]
        score[0, (y >= self.fitted[0]) | (x >= self.fitted[1]), 0] = 1.0
        return score.astype(np.float32), geometry.astype(np.float32)


def corners(box: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_box_comes_back_in_pixels_of_the_image(size: tuple[int, int]) -> None:
    height, width = size
    factor = min(1, 2400 / max(size))
    fitted = max(1, round(height * factor)), max(1, round(width * factor))
    box = np.array([width * 0.2 - 6, height * 0.3 - 7, width * 0.4 + 8, height * 0.5 + 6])
    painted = to_input(box.reshape(2, 2), size, fitted).ravel()
    painter = Painter(painted[None], fitted)
    image = noise(height, width)
    found = Detector(painter, Detect())(image)
    assert len(found) == 1
    np.testing.assert_allclose(found.quads[0], corners(box), atol=ROUNDING)
    assert found.scores[0] == np.float32(0.99)

    assert painter.seen.shape[:2] == tuple(-(-side // 32) * 32 for side in fitted)
    if fitted == size:
        np.testing.assert_array_equal(painter.seen[:height, :width], image)
    for beside in (painter.seen[fitted[0] :], painter.seen[:, fitted[1] :]):
        assert (beside == PADDING).all()


def test_best_first_and_each_score_with_its_own_box() -> None:
    boxes = np.array([[0.0, 0, 40, 20], [60, 0, 100, 20], [0, 60, 40, 80]])
    found = Detector(Painter(boxes, (96, 128), (0.92, 0.98, 0.95)), Detect())(noise(96, 128))
    np.testing.assert_allclose(found.scores, [0.98, 0.95, 0.92])
    np.testing.assert_allclose(found.quads, [corners(boxes[i]) for i in (1, 2, 0)], atol=ROUNDING)


def test_limits() -> None:
    boxes = np.array([[0.0, 0, 40, 20], [60, 10, 100, 15], [0, 60, 40, 80]])
    painter = Painter(boxes, (96, 128), (0.92, 0.98, 0.6))

    def count(**limits: Any) -> int:
        return len(Detector(painter, Detect(**limits))(noise(96, 128)))

    assert count() == 2  # 0.6 is below the score threshold of a cell
    assert count(score_threshold=0.5) == 3
    assert count(score_threshold=0.5, box_threshold=0.91) == 2
    assert count(box_threshold=0.97) == 1
    assert count(min_box_side=5.1) == 1 and count(min_box_side=4.9) == 2
    assert count(score_threshold=0.985) == 0


def test_sides_are_limited_in_pixels_of_the_input() -> None:
    """What the network saw counts, however large the image was."""
    painter = Painter(np.array([[0.0, 0, 30, 4]]), (60, 100))
    assert len(Detector(painter, Detect(max_side=100, min_box_side=5))(noise(600, 1000))) == 0
    (quad,) = Detector(painter, Detect(max_side=100, min_box_side=3))(noise(600, 1000)).quads
    np.testing.assert_allclose(np.ptp(quad, axis=0), [300, 40], atol=10 * ROUNDING)


class BrightSpots:
    """A network that sees a box of 24 x 16 pixels around every bright red cell: what it finds depends on the
    pixels, and on nothing around them."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.batches.append(batch.shape[:3])
        cells = batch[:, ::4, ::4].astype(np.float32)
        score = (cells[..., :1] / 255) * (cells[..., 2:] < 20)
        return score, np.broadcast_to(np.float32([8, 12, 8, 12, 0.1]), (*score.shape[:3], 5)).copy()


def spots(height: int, width: int, *cells: tuple[int, int]) -> np.ndarray:
    image = np.full((height, width, 3), 90, np.uint8)
    for number, (y, x) in enumerate(cells):
        image[4 * y, 4 * x] = 255 - number, 0, 0
    return image


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.quads, expected.quads)
    np.testing.assert_array_equal(found.scores, expected.scores)


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


@pytest.mark.parametrize("size", [(200, 300), (97, 640), (640, 97), (64, 64), (10, 700)])
@pytest.mark.parametrize("tile", [(64, 0.0), (64, 0.5), (96, 0.25), (33, 0.75)])
def test_tiles_find_what_the_whole_image_shows(size: tuple[int, int], tile: tuple[int, float]) -> None:
    """The same boxes, bit by bit, across every seam: maps are put together before boxes are."""
    rng = np.random.default_rng(size[0])
    cells = [(int(y), int(x)) for y, x in rng.integers(0, (-(-size[0] // 4), -(-size[1] // 4)), (40, 2))]
    image, network = spots(*size, *cells), BrightSpots()
    limits = {"score_threshold": 0.8, "min_box_side": 0.0}
    whole = Detector(network, Detect(**limits))
    assert len(network.batches) <= 1
    tiled = Detector(network, Detect(tile_size=tile[0], tile_overlap=tile[1], **limits))
    assert len(whole(image)) >= 5
    assert_same(tiled(image), whole(image))
    for mine, other in zip(tiled.maps(image), whole.maps(image), strict=True):
        np.testing.assert_array_equal(mine, other)


@settings(deadline=None, max_examples=200)
@given(
    cells=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    side=st.integers(1, 12),
    overlap=st.floats(0, 0.75),
    divisor=st.sampled_from([32, 64]),
)
def test_tiles_cover_the_image_once(cells: tuple[int, int], side: int, overlap: float, divisor: int) -> None:
    shape, reach = (cells[0] * divisor, cells[1] * divisor), side * divisor
    parts = tiles(shape, (reach, reach), overlap, divisor)
    count = np.zeros(cells, int)
    for tile in parts:
        assert (tile.height, tile.width) == (min(reach, shape[0]), min(reach, shape[1]))
        assert tile.top % divisor == tile.left % divisor == 0
        assert 0 <= tile.top <= tile.rows[0] < tile.rows[1] <= tile.top + tile.height <= shape[0]
        assert 0 <= tile.left <= tile.columns[0] < tile.columns[1] <= tile.left + tile.width <= shape[1]
        (top, bottom), (left, right) = tile.rows, tile.columns
        count[top // divisor : bottom // divisor, left // divisor : right // divisor] += 1
    assert (count == 1).all()
    lefts = sorted({tile.left for tile in parts})
    shared = [first + parts[0].width - second for first, second in itertools.pairwise(lefts)]
    assert not shared or min(shared) >= overlap * reach - 1e-6 or overlap * reach > reach - divisor


@pytest.mark.parametrize(
    ("shape", "max_side", "size", "expected"),
    [
        ((720, 1280), 2400, None, None),  # ICDAR 2015
        ((3000, 4000), 2400, None, None),  # a telephone's photograph: as ever
        ((2400, 4800), 2400, None, None),  # halved, and no more than that
        ((15000, 600), 2400, None, 1.0),  # a screenshot of a whole page
        ((600, 15000), 2400, None, 1.0),
        ((15000, 3000), 2400, None, 0.8),  # its shorter side is held to the limit
        ((2000, 6000), 2400, None, 1.0),  # a panorama
        ((6000, 8000), 2400, None, 0.5),  # large on both sides
        ((20000, 20000), 2400, None, 0.5),
        ((3000, 4000), 800, None, None),  # a wish for speed
        ((15000, 600), 800, None, 1.0),  # which is no wish to lose a page
        ((15000, 1600), 800, None, 0.5),
        ((15000, 3200), 800, None, 0.25),
        ((3000, 4000), 2400, (736, 1280), None),
        ((15000, 600), 2400, (736, 1280), 1.0),
    ],
)
def test_images_that_a_limit_would_more_than_halve_are_read_in_tiles(
    shape: tuple[int, int], max_side: int, size: tuple[int, int] | None, expected: float | None
) -> None:
    assert factor_in_tiles(shape, max_side, size) == expected


@given(
    shape=st.tuples(st.integers(1, 40000), st.integers(1, 40000)),
    max_side=st.integers(32, 6000),
)
def test_no_limit_loses_text_in_silence(shape: tuple[int, int], max_side: int) -> None:
    """With the usual limit no image is shrunk to less than half; with a lower one no long image is lost."""
    whole = min(1.0, max_side / max(shape))
    factor = factor_in_tiles(shape, max_side)
    if max_side >= Detect().max_side:
        assert (factor or whole) >= 0.5
    if factor is not None:
        assert whole < factor <= 1
        assert factor == 0.5 or factor == 1 or factor * min(shape) <= max_side + 1e-6


def test_a_long_image_is_read_at_its_own_size_in_runs_of_bounded_size() -> None:
    network = BrightSpots()
    places = [(row, 3) for row in range(3, 3000, 100)]
    image = spots(12000, 64, *places)
    found = Detector(network, Detect(score_threshold=0.5))(image)
    assert len(found) == len(places)
    np.testing.assert_allclose(
        sorted(quad.mean(axis=0).tolist()[1] for quad in found.quads),
        [4 * row for row, _ in places],
        atol=0.1,
    )
    assert {shape[1:] for shape in network.batches} == {(1280, 64)}
    assert all(np.prod(shape) <= Detect().batch_pixels for shape in network.batches)
    sized = BrightSpots()
    assert len(Detector(sized, Detect(score_threshold=0.5), size=(128, 64))(image)) == len(places)
    assert {shape[1:] for shape in sized.batches} == {(128, 64)}
    asked = BrightSpots()
    Detector(asked, Detect(tile_size=320))(image)
    assert {shape[1:] for shape in asked.batches} == {(320, 64)}, "tile_size is an option"


def test_candidates_are_limited_by_area() -> None:
    """A page of many screens has as many words as its screens have; the limit of one is not that of all."""
    image = spots(24000, 960, *[(row, 3) for row in range(3, 6000, 100)])
    assert len(Detector(BrightSpots(), Detect(max_candidates=30, score_threshold=0.5))(image)) == 60
    assert len(Detector(BrightSpots(), Detect(max_candidates=14, score_threshold=0.5))(image)) < 60


def test_tiles_keep_the_resolution() -> None:
    image = spots(100, 400, (10, 60))
    assert len(Detector(BrightSpots(), Detect(max_side=200))(image)) == 0  # averaged away
    network = BrightSpots()
    assert len(Detector(network, Detect(max_side=200, tile_size=128))(image)) == 1
    assert {batch[1:] for batch in network.batches} == {(128, 128)}


def test_several_scales() -> None:
    """Boxes of the same text at two scales become one, the better one; others are added."""

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factor = batch.shape[2] / 128
        shape = 1, batch.shape[1] // 4, batch.shape[2] // 4
        score, geometry = np.zeros((*shape, 1), np.float32), np.zeros((*shape, 5), np.float32)
        geometry[..., :4] = np.float32([10, 20, 10, 20]) * np.float32(factor)
        for (x, y), value in {1: {(32, 32): 0.95}, 2: {(33, 32): 0.99, (96, 64): 0.92}}[
            round(factor)
        ].items():
            score[0, round(y * factor / 4), round(x * factor / 4)] = value
        return score, geometry

    image = noise(96, 128)
    once = Detector(run, Detect())(image)
    np.testing.assert_allclose(once.quads, [corners(np.array([12.0, 22, 52, 42]))], atol=ROUNDING)
    both = Detector(run, Detect(scales=(1.0, 2.0)))(image)
    np.testing.assert_allclose(both.scores, [0.99, 0.92])
    # A cell of the larger image stands for its pixel, which lies a quarter of a pixel up and left.
    np.testing.assert_allclose(both.quads[1], corners(np.array([76, 54, 116, 74])) - 0.25, atol=ROUNDING)


def test_a_network_of_one_size() -> None:
    network = BrightSpots()
    detector = Detector(network, Detect(), size=(64, 96))
    (found,) = detector(spots(50, 90, (5, 9))).quads
    np.testing.assert_allclose(found.mean(axis=0), (36, 20), atol=0.1)
    detector([np.full(size, 90, np.uint8) for size in [(200, 90, 3), (20, 300, 3), (64, 96, 3), (1, 1, 3)]])
    tiled = Detector(network, Detect(tile_size=32, scales=(0.5, 1.0, 2.0)), size=(64, 96))
    np.testing.assert_allclose(tiled(spots(300, 500, (70, 120))).quads[0].mean(axis=0), (480, 280), atol=0.3)
    assert {batch[1:] for batch in network.batches} == {(64, 96)}


def test_upright_boxes_and_only_the_best() -> None:
    image = spots(96, 128, (5, 5), (5, 20), (18, 10))
    (turned, upright) = (Detector(BrightSpots(), Detect(axis_aligned=flag))(image) for flag in (False, True))
    low, high = turned.quads.min(axis=1), turned.quads.max(axis=1)
    np.testing.assert_array_equal(
        upright.quads, [corners(np.append(*ends)) for ends in zip(low, high, strict=True)]
    )
    best = Detector(BrightSpots(), Detect(max_detections=2))(image)
    assert_same(best, Detections(turned.quads[:2], turned.scores[:2]))
    fewer = Detector(BrightSpots(), Detect(max_candidates=1))(image)
    assert_same(fewer, Detections(turned.quads[:1], turned.scores[:1]))


def test_nothing_found() -> None:
    found = Detector(Painter(np.zeros((0, 4)), (64, 64), ()), Detect())(noise(64, 64))
    assert found.quads.shape == (0, 4, 2) and found.quads.dtype == np.float32
    assert found.scores.shape == (0,) and found.scores.dtype == np.float32
    assert len(found) == 0


def test_stride_two() -> None:
    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = batch.shape[1] // 2, batch.shape[2] // 2
        score, geometry = np.zeros((1, *shape, 1), np.float32), np.zeros((1, *shape, 5), np.float32)
        score[0, 10, 15], geometry[0, 10, 15] = 1.0, (5, 12, 6, 11, 0)
        return score, geometry

    (quad,) = Detector(run, Detect(), stride=2)(noise(33, 65)).quads
    np.testing.assert_allclose(quad, corners(np.array([30 - 11, 20 - 5, 30 + 12, 20 + 6])), atol=ROUNDING)


@pytest.mark.parametrize("center", [(300.0, 400.0), (1500.0, 700.0), (2800.0, 1800.0)])
def test_scaling_moves_no_text(center: tuple[float, float]) -> None:
    """The same by pixels: a soft spot is where it was after the way through the small image and back."""
    y, x = np.mgrid[:2000, :3000]
    spot = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 25**2))
    image = np.repeat((spot * 255).astype(np.uint8)[..., None], 3, axis=2)
    small, scale = rescale(image, 0.25)
    assert small.shape == (500, 750, 3)
    y, x = np.mgrid[:500, :750]
    weight = small[..., 0].astype(np.float64)
    seen = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    row, column = np.rint(seen[::-1] / 4).astype(int)
    score, geometry = np.zeros((125, 188), np.float32), np.zeros((125, 188, 5), np.float32)
    reach = 20 - (seen - np.array([column, row]) * 4.0), 20 + (seen - np.array([column, row]) * 4.0)
    score[row, column] = 1
    geometry[row, column, :4] = reach[0][1], reach[1][0], reach[1][1], reach[0][0]
    found = find_boxes(score, geometry, scale, Detect())
    np.testing.assert_allclose(found.quads[0].mean(axis=0), center, atol=0.1)


def test_small_images_are_left_alone() -> None:
    image = noise(96, 64)
    same = prepare(image, 96)
    assert same.shape == (96, 64) and same.scale.tolist() == [1, 1]
    np.testing.assert_array_equal(same.pixels, image)
    smaller = prepare(image, 95)
    assert smaller.shape == (95, 63) and smaller.pixels.shape == (96, 64, 3)
    np.testing.assert_allclose(smaller.scale, [63 / 64, 95 / 96])


@pytest.mark.parametrize(
    "view", [lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a[..., ::-1], np.asfortranarray]
)
def test_any_view_of_an_image(view: Callable[[np.ndarray], np.ndarray]) -> None:
    image = view(noise(40, 50))
    np.testing.assert_array_equal(pad(image)[:40, :50], image)
    np.testing.assert_array_equal(rescale(image, 0.5)[0], rescale(np.ascontiguousarray(image), 0.5)[0])


def test_a_slanted_quad_comes_back_in_pixels_of_the_image() -> None:
    """A trapezium, which no rectangle fits, in an image twice as large as the network's input."""
    quad = np.array([[20, 40], [90, 20], [100, 60], [24, 52]], float)

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = batch.shape[1] // 4, batch.shape[2] // 4
        y, x = np.mgrid[: shape[0], : shape[1]] * 4.0
        offsets = to_input(quad, (240, 320), (120, 160)) - np.stack([x, y], axis=-1)[..., None, :]
        score = (np.abs(x - 30) <= 12) & (np.abs(y - 22) <= 6)
        geometry = offsets.reshape(1, *shape, 8).astype(np.float32)
        geometry[0, 5, 7] = np.roll(geometry[0, 5, 7], 4)  # from another corner
        geometry[0, 5, 8] = geometry[0, 5, 8].reshape(4, 2)[[0, 2, 1, 3]].ravel()  # crossed
        return score[None, ..., None].astype(np.float32), geometry

    found = Detector(run, Detect(max_side=160))(noise(240, 320))
    np.testing.assert_allclose(found.quads, quad[None], atol=2 * ROUNDING)
    assert found.scores == [1]


def test_thin_quads_are_dropped() -> None:
    """By area over the longest side: here all sides are long, and it is 4 pixels high."""

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        score, geometry = np.zeros((1, 16, 16, 1), np.float32), np.zeros((1, 16, 16, 8), np.float32)
        score[0, 6, 6], geometry[0, 6, 6] = 1, (-30, -2, 10, -2, 30, 2, -10, 2)
        return score, geometry

    expected = 40 * 4 / 40
    assert len(Detector(run, Detect(min_box_side=expected - 0.01))(noise(64, 64))) == 1
    assert len(Detector(run, Detect(min_box_side=expected + 0.01))(noise(64, 64))) == 0


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    max_side=st.sampled_from([32, 100, 2400]),
    spread=st.sampled_from([1.0, 30.0, 1e4, np.inf]),
    thinnest=st.sampled_from([0.0, 3.0]),
)
def test_whatever_the_network_says_the_contract_holds(
    channels: int, seed: int, height: int, width: int, max_side: int, spread: float, thinnest: float
) -> None:
    rng = np.random.default_rng(seed)

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = 1, batch.shape[1] // 4, batch.shape[2] // 4
        geometry = rng.exponential(1, (*shape, channels)).astype(np.float32) * np.float32(spread)
        if channels == CHANNELS["rbox"]:
            geometry[..., 4] = rng.uniform(-np.pi / 4, np.pi / 4, shape)
        else:
            geometry *= rng.choice([-1, 1], geometry.shape)
        return rng.random((*shape, 1), np.float32), geometry

    limits = Detect(score_threshold=0.7, max_side=max_side, min_box_side=thinnest)
    with np.errstate(invalid="ignore", over="ignore"):
        found = Detector(run, limits)(noise(height, width))
    assert isinstance(found, Detections)
    assert found.quads.dtype == found.scores.dtype == np.float32
    assert found.quads.shape == (len(found), 4, 2) and np.isfinite(found.quads).all()
    assert (np.diff(found.scores) <= 0).all() and (found.scores >= 0).all() and (found.scores <= 1).all()
    assert (area(found.quads) > 0).all(), "clockwise on the screen"


# --- a trained checkpoint


@pytest.mark.parametrize(("levels", "height"), [(5, 160), (6, 192), (7, 256)])
def test_inputs_fit_the_configured_levels(
    levels: int, height: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(batch.shape[1:3])
        return np.zeros((1, height // 2, 64, 1)), np.zeros((1, height // 2, 64, 5))

    (tmp_path / "config.yaml").write_text(f"model:\n  merge: bifpn\n  levels: {levels}\n  output_stride: 2\n")
    monkeypatch.setattr(tf_checkpoints, "find", lambda workdir: f"{workdir}/model.ckpt-1")
    monkeypatch.setattr("efficientnet_east.inference.graph.load_graph", lambda prefix, config: run)
    assert Detector.load(tmp_path).maps(noise(130, 128))[0].shape == (65, 64)
    assert seen == [(height, 128)]


def test_the_averaged_weights_are_used(trained: Trained, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same maps without the raw weights in the checkpoint, others without the averages."""
    image = cv2.imread(str(trained.data / "images" / "img_1.png"))[..., ::-1]
    whole = Detector.load(f"{trained.workdir}/model.ckpt-4", {"max_side": "96", "threads": 1})
    assert whole.detect.max_side == 96  # an option
    assert whole.detect.score_threshold == 0.02  # the run's own
    score, geometry, scale = whole.maps(image)
    assert score.shape == (18, 24) and geometry.shape == (18, 24, 5) and scale.tolist() == [0.75, 0.75]
    assert score.min() > 0 and score.max() < 1 and geometry.min() < 0 < geometry.max() <= 512

    suffix, values = "/ExponentialMovingAverage", tf_checkpoints.read(tf_checkpoints.find(trained.workdir))
    averages = {name.removesuffix(suffix): value for name, value in values.items() if name.endswith(suffix)}
    raw = {name: values[name] for name in averages}
    monkeypatch.setattr(tf_checkpoints, "read", lambda prefix: averages)
    same = Detector.load(trained.workdir, {"max_side": "96", "threads": 1}).maps(image)
    np.testing.assert_allclose(same[0], score, atol=1e-6)
    np.testing.assert_allclose(same[1], geometry, atol=1e-3)
    monkeypatch.setattr(tf_checkpoints, "read", lambda prefix: raw)
    other = Detector.load(trained.workdir, {"max_side": "96", "threads": 1}).maps(image)
    assert np.abs(other[0] - score).max() > 1e-4  # a hundred times what "the same" means above


def test_the_configuration_must_be_there_and_fit(trained: Trained, tiny: None, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(trained.workdir, folder)
    (folder / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config\.yaml: no such file; expected the configuration"):
        Detector.load(folder)
    text = (trained.workdir / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("output_stride: 4", "output_stride: 2"))
    with pytest.raises(UserError, match=r"ckpt-4: is a checkpoint of another architecture.*merge_f1"):
        Detector.load(folder)


def test_batches_order_and_threads_change_nothing(trained: Trained, tiny: None) -> None:
    """The same boxes from a real network, alone or together, first or last, with one thread or four."""
    rng = np.random.default_rng(0)
    sizes = [(96, 128), (96, 128), (70, 100), (96, 128)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    limits = {"score_threshold": 0.02, "min_box_side": 0}
    one = Detector.load(trained.workdir, {"threads": 1, **limits})
    alone = [one(image) for image in images]
    assert sum(map(len, alone)) > 4
    four = Detector.load(trained.workdir, {"threads": 4, **limits})
    backwards = list(reversed(four(images[::-1])))
    for together in (one(images), four(images), backwards):
        for found, expected in zip(together, alone, strict=True):
            assert len(found) == len(expected)
            np.testing.assert_allclose(found.quads, expected.quads, atol=0.05)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
