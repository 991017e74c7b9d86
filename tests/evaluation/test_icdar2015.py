"""The protocol: the public submissions' published scores, its odd rules, and a slow second opinion."""

import time
from pathlib import Path

import numpy as np
import pytest
import shapely
from helpers.submissions import read_quads
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.data.submissions import read_truth_zip
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation.icdar2015 import score
from efficientnet_east.structures import Truth

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
# Precision, recall and hmean that the official script printed.
OFFICIAL = {
    "EAST_icdar2015_result": ("0.846600", "0.773231", "0.808254"),
    "chenjun2hao_GIOU_EAST": ("0.846591", "0.789119", "0.816845"),
    "PixelLink_icdar_result": ("0.855197", "0.816081", "0.835181"),
}


def box(x: float, y: float = 0, width: float = 10, height: float = 10) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def quads(*boxes: list[list[float]]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4, 2)


def truth(legible: list[list[list[float]]], illegible: list[list[list[float]]] = ()) -> Truth:
    ignore = np.array([False] * len(legible) + [True] * len(illegible), np.bool_)
    return Truth(quads(*legible, *illegible), ignore, tuple("###" if flag else "word" for flag in ignore))


@pytest.fixture(scope="module")
def truths() -> dict[str, Truth]:
    if not FIXTURES.is_dir():
        pytest.skip("needs the public submissions beside the repository")
    return read_truth_zip(FIXTURES / "icdar2015_test_gt.zip")


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_scores(name: str, truths: dict[str, Truth]) -> None:
    detections = read_quads(FIXTURES / f"{name}.zip")
    start = time.process_time()
    result = score(detections, truths)
    assert time.process_time() - start < 4
    assert tuple(f"{value:.6f}" for value in list(result.as_dict().values())[:3]) == OFFICIAL[name]
    assert (result.care_truths, len(result.images)) == (2077, 500)


def test_keys_of_the_dictionary() -> None:
    result = score({"a": quads(box(0))}, {"a": truth([box(0), box(50)])})
    scores, counts = ["precision", "recall", "hmean"], ["matched", "care_truths", "care_detections"]
    assert list(result.as_dict()) == scores + counts
    assert list(result.as_dict().values()) == [1.0, 0.5, pytest.approx(2 / 3), 1, 2, 1]


def test_sums_over_images_not_averages() -> None:
    truths = {"a": truth([box(0)]), "b": truth([box(x) for x in range(0, 90, 30)])}
    result = score({"a": quads(box(0)), "b": quads(box(500))}, truths)
    assert (result.precision, result.recall) == (1 / 2, 1 / 4)
    assert list(result.images) == ["a", "b"] and result.images["a"].hmean == 1


def test_iou_must_be_above_one_half() -> None:
    exactly = {"a": quads(box(0, width=5))}
    assert score(exactly, {"a": truth([box(0)])}).matched == 0
    assert score({"a": quads(box(0, width=5.01))}, {"a": truth([box(0)])}).matched == 1
    assert score(exactly, {"a": truth([box(0)])}, iou=0.49).matched == 1


def test_half_on_an_illegible_text_still_counts() -> None:
    truths = {"a": truth([], [box(0)])}
    assert score({"a": quads(box(5))}, truths).care_detections == 1
    result = score({"a": quads(box(4.9))}, truths)
    assert result.care_detections == 0 and result.images["a"].ignored == (0,)


def test_illegible_texts_are_not_added_up() -> None:
    truths = {"a": truth([], [box(0, width=4), box(6, width=4)])}
    assert score({"a": quads(box(0))}, truths).care_detections == 1


def test_illegible_comes_before_a_match() -> None:
    """A detection on both is ignored, although it would have matched."""
    result = score({"a": quads(box(0))}, {"a": truth([box(0)], [box(0, width=100)])})
    assert (result.matched, result.care_detections, result.recall) == (0, 0, 0.0)


def test_second_detection_of_a_text_is_wrong() -> None:
    result = score({"a": quads(box(0), box(0))}, {"a": truth([box(0)])})
    assert (result.precision, result.recall) == (0.5, 1.0)
    assert result.images["a"].pairs == ((0, 0),)


def test_greedy_in_file_order() -> None:
    """The first truth takes the first detection above 0.5, not the best one, which the second needed."""
    truths = {"a": truth([box(0), box(3)])}
    result = score({"a": quads(box(3), box(-3))}, truths)
    assert result.images["a"].pairs == ((0, 0),)
    assert score({"a": quads(box(-3), box(3))}, truths).images["a"].pairs == ((0, 0), (1, 1))


