"""What docs/detection.md promises of every detection, held on maps of any kind."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from efficientnet_east.config import Detect
from efficientnet_east.geometry import nms
from efficientnet_east.geometry.intersections import iou_matrix
from efficientnet_east.geometry.label_maps import CHANNELS, decode, encode
from efficientnet_east.geometry.quads import area, convex, quarter_turns, rectangle
from efficientnet_east.geometry.quads import thickness as thickness_of
from efficientnet_east.inference.postprocess import Maps as ScaledMaps
from efficientnet_east.inference.postprocess import find_boxes, find_in_scales
from efficientnet_east.structures import Detections
from efficientnet_east.system import installed

Maps = tuple[np.ndarray, np.ndarray]
SEEDS = st.integers(0, 2**32 - 1)
SHAPE = 192, 256  # pixels
SAME = np.ones(2)
ROUNDING = 1e-3  # pixels; corners are float32
both_forms = pytest.mark.parametrize("form", CHANNELS)
all_ways = pytest.mark.parametrize("kind", ["corners", "locality", "standard"])


def texts(rng: np.random.Generator, count: int) -> np.ndarray:
    """Turned boxes anywhere, overlapping or not."""
    along, across = rng.uniform(8, 50, count), rng.uniform(4, 16, count)
    sides = np.stack([across, along, across, along], axis=1)
    return rectangle(rng.uniform((0, 0), SHAPE[::-1], (count, 2)), sides, rng.uniform(-0.78, 0.78, count))


def maps_of(seed: int, form: str, noise: float, count: int = 8) -> Maps:
    """The labels of a few texts as a network would say them, more or less well."""
    rng = np.random.default_rng(seed)
    labels = encode(texts(rng, count), np.zeros(count, bool), SHAPE, geometry=form)
    score = labels.score * rng.uniform(0.5, 1, labels.score.shape)
    geometry = labels.geometry + noise * rng.normal(
        0, [1, 2, 1, 2, 0.03] if form == "rbox" else 1, labels.geometry.shape
    )
    return score.astype(np.float32), geometry.astype(np.float32)


def garbage(seed: int, form: str) -> Maps:
    """What no network should say, with values that are no numbers, endless or huge."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 24, 2))
    geometry = rng.normal(0, 10 ** rng.uniform(-4, 6), (*shape, CHANNELS[form])).astype(np.float32)
    places = rng.random(geometry.shape) < 0.02
    geometry[places] = rng.choice([np.nan, np.inf, -np.inf, 1e30, 0], places.sum())
    return rng.random(shape, np.float32), geometry


def limits(**given: Any) -> Detect:
    return Detect(**({"score_threshold": 0.6, "min_box_side": 0} | given))


def assert_contract(found: Detections, detect: Detect, scale: np.ndarray = SAME) -> None:
    quads, scores = found.quads, found.scores
    assert quads.dtype == scores.dtype == np.float32
    assert quads.shape == (len(found), 4, 2) and scores.shape == (len(found),)
    assert quads.flags.c_contiguous and quads.flags.writeable
    assert np.isfinite(quads).all()
    assert (scores <= 1).all() and (np.diff(scores) <= 0).all()
    assert (scores >= np.float32(max(detect.box_threshold, detect.score_threshold)) - 1e-6).all()
    digits = np.abs(quads).max(initial=1) * 1e-6 + ROUNDING
    assert (area(quads) > 0).all(), "clockwise on the screen"
    np.testing.assert_allclose(convex(quads), quads, atol=digits)
    assert (thickness_of((quads + 0.5) * scale - 0.5) >= detect.min_box_side - digits).all()
    tied = np.diff(scores) == 0
    assert (np.diff(np.rint((quads[:, 0, 1] + 0.5) * scale[1] - 0.5))[tied] >= 0).all(), (
        "equal scores from the top"
    )


