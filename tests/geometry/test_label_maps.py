"""Labels and their inverse: hand cases, OpenCV's own decoder, and round trips."""

import math

import cv2
import numpy as np
import pytest
from helpers.label_maps import box, depth, labels, text
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.geometry.label_maps import BALANCED_CELLS, angles, decode, encode
from efficientnet_east.geometry.quads import min_area_rectangle, shrink


def opencv_formula(geometry: np.ndarray, x: float, y: float) -> np.ndarray:
    """Center, size and corners as OpenCV's text detector derives them from one cell."""
    d0, d1, d2, d3, angle = geometry
    cos, sin, h, w = math.cos(angle), math.sin(angle), d0 + d2, d1 + d3
    offset = np.array([x + cos * d1 + sin * d2, y - sin * d1 + cos * d2])
    p1, p3 = np.array([-sin * h, -cos * h]) + offset, np.array([-cos * w, sin * w]) + offset
    return np.array([p1 + p3 - offset, p1, offset, p3])


def test_channels_are_top_right_bottom_left_angle() -> None:
    maps = labels(box(12, 40, 120, 96))
    assert maps.score[15, 10] == 1  # the pixel (40, 60)
    np.testing.assert_allclose(maps.geometry[15, 10], [20, 80, 36, 28, 0])
    assert maps.score.shape == maps.mask.shape == (60, 80) and maps.geometry.shape == (60, 80, 5)
    assert maps.score.dtype == maps.mask.dtype == maps.geometry.dtype == np.float32


@pytest.mark.parametrize("degrees", [-40.0, -12.5, 30.0, 44.0])
def test_angle_is_positive_for_rising_text_and_distances_follow_it(degrees: float) -> None:
    quad = text(100, 120, 120, 60, degrees).astype(np.float64)
    maps = labels(quad)
    row, column = np.argwhere(maps.score)[3]
    pixel = np.array([column, row]) * 4.0
    lines = [(quad[i], quad[(i + 1) % 4]) for i in range(4)]  # top, right, bottom, left
    expected = [abs(np.linalg.det([b - a, pixel - a])) / np.linalg.norm(b - a) for a, b in lines]
    np.testing.assert_allclose(maps.geometry[row, column], [*expected, math.radians(degrees)], atol=1e-4)
    assert len(set(np.round(expected))) == 4


@settings(deadline=None, max_examples=25)
@given(
    x=st.floats(-30, 120),
    y=st.floats(-30, 90),
    width=st.floats(12, 90),
    height=st.floats(12, 90),
    degrees=st.floats(-180, 180),
    stride=st.sampled_from([4, 8]),
)
def test_score_and_mask_against_opencv(
    x: float, y: float, width: float, height: float, degrees: float, stride: int
) -> None:
    shape, quad = (90, 130), text(x, y, width, height, degrees)
    maps = labels(quad, shape=shape, ignore=True, stride=stride)
    inner, outer = depth(shrink(quad[None])[0], shape, stride), depth(quad, shape, stride)
    np.testing.assert_array_equal(maps.score[np.abs(inner) > 0.01], inner[np.abs(inner) > 0.01] > 0)
    np.testing.assert_array_equal(maps.mask[np.abs(outer) > 0.01], outer[np.abs(outer) > 0.01] < 0)


@settings(deadline=None)
@given(
    x=st.floats(-20, 1200),
    y=st.floats(0, 700),
    width=st.floats(12, 400),
    height=st.floats(12, 400),
    degrees=st.floats(-44.99, 44.99),
    stride=st.sampled_from([4, 8]),
)
def test_round_trip_of_any_rectangle(
    x: float, y: float, width: float, height: float, degrees: float, stride: int
) -> None:
    quad = text(x, y, width, height, degrees)
    maps = labels(quad, shape=(720, 1280), stride=stride)
    quads, scores = decode(maps.score, maps.geometry, stride=stride)
    center = quad.mean(axis=0)
    if (center >= 0).all() and (center < [1279, 719]).all():
        assert len(quads)
    assert np.abs(quads - quad).max(initial=0) < 0.05
    assert (scores == 1).all() and quads.dtype == scores.dtype == np.float32


