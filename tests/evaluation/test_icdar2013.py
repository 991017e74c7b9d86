"""DetEval: saved figures of the competition's published steps, and cases worked by hand.

The saved figures were computed outside of this repository, step by step as the competition's published script
does; for whole submissions the quads of ICDAR 2015 were taken as upright rectangles.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.submissions import read_quads

from efficientnet_east.data.submissions import read_truth_zip
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation.icdar2013 import score
from efficientnet_east.structures import Truth

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
CASES = json.loads((Path(__file__).parents[1] / "cases" / "deteval.json").read_text())
TOTALS = {  # precision, recall, hmean
    "EAST_icdar2015_result": (0.744779, 0.652383, 0.695526),
    "chenjun2hao_GIOU_EAST": (0.683110, 0.599904, 0.638809),
    "PixelLink_icdar_result": (0.665355, 0.613481, 0.638366),
}

Box = tuple[float, float, float, float]  # left, top, right, bottom


def quads(boxes: list[Box]) -> np.ndarray:
    corners = [[(x, y), (r, y), (r, b), (x, b)] for x, y, r, b in boxes]
    return np.array(corners, np.float32).reshape(-1, 4, 2)


def truth(boxes: list[Box], illegible: list[bool] | None = None) -> Truth:
    ignore = np.array(illegible or [False] * len(boxes), np.bool_)
    return Truth(quads(boxes), ignore, ("word",) * len(boxes))


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: f"{i}-{CASES[i]['kind']}")
def test_saved_cases(number: int) -> None:
    case = CASES[number]
    texts = truth(case["truths"], case["illegible"])
    result = score({"a": quads(case["detections"])}, {"a": texts})
    assert (result.care_truths, result.care_detections) == (case["care_truths"], case["care_detections"])
    assert [list(pair) for pair in result.images["a"].pairs] == sorted(case["pairs"])
    assert result.matched == pytest.approx(case["recalled"], abs=1e-9)
    assert result.precision * result.care_detections == pytest.approx(case["precise"], abs=1e-9)


def test_saved_cases_are_of_every_kind() -> None:
    """Enough of each, and matches of all three kinds among them."""
    assert len({case["kind"] for case in CASES}) == 9
    assert any(case["recalled"] % 1 > 0 for case in CASES), "shared texts"
    assert any(len(case["pairs"]) > len({d for _, d in case["pairs"]}) for case in CASES), "joined texts"


@pytest.mark.parametrize("name", TOTALS)
def test_public_submissions(name: str) -> None:
    if not FIXTURES.is_dir():
        pytest.skip("needs the public submissions beside the repository")
    truths = read_truth_zip(FIXTURES / "icdar2015_test_gt.zip")
    result = score(read_quads(FIXTURES / f"{name}.zip"), truths)
    assert (result.precision, result.recall, result.hmean) == pytest.approx(TOTALS[name], abs=1e-6)


@pytest.mark.parametrize(
    ("texts", "found", "precision", "recall"),
    [
        ([(0, 0, 99, 9)], [(0, 0, 99, 9)], 1, 1),
        ([(0, 0, 99, 9)], [(0, 0, 79, 9)], 1, 1),  # 80 % of the text
        ([(0, 0, 99, 9)], [(0, 0, 78, 9)], 0, 0),
        ([(0, 0, 39, 9)], [(0, 0, 99, 9)], 1, 1),  # 40 % of the detection
        ([(0, 0, 38, 9)], [(0, 0, 99, 9)], 0, 0),
        ([(0, 0, 99, 9)], [(0, 0, 49, 9), (50, 0, 99, 9)], 0.8, 0.8),  # shared by two
        ([(0, 0, 99, 9)], [(0, 0, 49, 9), (60, 0, 99, 9)], 0.8, 0.8),
        ([(0, 0, 99, 9)], [(0, 0, 39, 9), (60, 0, 98, 9)], 0, 0),  # 79 % together
        ([(0, 0, 49, 9), (60, 0, 99, 9)], [(0, 0, 99, 9)], 1, 1),  # joined
        ([(0, 0, 99, 9)], [(0, 0, 99, 9), (90, 0, 200, 9)], 0.5, 1),  # another one touches it
        ([(0, 0, 99, 9)], [(0, 0, 99, 9), (0, 0, 99, 9)], 0.8, 0.8),  # found twice
        ([(0, 0, 99, 9)], [], 0, 0),
        ([], [(0, 0, 9, 9)], 0, 0),
    ],
)
def test_by_hand(texts: list[Box], found: list[Box], precision: float, recall: float) -> None:
    result = score({"a": quads(found)}, {"a": truth(texts)})
    assert (result.precision, result.recall) == pytest.approx((precision, recall))


def test_rotated_quads_count_as_upright_rectangles() -> None:
    diamond = np.array([[[10, 0], [20, 10], [10, 20], [0, 10]]], np.float32)
    assert score({"a": diamond}, {"a": truth([(0, 0, 20, 20)])}).hmean == 1


def test_unknown_image_and_empty_data() -> None:
    with pytest.raises(UserError, match="img_9: detections for an image without ground truth"):
        score({"img_9": quads([])}, {"a": truth([])})
    assert score({}, {}).hmean == 0
    empty = score({}, {"a": truth([])}).images["a"]
    assert (empty.precision, empty.recall) == (1, 1)
