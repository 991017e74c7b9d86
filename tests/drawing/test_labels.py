"""Scores on pictures: above their box, never on another box or on another score."""

import numpy as np
import pytest

from efficientnet_east.drawing.labels import draw_scores
from efficientnet_east.drawing.overlays import draw_quads

RED = (255, 0, 0)


def box(x: float, y: float, width: float = 80, height: float = 20) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


def changed(*quads: np.ndarray, shape: tuple[int, int] = (120, 200)) -> np.ndarray:
    """Where scores change a gray image, bool (height, width)."""
    image = np.full((*shape, 3), 128, np.uint8)
    drawn = draw_scores(image, np.stack(quads), np.full(len(quads), 0.5), RED)
    assert (image == 128).all() and drawn.shape == image.shape
    return (drawn != 128).any(axis=2)


def test_a_score_stands_above_its_box() -> None:
    found = changed(box(50, 60))
    rows, columns = np.nonzero(found)
    assert rows.min() > 40 and rows.max() < 60 and columns.min() > 46 and columns.max() < 90


def test_a_score_covers_no_neighbor() -> None:
    """Lines of words with little space between them: only the first line has room above it."""
    lines = [box(x, y) for y in (40, 62, 84) for x in (10, 100)]
    found = changed(*lines)
    assert found[20:40].any() and not found[40:].any()


def test_a_score_covers_no_other_score() -> None:
    """The second of two narrow boxes side by side has no room for its own."""
    alone, both = changed(box(50, 60, width=12)), changed(box(50, 60, width=12), box(64, 60, width=12))
    assert (alone == both).all() and alone.any()


def test_no_room_at_the_border() -> None:
    assert not changed(box(50, 2)).any()
    assert not changed(box(-300, 60), box(500, 60)).any()


@pytest.mark.parametrize("slope", [-0.5, -0.2, 0.3])
def test_a_score_covers_not_its_own_box(slope: float) -> None:
    quad = box(60, 70)
    quad[:, 1] += slope * (quad[:, 0] - 60)
    image = np.full((120, 200, 3), 128, np.uint8)
    without = draw_quads(image, quad[None], thickness=1)
    with_score = draw_quads(image, quad[None], thickness=1, scores=np.array([0.5]))
    different = (without != with_score).any(axis=2)
    on_the_lines = (without != 128).any(axis=2)
    assert different.any() and not (different & on_the_lines).any()