@both_forms
@all_ways
@settings(deadline=None, max_examples=60)
@given(
    seed=SEEDS,
    wild=st.booleans(),
    noise=st.sampled_from([0.0, 1.0, 4.0]),
    scale=st.sampled_from([(1.0, 1.0), (0.4, 0.41), (2.0, 2.0)]),
    given=st.fixed_dictionaries(
        {}, optional={"box_threshold": st.just(0.75), "min_box_side": st.just(6.0), "nms_iou": st.just(0.5),
                      "max_detections": st.just(2), "axis_aligned": st.just(True),
                      "max_candidates": st.just(30)},
    ),
)  # fmt: skip
def test_always(
    form: str,
    kind: str,
    seed: int,
    wild: bool,
    noise: float,
    scale: tuple[float, float],
    given: dict[str, Any],
) -> None:
    detect, factors = limits(nms=kind, **given), np.array(scale)
    maps = garbage(seed, form) if wild else maps_of(seed, form, noise)
    found = find_boxes(*maps, factors, detect)
    if detect.axis_aligned:
        low, high = found.quads.min(axis=1), found.quads.max(axis=1)
        np.testing.assert_array_equal(found.quads[:, 0], low)
        np.testing.assert_array_equal(found.quads[:, 2], high)
        detect = detect.model_copy(update={"min_box_side": 0})
    assert_contract(found, detect, factors)
    assert not detect.max_detections or len(found) <= detect.max_detections
    again = find_boxes(
        *maps, factors, detect.model_copy(update={"min_box_side": limits(**given).min_box_side})
    )
    np.testing.assert_array_equal(again.quads, found.quads)
    np.testing.assert_array_equal(again.scores, found.scores)


@both_forms
@all_ways
@settings(deadline=None, max_examples=40)
@given(
    seed=SEEDS,
    noise=st.sampled_from([0.0, 2.0]),
    iou=st.sampled_from([0.1, 0.2, 0.5]),
    scales=st.integers(1, 3),
)
def test_no_two_boxes_are_one_text(
    form: str, kind: str, seed: int, noise: float, iou: float, scales: int
) -> None:
    maps = [ScaledMaps(*maps_of(seed + i, form, noise), np.full(2, 1 + 0.5 * i)) for i in range(scales)]
    detect = limits(nms=kind, nms_iou=iou)
    found = find_in_scales(maps, detect)
    assert len(found) >= 1
    overlaps = iou_matrix(found.quads, found.quads)
    assert (overlaps - 2 * np.eye(len(found))).max() <= iou + 1e-3
    assert (np.diff(found.scores) <= 0).all()


def seen_at(scale: float, *quads: np.ndarray, visible: float = 1e9) -> ScaledMaps:
    """The labels of texts of an image of 600 x 400 pixels at a scale, whose cells see only so far."""
    labels = encode(np.stack(quads) * scale, np.zeros(len(quads), bool), (int(400 * scale), int(600 * scale)))
    geometry = np.minimum(labels.geometry, [visible, visible, visible, visible, 1])
    return ScaledMaps(labels.score, geometry.astype(np.float32), np.full(2, scale))


