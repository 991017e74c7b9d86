"""Changes of color, sharpness and noise."""

import dataclasses

import cv2
import numpy as np
import pytest

from efficientnet_east.data.color import Color, recolor
from efficientnet_east.errors import UserError

QUIET = Color(*[0.0] * 10)  # the rest is off by default


def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def test_color_switched_off_is_the_identity() -> None:
    for seed in range(20):
        same = recolor(picture(), np.random.default_rng(seed), QUIET)
        assert np.abs(same.astype(int) - picture()).max() <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"brightness": 0.2},
        {"contrast": 0.4},
        {"saturation": 0.5},
        {"hue": 20},
        {"gamma": 0.4},
        {"gray": 1},
        {"blur": 1, "blur_sigma": 1.5},
        {"noise": 1, "noise_sigma": 12},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_color_option_has_an_effect(options: dict[str, float]) -> None:
    color = dataclasses.replace(QUIET, **options)
    changed = [recolor(picture(), np.random.default_rng(seed), color) for seed in range(8)]
    assert any(np.abs(image.astype(int) - picture()).mean() > 2 for image in changed)
    assert all(image.shape == picture().shape and image.dtype == np.uint8 for image in changed)


def test_gray_is_gray_and_keeps_the_luma() -> None:
    gray = recolor(picture(), np.random.default_rng(0), Color(*[0.0] * 5, 1.0, *[0.0] * 4))
    assert np.ptp(gray.astype(int), axis=2).max() <= 1
    np.testing.assert_allclose(gray[..., 0], picture() @ [0.299, 0.587, 0.114], atol=1.5)


def test_hue_and_saturation_keep_the_luma() -> None:
    muted = (picture() // 4 + 96).astype(np.uint8)  # away from the ends, where clipping would change it
    turned = recolor(muted, np.random.default_rng(4), Color(0, 0, 0.3, 30, 0, 0, 0, 0, 0, 0))
    np.testing.assert_allclose(turned @ [0.299, 0.587, 0.114], muted @ [0.299, 0.587, 0.114], atol=1.5)
    assert np.abs(turned.astype(int) - muted).max() > 3


def test_hue_alone_keeps_the_strength_of_the_color() -> None:
    muted = (picture() // 4 + 96).astype(np.uint8)
    turned = recolor(muted, np.random.default_rng(4), Color(0, 0, 0, 30, 0, 0, 0, 0, 0, 0))
    axes = np.array([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]).T
    before, after = muted @ axes, turned @ axes
    np.testing.assert_allclose(np.linalg.norm(after, axis=2), np.linalg.norm(before, axis=2), atol=1.5)
    assert np.abs(after - before).max() > 3


def test_noise_has_the_deviation_asked_for_at_most() -> None:
    flat = np.full((256, 256, 3), 128, np.uint8)
    color = Color(0, 0, 0, 0, 0, 0, 0, 0, 1, 20)
    deviations = [recolor(flat, np.random.default_rng(seed), color).std() for seed in range(30)]
    means = [recolor(flat, np.random.default_rng(seed), color).mean() for seed in range(30)]
    assert 5 < min(deviations) < 9 and 17 < max(deviations) < 21.5
    assert np.abs(np.array(means) - 128).max() < 0.5


@pytest.mark.parametrize("wrong", [{"gray": 2}, {"hue": -1}, {"gamma": float("inf")}], ids=str)
def test_color_options_out_of_range_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"augmentation.color.{next(iter(wrong))}"):
        Color(**wrong)


def test_motion_blurs_along_a_line_and_keeps_the_mean() -> None:
    image = np.zeros((65, 65, 3), np.uint8)
    image[32, 32] = 255
    options = dataclasses.replace(QUIET, motion=1.0, motion_pixels=9)
    for seed in range(20):
        seen = recolor(image, np.random.default_rng(seed), options)[..., 0].astype(float)
        y, x = np.nonzero(seen > 2)
        assert 3 <= max(np.ptp(x), np.ptp(y)) + 1 <= 11
        assert seen.sum() == pytest.approx(255, abs=12)
        if len(x) > 3:  # thin: across the line there are two pixels or three
            spread = np.linalg.svd(np.stack([x - x.mean(), y - y.mean()]), compute_uv=False)
            assert spread[1] / np.sqrt(len(x)) < 0.9


def test_jpeg_changes_pixels_a_little_and_keeps_colors_in_order() -> None:
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(0, 255, (12, 12, 3), np.uint8), (96, 96))
    image[..., 0] = np.maximum(image[..., 0], 128)
    seen = recolor(image, np.random.default_rng(1), dataclasses.replace(QUIET, jpeg=1.0))
    difference = np.abs(seen.astype(int) - image)
    assert 0 < difference.mean() < 12
    assert seen[..., 0].min() > 80


def test_strength_scales_extents_and_shares() -> None:
    color = Color(motion=0.2, jpeg=0.3).scaled(2.0)
    assert (color.brightness, color.hue, color.gray, color.blur) == (0.24, 16.0, 0.1, 0.2)
    assert (color.motion, color.jpeg, color.blur_sigma, color.noise_sigma) == (0.2, 0.3, 1.2, 10.0)
    assert Color(blur=0.4).scaled(4.0).blur == 1.0
    assert Color().scaled(1.0) == Color()


def test_strength_0_leaves_the_picture() -> None:
    same = recolor(picture(), np.random.default_rng(0), Color().scaled(0.0))
    assert np.abs(same.astype(int) - picture()).max() <= 1
