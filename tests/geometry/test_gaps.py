"""The gaps between neighboring words, and what their cells weigh in the loss."""

import numpy as np
import pytest
from helpers.truths import rectangle

from efficientnet_east.geometry.gaps import between_words
from efficientnet_east.geometry.label_maps import Maps, encode
from efficientnet_east.geometry.quads import area, shrink, transform

LEFT, RIGHT, FAR = rectangle(20, 20, 100, 50), rectangle(116, 22, 200, 50), rectangle(240, 20, 300, 50)


def weighed(
    *quads: np.ndarray, between: float = 4.0, ignore: tuple[int, ...] = (), **options: object
) -> Maps:
    flags = np.isin(np.arange(len(quads)), ignore)
    return encode(np.array(quads), flags, (160, 320), between=between, **options)  # type: ignore[arg-type]


def test_the_gap_lies_between_the_facing_sides() -> None:
    quads = np.array([LEFT, RIGHT, FAR])
    (gap,) = between_words(quads, quads)
    assert sorted(gap[:, 0].tolist()) == [100, 100, 116, 116]
    assert area(gap) == pytest.approx(16 * 28), "the lower word's height"


@pytest.mark.parametrize("degrees", [0, 33, 90, 200])
def test_gaps_turn_with_the_words(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 300], [np.sin(angle), np.cos(angle), 300]])
    quads = np.array([LEFT, RIGHT, FAR])
    (expected,), (found,) = between_words(quads, quads), between_words(*[transform(quads, turn)] * 2)
    assert area(found) == pytest.approx(area(expected), rel=1e-4)
    np.testing.assert_allclose(found.mean(axis=0), transform(expected[None], turn)[0].mean(axis=0), atol=1e-3)


def test_lines_below_one_another_have_a_gap() -> None:
    quads = np.array([rectangle(20, 20, 200, 50), rectangle(20, 60, 120, 90), rectangle(20, 130, 120, 160)])
    (gap,) = between_words(quads, quads)
    assert sorted(gap.tolist()) == [[20, 50], [20, 60], [120, 50], [120, 60]]


@pytest.mark.parametrize("quads", [np.zeros((0, 4, 2)), np.array([LEFT]), np.array([LEFT, FAR])])
def test_words_alone_have_no_gap(quads: np.ndarray) -> None:
    assert between_words(quads, quads).shape == (0, 4, 2)


def test_only_background_between_words_weighs_more() -> None:
    plain, maps = weighed(LEFT, RIGHT, FAR, between=1.0), weighed(LEFT, RIGHT, FAR)
    np.testing.assert_array_equal(maps.score, plain.score)
    np.testing.assert_array_equal(maps.geometry, plain.geometry)
    assert (plain.mask == 1).all() and set(np.unique(maps.mask)) == {1.0, 4.0}
    rows, columns = np.nonzero(maps.mask == 4)
    inner = shrink(np.array([LEFT, RIGHT]))
    assert (columns * 4 >= inner[0, :, 0].max() - 4).all() and (columns * 4 <= inner[1, :, 0].min() + 4).all()
    assert maps.mask[9, 27] == 4, "the pixel (108, 36), in the middle of the gap"
    assert (maps.score[rows, columns] == 0).all()


def test_masked_cells_and_masked_words_keep_their_mask() -> None:
    assert (weighed(LEFT, RIGHT, ignore=(1,)).mask <= 1).all(), "an illegible word has no gap"
    cover = rectangle(90, 10, 130, 60)
    maps = weighed(LEFT, RIGHT, cover, ignore=(2,))
    assert maps.mask[9, 27] == 0
    assert (weighed(LEFT, RIGHT, ring=True).mask == 4).any()
