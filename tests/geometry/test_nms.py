"""Suppression: hand cases, algorithm 1 written again with shapely, the compiled merge, real ground truth."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.data.annotations import parse_truth
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.geometry import label_maps, nms, overlaps
from efficientnet_east.geometry.intersections import iou, iou_matrix
from efficientnet_east.geometry.label_maps import CHANNELS, decode, encode
from efficientnet_east.geometry.nms import locality_aware, standard
from efficientnet_east.geometry.quads import convex, quarter_turns, rectangle, rolled
from efficientnet_east.structures import Detections, Truth
from efficientnet_east.system import installed

GROUND_TRUTH = Path(__file__).resolve().parents[3] / "shared" / "data" / "icdar2015" / "train_gts"
PADDED = (736, 1280)  # the images' 720 rows up to a multiple of 32

needs_lanms = pytest.mark.skipif(installed.find("lanms") is None, reason="lanms-neo is not installed")
both_merges = pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_lanms), False])


def boxes(*lefts: float, size: float = 10) -> np.ndarray:
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]])
    return (corners + np.array([[left, 0] for left in lefts])[:, None]).astype(np.float32)


def scores(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def random_boxes(count: int, seed: int, extent: float = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    distances, angles = rng.uniform(5, 50, (count, 4)), rng.uniform(-np.pi / 4, np.pi / 4, count)
    quads = rectangle(rng.uniform(0, extent, (count, 2)), distances, angles)
    return quads.astype(np.float32), rng.uniform(0.5, 1, count).astype(np.float32)


def noisy_labels(
    truth: Truth, seed: int, geometry: str = "rbox", spread: float = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates as a network makes them: the labels of real texts, with noise."""
    rng = np.random.default_rng(seed)
    maps = encode(truth.quads, truth.ignore, PADDED, geometry=geometry)
    score = maps.score * rng.uniform(0.6, 1, maps.score.shape)
    if geometry == "quad":
        rolled = np.roll(maps.geometry, 2, axis=2)
        turned = np.where(rng.random((*score.shape, 1)) < 0.2, rolled, maps.geometry)
        return decode(score, turned + spread * rng.normal(0, [4, 2] * 4, maps.geometry.shape))
    noise = spread * rng.normal(0, [2, 4, 2, 4, 0.03], maps.geometry.shape)
    return decode(score, np.maximum(maps.geometry + noise, [0.1, 0.1, 0.1, 0.1, -0.78]))


