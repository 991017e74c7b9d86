"""Label maps of the form QUAD: the offsets of a cell to four corners."""

import math
from typing import Any

import numpy as np
import pytest
import shapely
from helpers.label_maps import box, depth, labels, text
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.geometry.label_maps import angles, decode
from efficientnet_east.geometry.quads import convex, from_top_side

TRAPEZIUM = np.array([[60, 100], [180, 80], [170, 130], [64, 128]], np.float32)


convex_quads = st.builds(
    # Corners on an ellipse are in convex position; each has a quarter of the circle to itself.
    lambda corners, x, y, width, height, degrees: (
        np.array([[math.cos(a), math.sin(a)] for a in (math.pi / 2 * (i + c) for i, c in enumerate(corners))])
        * [width, height]
        @ [[math.cos(degrees), -math.sin(degrees)], [math.sin(degrees), math.cos(degrees)]]
        + [x, y]
    ).astype(np.float32),
    st.lists(st.floats(0.1, 0.9), min_size=4, max_size=4),
    st.floats(240, 1040),
    st.floats(240, 480),
    st.floats(8, 240),
    st.floats(8, 240),
    st.floats(-4, 4),
)


def one_cell(*corners: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """What `decode` makes of one cell that sees these corners, at the pixel (40, 60)."""
    score, geometry = np.zeros((20, 30), np.float32), np.zeros((20, 30, 8), np.float32)
    score[15, 10], geometry[15, 10] = 0.9, (np.array(corners) - [40, 60]).ravel()
    return decode(score, geometry)


def test_quad_channels_are_offsets_to_the_corners_clockwise() -> None:
    maps = labels(box(12, 40, 120, 96), geometry="quad")
    assert maps.score[15, 10] == 1  # the pixel (40, 60)
    np.testing.assert_array_equal(maps.geometry[15, 10], [-28, -20, 80, -20, 80, 36, -28, 36])
    assert maps.geometry.shape == (60, 80, 8) and maps.geometry.dtype == np.float32
    assert not maps.geometry[maps.score == 0].any()


def test_quad_corners_are_those_of_the_truth_from_the_top_side() -> None:
    for start in range(4):
        for step in (1, -1):
            maps = labels(np.roll(TRAPEZIUM, start, axis=0)[::step], geometry="quad")
            row, column = np.argwhere(maps.score)[5]
            corners = maps.geometry[row, column].reshape(4, 2) + np.array([column, row]) * 4
            np.testing.assert_allclose(corners, TRAPEZIUM, atol=1e-4)


@settings(deadline=None)
@given(
    quad=convex_quads,
    ignore=st.booleans(),
    ring=st.booleans(),
    min_side=st.sampled_from([0, 40]),
    stride=st.sampled_from([4, 8]),
)
def test_quad_has_the_score_and_the_mask_of_rbox(quad: np.ndarray, **options: Any) -> None:
    quads = quad, box(500, 300, 700, 330), box(900, 500, 901, 501)
    rbox, other = (labels(*quads, shape=(720, 1280), geometry=form, **options) for form in ("rbox", "quad"))
    np.testing.assert_array_equal(other.score, rbox.score)
    np.testing.assert_array_equal(other.mask, rbox.mask)


@settings(deadline=None)
@given(quad=convex_quads, start=st.integers(0, 3), stride=st.sampled_from([4, 8]))
def test_round_trip_of_any_convex_quad(quad: np.ndarray, start: int, stride: int) -> None:
    maps = labels(np.roll(quad, start, axis=0), shape=(720, 1280), stride=stride, geometry="quad")
    quads, scores = decode(maps.score, maps.geometry, stride=stride)
    assert len(quads) == len(scores) == maps.score.sum() > 0 and quads.dtype == np.float32
    expected = from_top_side(convex(quad[None]))[0]
    np.testing.assert_allclose(quads, np.broadcast_to(expected, quads.shape), atol=1e-3)
    assert {tuple(corner) for corner in expected} == {tuple(corner) for corner in quad.astype(np.float64)}


@settings(deadline=None)
@given(
    x=st.floats(40, 280),
    y=st.floats(40, 200),
    width=st.floats(9, 90),
    height=st.floats(9, 90),
    degrees=st.floats(-180, 180).filter(lambda degrees: abs(abs(degrees) % 90 - 45) > 0.01),
)
def test_both_forms_of_a_rectangle_are_the_same_box(
    x: float, y: float, width: float, height: float, degrees: float
) -> None:
    quad = text(0, 0, width, height, degrees)
    quad += [x, y] - quad.mean(axis=0)
    rbox, other = (labels(quad, geometry=form) for form in ("rbox", "quad"))
    inside = depth(quad, (240, 320)) > 0.1  # a given cell may lie outside, where rbox cuts distances at 0
    for maps in (rbox, other):
        maps.score[~inside] = 0
    np.testing.assert_allclose(
        decode(other.score, other.geometry)[0], decode(rbox.score, rbox.geometry)[0], atol=0.02
    )
    seen = rbox.score > 0
    np.testing.assert_allclose(angles(other.geometry)[seen], angles(rbox.geometry)[seen], atol=1e-4)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 3, 0, 1], [0, 3, 2, 1], [0, 2, 1, 3], [3, 1, 0, 2]])
