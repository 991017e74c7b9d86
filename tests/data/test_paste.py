"""Words of other images that are pasted into crops."""

import dataclasses

import numpy as np
import pytest
from helpers.streams import assert_equal, take
from helpers.truths import rectangle, truth_of

from efficientnet_east.data.augment import Augmentation, augment
from efficientnet_east.data.crops import load_crop
from efficientnet_east.data.loader import TextOptions
from efficientnet_east.data.paste import MOST_WORDS, paste_words
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.intersections import intersection_matrix
from efficientnet_east.structures import Sample, Truth

SIZE = 256
WORDS = [rectangle(20, 20 + 60 * row, 120, 44 + 60 * row) for row in range(4)]
PLAIN = Augmentation(size=SIZE, scale=(1, 1), aspect=1, rotation=0, color=None)


def crop_with(*quads: np.ndarray) -> Sample:
    return Sample("crop", np.full((SIZE, SIZE, 3), 100, np.uint8), truth_of(*quads))


def donor_with(*quads: np.ndarray, ignore: bool = False) -> Sample:
    """Red words on green ground, which are easy to find again."""
    image = np.zeros((300, 300, 3), np.uint8)
    image[..., 1] = 255
    for quad in quads:
        (left, top), (right, bottom) = quad.min(axis=0).astype(int), quad.max(axis=0).astype(int)
        image[top : bottom + 1, left : right + 1] = (255, 0, 0)
    truth = truth_of(*quads)
    return Sample("donor", image, Truth(truth.quads, np.full(len(quads), ignore), truth.texts))


def paste(crop: Sample, donor: Sample, seed: int = 0, most: int = MOST_WORDS) -> Sample:
    return paste_words(crop, donor, np.random.default_rng(seed), lambda: np.eye(2), most)


@pytest.mark.parametrize("seed", range(20))
def test_pasted_words_lie_under_their_labels_and_on_no_text(seed: int) -> None:
    own = rectangle(30, 100, 200, 140)
    crop = crop_with(own)
    found = paste(crop, donor_with(*WORDS), seed)
    count = len(found.truth.texts) - 1
    assert 0 <= count <= MOST_WORDS and not found.truth.ignore.any()
    np.testing.assert_array_equal(found.truth.quads[0], own)
    red = found.image[..., 0] > 200
    for quad in found.truth.quads[1:]:
        (left, top), (right, bottom) = (
            np.rint(quad.min(axis=0)).astype(int),
            np.rint(quad.max(axis=0)).astype(int),
        )
        assert red[top + 2 : bottom - 1, left + 2 : right - 1].all()
        red[top - 1 : bottom + 2, left - 1 : right + 2] = False
    assert not red.any(), "nothing red beside the labels"
    common, _, _ = intersection_matrix(found.truth.quads, found.truth.quads)
    assert (common - np.diag(np.diag(common)) == 0).all()
    np.testing.assert_array_equal(found.image[100:141, 30:201], crop.image[100:141, 30:201])
    assert (crop.image == 100).all(), "the crop itself is left as it is"


def test_most_crops_get_some_and_the_seed_decides() -> None:
    crop, donor = crop_with(), donor_with(*WORDS)
    counts = [len(paste(crop, donor, seed).truth.texts) for seed in range(40)]
    assert set(counts) >= {1, 2, 3}
    np.testing.assert_array_equal(paste(crop, donor, 3).image, paste(crop, donor, 3).image)
    assert (paste(crop, donor, 3).image != paste(crop, donor, 4).image).any()


def test_edges_are_blended() -> None:
    found = paste(crop_with(), donor_with(WORDS[0]), 1)
    green = found.image[..., 1].astype(int)
    assert ((green > 105) & (green < 250) & (found.image[..., 0] < 100)).sum() > 100


@pytest.mark.parametrize(
    "donor",
    [
        donor_with(),
        donor_with(*WORDS, ignore=True),
        donor_with(rectangle(-5, 20, 100, 44)),
        donor_with(rectangle(0, 0, 299, 299)),
        donor_with(rectangle(20, 20, 120, 44), rectangle(110, 20, 200, 44)),
    ],
    ids=["no text", "illegible", "cut off", "too large", "one on another"],
)
def test_words_that_are_no_use_are_not_pasted(donor: Sample) -> None:
    crop = crop_with(WORDS[0])
    for seed in range(5):
        found = paste(crop, donor, seed)
        assert found.truth.texts == crop.truth.texts
        np.testing.assert_array_equal(found.image, crop.image)


def test_a_crop_full_of_text_gets_none() -> None:
    full = crop_with(rectangle(0, 0, SIZE - 1, SIZE - 1))
    assert len(paste(full, donor_with(*WORDS)).truth.texts) == 1
    assert len(paste(crop_with(), donor_with(*WORDS), most=0).truth.texts) == 0


def test_colors_change_with_the_crop() -> None:
    """The words are pasted before the colors change, so they get the same change."""
    gray = Augmentation(size=SIZE, text_crops=0)
    crop = augment(crop_with(), np.random.default_rng(5), gray, donor_with(*WORDS))
    assert crop.truth.texts and crop.image.shape == (SIZE, SIZE, 3)
    without = augment(crop_with(), np.random.default_rng(5), PLAIN)
    assert not without.truth.texts


PASTING = Augmentation(size=128, scale=(0.5, 0.8), paste=1.0)


def test_batches_with_pasted_words_are_deterministic() -> None:
    made, again = take(3, augmentation=PASTING), take(3, augmentation=PASTING, workers=1)
    assert_equal(made, again)
    plain = take(3, augmentation=dataclasses.replace(PASTING, paste=0.0))
    assert sum(batch.score.sum() for batch in made) > sum(batch.score.sum() for batch in plain)


def test_images_without_text_get_words_of_another_source() -> None:
    blank, other = [crop_with()], [donor_with(*WORDS)]
    options = Augmentation(size=SIZE, scale=(1, 1), aspect=1, rotation=0, color=None, paste=1.0)
    counts = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        loaded = load_crop(
            (0, 0), rng, sources=[blank, other], augmentation=options, labels=TextOptions(9), skip=False
        )
        assert loaded["name"] == "crop"
        counts.append(int(loaded["arrays"]["count"]))
    assert min(counts) == 0 < max(counts), "the donor is of either source"


def test_no_more_texts_than_a_program_takes() -> None:
    counts = [
        max(batch.count.max() for batch in take(3, augmentation=PASTING, labels=TextOptions(most)))
        for most in (1, 2)
    ]
    assert counts == [1, 2]


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_from_0_to_1(share: float) -> None:
    with pytest.raises(UserError, match=r"augmentation\.paste: is .*; expected 0 to 1"):
        Augmentation(paste=share)