def random_quads(count: int, seed: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """What `decode` makes of a map of noise."""
    rng = np.random.default_rng(seed)
    rows = max(1, count // 20)
    return decode(rng.uniform(0.8, 1, (rows, 20)), rng.normal(0, spread, (rows, 20, 8)))


def real_truths(count: int | None = None) -> dict[str, Truth]:
    files = sorted(GROUND_TRUTH.glob("gt_img_*.txt"))[:count]
    if not files:
        pytest.skip("the ICDAR 2015 ground truth is absent")
    return {file.stem: parse_truth(file.read_bytes(), file.name) for file in files}


def algorithm_1(quads: np.ndarray, weights: np.ndarray, iou: float) -> np.ndarray:
    """The paper's pseudo-code, word for word, with shapely."""

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        first, second = shapely.Polygon(a), shapely.Polygon(b)
        return first.intersection(second).area / first.union(second).area

    found: list[tuple[np.ndarray, float]] = []
    quad, weight = quads[0], weights[0]
    for g, w in zip(quads[1:], weights[1:], strict=True):
        if overlap(quad, g) > iou:
            quad, weight = (quad * weight + g * w) / (weight + w), weight + w
        else:
            found.append((quad, weight))
            quad, weight = g, w
    kept: list[np.ndarray] = []
    for candidate, _ in sorted([*found, (quad, weight)], key=lambda pair: -pair[1]):
        if all(overlap(candidate, better) <= iou for better in kept):
            kept.append(candidate)
    return np.array(kept)


@both_merges
def test_nothing_and_a_single_box(compiled: bool) -> None:
    quads, means = locality_aware(np.zeros((0, 4, 2), np.float32), scores(), compiled=compiled)
    assert quads.shape == (0, 4, 2) and means.shape == (0,)
    assert quads.dtype == means.dtype == np.float32
    quads, means = locality_aware(boxes(7), scores(0.9), compiled=compiled)
    np.testing.assert_allclose(quads, boxes(7), atol=1e-3)
    assert means == scores(0.9)
    Detections(quads, means)


@both_merges
def test_identical_boxes_become_one_with_their_best_score(compiled: bool) -> None:
    quads, best = locality_aware(boxes(*[7] * 50), scores(*[0.8, 0.9] * 25), compiled=compiled)
    np.testing.assert_allclose(quads, boxes(7), atol=1e-2)
    assert best == pytest.approx([0.9])


@both_merges
def test_disjoint_boxes_all_stay_best_first(compiled: bool) -> None:
    quads, best = locality_aware(boxes(0, 50, 100), scores(0.7, 0.9, 0.8), compiled=compiled)
    np.testing.assert_allclose(quads, boxes(50, 100, 0), atol=1e-3)
    np.testing.assert_array_equal(best, scores(0.9, 0.8, 0.7))


@both_merges
def test_neighbors_merge_by_weight(compiled: bool) -> None:
    quads, best = locality_aware(boxes(0, 1), scores(0.9, 0.6), compiled=compiled)
    np.testing.assert_allclose(quads, boxes(0.4), atol=1e-3)
    assert best == pytest.approx([0.9])


@both_merges
def test_a_neighbor_is_compared_with_the_mean_of_all_before_it(compiled: bool) -> None:
    # The second joins the first (6/14), and their mean is at 1. The third overlaps the second by 8/12, but
    # that mean by 5/15 only.
    quads, _ = locality_aware(boxes(0, 4, 6), scores(0.9, 0.3, 0.5), 0.4, compiled=compiled)
    np.testing.assert_allclose(quads, boxes(1, 6), atol=1e-3)


@both_merges
def test_apart_in_order_means_suppressed_and_not_merged(compiled: bool) -> None:
    quads, best = locality_aware(boxes(0, 50, 1), scores(0.9, 0.5, 0.6), compiled=compiled)
    np.testing.assert_allclose(quads, boxes(0, 50), atol=1e-3)
    assert best == pytest.approx([0.9, 0.5])


@both_merges
def test_overlap_must_exceed_the_threshold(compiled: bool) -> None:
    quads = np.concatenate([boxes(0), boxes(0) * [1, 2]]).astype(np.float32)  # IoU exactly 0.5
    assert len(locality_aware(quads, scores(0.9, 0.8), 0.5, compiled=compiled)[0]) == 2
    assert len(locality_aware(quads, scores(0.9, 0.8), 0.499, compiled=compiled)[0]) == 1


@both_merges
def test_text_at_45_degrees_keeps_its_shape(compiled: bool) -> None:
    tall, wide = np.array([10.0, 40, 10, 40]), np.array([40.0, 10, 40, 10])
    rising = rectangle(np.array([100.0, 100]), wide[[1, 0, 3, 2]], np.array(np.deg2rad(44.9)))
    other = rectangle(np.array([100.0, 100]), tall[[1, 0, 3, 2]], np.array(np.deg2rad(-44.9)))
    assert iou_matrix(rising[None], other[None])[0, 0] > 0.97  # one text, named in two ways
    quads, _ = locality_aware(np.stack([rising, other] * 6), scores(*[0.9] * 12), compiled=compiled)
    assert len(quads) == 1 and iou_matrix(quads, rising[None])[0, 0] > 0.98


@both_merges
def test_boxes_begin_at_their_top_left_whatever_the_candidates_do(compiled: bool) -> None:
    quads = np.stack([np.roll(boxes(0)[0], i, axis=0)[::step] for i in range(4) for step in (1, -1)])
    found, _ = locality_aware(quads, scores(*[0.9] * 8), compiled=compiled)
    np.testing.assert_allclose(found, boxes(0), atol=1e-2)


@both_merges
def test_equal_scores_come_from_top_to_bottom(compiled: bool) -> None:
    quads = boxes(0, 0, 0, 0) + np.array([[0, 60], [0, 20], [40, 20], [0, 0]], np.float32)[:, None]
    found, _ = locality_aware(quads, scores(1, 1, 1, 1), compiled=compiled)
    np.testing.assert_allclose(found[:, 0], [[0, 0], [0, 20], [40, 20], [0, 60]], atol=1e-3)


@both_merges
def test_boxes_without_area_and_without_score_do_no_harm(compiled: bool) -> None:
    quads = np.concatenate([boxes(0, 0), boxes(50, size=0), boxes(50, size=0)])
    found, means = locality_aware(quads, scores(0, 0, 0.5, 0.5), compiled=compiled)
    assert np.isfinite(found).all() and means.tolist() == [0.5, 0.5, 0]
    np.testing.assert_allclose(found[2], boxes(0)[0], atol=0.2)


@both_merges
def test_what_is_not_finite_is_left_out(compiled: bool) -> None:
    quads = boxes(0, 50, 100, 150)
    quads[0, 2, 1], quads[2, 0, 0] = np.nan, np.inf
    found, means = locality_aware(quads, scores(0.9, 0.8, 0.7, np.nan), compiled=compiled)
    np.testing.assert_allclose(found, boxes(50), atol=1e-3)
    assert means == scores(0.8)


def test_arguments_stay_as_they_are() -> None:
    quads, weights = random_boxes(50, seed=5)
    before = quads.copy(), weights.copy()
    locality_aware(quads, weights)
    np.testing.assert_array_equal(quads, before[0])
    np.testing.assert_array_equal(weights, before[1])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60), iou=st.floats(0, 0.9))