def test_nothing_anywhere() -> None:
    empty = score({}, {"a": truth([])})
    assert (empty.precision, empty.recall, empty.hmean) == (0, 0, 0)
    image = empty.images["a"]
    assert (image.precision, image.recall, image.hmean) == (1, 1, 1)
    assert score({}, {}).as_dict()["hmean"] == 0


@pytest.mark.parametrize(
    ("detections", "texts", "expected"),
    [
        (quads(), truth([box(0)]), (0, 0, 0)),
        (quads(box(50)), truth([]), (0, 1, 0)),
        (quads(box(0)), truth([], [box(0)]), (1, 1, 1)),
        (quads(), truth([], [box(0)]), (1, 1, 1)),
    ],
)
def test_one_image_with_one_side_empty(
    detections: np.ndarray, texts: Truth, expected: tuple[float, float, float]
) -> None:
    image = score({"a": detections}, {"a": texts}).images["a"]
    assert (image.precision, image.recall, image.hmean) == expected


def test_degenerate_detections_are_only_wrong() -> None:
    point = np.zeros((1, 4, 2), np.float32)
    bow_tie = quads([[0, 0], [10, 10], [10, 0], [0, 10]])
    result = score({"a": np.concatenate([point, bow_tie])}, {"a": truth([box(0)], [box(100)])})
    assert (result.care_detections, result.matched) == (2, 0)


def test_either_direction() -> None:
    assert score({"a": quads(box(0))[:, ::-1]}, {"a": truth([box(0)])}).matched == 1


def test_detections_for_an_unknown_image() -> None:
    with pytest.raises(UserError, match=r"img_9: detections for an image without .*; expected names like a"):
        score({"img_9": quads()}, {"a": truth([])})


def slow_pairs(found: np.ndarray, texts: Truth) -> tuple[list[tuple[int, int]], list[int]]:
    """The protocol word by word, with shapely and loops."""
    polygons = [shapely.Polygon(quad) for quad in found]
    truths = [shapely.Polygon(quad) for quad in texts.quads]
    ignored = [
        index
        for index, polygon in enumerate(polygons)
        if any(
            polygon.intersection(other).area / polygon.area > 0.5
            for other, ignore in zip(truths, texts.ignore, strict=True)
            if ignore
        )
    ]
    pairs: list[tuple[int, int]] = []
    for row, other in enumerate(truths):
        for column, polygon in enumerate(polygons):
            taken = row in [pair[0] for pair in pairs] or column in [pair[1] for pair in pairs]
            if taken or texts.ignore[row] or column in ignored:
                continue
            if polygon.intersection(other).area / polygon.union(other).area > 0.5:
                pairs.append((row, column))
    return pairs, ignored


# Slightly crooked boxes on a coarse grid, so that many overlap by about one half.
CORNER = st.tuples(*[st.integers(-2, 2)] * 8)
BOX = st.builds(
    lambda x, y, width, height, jitter: np.array(box(x, y, width, height)) + np.reshape(jitter, (4, 2)),
    *[st.integers(0, 4).map(lambda n: n * 9)] * 2,
    *[st.integers(15, 40)] * 2,
    CORNER,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(BOX, max_size=8), st.lists(st.tuples(BOX, st.booleans()), max_size=8))
def test_against_the_slow_scorer(found: list[np.ndarray], texts: list[tuple[np.ndarray, bool]]) -> None:
    ignore = np.array([flag for _, flag in texts], np.bool_)
    real = Truth(quads(*(quad for quad, _ in texts)), ignore, tuple("x" for _ in texts))
    image = score({"a": quads(*found)}, {"a": real}).images["a"]
    pairs, ignored = slow_pairs(quads(*found), real)
    assert (list(image.pairs), list(image.ignored)) == (pairs, ignored)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(BOX, st.booleans()), min_size=1, max_size=6))
def test_the_truth_itself_scores_full_recall(texts: list[tuple[np.ndarray, bool]]) -> None:
    """Given as detections, the legible texts are found, save those that lie on illegible ones."""
    ignore = np.array([flag for _, flag in texts], np.bool_)
    real = Truth(quads(*(quad for quad, _ in texts)), ignore, tuple("x" for _ in texts))
    result = score({"a": real.quads}, {"a": real})
    assert 0 <= result.precision <= 1 and 0 <= result.recall <= 1
    assert result.matched <= min(result.care_truths, result.care_detections)
    if not ignore.any():
        assert result.precision == result.recall == result.hmean == 1
