"""Random crops: pixels and quads must go through the same matrix, and no image may be refused."""

import cv2
import numpy as np
import pytest
from helpers.truths import rectangle, truth_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from efficientnet_east.data.augment import Augmentation, augment, crop_truth, mosaic, shares_inside
from efficientnet_east.data.color import Color
from efficientnet_east.data.warp import warp
from efficientnet_east.errors import UserError
from efficientnet_east.geometry import quads as geometry
from efficientnet_east.structures import Sample, Truth


def painted(shape: tuple[int, int], quads: np.ndarray) -> np.ndarray:
    """White quads on black, edges exact to a 16th of a pixel."""
    image = np.zeros((*shape, 3), np.uint8)
    for quad in quads:
        cv2.fillPoly(image, [np.rint(quad * 16).astype(np.int32)], (255, 255, 255), shift=4)
    return image


def seeds() -> st.SearchStrategy[int]:
    return st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=seeds(), scale=st.floats(0.15, 3), rotation=st.floats(0, 90), aspect=st.floats(1, 1.5))
@example(seed=65433, scale=0.84765625, rotation=1.0, aspect=1.0)
def test_painted_texts_stay_under_their_quads(
    seed: int, scale: float, rotation: float, aspect: float
) -> None:
    quads = np.array(
        [[[100, 80], [300, 110], [290, 190], [95, 150]], [[380, 240], [520, 230], [530, 330], [390, 320]]],
        np.float32,
    )
    sample = Sample("a", painted((400, 600), quads), truth_of(*quads))
    options = Augmentation(size=256, scale=(scale, scale), rotation=rotation, aspect=aspect, color=None)
    crop = augment(sample, np.random.default_rng(seed), options)
    # With room around it: OpenCV fills cells beside a polygon that is cut by the left border.
    expected = painted((1256, 1256), crop.truth.quads + 500)[500:756, 500:756, 0] > 127
    found = crop.image[..., 0] > 127
    # The pictures agree but for a pixel of the crop and one of the image along the edges.
    edges = np.zeros((256, 256), np.uint8)
    width = 3 + 2 * int(np.ceil(scale))
    for quad in crop.truth.quads:
        cv2.polylines(edges, [np.rint(quad * 16).astype(np.int32)], True, 255, width, shift=4)
    assert not ((expected != found) & (edges == 0)).any()


@pytest.mark.parametrize("scale", [1.0, 0.7, 0.4, 0.13, 2.5])
def test_painted_corner_is_where_the_matrix_says(scale: float) -> None:
    """Sub-pixel: the center of mass of a painted square, through every branch of the reduction."""
    side = int(np.ceil(14 / scale)) | 1
    image = np.zeros((300, 417, 3), np.uint8)
    image[103 : 103 + side, 201 : 201 + side] = 255
    middle = np.array([201 + (side - 1) / 2, 103 + (side - 1) / 2])
    cos, sin = np.cos(0.2) * scale, np.sin(0.2) * scale
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0]])
    matrix[:, 2] = np.array([40.3, 50.8]) - matrix[:, :2] @ middle
    weights = warp(image, matrix, 96)[..., 0].astype(np.float64) - image.mean().round()
    weights[weights < 8] = 0
    rows, columns = np.mgrid[:96, :96]
    found = np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()
    np.testing.assert_allclose(found, [40.3, 50.8], atol=0.12)


@pytest.mark.parametrize("shape", [(720, 1280), (333, 777), (40, 2000)])
@pytest.mark.parametrize("scale", [1.0, 0.45, 0.2, 0.06, 3.0])
def test_cutting_the_needed_part_first_changes_nothing(shape: tuple[int, int], scale: float) -> None:
    rng = np.random.default_rng(5)
    image = cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), (0, 0), 3 / scale)
    matrix = np.array([[scale, 0.05 * scale, 20.4], [-0.05 * scale, scale, -5.7]])
    matrix[:, 2] -= matrix[:, :2] @ [shape[1] / 2 - 30, shape[0] / 2 - 10]
    direct = cv2.warpAffine(image, matrix, (128, 128), borderValue=cv2.mean(image))
    inside = cv2.warpAffine(np.ones(shape, np.uint8), matrix, (128, 128)) == 1
    inside = cv2.erode(inside.astype(np.uint8), np.ones((5, 5)), borderValue=0) == 1
    difference = np.abs(warp(image, matrix, 128).astype(int) - direct)
    assert difference[inside].max(initial=0) <= 8


def test_shrinking_averages_instead_of_skipping() -> None:
    """Lines one pixel wide, ten apart, at a tenth of the size: evenly a tenth of white."""
    image = np.zeros((640, 640, 3), np.uint8)
    image[:, ::10] = 255
    small = warp(image, np.array([[0.1, 0, 0], [0, 0.1, 0]]), 64)[4:-4, 4:-4]
    assert abs(small.mean() - 25.5) < 3 and small.std() < 3