def test_scores_are_those_of_candidates(seed: int, count: int, iou: float) -> None:
    quads, weights = random_boxes(count, seed, extent=120)
    found, best = locality_aware(quads, weights, iou, compiled=False)
    Detections(found, best)
    assert set(best.tolist()) <= set(weights.tolist()) and best.max() == weights.max()
    overlaps = iou_matrix(found, found) - 2 * np.eye(len(found))
    assert overlaps.max() <= iou + 1e-6


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("iou", [0.0, 0.2, 0.5])
def test_against_algorithm_1_with_shapely(seed: int, iou: float) -> None:
    quads, weights = random_boxes(80, seed, extent=150)
    quads = np.repeat(quads, 2, axis=0) + np.tile(boxes(0, 3, size=0), (80, 1, 1))  # neighbors that merge
    weights = np.repeat(weights, 2)
    quads, weights = quads.astype(np.float64), weights.astype(np.float64)
    found = nms._merge(quads, weights, weights[:, None], iou)
    expected = algorithm_1(quads, weights, iou)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def assert_both_merges_agree(quads: np.ndarray, weights: np.ndarray, iou: float = 0.2) -> None:
    ours, our_scores = locality_aware(quads, weights, iou, compiled=False)
    theirs, their_scores = locality_aware(quads, weights, iou, compiled=True)
    # The compiled merge rounds every mean to 1e-4 pixels; over the cells of a large text that adds up.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.1)
    np.testing.assert_allclose(our_scores, their_scores, rtol=0, atol=1e-6)


