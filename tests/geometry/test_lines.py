"""Words into lines and their order: against the generator that laid them out, and on pages made by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.geometry.intersections import iou
from efficientnet_east.geometry.lines import Line, find_lines
from efficientnet_east.geometry.quads import area
from efficientnet_east.structures import Detections


def box(x: float, y: float, width: float, height: float = 20.0) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)


def turned(quads: np.ndarray, degrees: float, center: tuple[float, float] = (500, 400)) -> np.ndarray:
    """Clockwise on the screen."""
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (quads - center) @ matrix + center


def words_of(lines: tuple[Line, ...]) -> list[tuple[int, ...]]:
    return [line.words for line in lines]


# Two columns of four lines of three words under a heading, in the order in which they are read.
HEADING = [box(100, 20, 300, 40), box(420, 20, 380, 40)]
PAGE = np.stack(
    [*HEADING]
    + [box(100 + column + 110 * word, 100 + 30 * row, 100) for column in (0, 420) for row in range(4)
       for word in range(3)]
)  # fmt: skip
LINES = [(0, 1), *[(n, n + 1, n + 2) for n in range(2, 26, 3)]]


@pytest.mark.parametrize("degrees", [0, 3, -8, 20, -30])
def test_a_page_of_two_columns_under_a_heading(degrees: float) -> None:
    assert words_of(find_lines(turned(PAGE, degrees))) == LINES


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_words_does_not_matter(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(PAGE))
    found = words_of(find_lines(turned(PAGE, 5)[order]))
    assert [tuple(order[list(line)].tolist()) for line in found] == LINES


@pytest.mark.parametrize("factor", [0.05, 1.0, 40.0])
def test_the_size_of_the_image_does_not_matter(factor: float) -> None:
    assert words_of(find_lines(PAGE * factor + 7)) == LINES


@pytest.mark.parametrize("degrees", [0, 12, -35])
def test_rectangles_lie_around_their_words(degrees: float) -> None:
    lines = find_lines(turned(PAGE, degrees))
    heading, first = (line.quad.astype(np.float64) for line in lines[:2])
    np.testing.assert_allclose(heading, turned(box(100, 20, 700, 40), degrees), atol=1e-3)
    np.testing.assert_allclose(first, turned(box(100, 100, 320), degrees), atol=1e-3)
    (single,) = find_lines(PAGE[:1])
    np.testing.assert_allclose(single.quad, PAGE[0])


def test_gaps_heights_and_offsets_divide_lines() -> None:
    assert words_of(find_lines(np.stack([box(0, 0, 50), box(70, 0, 50)]))) == [(0, 1)]
    assert words_of(find_lines(np.stack([box(0, 0, 50), box(75, 0, 50)]))) == [(0,), (1,)], "too far"
    assert words_of(find_lines(np.stack([box(0, 0, 50), box(60, 11, 50)]))) == [(0,), (1,)], "too low"
    assert words_of(find_lines(np.stack([box(0, 0, 50, 60), box(60, 20, 50)]))) == [(0,), (1,)], "too small"
    assert words_of(find_lines(np.stack([box(0, 0, 50), box(60, 8, 30, 12)]))) == [(0, 1)], "small letters"


def test_a_line_may_bend() -> None:
    """Ten words on an arc; no two neighbors differ by more than ten degrees."""
    angles = np.radians(np.linspace(-40, 40, 10))
    quads = np.stack([
        turned(box(468, 90, 64), degrees, (500, 100)) + 500 * np.array([np.sin(a), 1 - np.cos(a)])
        for a, degrees in zip(angles, np.degrees(angles), strict=True)
    ])  # fmt: skip
    assert words_of(find_lines(quads)) == [tuple(range(10))]


def test_words_in_a_ring_are_one_line() -> None:
    angles = np.arange(24) * np.pi / 12
    quads = np.stack([
        turned(box(480, 90, 40), np.degrees(a), (500, 100)) + 200 * np.array([np.sin(a), 1 - np.cos(a)])
        for a in angles
    ])  # fmt: skip
    assert sorted(word for line in find_lines(quads) for word in line.words) == list(range(24))


def test_text_that_runs_down() -> None:
    spine = np.stack([box(0, 0, 20, 90), box(0, 100, 20, 60), box(0, 170, 20, 100)])
    (line,) = find_lines(spine)
    assert line.words == (0, 1, 2)
    np.testing.assert_allclose(line.quad, [[20, 0], [20, 270], [0, 270], [0, 0]], atol=1e-4)
    beside = np.concatenate([spine, spine + np.array([30, 0])])
    assert words_of(find_lines(beside)) == [(0, 1, 2), (3, 4, 5)], "two spines, not three lines of two words"
    narrow = np.stack([box(0, 0, 8), box(15, 0, 80), box(102, 0, 8)])
    assert words_of(find_lines(narrow)) == [(0, 1, 2)], "a digit is high, too"


def test_what_stands_above_is_read_before() -> None:
    right_first = np.stack([box(600, 0, 200), box(0, 200, 200)])
    assert words_of(find_lines(right_first)) == [(1,), (0,)], "columns that do not stand side by side"
    over_one = np.stack([box(0, 0, 100), box(0, 40, 100), box(200, 40, 100), box(0, 80, 100)])
    assert words_of(find_lines(over_one)) == [(0,), (1,), (3,), (2,)]


def test_nothing_and_broken_boxes() -> None:
    assert find_lines(np.zeros((0, 4, 2), np.float32)) == ()
    flat = np.stack([np.full((4, 2), 5.0), box(0, 0, 50), box(0, 0, 50)])
    assert sorted(word for line in find_lines(flat) for word in line.words) == [0, 1, 2]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 60), spread=st.sampled_from([50.0, 400.0, 3000.0]))
def test_every_word_is_in_one_line(seed: int, count: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    quads = np.stack([
        turned(box(*rng.uniform(0, spread, 2), *rng.uniform(1, 90, 2)), rng.uniform(-180, 180), (0, 0))
        for _ in range(count)
    ]).astype(np.float32)  # fmt: skip
    lines = find_lines(quads)
    assert sorted(word for line in lines for word in line.words) == list(range(count))
    for line in lines:
        assert line.quad.dtype == np.float32 and line.quad.shape == (4, 2) and area(line.quad) >= 0
        for word in line.words:
            assert iou(quads[word].astype(np.float64), line.quad.astype(np.float64)) > 0


def pairs(lines: list[tuple[int, ...]]) -> set[tuple[int, int]]:
    return {(min(i, j), max(i, j)) for line in lines for n, i in enumerate(line) for j in line[:n]}


def test_lines_of_generated_scenes() -> None:
    """The generator knows which words it set in one line; benchmarks/lines.py asks it for more scenes."""
    scenes, counts = SyntheticScenes(24, seed=5, size=(480, 640)), np.zeros(3, int)
    for index in range(len(scenes)):
        sample, numbers = scenes.with_lines(index)
        assert len(numbers) == len(sample.truth.quads)
        truth = [tuple(np.flatnonzero(numbers == number).tolist()) for number in np.unique(numbers)]
        ours, theirs = pairs(words_of(find_lines(sample.truth.quads))), pairs(truth)
        counts += (len(ours & theirs), len(ours), len(theirs))
    right, found, true = counts.tolist()
    assert true > 60 and right / found >= 0.98 and right / true >= 0.98


def test_the_generator_numbers_lines_by_sign_and_row() -> None:
    sample, numbers = SyntheticScenes(1, seed=3).with_lines(0)
    np.testing.assert_array_equal(np.unique(numbers), np.arange(numbers.max() + 1))
    np.testing.assert_array_equal(sample.image, SyntheticScenes(1, seed=3)[0].image)
    assert list(numbers) == sorted(numbers), "in the order in which the words were laid out"


def test_detections_say_their_lines() -> None:
    order = np.random.default_rng(0).permutation(len(PAGE))
    scores = np.linspace(1, 0.9, len(PAGE), dtype=np.float32)
    found = Detections(PAGE[order].astype(np.float32), scores)
    assert [tuple(order[list(line.words)].tolist()) for line in found.lines()] == LINES
    said = json.loads(found.to_json(lines=True, image="a.jpg"))
    assert [tuple(order[line["words"]].tolist()) for line in said["lines"]] == LINES
    assert said["lines"][0]["corners"] == [[100, 20], [800, 20], [800, 60], [100, 60]]
    assert "lines" not in json.loads(found.to_json())
    image = np.full((300, 900, 3), 80, np.uint8)
    assert (found.draw(image, lines=True) != found.draw(image)).any()
    nothing = Detections(np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32))
    assert json.loads(nothing.to_json(lines=True)) == {"words": [], "lines": []}