def test_corners_in_any_order_become_the_box(order: list[int]) -> None:
    quads, scores = one_cell(*TRAPEZIUM[order].tolist())
    np.testing.assert_allclose(quads, TRAPEZIUM[None], atol=1e-4)
    np.testing.assert_array_equal(scores, np.float32([0.9]))


def test_a_corner_inside_of_the_others_becomes_a_corner_of_their_hull() -> None:
    (quad,), _ = one_cell([0, 0], [100, 0], [100, 50], [60, 20])  # the last one above the diagonal
    np.testing.assert_allclose(quad[:3], [[0, 0], [100, 0], [100, 50]], atol=1e-4)
    assert quad[3, 1] == pytest.approx(quad[3, 0] / 2, abs=1e-4) and 50 < quad[3, 0] < 70


@pytest.mark.parametrize("corner", [[np.nan, 5], [np.inf, 5], [-np.inf, 5], [1e6, 5], [1e38, -1e38]])
def test_what_is_no_quad_is_left_out(corner: list[float]) -> None:
    assert len(one_cell([0, 0], [100, 0], corner, [0, 50])[0]) == 0
    for line in ([[7, 7]] * 4, [[0, 0], [50, 25], [100, 50], [20, 10]]):
        quads, scores = one_cell(*line)
        assert quads.shape == (0, 4, 2) and scores.shape == (0,)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.1, 3.0, 50.0, 2e4]))
def test_any_offsets_make_convex_quads_with_their_own_scores(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    score, geometry = rng.random((7, 9), np.float32), rng.normal(0, spread, (7, 9, 8)).astype(np.float32)
    geometry[2, 3, rng.integers(8)], score[2, 3] = np.nan, 1
    quads, scores = decode(score, geometry, threshold=0.4)
    found = [shapely.Polygon(quad) for quad in quads]  # y runs downwards, so clockwise is their ccw
    assert all(shapely.is_ccw(polygon.exterior) for polygon in found)
    for polygon in found:
        assert polygon.area == pytest.approx(polygon.convex_hull.area, rel=1e-3)
    rows, columns = np.nonzero((score >= 0.4) & np.isfinite(geometry).all(axis=2))
    corners = geometry[rows, columns].reshape(-1, 4, 2) + np.stack([columns, rows], axis=1)[:, None] * 4.0
    areas = [shapely.convex_hull(shapely.MultiPoint(each)).area for each in corners.astype(np.float64)]
    assert len(quads) <= len(areas)
    if min(areas) > spread:  # none is as thin as a line
        np.testing.assert_array_equal(scores, score[rows, columns])
        np.testing.assert_allclose([polygon.area for polygon in found], areas, rtol=1e-3)


def test_crooked_truths_have_the_corners_of_their_hull() -> None:
    bow_tie = box(20, 20, 120, 80)[[0, 2, 1, 3]]
    maps = labels(bow_tie, geometry="quad")
    quads, _ = decode(maps.score, maps.geometry)
    np.testing.assert_allclose(quads, np.broadcast_to(box(20, 20, 120, 80), quads.shape), atol=1e-4)
    assert len(quads) > 5