@needs_lanms
@pytest.mark.parametrize("count", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("iou", [0.1, 0.2, 0.5])
def test_both_merges_agree_on_random_boxes(count: int, iou: float) -> None:
    assert_both_merges_agree(*random_boxes(count, seed=count), iou)


@needs_lanms
def test_both_merges_agree_on_noisy_labels_of_real_texts() -> None:
    for seed, truth in enumerate(real_truths(50).values()):
        assert_both_merges_agree(*noisy_labels(truth, seed))
        assert_both_merges_agree(*noisy_labels(truth, seed, "quad", spread=0.1))


@needs_lanms
def test_the_compiled_merge_pairs_mirrored_corners_of_slanted_ends() -> None:
    """Why it is left to rectangles: the left sides slant apart, and half of the common height is lost."""
    quads = np.array(
        [[[0, 0], [100, 0], [100, 10], [20, 10]], [[20, 0], [100, 0], [100, 10], [0, 10]]], np.float32
    )
    thin, full = (locality_aware(quads, scores(0.9, 0.9), compiled=flag)[0] for flag in (True, False))
    np.testing.assert_allclose(full, [[[10, 0], [100, 0], [100, 10], [10, 10]]], atol=1e-3)
    assert np.ptp(thin[..., 1]) < 6


@both_merges
@pytest.mark.parametrize("spread", [5.0, 300.0])
def test_what_comes_out_is_convex_and_begins_at_its_top_side(spread: float, compiled: bool) -> None:
    found, _ = locality_aware(*random_quads(300, 7, spread), 0.1, compiled=compiled)
    assert len(found) > 5
    np.testing.assert_allclose(convex(found), found, atol=1e-3)
    assert np.abs(quarter_turns(found)).max() < 0.5 + 1e-6


@both_merges
def test_a_trapezium_merges_whatever_its_candidates_begin_with(compiled: bool) -> None:
    trapezium = np.array([[0, 20], [90, 0], [90, 60], [0, 40]], np.float32)
    quads = np.stack([np.roll(trapezium, i, axis=0)[::step] for i in range(4) for step in (1, -1)] * 3)
    found, means = locality_aware(quads, scores(*[0.9] * 24), compiled=compiled)
    np.testing.assert_allclose(found, trapezium[None], atol=0.02)
    assert means == pytest.approx([0.9])


def test_without_lanms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing changes: it is there to compare with."""
    quads, weights = random_boxes(60, seed=1, extent=100)
    before = locality_aware(quads, weights)
    monkeypatch.setattr(installed, "find", lambda name: None)
    installed.load.cache_clear()
    for expected, found in zip(before, locality_aware(quads, weights), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ImportError, match="lanms-neo"):
        locality_aware(quads, weights, compiled=True)


def one_after_the_other(quads: np.ndarray, weights: np.ndarray, iou: float) -> tuple[list[int], np.ndarray]:
    """Which boxes start a new mean, and the means: the loop that is no loop there."""
    starts, means = [0], [quads[0]]
    for i in range(1, len(quads)):
        if iou_matrix(means[-1][None], quads[i : i + 1])[0, 0] > iou:
            part = slice(starts[-1], i + 1)
            weighted = quads[part] * weights[part, :, None]
            means[-1] = weighted.sum(axis=0) / weights[part].sum(axis=0)[:, None]
        else:
            starts.append(i)
            means.append(quads[i])
    return starts, np.array(means)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 80),
    extent=st.sampled_from([1.0, 30.0, 200.0, 2000.0]),
    iou=st.sampled_from([0.0, 0.2, 0.5, 0.8]),
    corners=st.sampled_from([1, 4]),
)
def test_neighbors_merge_as_in_a_loop(seed: int, count: int, extent: float, iou: float, corners: int) -> None:
    """The fewer boxes are far from each other, the more first guesses are wrong."""
    quads, weights = random_boxes(count, seed, extent)
    quads = np.repeat(quads, np.random.default_rng(seed).integers(1, 4, count), axis=0).astype(np.float64)
    weights = np.resize(weights, (len(quads), corners)).astype(np.float64)
    starts, means = one_after_the_other(quads, weights, iou)
    found, begun = nms._merge_neighbors(quads, weights, iou)
    np.testing.assert_array_equal(begun, starts)
    np.testing.assert_allclose(found, means, atol=1e-6)


def far_ends_too_near(width: float, angle: float = 0.0) -> tuple[label_maps.Candidates, np.ndarray]:
    """A long word whose cells see no farther than 150 pixels, and what it should be."""
    truth = rectangle(np.array([[500.0, 200]]), np.array([[15, width / 2, 15, width / 2]]), np.array([angle]))
    labels = label_maps.encode(truth, np.zeros(1, bool), (400, 1000))
    seen = np.minimum(labels.geometry, [150, 150, 150, 150, 1])
    return label_maps.candidates(labels.score, seen), truth[0]


@pytest.mark.parametrize(("width", "angle"), [(500, 0.0), (400, 0.3), (500, -0.5)])
def test_corners_come_from_the_cells_near_them(width: float, angle: float) -> None:
    """EAST's mean of all cells cuts off the ends."""
    found, truth = far_ends_too_near(width, angle)
    (whole,), _ = locality_aware(found.quads, found.scores, points=found.points)
    cut, _ = locality_aware(found.quads, found.scores)
    assert iou(whole, truth) > 0.8 > 0.65 > max(iou(quad, truth) for quad in cut)


def test_corners_of_equal_boxes_are_theirs() -> None:
    found, truth = far_ends_too_near(120, 0.2)
    (quad,), _ = locality_aware(found.quads, found.scores, points=found.points)
    np.testing.assert_allclose(quad, truth, atol=1e-3)
    with pytest.raises(ValueError, match="leave points out"):
        locality_aware(found.quads, found.scores, points=found.points, compiled=True)


def test_points_of_boxes_without_numbers_are_left_out() -> None:
    found, _ = far_ends_too_near(120)
    wild = np.concatenate([np.full((1, 4, 2), np.nan), found.quads]), np.append(0.9, found.scores)
    points = np.concatenate([[[7, 7]], found.points])
    expected = locality_aware(found.quads, found.scores, points=found.points)
    for mine, other in zip(locality_aware(*wild, points=points), expected, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    quads, weights = random_boxes(400, 3, extent=300)
    expected = locality_aware(quads, weights), standard(quads, weights)
    monkeypatch.setattr(nms, "_BLOCK", block)
    monkeypatch.setattr(overlaps, "_PAIRS_AT_ONCE", 50 * block)
    monkeypatch.setattr(nms, "_PRODUCTS_AT_ONCE", 50 * block)
    found = locality_aware(quads, weights), standard(quads, weights)
    assert len(found[0][0]) > 20
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine[0], other[0])
        np.testing.assert_array_equal(mine[1], other[1])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), iou=st.floats(0, 0.95), extent=st.sampled_from([5.0, 60.0, 300.0]))
