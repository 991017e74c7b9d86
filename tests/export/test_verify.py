"""How a written file is compared with the checkpoint."""

import numpy as np
import pytest

from efficientnet_east.export import verify


def test_threshold_moves_to_where_no_cell_stands() -> None:
    score = np.array([[0.2, 0.5, 0.8999, 0.9001, 0.95]])
    assert verify.quiet_threshold(score, 1e-6, 0.9) == pytest.approx(0.9)
    moved = verify.quiet_threshold(score, 1e-3, 0.9)
    assert 0.5 + 1e-3 < moved < 0.8999 - 1e-3 + 1e-12 or 0.9011 < moved < 0.949
    assert abs(moved - 0.9) < 0.002 + 1e-9
    assert verify.quiet_threshold(np.array([[0.9]]), 0.6, 0.9) == 0.9, "no gap is wide enough"


def test_overlap_of_counterparts() -> None:
    box = np.array([[0, 0], [10, 0], [10, 4], [0, 4]], np.float32)
    two = np.stack([box, box + 50])
    assert verify.least_overlap(two, two[::-1]) == pytest.approx(1)
    assert verify.least_overlap(two, two + np.float32([1, 0])) == pytest.approx(9 / 11)
    assert verify.least_overlap(two, two[:1]) == 0
    assert verify.least_overlap(two, np.stack([box, box])) == 0, "each has its own"
    assert verify.least_overlap(two[:0], two[:0]) == 1


def test_problems_are_named() -> None:
    fine = verify.Difference("a.png", (64, 96), 1e-6, 1e-6, 5e-3, 2, 2, 0.999, 0.9, 0.2)
    assert verify.problems([fine], 1e-3, everywhere=False) == []
    assert "geometry 5.0e-03" in verify.problems([fine], 1e-3, everywhere=True)[0]
    for field, value in (("score", 0.1), ("other_boxes", 3), ("iou", 0.9)):
        wrong = verify.Difference(**fine.as_dict() | {field: value, "image": "b.png"})
        (line,) = verify.problems([fine, wrong], 1e-3, everywhere=False)
        assert line.startswith("b.png at 96 x 64: ")
    broken = verify.Difference(**fine.as_dict() | {"score": np.inf})
    assert len(verify.problems([broken, fine], None, everywhere=False)) == 1