def test_outside_the_image_is_its_mean_color() -> None:
    image = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    crop = warp(image, np.array([[1.0, 0, 10], [0, 1, 5]]), 64)
    assert (crop == (200, 100, 50)).all()


def test_far_from_the_image_is_its_mean_color_too() -> None:
    image = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    assert (warp(image, np.array([[1.0, 0, 1e5], [0, 1, -1e5]]), 32) == (200, 100, 50)).all()


def test_panorama_wider_than_opencv_can_warp() -> None:
    image = np.zeros((40, 40000, 3), np.uint8)
    image[:, 35000:] = 255
    crop = warp(image, np.array([[1.0, 0, -34990], [0, 1, 0]]), 32)
    assert (crop[:, :9] == 0).all() and (crop[:, 11:] == 255).all()


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    texts=st.integers(0, 5),
    seed=seeds(),
    low=st.floats(0.02, 4),
    ratio=st.floats(1, 10),
    rotation=st.floats(0, 180),
)
def test_any_image_gives_a_crop_of_the_size_asked_for(
    width: int, height: int, texts: int, seed: int, low: float, ratio: float, rotation: float
) -> None:
    rng = np.random.default_rng(seed)
    centers = rng.uniform([-20, -20], [width + 20, height + 20], (texts, 1, 2))
    quads = (centers + rng.uniform(-60, 60, (texts, 4, 2))).astype(np.float32)
    truth = Truth(quads, rng.random(texts) < 0.5, tuple("abcde"[:texts]))
    sample = Sample("a", rng.integers(0, 256, (height, width, 3), dtype=np.uint8), truth)
    crop = augment(sample, rng, Augmentation(size=64, scale=(low, low * ratio), rotation=rotation))
    assert crop.image.shape == (64, 64, 3)
    assert len(crop.truth.quads) == len(crop.truth.texts) <= texts
    assert np.isfinite(crop.truth.quads).all()


def test_same_generator_state_same_crop() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    sample = Sample("a", image, truth_of(rectangle(50, 50, 90, 70)))
    options = Augmentation(size=128)
    first, again, other = (augment(sample, np.random.default_rng(seed), options) for seed in (1, 1, 2))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.truth.quads, again.truth.quads)
    assert not np.array_equal(first.image, other.image)


def test_the_sample_is_not_changed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    sample = Sample("a", image.copy(), truth_of(rectangle(10, 10, 50, 30)))
    sample.image.setflags(write=False)
    sample.truth.quads.setflags(write=False)
    augment(sample, np.random.default_rng(0), Augmentation(size=64, color=Color(blur=1, noise=1)))
    assert np.array_equal(sample.image, image)


def test_cut_texts_are_ignored_and_those_outside_dropped() -> None:
    truth = truth_of(
        rectangle(10, 10, 50, 30),
        rectangle(-50, 10, 49, 30),
        rectangle(90, 40, 101, 60),
        rectangle(200, 10, 250, 30),
        rectangle(-30, -30, -1, -1),
    )
    cropped = crop_truth(truth, np.array([[1.0, 0, 0], [0, 1, 0]]), 100, 0.8)
    np.testing.assert_array_equal(cropped.quads, truth.quads[:3])
    np.testing.assert_array_equal(cropped.ignore, [False, True, False])


def test_a_quad_past_the_corner_whose_box_still_touches_is_outside() -> None:
    diamond = np.array([[108, 90], [118, 100], [108, 110], [98, 108]], np.float32)
    assert shares_inside(diamond[None], 100)[0] == 0


@settings(max_examples=60, deadline=None)
@given(seed=seeds())
def test_share_inside_agrees_with_counted_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = 60 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    quad = rng.uniform(-40, 140, 2) + corners * rng.uniform(0.4, 1, (4, 2))
    canvas = np.zeros((400, 400), np.uint8)
    cv2.fillPoly(canvas, [np.rint((quad + 150) * 16).astype(np.int32)], 1, shift=4)
    counted = canvas[150:250, 150:250].sum() / canvas.sum()
    assert abs(shares_inside(quad[None].astype(np.float32), 100)[0] - counted) < 0.05


def test_the_crop_ends_half_a_pixel_outside_its_outer_pixels() -> None:
    quads = np.stack([rectangle(-10.5, 10, 9.5, 20), rectangle(89.5, 10, 109.5, 20)])
    np.testing.assert_allclose(shares_inside(quads, 100), 0.5)


def test_share_of_nothing() -> None:
    assert shares_inside(np.zeros((0, 4, 2), np.float32), 64).shape == (0,)


def crops(sample: Sample, options: Augmentation, count: int = 200) -> list[Sample]:
    return [augment(sample, np.random.default_rng(seed), options) for seed in range(count)]