def test_bounds_decide_as_intersections_do(seed: int, iou: float, extent: float) -> None:
    """Rectangles and other convex quads, near and far, from any corner; also without area, or the same."""
    rng = np.random.default_rng(seed)
    a, b = random_boxes(40, seed, extent)[0], random_boxes(40, seed + 1, extent)[0]
    a[:10] = convex(a[:10] + rng.normal(0, 8, (10, 4, 2)))
    b[10:20] = rolled(a[10:20] + rng.normal(0, 1, (10, 4, 2)).astype(np.float32), rng.integers(0, 4, 10))
    b[20:22], a[22:24] = a[20:22], a[22:24, :1]
    b = convex(b)
    expected = np.array([iou_matrix(a[i : i + 1], b[i : i + 1])[0, 0] for i in range(40)])
    unclear = np.abs(expected - iou) < 1e-9
    found = overlaps.exceed(a.astype(np.float64), b, iou)
    assert ((found == (expected > iou)) | unclear).all()


def test_all_pairs_that_meet() -> None:
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 60, (2, 2, 70))
    a, b = (np.concatenate([low, low + rng.integers(1, 12, (2, 70))]).astype(float) for low in corner)
    meet = (np.maximum(a[:2, :, None], b[:2, None]) < np.minimum(a[2:, :, None], b[2:, None])).all(axis=0)
    pairs = [pair for i, j in overlaps.meeting(a, b) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    assert sorted(pairs) == list(zip(*map(np.ndarray.tolist, np.nonzero(meet)), strict=True))
    own = (np.maximum(a[:2, :, None], a[:2, None]) < np.minimum(a[2:, :, None], a[2:, None])).all(axis=0)
    pairs = [p for i, j in overlaps.meeting_each_other(a) for p in zip(i.tolist(), j.tolist(), strict=True)]
    assert sorted(pairs) == list(zip(*map(np.ndarray.tolist, np.nonzero(np.triu(own, 1))), strict=True))


# --- standard


def opencv(quads: np.ndarray, weights: np.ndarray, iou: float) -> np.ndarray:
    rectangles = [cv2.minAreaRect(quad) for quad in quads]
    return quads[np.ravel(cv2.dnn.NMSBoxesRotated(rectangles, weights.tolist(), 0.0, iou)).astype(int)]


def greedy(quads: np.ndarray, weights: np.ndarray, iou: float) -> np.ndarray:
    kept: list[int] = []
    for i in np.argsort(-weights, kind="stable"):
        if not kept or iou_matrix(quads[i][None], quads[kept]).max() <= iou:
            kept.append(int(i))
    return quads[kept]


@pytest.mark.parametrize("iou", [0.0, 0.1, 0.2, 0.5])
def test_standard_suppression(iou: float) -> None:
    """One after the other; and as OpenCV does it, to which a box inside of another is always the same."""
    truths = list(real_truths(10).values())
    cases = [random_boxes(300, 4)] + [noisy_labels(truth, seed) for seed, truth in enumerate(truths)]
    for quads, weights in cases:
        found, best = standard(quads, weights, iou)
        Detections(found, best)
        np.testing.assert_array_equal(found, greedy(quads, weights, iou))
        if 0 < iou < 0.5:
            np.testing.assert_array_equal(found, opencv(quads, weights, iou))
    inside = np.concatenate([boxes(0, size=20), boxes(5, size=10) + np.float32([0, 5])])
    assert len(standard(inside, scores(0.9, 0.8), 0.2)[0]) == 1
    assert len(opencv(inside, scores(0.9, 0.8), 0.9)) == 1
    assert len(standard(inside, scores(0.9, 0.8), 0.3)[0]) == 2


def test_standard_suppression_keeps_boxes_as_they_are() -> None:
    quads, best = standard(boxes(0, 1, 50, 51)[:, [1, 2, 3, 0]], scores(0.5, 0.9, 0.8, 0))
    np.testing.assert_array_equal(quads, boxes(1, 50))
    np.testing.assert_array_equal(best, scores(0.9, 0.8))
    assert standard(boxes(0), scores(0))[1].tolist() == [0]
    assert standard(np.full((1, 4, 2), np.nan), scores(1))[0].shape == (0, 4, 2)


@pytest.mark.parametrize("geometry", CHANNELS)
def test_labels_of_the_real_ground_truth_score_like_an_oracle(geometry: str) -> None:
    truths = real_truths(200)  # benchmarks/labels.py takes all 1000
    found = {}
    for name, truth in truths.items():
        maps = encode(truth.quads, truth.ignore, PADDED, geometry=geometry)
        found[name] = locality_aware(*decode(maps.score, maps.geometry), 0.2)[0]
    result = icdar2015.score(found, truths)
    assert result.care_truths > 800
    assert result.recall >= 0.995 and result.precision >= 0.995