@settings(deadline=None)
@given(degrees=st.lists(st.floats(-180, 180), min_size=12, max_size=12), seed=st.integers(0, 2**32 - 1))
def test_round_trip_of_many_rectangles(degrees: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    quads = np.stack([text(0, 0, *rng.uniform(9, 120, 2), angle) for angle in degrees])
    centers = np.stack(np.meshgrid(np.arange(100, 800, 200), np.arange(100, 600, 200)), axis=-1)
    quads += centers.reshape(-1, 1, 2) - quads.mean(axis=1, keepdims=True)
    maps = labels(*rng.permutation(quads), shape=(600, 800))
    found, _ = decode(maps.score, maps.geometry)
    errors = np.abs(found[:, None] - min_area_rectangle(quads)[0]).max(axis=(2, 3))
    assert errors.min(axis=1).max() < 0.05 and errors.min(axis=0).max() < 0.05


def test_start_and_direction_of_the_corners_do_not_matter() -> None:
    quad = text(60, 100, 90, 40, 20)
    expected = labels(quad)
    for other in (np.roll(quad, 1, axis=0), np.roll(quad, 2, axis=0), quad[::-1]):
        np.testing.assert_array_equal(labels(other).score, expected.score)
        np.testing.assert_allclose(labels(other).geometry, expected.geometry, atol=1e-4)


def test_only_ignored_texts_are_masked() -> None:
    maps = labels(box(20, 20, 100, 60), box(120, 20, 200, 60), ignore=[True, False])
    expected = np.ones((60, 80))
    expected[5:15, 5:25] = 0  # the full quad: pixels 20 to 56 and 20 to 96
    np.testing.assert_array_equal(maps.mask, expected)
    assert maps.score[10, 15] == maps.score[10, 40] == 1


def test_small_texts_are_masked_by_their_shorter_side() -> None:
    quads = box(20, 20, 100, 28), box(20, 60, 28, 140), text(150, 100, 60, 8, 30), box(120, 20, 220, 40)
    for min_side, masked in ((0, 0), (7.9, 0), (8.1, 3), (21, 4)):
        mask = labels(*quads, min_side=min_side).mask
        assert (mask[6, 12] == 0, mask[25, 6] == 0, (mask[20:28, 38:52] == 0).any(), mask[7, 40] == 0) == (
            masked > 0,
            masked > 0,
            masked > 0,
            masked > 3,
        )


def test_ring_masks_what_lies_between_the_shrunk_and_the_full_quad() -> None:
    quad = box(20, 20, 120, 60)
    plain, ringed = labels(quad), labels(quad, ring=True)
    full = labels(quad, ignore=True).mask == 0
    assert (plain.mask == 1).all()
    np.testing.assert_array_equal(ringed.mask == 0, full & (plain.score == 0))
    assert full.sum() > plain.score.sum() > 0
    # A text on another's ring keeps its own cells, and its own ring hides the other's.
    pair = labels(box(20, 20, 220, 120), box(24, 24, 64, 40), ring=True)
    assert pair.mask[8, 11] == 1 and pair.geometry[8, 11, 0] == 8
    assert pair.mask[7, 7] == 0 and pair.mask[15, 30] == 1


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_small_texts_lie_on_top_of_large_ones(order: slice) -> None:
    small, middle, large = box(100, 100, 140, 120), box(80, 80, 180, 160), box(10, 10, 310, 230)
    maps = labels(*[small, middle, large][order])
    np.testing.assert_allclose(maps.geometry[27, 30], [8, 20, 12, 20, 0])  # the pixel (120, 108)
    np.testing.assert_allclose(maps.geometry[32, 30], [48, 60, 32, 40, 0])  # (120, 128), below the small one
    np.testing.assert_allclose(maps.geometry[40, 60], [150, 70, 70, 230, 0])  # (240, 160)


@settings(deadline=None)
@given(
    x=st.floats(0, 319),
    y=st.floats(0, 239),
    width=st.floats(0, 6),
    height=st.floats(0, 6),
    degrees=st.floats(-180, 180),
)
def test_every_text_gets_a_positive_cell(
    x: float, y: float, width: float, height: float, degrees: float
) -> None:
    quad = text(0, 0, width, height, degrees)
    quad += [x, y] - quad.mean(axis=0)
    maps = labels(quad)
    rows, columns = np.nonzero(maps.score)
    assert len(rows)
    assert (np.hypot(columns * 4 - x, rows * 4 - y) < 6).all()
    assert (maps.geometry[..., :4] >= 0).all()


def test_ignored_and_too_small_texts_get_no_cell_outside_of_themselves() -> None:
    tiny = box(101, 101, 103, 103)
    assert labels(tiny).score.sum() == 1
    assert labels(tiny, ignore=True).score.sum() == 0
    assert labels(tiny, min_side=3).score.sum() == 0


def test_of_two_texts_in_need_of_one_cell_the_smaller_has_it() -> None:
    small, large = box(101, 101, 102, 102), box(101, 101, 102.5, 102.5)
    for quads in ((small, large), (large, small)):
        maps = labels(*quads)
        assert maps.score.sum() == 1 and maps.geometry[25, 25, 1] == 2


def test_a_text_in_need_of_a_cell_does_not_take_a_smaller_texts_only_one() -> None:
    small = [[16, 16], [25, 16], [25, 25], [16, 25]]
    thin = [[-36, 20.5], [76, 20.5], [76, 22.5], [-36, 22.5]]  # between two rows of cells
    maps = encode(np.array([small, thin], np.float32), np.zeros(2, bool), (64, 96))
    assert maps.score.sum() == 1
    np.testing.assert_allclose(decode(maps.score, maps.geometry)[0], [small], atol=1e-4)


def test_texts_that_leave_the_image() -> None:
    maps = labels(box(-60, 100, 60, 140), box(280, -8, 420, 60), box(400, 20, 500, 60), box(9, 250, 99, 290))
    np.testing.assert_allclose(maps.geometry[29, 2], [16, 52, 24, 68, 0])
    np.testing.assert_allclose(maps.geometry[6, 79], [32, 104, 36, 36, 0])
    assert maps.score[:, 20:70].sum() == 0
    quads, _ = decode(maps.score, maps.geometry)
    assert len(quads) == maps.score.sum() and (quads[:, 0] < 320).all()


def test_no_text() -> None:
    maps = labels(shape=(721, 1279), ring=True)
    assert maps.score.shape == (181, 320)
    assert not maps.score.any() and not maps.geometry.any() and maps.mask.all()
    quads, scores = decode(maps.score, maps.geometry)
    assert quads.shape == (0, 4, 2) and scores.shape == (0,)


def test_crooked_quads_make_labels_too() -> None:
    bow_tie = box(20, 20, 120, 80)[[0, 2, 1, 3]]
    maps = labels(bow_tie, ignore=True)
    assert maps.mask[12, 6] == 0 and maps.mask[8, 16] == 1  # in the left lobe; above the crossing
    assert np.isfinite(maps.geometry).all()


def test_opposite_angles_keep_their_own_scores_in_row_order() -> None:
    maps = labels(text(20, 80, 80, 40, 20), text(150, 60, 80, 40, -20))
    ranks = np.linspace(0.81, 0.99, maps.score.size, dtype=np.float32).reshape(maps.score.shape)
    quads, scores = decode(maps.score * ranks, maps.geometry)
    rows, columns = np.nonzero(maps.score)
    np.testing.assert_array_equal(scores, ranks[rows, columns])
    rising = maps.geometry[rows, columns, 4] > 0
    assert (np.diff(rising.astype(int)) != 0).sum() > 4  # both signs alternate along the rows
    np.testing.assert_array_equal(quads[:, 1, 1] < quads[:, 0, 1], rising)


def test_threshold_keeps_what_reaches_it() -> None:
    score = np.array([[0.1, 0.5], [0.75, np.nan]], np.float32)
    assert decode(score, np.ones((2, 2, 5), np.float32), threshold=0.5)[1].tolist() == [0.5, 0.75]
    with pytest.raises(ValueError, match="geometry"):
        decode(score, np.ones((2, 2, 4)))


@pytest.mark.parametrize("stride", [4, 8])
def test_decode_follows_opencvs_formula(stride: int) -> None:
    rng = np.random.default_rng(0)
    geometry = rng.uniform(0, 300, (9, 11, 5)).astype(np.float32)
    geometry[..., 4] = np.linspace(-np.pi / 2, np.pi / 2, 99).reshape(9, 11)
    quads, _ = decode(np.ones((9, 11)), geometry, stride=stride)
    expected = [opencv_formula(geometry[i, j], j * stride, i * stride) for i in range(9) for j in range(11)]
    np.testing.assert_allclose(quads, expected, atol=1e-3)


def test_decode_agrees_with_opencvs_own_detector() -> None:
    if not hasattr(cv2, "dnn") or not hasattr(cv2.dnn, "TextDetectionModel_EAST"):
        pytest.skip("this OpenCV has no EAST detector")
    rng = np.random.default_rng(3)
    score = rng.permutation(np.linspace(0.5, 1, 96, dtype=np.float32)).reshape(8, 12)
    geometry = rng.uniform(2, 90, (8, 12, 5)).astype(np.float32)
    geometry[..., 4] = rng.uniform(-np.pi / 4, np.pi / 4, (8, 12))
    network = cv2.dnn.readNetFromONNX(np.frombuffer(constant_network(score, geometry), np.uint8))
    detector = cv2.dnn.TextDetectionModel_EAST(network)
    detector.setConfidenceThreshold(0.802).setNMSThreshold(1.0).setInputParams(1.0, (48, 32))
    found, confidences = detector.detectTextRectangles(np.zeros((32, 48, 3), np.uint8))
    quads, scores = decode(score, geometry, threshold=0.802)
    theirs = np.stack([cv2.boxPoints(rotated) for rotated in found])[np.argsort(confidences)]
    np.testing.assert_allclose(np.sort(confidences), np.sort(scores))
    np.testing.assert_allclose(theirs[:, [1, 2, 3, 0]], quads[np.argsort(scores)], atol=1e-2)


def constant_network(score: np.ndarray, geometry: np.ndarray) -> bytes:
    """An ONNX file, encoded by hand, whose outputs are the given maps whatever the image."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    def field(number: int, value: int | str | bytes) -> bytes:
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        data = value.encode() if isinstance(value, str) else value
        return varint(number << 3 | 2) + varint(len(data)) + data

    def node(kind: str, inputs: list[str], output: str) -> bytes:
        names = b"".join(field(1, name) for name in inputs)
        return field(1, names + field(2, output) + field(3, output) + field(4, kind))

    def tensor(name: str, values: np.ndarray) -> bytes:
        dims = b"".join(field(1, size) for size in values.shape)
        return field(5, dims + field(2, 1) + field(8, name) + field(9, values.astype("<f4").tobytes()))

    def port(number: int, name: str, shape: tuple[int, ...]) -> bytes:
        dims = b"".join(field(1, field(1, size)) for size in shape)
        return field(number, field(1, name) + field(2, field(1, field(1, 1) + field(2, dims))))

    score, geometry = score[None, None], geometry.transpose(2, 0, 1)[None]
    nothing = node("ReduceMean", ["image"], "mean") + node("Mul", ["mean", "zero"], "nothing")
    outputs = node("Add", ["nothing", "geometry_values"], "geometry") + node(
        "Add", ["nothing", "score_values"], "score"
    )
    values = (
        tensor("zero", np.zeros((1, 1, 1, 1)))
        + tensor("geometry_values", geometry)
        + tensor("score_values", score)
    )
    image = (1, 3, score.shape[2] * 4, score.shape[3] * 4)
    ports = port(11, "image", image) + port(12, "geometry", geometry.shape) + port(12, "score", score.shape)
    graph = nothing + outputs + field(2, "constant") + values + ports
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


def test_maps_that_are_no_pair_are_refused() -> None:
    score = np.ones((2, 2), np.float32)
    for shape in ((2, 2, 4), (2, 2, 6), (2, 3, 8), (2, 2), (8,)):
        with pytest.raises(ValueError, match="geometry"):
            decode(score, np.ones(shape))
    with pytest.raises(ValueError, match="one of rbox, quad, received 'box'"):
        labels(box(0, 0, 50, 50), geometry="box")


def test_angles_of_both_forms() -> None:
    for degrees in (-44.0, 0.0, 30.0):
        rbox, quad = (labels(text(60, 120, 90, 40, degrees), geometry=form) for form in ("rbox", "quad"))
        for maps in (rbox, quad):
            found = angles(maps.geometry)
            assert found.shape == maps.score.shape and not found[maps.score == 0].any()
            np.testing.assert_allclose(found[maps.score == 1], math.radians(degrees), atol=1e-5)
    # Whatever corner a prediction begins with.
    np.testing.assert_allclose(angles(np.roll(quad.geometry, 2, axis=2)), angles(quad.geometry), atol=1e-5)


def test_balanced_texts_weigh_the_same() -> None:
    """By their cells: 40 x 20 of 4 x 4 pixels, and a tenth as high and wide."""
    quads = np.array([box(40, 40, 360, 200), box(400, 40, 432, 56)], np.float64)
    ignore = np.zeros(2, bool)
    plain = encode(quads, ignore, (256, 512), shrink=0.0)
    sums = {}
    for balance in (0.0, 0.5, 1.0):
        made = encode(quads, ignore, (256, 512), shrink=0.0, balance=balance)
        np.testing.assert_array_equal(made.score, plain.score)
        assert (made.mask[made.score == 0] == 1).all()
        weights = made.mask * made.score
        sums[balance] = [float(weights[:, :95].sum()), float(weights[:, 95:].sum())]
    assert sums[0.0] == [80 * 40, 8 * 4]
    assert sums[1.0] == pytest.approx([BALANCED_CELLS] * 2, rel=1e-5)
    assert sums[0.5][0] / sums[0.5][1] == pytest.approx(np.sqrt(sums[0.0][0] / sums[0.0][1]), rel=1e-5)


def test_ignored_texts_stay_ignored_when_balanced() -> None:
    quads = np.array([box(40, 40, 120, 80), box(60, 50, 90, 70)], np.float64)
    made = encode(quads, np.array([True, False]), (128, 128), balance=0.5)
    assert (made.mask[10:20, 10:30] == 0).all()