def upright(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


LONG, SHORT = upright(20, 40, 580, 120), upright(100, 200, 160, 220)


def test_a_smaller_scale_adds_long_texts_only() -> None:
    """A short text that the larger scale did not see stays unseen: there, most of these are false alarms."""
    found = find_in_scales([seen_at(0.5, LONG, SHORT), seen_at(1.5, SHORT)], limits())
    assert len(found) == 2
    whole, small = sorted(found.quads, key=lambda quad: quad[0, 1])
    np.testing.assert_allclose(whole, LONG, atol=2)
    np.testing.assert_allclose(small, SHORT, atol=1)
    assert len(find_in_scales([seen_at(0.5, SHORT), seen_at(1.5, LONG)], limits())) == 1


def test_long_boxes_replace_parts_of_the_same_text() -> None:
    larger = seen_at(1.5, LONG, SHORT, visible=100)
    parts = find_in_scales([larger], limits()).quads
    assert iou_matrix(parts, LONG[None]).max() < 0.9
    both = [seen_at(0.5, LONG), larger]
    found = find_in_scales(both, limits())
    assert sorted(iou_matrix(found.quads, LONG[None])[:, 0] > 0.95) == [False, True] and len(found) == 2
    np.testing.assert_array_equal(find_in_scales(both[::-1], limits()).quads, found.quads)


def test_small_print_in_a_large_text_stays() -> None:
    inside = upright(200, 70, 260, 85)
    found = find_in_scales([seen_at(0.5, LONG), seen_at(1.5, inside)], limits())
    assert len(found) == 2 and iou_matrix(found.quads, inside[None]).max() > 0.9


@all_ways
@settings(deadline=None, max_examples=40)
@given(seed=SEEDS)
def test_each_text_is_found_where_it_is(kind: str, seed: int) -> None:
    """Labels come back as what they were made of, wherever no other text is in the way."""
    quads = texts(np.random.default_rng(seed), 8)
    centers = quads.mean(axis=1)
    alone = (iou_matrix(quads, quads) > 0).sum(axis=1) == 1
    alone &= (centers >= 0).all(axis=1) & (centers < np.array(SHAPE[::-1]) - 1).all(axis=1)
    assume(alone.any())
    labels = encode(quads, np.zeros(8, bool), SHAPE)
    found = find_boxes(labels.score, labels.geometry, SAME, limits(nms=kind))
    assert (iou_matrix(quads[alone], found.quads).max(axis=1) > 0.99).all()


# --- invariances


def assert_same_boxes(found: np.ndarray, expected: np.ndarray, atol: float) -> None:
    assert len(found) == len(expected)
    for quad in expected:
        nearest = found[np.abs(found.mean(axis=1) - quad.mean(axis=0)).sum(axis=1).argmin()]
        turns = [np.abs(np.roll(nearest, turn, axis=0) - quad).max() for turn in range(4)]
        assert min(turns) <= atol


@both_forms
@all_ways
@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, noise=st.sampled_from([0.0, 2.0]), down=st.integers(0, 9), right=st.integers(0, 9))
def test_a_shift_by_whole_cells_shifts_the_boxes(
    form: str, kind: str, seed: int, noise: float, down: int, right: int
) -> None:
    score, geometry = maps_of(seed, form, noise)
    room = ((down, 0), (right, 0))
    found = find_boxes(score, geometry, SAME, limits(nms=kind))
    moved = find_boxes(np.pad(score, room), np.pad(geometry, (*room, (0, 0))), SAME, limits(nms=kind))
    np.testing.assert_allclose(moved.quads, found.quads + np.float32([4 * right, 4 * down]), atol=ROUNDING)
    np.testing.assert_array_equal(moved.scores, found.scores)


@both_forms
@all_ways
@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, noise=st.sampled_from([0.0, 2.0]))
def test_half_the_stride_and_half_the_distances_are_half_the_boxes(
    form: str, kind: str, seed: int, noise: float
) -> None:
    score, geometry = maps_of(seed, form, noise)
    half = geometry * np.float32([0.5, 0.5, 0.5, 0.5, 1] if form == "rbox" else 0.5)
    found, small = (
        find_boxes(score, values, SAME, limits(nms=kind), stride)
        for values, stride in ((geometry, 4), (half, 2))
    )
    np.testing.assert_allclose(small.quads * 2, found.quads, atol=ROUNDING)
    np.testing.assert_allclose(small.scores, found.scores, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, noise=st.sampled_from([0.0, 2.0]), turns=st.integers(1, 3))
def test_a_quarter_turn_turns_the_boxes(seed: int, noise: float, turns: int) -> None:
    """Of standard suppression, which looks at no order; means are taken along rows of cells."""
    score, geometry = maps_of(seed, "rbox", noise)
    score += np.random.default_rng(seed).uniform(0, 1e-3, score.shape).astype(np.float32) * (
        score > 0
    )  # no ties
    score = np.minimum(score, 1)
    found = find_boxes(score, geometry, SAME, limits(nms="standard"))
    rows, columns = score.shape
    corners = found.quads.astype(np.float64)
    for _ in range(turns):  # counter-clockwise: what was on the right is on top
        score, geometry = np.rot90(score), np.rot90(geometry)[..., [1, 2, 3, 0, 4]]
        corners = np.stack([corners[..., 1], 4 * (columns - 1) - corners[..., 0]], axis=2)
        rows, columns = columns, rows
    turned = find_boxes(
        np.ascontiguousarray(score), np.ascontiguousarray(geometry), SAME, limits(nms="standard")
    )
    assert_same_boxes(turned.quads, corners, atol=ROUNDING)
    np.testing.assert_array_equal(turned.scores, found.scores)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, turns=st.integers(1, 3))
