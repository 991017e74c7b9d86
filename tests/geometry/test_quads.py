"""Plain geometry: hand cases, and second implementations (OpenCV, shapely) on generated quads."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from efficientnet_east.geometry.intersections import (
    convex_intersection,
    intersection_matrix,
    iou,
    iou_matrix,
)
from efficientnet_east.geometry.quads import (
    area,
    axes,
    clockwise,
    convex,
    from_top_side,
    min_area_rectangle,
    quarter_turns,
    rectangle,
    rolled,
    shrink,
    thickness,
    tilt,
    transform,
)

SQUARE = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float32)
BOW_TIE = np.array([[0, 0], [10, 10], [10, 0], [0, 10]], np.float32)  # two triangles, 25 square pixels each
ARROW = np.array([[0, 0], [10, 0], [10, 10], [8, 2]], np.float32)  # a reflex corner at (8, 2)

coordinates = st.floats(-50, 50, width=32).map(lambda value: round(value, 3))
any_quads = st.lists(coordinates, min_size=8, max_size=8).map(lambda c: np.array(c, np.float64).reshape(4, 2))
rectangles = st.builds(
    lambda x, y, distances, angle: rectangle(np.array([x, y]), np.array(distances), np.array(angle)),
    coordinates,
    coordinates,
    st.lists(st.floats(0.5, 40), min_size=4, max_size=4),
    st.floats(-3.1, 3.1),
)


def beside(pixels: float) -> np.ndarray:
    return SQUARE + np.array([pixels, 0])


def lobes(quad: np.ndarray) -> shapely.Geometry:
    """What a quad encloses, made from its sides alone (another way than make_valid)."""
    ring = shapely.unary_union(shapely.LineString([*quad, quad[0]]))
    return shapely.unary_union(shapely.get_parts(shapely.polygonize([ring])).tolist())


def shapely_iou(a: np.ndarray, b: np.ndarray) -> float:
    # On a grid: without it, GEOS 3.14 loses the common area of some quads with almost collinear sides.
    common = shapely.intersection(lobes(a), lobes(b), grid_size=1e-9).area
    union = lobes(a).area + lobes(b).area - common
    return common / union if union else 0.0


def test_area_is_positive_clockwise_on_the_screen() -> None:
    right_then_down = np.array([[5, 5], [25, 5], [25, 12], [5, 12]])
    assert area(right_then_down) == 140
    assert area(right_then_down[::-1]) == -140
    assert area(right_then_down + 1e7) == 140
    assert area(np.zeros((0, 4, 2))).shape == (0,)


def test_clockwise_turns_only_what_runs_the_other_way() -> None:
    quads = np.stack([SQUARE, SQUARE[[0, 3, 2, 1]], SQUARE[[2, 1, 0, 3]]])
    turned = clockwise(quads)
    assert turned.dtype == np.float32
    np.testing.assert_array_equal(turned, [SQUARE, SQUARE, SQUARE[[2, 3, 0, 1]]])


def test_convex_leaves_convex_quads_alone() -> None:
    quads = np.stack([SQUARE, np.roll(SQUARE, 2, axis=0), SQUARE[[0, 3, 2, 1]], SQUARE * [3, 0.5] + 7])
    np.testing.assert_array_equal(convex(quads), clockwise(quads))
    assert convex(np.zeros((0, 4, 2))).shape == (0, 4, 2)


def test_convex_by_hand() -> None:
    ordered, flattened = convex(np.stack([BOW_TIE, ARROW]))
    assert (
        {tuple(corner) for corner in ordered}
        == {tuple(corner) for corner in SQUARE}
        == {(0, 0), (10, 0), (10, 10), (0, 10)}
    )
    assert area(ordered[None]) == 100
    # The reflex corner (8, 2) goes to the side from (10, 10) to (0, 0) that it cut off.
    np.testing.assert_allclose(flattened, [(0, 0), (10, 0), (10, 10), (5, 5)])
    assert area(flattened[None]) == pytest.approx(50)


@settings(deadline=None, max_examples=200)
@given(quad=any_quads)
def test_convex_is_the_hull(quad: np.ndarray) -> None:
    (found,) = convex(quad[None])
    hull = shapely.convex_hull(shapely.MultiPoint(quad))
    assert area(found[None])[0] == pytest.approx(hull.area, abs=1e-7)
    np.testing.assert_allclose(shapely.convex_hull(shapely.MultiPoint(found)).area, hull.area, atol=1e-7)
    assert shapely.hausdorff_distance(shapely.convex_hull(shapely.MultiPoint(found)), hull) < 1e-6
    sides = np.roll(found, -1, axis=0) - found
    before = np.roll(sides, 1, axis=0)
    assert (before[:, 0] * sides[:, 1] - before[:, 1] * sides[:, 0] >= -1e-7).all()


@pytest.mark.parametrize("degrees", [-134, -46, -44, 0, 30, 44.9, 46, 90, 179])
def test_quarter_turns_of_a_rectangle_are_those_of_its_first_side(degrees: float) -> None:
    quad = rectangle(np.zeros(2), np.array([5, 40, 5, 40]), np.deg2rad(degrees))
    assert quarter_turns(quad) == pytest.approx(degrees / 90)
    first, later = from_top_side(np.stack([quad, np.roll(quad, 1, axis=0)]))
    np.testing.assert_array_equal(first, later)
    assert abs(quarter_turns(first)) <= 0.5


@settings(deadline=None)
@given(quad=any_quads)
def test_top_side_does_not_depend_on_the_first_corner(quad: np.ndarray) -> None:
    (quad,) = convex(quad[None])
    turns = quarter_turns(quad)
    assume(area(quad[None])[0] > 1 and abs(abs(turns) % 1 - 0.5) > 1e-6)
    starts = np.stack([np.roll(quad, -start, axis=0) for start in range(4)])
    np.testing.assert_array_equal(rolled(quad[None].repeat(4, axis=0), np.arange(4)), starts)
    np.testing.assert_allclose((turns - quarter_turns(starts)) % 4, [0, 1, 2, 3], atol=1e-6)
    for other in from_top_side(starts):
        np.testing.assert_array_equal(other, from_top_side(quad[None])[0])


def test_thickness_by_hand() -> None:
    skewed = np.array([[0, 0], [20, 0], [60, 3], [40, 3]])  # 3 high, its longer sides sqrt(40 ** 2 + 3 ** 2)
    line = np.array([[0, 0], [9, 9], [5, 5], [2, 2]])
    expected = [4, 60 / np.hypot(40, 3), 0, 0]
    quads = np.stack([SQUARE * [5, 0.4], skewed, line, np.ones((4, 2))])
    np.testing.assert_allclose(thickness(quads), expected, atol=1e-7)
    assert thickness(np.zeros((0, 4, 2), np.float32)).shape == (0,)


def test_transform_agrees_with_opencv() -> None:
    quads = np.random.default_rng(0).uniform(0, 500, (7, 4, 2)).astype(np.float32)
    turn = cv2.getRotationMatrix2D((100, 50), 30, 1.3)
    np.testing.assert_allclose(transform(quads, turn), cv2.transform(quads, turn), rtol=0, atol=1e-3)
    tilt = np.array([[1.1, 0.2, 3], [-0.1, 0.9, 7], [1e-4, 2e-4, 1]])
    expected = cv2.perspectiveTransform(quads, tilt)
    np.testing.assert_allclose(transform(quads, tilt), expected, rtol=0, atol=1e-3)
    assert transform(np.zeros((0, 4, 2), np.float32), tilt).shape == (0, 4, 2)
    assert transform(quads, turn).dtype == np.float32


def test_axes_of_rising_text() -> None:
    u, v = axes(np.array(np.pi / 6))
    np.testing.assert_allclose(u, [np.sqrt(3) / 2, -0.5], atol=1e-12)  # up on the screen is minus y
    np.testing.assert_allclose(v, [0.5, np.sqrt(3) / 2], atol=1e-12)


def test_rectangle_by_hand() -> None:
    point, distances = np.array([100.0, 50.0]), np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(
        rectangle(point, distances, np.array(0.0)), [[96, 49], [102, 49], [102, 53], [96, 53]]
    )
    # 90 degrees counter-clockwise: "right" points up, "top" points to the left.
    np.testing.assert_allclose(
        rectangle(point, distances, np.array(np.pi / 2)), [[99, 54], [99, 48], [103, 48], [103, 54]]
    )


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("angle", [-44.9, -30, -0.001, 0, 12.5, 44.9])
def test_least_rectangle_of_a_rectangle_is_itself(angle: float, start: int) -> None:
    angle = np.deg2rad(angle)
    expected = rectangle(np.array([300.0, 200.0]), np.array([5.0, 40.0, 8.0, 30.0]), np.array(angle))
    for quad in (np.roll(expected, start, axis=0), np.roll(expected, start, axis=0)[::-1]):
        corners, found = min_area_rectangle(quad)
        np.testing.assert_allclose(corners, expected, atol=1e-6)
        assert found == pytest.approx(angle, abs=1e-7)


def test_least_rectangle_at_plus_and_minus_45_degrees_is_the_same() -> None:
    diamond = np.array([[0, 10], [20, -10], [30, 0], [10, 20]])  # its long side rises by exactly 45 degrees
    for quad in (diamond, np.roll(diamond, 1, axis=0)):
        corners, angle = min_area_rectangle(quad)
        assert angle == pytest.approx(np.pi / 4, abs=1e-12)
        np.testing.assert_allclose(corners, diamond, atol=1e-9)


@settings(deadline=None)
@given(quad=any_quads)
def test_least_rectangle_against_opencv(quad: np.ndarray) -> None:
    corners, angle = min_area_rectangle(quad)
    sides = cv2.minAreaRect(quad.astype(np.float32))[1]
    assert abs(area(corners)) == pytest.approx(sides[0] * sides[1], rel=1e-3, abs=0.02)
    assert -np.pi / 4 < angle <= np.pi / 4
    u, v = axes(angle)
    upright = corners @ np.stack([u, v], axis=1)
    (left, top), (right, bottom) = upright[0], upright[2]
    assert left <= right + 1e-9 and top <= bottom + 1e-9
    expected = [[left, top], [right, top], [right, bottom], [left, bottom]]
    np.testing.assert_allclose(upright, expected, atol=1e-9)
    inside = quad @ np.stack([u, v], axis=1)
    assert (inside >= [left - 1e-9, top - 1e-9]).all() and (inside <= [right + 1e-9, bottom + 1e-9]).all()


def test_least_rectangle_of_many_and_of_none() -> None:
    quads = np.stack([SQUARE, SQUARE * 2, np.zeros((4, 2)), [[0, 0], [8, 8], [8, 8], [4, 4]]])
    corners, angles = min_area_rectangle(quads)
    for quad, many, angle in zip(quads, corners, angles, strict=True):
        np.testing.assert_array_equal(min_area_rectangle(quad)[0], many)
        assert min_area_rectangle(quad)[1] == angle
    np.testing.assert_allclose(area(corners[2:]), 0, atol=1e-9)
    assert min_area_rectangle(np.zeros((0, 4, 2)))[0].shape == (0, 4, 2)


def test_shrink_by_hand() -> None:
    upright = np.array([[0, 0], [100, 0], [100, 20], [0, 20]])
    expected = np.array([[6, 6], [94, 6], [94, 14], [6, 14]])  # 0.3 of the short side, everywhere
    for turn in (slice(None), slice(None, None, -1), [1, 2, 3, 0]):
        np.testing.assert_allclose(shrink(upright[None, turn]), expected[None, turn])
    np.testing.assert_allclose(shrink(upright[None], 0.0)[0], upright)


def test_shrink_moves_the_longer_sides_first() -> None:
    # The left side is 10, the bottom 40, so top and bottom are the longer pair: by 3 at the left, and by
    # 0.3 * 30 at the right, where the slope of the top is (40, -20) / sqrt(2000).
    quad = np.array([[0, 20], [40, 0], [40, 30], [0, 30]], float)
    slope = np.array([2, -1]) / np.sqrt(5)
    a, b, c, d = quad[0] + 3 * slope, quad[1] - 9 * slope, quad[2] - [9, 0], quad[3] + [3, 0]
    right, left = (c - b) / np.linalg.norm(c - b), (d - a) / np.linalg.norm(d - a)
    expected = [a + 3 * left, b + 9 * right, c - 9 * right, d - 3 * left]
    np.testing.assert_allclose(shrink(quad[None])[0], expected)


@settings(deadline=None)
@given(quad=any_quads, ratio=st.floats(0, 0.5))
def test_shrunk_quad_stays_inside(quad: np.ndarray, ratio: float) -> None:
    hull = shapely.convex_hull(shapely.MultiPoint(quad)).buffer(1e-6)
    assert hull.covers(shapely.MultiPoint(shrink(quad[None], ratio)[0]))


def test_iou_by_hand() -> None:
    assert iou(SQUARE, SQUARE) == 1
    assert iou(SQUARE, SQUARE[::-1]) == 1
    assert iou(SQUARE, beside(5)) == pytest.approx(50 / 150)
    assert iou(SQUARE, beside(10)) == 0
    assert iou(SQUARE, beside(99)) == 0
    assert iou(SQUARE, SQUARE / 2 + 1) == pytest.approx(0.25)
    assert iou(SQUARE, [[5, -5], [15, 5], [5, 15], [-5, 5]]) == pytest.approx(100 / 200)
    assert iou(SQUARE[[0, 0, 0, 0]], SQUARE) == 0
    assert iou(SQUARE[[0, 1, 1, 0]], SQUARE[[0, 1, 1, 0]]) == 0


def test_iou_of_crooked_quads_by_hand() -> None:
    assert iou(BOW_TIE, SQUARE) == pytest.approx(0.5)
    assert iou(BOW_TIE, BOW_TIE) == pytest.approx(1)
    assert iou(BOW_TIE, SQUARE[[0, 1, 2, 3]] * [0.5, 1]) == pytest.approx(25 / 75)
    spike = np.array([[0, 0], [10, 0], [5, 0], [5, 5]])  # a triangle, and a line that encloses nothing
    assert iou(spike, SQUARE) == pytest.approx(0.125)
    almost_collinear = np.array([[0, -1], [0, 0], [19, -1], [1, 0]])  # GEOS 3.14 finds no common area here
    common, _, _ = intersection_matrix(almost_collinear[None], [[[0, 0], [0, 0], [0, 1], [19, -1]]])
    assert common[0, 0] == pytest.approx(0.475)
    common, own, _ = intersection_matrix(ARROW[None], SQUARE[None])
    assert own[0] == pytest.approx(abs(area(ARROW)))
    assert common[0, 0] == pytest.approx(own[0])  # the hull of the arrow is larger: 50


@settings(deadline=None, max_examples=100)
@given(a=rectangles, b=rectangles)
def test_iou_of_rectangles_against_shapely(a: np.ndarray, b: np.ndarray) -> None:
    expected = shapely.Polygon(a).intersection(shapely.Polygon(b)).area
    assert convex_intersection(a[None], b[None])[0] == pytest.approx(expected, rel=1e-7, abs=1e-7)
    assert iou(a, b) == pytest.approx(shapely_iou(a, b), abs=1e-7)
    assert iou(a, b) == pytest.approx(iou(b, a), abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(a=any_quads, b=any_quads)
def test_iou_of_any_quads_against_shapely(a: np.ndarray, b: np.ndarray) -> None:
    assume(lobes(a).area > 1e-3 and lobes(b).area > 1e-3)
    assert iou(a, b) == pytest.approx(shapely_iou(a, b), abs=1e-6)


@settings(deadline=None)
@given(quad=rectangles, seed=st.integers(0, 2**32 - 1), noise=st.sampled_from([1e-12, 1e-9, 1e-6, 1e-4]))
def test_iou_of_almost_identical_quads(quad: np.ndarray, seed: int, noise: float) -> None:
    other = quad + np.random.default_rng(seed).normal(0, noise, (4, 2))
    assert iou(quad, other) > 1 - 50 * noise - 1e-9


def test_iou_matrix_is_every_pair() -> None:
    rng = np.random.default_rng(1)
    a, b = np.split(rng.uniform(0, 100, (10, 4, 2)).astype(np.float32), [6])
    a[0] = b[2] = SQUARE * 9
    expected = [[shapely_iou(x.astype(float), y.astype(float)) for y in b] for x in a]
    np.testing.assert_allclose(iou_matrix(a, b), expected, atol=1e-9)
    assert iou_matrix(a, b[:0]).shape == (6, 0) and iou_matrix(a[:0], b).shape == (0, 4)


@given(st.floats(-180, 180), st.floats(1.2, 20), st.integers(0, 3), st.booleans())
def test_tilt(angle: float, ratio: float, first: int, mirrored: bool) -> None:
    """Of the longer sides, whichever corner is the first and whichever way round."""
    u, v = axes(np.radians(angle))
    corners = np.roll([0 * u, ratio * u, ratio * u + v, v], first, axis=0)
    corners = corners[::-1] if mirrored else corners
    turned = abs(angle) % 180
    assert tilt(10 * corners[None])[0] == pytest.approx(min(turned, 180 - turned), abs=1e-6)


def test_intersections_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.uniform(0, 40, (count, 4, 2)) for count in (9, 7))
    whole = iou_matrix(a, b)
    monkeypatch.setattr("efficientnet_east.geometry.intersections._PAIRS_AT_ONCE", 5)
    np.testing.assert_allclose(iou_matrix(a, b), whole, rtol=0, atol=1e-12)
    assert whole.any() and iou_matrix(a[:0], b).shape == (0, 7) and iou_matrix(a, b[:0]).shape == (9, 0)


def test_a_core_is_kept_across_thin_quads_only() -> None:
    def box(width: float, height: float) -> np.ndarray:
        return np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)

    for height, left in ((40, 16), (20, 8), (12, 8), (8, 8), (5, 5)):
        for quad in (box(100, height), box(height, 100)):
            moved = shrink(quad, 0.3, core=8)[0]
            size = np.sort(moved.max(axis=0) - moved.min(axis=0))
            np.testing.assert_allclose(size, sorted([left, 100 - 0.6 * height]), atol=1e-9)
            np.testing.assert_allclose(moved.mean(axis=0), quad[0].mean(axis=0), atol=1e-9)
    thick = box(100, 40)
    np.testing.assert_array_equal(shrink(thick, 0.3, core=8), shrink(thick, 0.3))