def test_text_crops_hold_the_text_whole() -> None:
    sample = Sample("a", np.zeros((720, 1280, 3), np.uint8), truth_of(rectangle(5, 3, 60, 20)))
    options = Augmentation(size=128, text_crops=1, rotation=5, color=None)
    found = crops(sample, options)
    assert np.mean([len(crop.truth.texts) == 1 and not crop.truth.ignore[0] for crop in found]) > 0.98


def test_text_crops_do_not_seek_ignored_text() -> None:
    near, far = rectangle(20, 20, 80, 40), rectangle(1100, 600, 1180, 640)
    truth = Truth(np.stack([near, far]), np.array([False, True]), ("a", "###"))
    options = Augmentation(size=128, text_crops=1, color=None)
    found = crops(Sample("a", np.zeros((720, 1280, 3), np.uint8), truth), options)
    assert all("a" in crop.truth.texts for crop in found)


def test_other_crops_reach_every_corner_and_leave_text_out() -> None:
    sample = Sample("a", np.zeros((600, 800, 3), np.uint8), truth_of(rectangle(400, 300, 420, 310)))
    options = Augmentation(size=256, text_crops=0, scale=(1, 1), aspect=1, rotation=0, color=None)
    assert np.mean([len(crop.truth.texts) == 0 for crop in crops(sample, options)]) > 0.5
    offsets = np.array([crop_offset(seed, options) for seed in range(300)])
    assert (offsets.min(axis=0) < 12).all() and (offsets.max(axis=0) > [800 - 256 - 12, 600 - 256 - 12]).all()


def crop_offset(seed: int, options: Augmentation) -> np.ndarray:
    """Where the window begins, read from the crop of an image whose colors are its coordinates."""
    rows, columns = np.mgrid[:600, :800]
    image = np.stack([columns // 4, rows // 4, np.zeros_like(rows)], axis=2).astype(np.uint8)
    crop = augment(Sample("a", image, truth_of()), np.random.default_rng(seed), options)
    return crop.image[0, 0, :2].astype(float) * 4


def test_windows_that_cut_no_text_are_preferred() -> None:
    words = [rectangle(x, y, x + 90, y + 30) for x in range(10, 1190, 230) for y in range(10, 680, 90)]
    sample = Sample("a", np.zeros((720, 1280, 3), np.uint8), truth_of(*words))

    def share_cut(tries: int) -> float:
        options = Augmentation(size=384, tries=tries, scale=(1, 1), aspect=1, rotation=0, color=None)
        ignored = [crop.truth.ignore for crop in crops(sample, options, 60)]
        return float(np.mean(np.concatenate(ignored)))

    assert share_cut(20) < 0.5 * share_cut(1)


def test_a_text_larger_than_the_crop_is_ignored() -> None:
    sample = Sample("a", np.zeros((400, 900, 3), np.uint8), truth_of(rectangle(50, 100, 850, 300)))
    for crop in crops(sample, Augmentation(size=128, scale=(1, 1), text_crops=1, color=None), 20):
        assert crop.truth.ignore.all() and len(crop.truth.texts) == 1


def test_a_small_image_lies_in_the_crop_at_random_places() -> None:
    text = rectangle(10, 10, 80, 40)
    sample = Sample("a", np.zeros((60, 100, 3), np.uint8), truth_of(text))
    options = Augmentation(size=256, scale=(1, 1), aspect=1, rotation=0, color=None)
    lefts = np.array([crop.truth.quads[0, 0] - text[0] for crop in crops(sample, options, 100)])
    assert (lefts > -1).all() and (lefts.max(axis=0) <= [157, 197]).all()
    assert (lefts.std(axis=0) > 20).all()


def test_scale_is_log_uniform() -> None:
    sample = Sample("a", np.zeros((64, 64, 3), np.uint8), truth_of(rectangle(20, 20, 40, 40)))
    options = Augmentation(size=512, scale=(0.5, 2.0), color=None)
    areas = np.concatenate([geometry.area(crop.truth.quads) for crop in crops(sample, options, 400)])
    logs = np.log2(np.sqrt(areas / 400))
    assert logs.min() > -1.01 and logs.max() < 1.01
    assert abs(logs.mean()) < 0.1 and abs(logs.std() - 2 / np.sqrt(12)) < 0.05


def test_rotation_keeps_within_its_range_and_uses_it() -> None:
    sample = Sample("a", np.zeros((64, 64, 3), np.uint8), truth_of(rectangle(20, 20, 40, 30)))
    quads = np.concatenate(
        [c.truth.quads for c in crops(sample, Augmentation(size=256, rotation=20, aspect=1, color=None))]
    )
    side = quads[:, 1] - quads[:, 0]
    angles = np.degrees(np.arctan2(side[:, 1], side[:, 0]))
    assert np.abs(angles).max() <= 20.01 and angles.min() < -15 and angles.max() > 15


def test_quarter_turns_are_as_frequent_as_wanted_and_go_to_both_sides() -> None:
    sample = Sample("a", np.zeros((64, 64, 3), np.uint8), truth_of(rectangle(20, 20, 40, 30)))
    options = Augmentation(size=256, rotation=0, aspect=1, quarter_turns=0.25, color=None)
    quads = np.concatenate([crop.truth.quads for crop in crops(sample, options, 400)])
    side = quads[:, 1] - quads[:, 0]
    turns = np.degrees(np.arctan2(side[:, 1], side[:, 0]))
    shares = [np.mean(np.abs(turns - turn) < 0.1) for turn in (-90, 0, 90)]
    assert sum(shares) == 1
    np.testing.assert_allclose(shares, [0.125, 0.75, 0.125], atol=0.06)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 100},
        {"size": 0},
        {"scale": (0, 1)},
        {"scale": (1, 0.5)},
        {"aspect": 0.9},
        {"rotation": -1},
        {"text_crops": 1.5},
        {"tries": 0},
        {"kept": 0},
        {"rotation": float("nan")},
        {"quarter_turns": 1.1},
    ],
    ids=str,
)
def test_options_out_of_range_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"augmentation.{next(iter(wrong))}"):
        Augmentation(**wrong)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(seed=seeds(), rotation=st.floats(0, 45), scale=st.floats(0.4, 2.5))