def test_a_quarter_turn_turns_what_clear_maps_show(seed: int, turns: int) -> None:
    """Where all cells of a text agree, their mean does not depend on the order either."""
    rng = np.random.default_rng(seed)
    center, angle = rng.uniform(80, 110, 2), rng.uniform(-0.78, 0.78, 1)
    (quad,) = rectangle(center[None], np.array([[9.0, 40, 9, 40]]), angle)
    square = encode(quad[None], np.zeros(1, bool), (192, 192))
    score, geometry = square.score, square.geometry
    expected = quad
    for _ in range(turns):
        score, geometry = np.rot90(score), np.rot90(geometry)[..., [1, 2, 3, 0, 4]]
        expected = np.stack([expected[:, 1], 4 * (score.shape[0] - 1) - expected[:, 0]], axis=1)
    found = find_boxes(np.ascontiguousarray(score), np.ascontiguousarray(geometry), SAME, limits())
    assert_same_boxes(found.quads, expected[None], atol=0.01)


@pytest.mark.skipif(installed.find("lanms") is None, reason="lanms-neo is not installed")
@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, noise=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_merge_of_other_programs_gives_the_same_boxes(seed: int, noise: float) -> None:
    """Not with more noise: it may take means of corners and mirrored ones."""
    candidates = decode(*maps_of(seed, "rbox", noise), threshold=0.6)
    ours, theirs = (nms.locality_aware(*candidates, 0.2, compiled=flag) for flag in (False, True))
    np.testing.assert_allclose(ours[0], theirs[0], atol=0.1)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


@both_forms
@all_ways
def test_scores_that_are_none(form: str, kind: str) -> None:
    """NaN is background, and what was rounded beyond 1 is 1."""
    score, geometry = maps_of(3, form, 0)
    expected = find_boxes(np.minimum(score * 3, 1), geometry, SAME, limits(nms=kind))
    found = find_boxes(score * np.float32(3), geometry, SAME, limits(nms=kind))
    np.testing.assert_array_equal(found.quads, expected.quads)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert len(found) and (found.scores == 1).all()
    assert len(find_boxes(np.full_like(score, np.nan), geometry, SAME, limits(nms=kind))) == 0
    assert len(find_boxes(score, np.full_like(geometry, np.nan), SAME, limits(nms=kind))) == 0


@both_forms
@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, noise=st.sampled_from([0.0, 2.0]), lower=st.floats(0.5, 0.7), step=st.floats(0.01, 0.25))
def test_a_higher_box_threshold_leaves_the_best(
    form: str, seed: int, noise: float, lower: float, step: float
) -> None:
    maps = maps_of(seed, form, noise)
    many, few = (find_boxes(*maps, SAME, limits(box_threshold=value)) for value in (lower, lower + step))
    assert len(few) == (many.scores >= lower + step).sum()
    np.testing.assert_array_equal(many.quads[: len(few)], few.quads)


@both_forms
@all_ways
@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, noise=st.sampled_from([0.0, 2.0]))
def test_boxes_begin_with_their_top_side(form: str, kind: str, seed: int, noise: float) -> None:
    """And those of a network for rectangles are parallelograms; rectangles, where none was merged."""
    quads = find_boxes(*maps_of(seed, form, noise), SAME, limits(nms=kind)).quads.astype(np.float64)
    assert (np.abs(quarter_turns(quads)) < 0.5 + 1e-3).all(), "the first side runs to the right"
    if form == "rbox":
        np.testing.assert_allclose(quads[:, 0] + quads[:, 2], quads[:, 1] + quads[:, 3], atol=ROUNDING)
        along, down = quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0]
        lean = (along * down).sum(axis=1) / np.linalg.norm(along, axis=1) / np.linalg.norm(down, axis=1)
        assert kind != "standard" or (np.abs(lean) < 1e-3).all()
