"""Large images: in tiles, at several scales, and no text lost in silence."""

import itertools

import numpy as np
import pytest
from helpers.spots import ROUNDING, BrightSpots, assert_same, corners, noise, spots
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.config import Detect
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.postprocess import find_boxes
from efficientnet_east.inference.preprocess import factor_in_tiles, prepare, rescale, tiles


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