@example(seed=647, rotation=1.0, scale=1.90625)
def test_mosaics_mask_what_a_window_cuts_and_nothing_beside_it(
    seed: int, rotation: float, scale: float
) -> None:
    """Each window's texts have a color of their own, so that it can be seen where they are."""
    colors = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 0]], np.uint8)
    rng = np.random.default_rng(seed)
    samples = []
    for color in colors:
        places = rng.uniform(10, 290, (5, 1, 2))
        quads = (places + np.array([[0, 0], [90, 10], [85, 40], [-5, 30]])).astype(np.float32)
        image = np.where(painted((340, 400), quads) > 127, color, 0).astype(np.uint8)
        samples.append(Sample(f"{color}", image, truth_of(*quads)))
    options = Augmentation(size=256, scale=(scale, scale), rotation=rotation, mosaic=1.0, color=None)
    crop = mosaic(samples, np.random.default_rng(seed), options)
    assert crop.image.shape == (256, 256, 3) and crop.name == samples[0].name
    covered, learned = np.zeros((256, 256), bool), np.zeros((256, 256), bool)
    masked, width = np.zeros((256, 256), bool), 3 + 2 * int(np.ceil(scale))
    square = np.ones((width, width), np.uint8)
    for quad, ignored in zip(crop.truth.quads, crop.truth.ignore, strict=True):
        # In pixels, whose centers are at integers, a window reaches half a pixel beyond its first and last.
        ends = quad.min(axis=0), quad.max(axis=0)
        window = 128 * ((ends[0] + ends[1]) / 2 >= 127.5)
        assert (ends[0] >= window - 0.51).all() and (ends[1] <= window + 127.51).all()
        alone = np.zeros((256, 256), np.uint8)
        cv2.fillPoly(alone, [np.rint(quad * 16).astype(np.int32)], 1, shift=4)
        covered |= cv2.dilate(alone, square) > 0
        masked |= bool(ignored) & (alone > 0)
        learned |= bool(~ignored) & (cv2.erode(alone, square, borderValue=0) > 0)
    seen = crop.image.max(axis=2)
    # A text that ends right beside a window shows through: a pixel of its image is `scale` pixels wide here.
    rim = int(np.ceil(scale / 2))
    inside = np.tile(np.pad(np.ones((128 - 2 * rim,) * 2, bool), rim), (2, 2))
    assert not ((seen > 150) & ~covered & inside).any()
    # What is learned as text is text, whole.
    assert (seen[learned & ~masked] > 50).all()


def test_a_mosaic_shows_each_image_in_its_quarter() -> None:
    samples = [Sample(str(i), np.full((300, 300, 3), 40 + 50 * i, np.uint8), truth_of()) for i in range(4)]
    crop = mosaic(samples, np.random.default_rng(0), Augmentation(size=128, mosaic=1.0, color=None))
    quarters = [crop.image[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64)]
    assert [int(np.median(quarter)) for quarter in quarters] == [40, 90, 140, 190]
    assert all(quarter.std() == 0 for quarter in quarters)


@pytest.mark.parametrize(
    ("wrong", "named"), [({"mosaic": 1.5}, "mosaic"), ({"size": 96, "mosaic": 0.5}, "size")]
)
def test_mosaics_out_of_range(wrong: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Augmentation(**wrong)
