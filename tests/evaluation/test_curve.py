"""The curve: equal to scoring at every threshold, and to saved figures of the published script's steps."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.submissions import read_quads
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.data.submissions import read_truth_zip
from efficientnet_east.evaluation import icdar2013, icdar2015
from efficientnet_east.evaluation.breakdown import by_angle, by_script, by_size
from efficientnet_east.evaluation.curve import above, precision_recall, sampled, thinned
from efficientnet_east.geometry.bins import ANGLES, SIZES, bin_labels
from efficientnet_east.structures import Truth

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
SAVED = json.loads((Path(__file__).parents[1] / "cases" / "icdar15.json").read_text())


def quads(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4, 2)


def upright(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def truth(rows: list, illegible: list[bool] | None = None, scripts: tuple[str, ...] = ()) -> Truth:
    ignore = np.array(illegible or [False] * len(rows), np.bool_)
    return Truth(quads(rows), ignore, ("word",) * len(rows), scripts)


def saved() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Truth]]:
    cases = {str(number): case for number, case in enumerate(SAVED["cases"])}
    found = {name: quads(case["detections"]) for name, case in cases.items()}
    scores = {name: np.array(case["scores"], np.float64) for name, case in cases.items()}
    return found, scores, {name: truth(case["truths"], case["illegible"]) for name, case in cases.items()}


def test_saved_cases() -> None:
    """Nothing found, no text, all illegible, everything twice: image by image and together, to 1e-9."""
    found, scores, truths = saved()
    result = icdar2015.score(found, truths)
    for name, case in enumerate(SAVED["cases"]):
        image = result.images[str(name)]
        assert [list(pair) for pair in image.pairs] == case["pairs"]
        expected = case["precision"], case["recall"], case["hmean"]
        assert (image.precision, image.recall, image.hmean) == pytest.approx(expected, abs=1e-9)
        alone = [{str(name): part[str(name)]} for part in (found, scores, truths)]
        average = precision_recall(*alone).average_precision
        assert average == pytest.approx(case["average_precision"], abs=1e-9)
    total, curve = SAVED["total"], precision_recall(found, scores, truths)
    assert curve.average_precision == pytest.approx(total["average_precision"], abs=1e-9)
    expected = total["precision"], total["recall"], total["hmean"]
    assert (result.precision, result.recall, result.hmean) == pytest.approx(expected, abs=1e-9)
    last = curve.points[-1]
    assert (last.precision, last.recall, last.hmean) == pytest.approx(expected, abs=1e-9)


ROWS = st.tuples(*[st.integers(0, 40)] * 2, st.integers(4, 30), st.integers(4, 12)).map(lambda r: upright(*r))
SCORED = st.lists(st.tuples(ROWS, st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9])), max_size=6)
IMAGES = st.lists(st.tuples(SCORED, st.lists(st.tuples(ROWS, st.booleans()), max_size=5)), max_size=3)


@settings(max_examples=150, deadline=None)
@given(IMAGES)
def test_every_point_is_the_score_at_its_threshold(images: list) -> None:
    found = {str(i): quads([row for row, _ in rows]) for i, (rows, _) in enumerate(images)}
    scores = {str(i): np.array([s for _, s in rows]) for i, (rows, _) in enumerate(images)}
    texts = [truth([row for row, _ in rows], [flag for _, flag in rows]) for _, rows in images]
    truths = {str(i): text for i, text in enumerate(texts)}
    order = {name: np.argsort(-scores[name], kind="stable") for name in scores}
    found = {name: found[name][order[name]] for name in found}
    scores = {name: scores[name][order[name]] for name in scores}
    curve = precision_recall(found, scores, truths)
    for point in curve.points:
        result = icdar2015.score(above(found, scores, point.threshold), truths)
        assert (point.precision, point.recall, point.hmean) == pytest.approx(
            (result.precision, result.recall, result.hmean)
        )
    falling = [point.threshold for point in curve.points]
    assert falling == sorted(set(falling), reverse=True)
    assert 0 <= curve.average_precision <= 1
    if curve.points:
        assert curve.best.hmean == max(point.hmean for point in curve.points)
    else:
        assert curve.best is None and curve.average_precision == 0


def test_average_precision_by_hand() -> None:
    """Right, wrong, right, and a text that is never found: (1/1 + 2/3) / 3."""
    found = {"a": quads([upright(0, 0, 10, 10), upright(500, 0, 10, 10), upright(50, 0, 10, 10)])}
    scores = {"a": np.array([0.9, 0.8, 0.7])}
    truths = {"a": truth([upright(0, 0, 10, 10), upright(50, 0, 10, 10), upright(90, 0, 10, 10)])}
    curve = precision_recall(found, scores, truths)
    assert curve.average_precision == pytest.approx((1 + 2 / 3) / 3)
    assert [(p.threshold, p.precision, p.recall) for p in curve.points] == [
        (0.9, 1, pytest.approx(1 / 3)), (0.8, 0.5, pytest.approx(1 / 3)), (0.7, *[pytest.approx(2 / 3)] * 2)
    ]  # fmt: skip


def test_sampled_curve_by_another_protocol() -> None:
    found, scores, truths = saved()
    curve = sampled(icdar2013.score, found, scores, truths)
    assert curve.average_precision is None and 10 < len(curve.points) <= 50
    for point in curve.points[::7]:
        result = icdar2013.score(above(found, scores, point.threshold), truths)
        assert (point.precision, point.recall) == (result.precision, result.recall)
    whole = icdar2013.score(found, truths)
    assert curve.points[-1].recall == whole.recall
    assert sampled(icdar2013.score, {}, {}, truths).points == ()


def test_thinned_keeps_the_ends_and_the_best() -> None:
    curve = precision_recall(*saved())
    few = thinned(curve.points, 10)
    assert len(few) <= 10 and few[0] == curve.points[0] and few[-1] == curve.points[-1] and curve.best in few
    assert thinned(curve.points, 10_000) == list(curve.points)


# --- by size, angle and script


def test_bins_by_hand() -> None:
    level, steep = upright(0, 0, 100, 10), upright(300, 0, 10, 100)
    small, wrong = upright(500, 0, 30, 6), upright(0, 500, 90, 40)
    truths = {"a": truth([level, steep, small, upright(700, 0, 90, 40)], [False, False, False, True])}
    found = {"a": quads([level, steep, wrong, upright(700, 0, 90, 40)])}
    result = icdar2015.score(found, truths)
    sizes = {bin.label: bin for bin in by_size(result, found, truths)}
    middle = sizes["8–12"]
    assert (middle.texts, middle.found, middle.detections, middle.right) == (2, 2, 2, 2)
    assert middle.recall == middle.precision == 1
    assert (sizes["0–8"].recall, sizes["0–8"].precision) == (0, None)
    assert (sizes["32–48"].recall, sizes["32–48"].precision) == (None, 0)
    angles = {bin.label: bin for bin in by_angle(result, found, truths)}
    assert (angles["0–5"].texts, angles["0–5"].found, angles["0–5"].detections) == (2, 1, 2)
    assert angles["60–90"].as_dict() == {
        "label": "60–90", "texts": 1, "found": 1, "detections": 1, "right": 1, "recall": 1, "precision": 1
    }  # fmt: skip


def test_bins_add_up() -> None:
    if not FIXTURES.is_dir():
        pytest.skip("needs the public submissions beside the repository")
    found = read_quads(FIXTURES / "EAST_icdar2015_result.zip")
    truths = read_truth_zip(FIXTURES / "icdar2015_test_gt.zip")
    result = icdar2015.score(found, truths)
    for bins, edges in ((by_size(result, found, truths), SIZES), (by_angle(result, found, truths), ANGLES)):
        assert [bin.label for bin in bins] == bin_labels(edges)
        assert sum(bin.texts for bin in bins) == result.care_truths == 2077
        assert sum(bin.found for bin in bins) == sum(bin.right for bin in bins) == result.matched
        assert sum(bin.detections for bin in bins) == result.care_detections


def test_scripts() -> None:
    rows = [upright(x, 0, 10, 10) for x in (0, 50, 90, 130)]
    texts = truth(rows, [False, False, False, True], ("Latin", "Korean", "Latin", "Latin"))
    result = icdar2015.score({"a": quads(rows[:1])}, {"a": texts})
    (korean, latin) = by_script(result, {"a": texts})
    assert (korean.label, korean.texts, korean.found, korean.precision) == ("Korean", 1, 0, None)
    assert (latin.label, latin.texts, latin.recall) == ("Latin", 2, 0.5)
    assert by_script(icdar2015.score({}, {"a": truth(rows)}), {"a": truth(rows)}) == []
