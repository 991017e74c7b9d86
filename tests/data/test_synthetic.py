"""Synthetic scenes: the same from everywhere, and labeled truly."""

import hashlib
import pickle
import string
import subprocess
import sys

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efficientnet_east.data.synthetic import backgrounds, fonts, signs, surfaces, words
from efficientnet_east.data.synthetic import scenes as synthetic
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError

SMALL = (256, 384)
few = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32)


def fingerprint(sample):
    parts = (sample.image.tobytes(), sample.truth.quads.tobytes(), sample.truth.ignore.tobytes())
    return hashlib.sha256(b"".join(parts) + repr((sample.name, sample.truth.texts)).encode()).hexdigest()


@pytest.fixture(scope="module")
def scenes():
    """Thirty small scenes, read in order."""
    source = SyntheticScenes(30, 11, SMALL)
    return [source[i] for i in range(30)]


@pytest.fixture(scope="module")
def large_scenes():
    source = SyntheticScenes(24, 5)
    return [source[i] for i in range(24)]


# ---- the same item from everywhere ----


def test_item_depends_on_seed_and_number_only(scenes):
    source = SyntheticScenes(1000, 11, SMALL)  # another length, read backwards
    for number in (29, 17, 3, 17):
        assert fingerprint(source[number]) == fingerprint(scenes[number])


def test_item_ignores_global_random_state(scenes):
    np.random.seed(4)
    cv2.setRNGSeed(99)
    assert fingerprint(SyntheticScenes(40, 11, SMALL)[5]) == fingerprint(scenes[5])


def test_same_item_with_one_thread(scenes):
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        assert fingerprint(SyntheticScenes(40, 11, SMALL)[6]) == fingerprint(scenes[6])
    finally:
        cv2.setNumThreads(threads)


def test_same_item_in_another_process_without_heavy_imports(scenes):
    source = pickle.dumps(SyntheticScenes(40, 11, SMALL))
    program = f"""
import hashlib, pickle, sys
sample = pickle.loads({source!r})[7]
parts = (sample.image.tobytes(), sample.truth.quads.tobytes(), sample.truth.ignore.tobytes())
print(hashlib.sha256(b"".join(parts) + repr((sample.name, sample.truth.texts)).encode()).hexdigest())
print(sorted({{"tensorflow", "matplotlib"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == [fingerprint(scenes[7]), "[]"]


def test_seeds_and_numbers_differ(scenes):
    other = SyntheticScenes(5, 12, SMALL)
    images = {sample.image.tobytes() for sample in scenes} | {other[i].image.tobytes() for i in range(5)}
    assert len(images) == 35


# ---- a sequence ----


def test_is_a_sequence():
    source = SyntheticScenes(3, 0, (128, 160))
    assert len(source) == 3
    assert [sample.name for sample in source] == ["scene_0_0", "scene_0_1", "scene_0_2"]  # type: ignore[attr-defined]
    assert source[np.int64(2)].image.shape == (128, 160, 3)
    for outside in (-1, 3, 10**9):
        with pytest.raises(IndexError):
            source[outside]
    with pytest.raises(TypeError):
        source[1.0]


@pytest.mark.parametrize(("length", "seed", "size"), [(0, 0, SMALL), (1, -1, SMALL), (1, 0, (100, 500))])
def test_bad_arguments_are_user_errors(length, seed, size):
    with pytest.raises(UserError, match=r"synthetic scenes: .* is too small; expected at least"):
        SyntheticScenes(length, seed, size)


def test_missing_matplotlib_is_a_user_error(monkeypatch):
    fonts._folder.cache_clear()
    monkeypatch.setattr(fonts.installed, "find", lambda name: None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        fonts._folder()


# ---- the labels ----


def test_quads_are_clockwise_inside_and_apart(scenes, large_scenes):
    for sample in (*scenes, *large_scenes):
        high, wide = sample.image.shape[:2]
        quads = sample.truth.quads.astype(np.float64)
        assert len(quads) >= 1
        assert (quads >= 1).all() and (quads[..., 0] <= wide - 2).all() and (quads[..., 1] <= high - 2).all()
        edges = np.roll(quads, -1, 1) - quads
        turns = edges[..., 0] * np.roll(edges, -1, 1)[..., 1] - edges[..., 1] * np.roll(edges, -1, 1)[..., 0]
        assert (turns > 0).all()  # convex, and clockwise where y points down
        polygons = shapely.polygons(quads)
        for i, polygon in enumerate(polygons):
            assert shapely.area(shapely.intersection(polygon, polygons[i + 1 :])).sum() < 0.5, sample.name


def test_first_edge_runs_along_the_word(large_scenes):
    quads = np.concatenate([sample.truth.quads for sample in large_scenes])
    along = quads[:, 1] - quads[:, 0]
    assert np.mean(np.abs(np.degrees(np.arctan2(along[:, 1], along[:, 0]))) < 60) > 0.93


def test_texts_are_hidden_exactly_where_ignored(scenes):
    for sample in scenes:
        assert [text == "###" for text in sample.truth.texts] == sample.truth.ignore.tolist()
        assert all(sample.truth.texts)


def test_low_words_are_ignored_and_some_are_not(scenes, large_scenes):
    low_seen = False
    for sample in (*scenes, *large_scenes):
        sides = np.linalg.norm(np.roll(sample.truth.quads, -1, 1) - sample.truth.quads, axis=2)
        low = np.minimum(sides[:, 0] + sides[:, 2], sides[:, 1] + sides[:, 3]) / 2 < 8
        assert sample.truth.ignore[low].all()
        low_seen |= bool(low.any())
    shares = np.concatenate([sample.truth.ignore for sample in large_scenes])
    assert low_seen and 0.01 < shares.mean() < 0.4


def test_faint_words_are_ignored(monkeypatch, scenes):
    """The rule is asked about each word: with no contrast good enough, none is left to read."""
    readable = next(i for i, sample in enumerate(scenes) if not sample.truth.ignore.all())
    monkeypatch.setattr(synthetic, "LEGIBLE_CONTRAST", 256.0)
    faint = SyntheticScenes(30, 11, SMALL)[readable]
    assert faint.truth.ignore.all() and np.array_equal(faint.image, scenes[readable].image)


def test_ink_stands_out_in_words_to_read(large_scenes):
    """An independent look at the finished picture: inside a word at least one channel varies clearly."""
    for sample in large_scenes:
        for quad in sample.truth.quads[~sample.truth.ignore]:
            mask = cv2.fillConvexPoly(
                np.zeros(sample.image.shape[:2], np.uint8), np.round(quad).astype(int), 1
            )
            low, high = np.percentile(sample.image[mask > 0], (2, 98), axis=0)
            assert (high - low).max() > synthetic.LEGIBLE_CONTRAST


def test_sizes_are_those_of_street_photographs(large_scenes):
    counts = [len(sample.truth.texts) for sample in large_scenes]
    assert min(counts) >= 2 and max(counts) <= 25 and 6 <= np.median(counts) <= 14
    read = np.concatenate([sample.truth.quads[~sample.truth.ignore] for sample in large_scenes])
    sides = np.linalg.norm(np.roll(read, -1, 1) - read, axis=2)
    heights = (sides[:, 1] + sides[:, 3]) / 2
    assert 19 < np.median(heights) < 29
    assert np.percentile(heights, 5) < 14 and np.percentile(heights, 95) > 45


@few
@given(seed=seeds, height=st.floats(8, 90))
def test_every_quad_holds_its_ink_tightly(seed, height):
    """The word's ink, sent through the same homography, fills its quad from side to side."""
    rng = np.random.default_rng(seed)
    layout = signs.compose(rng, height, (700, 350), 12)
    view = synthetic._view(rng, layout, 0.0)
    shift = np.array([[1, 0, 900], [0, 1, 900], [0, 0, 1]]) @ view
    quads = synthetic._word_quads(layout, shift)
    assert len(quads) == len(layout.texts)
    outside = layout.ink.copy()
    for box, quad in zip(layout.boxes.astype(int), quads, strict=True):
        x0, y0, x1, y1 = box
        word = np.zeros_like(layout.ink)
        word[y0:y1, x0:x1] = layout.ink[y0:y1, x0:x1]
        assert min(word[y0].max(), word[y1 - 1].max(), word[:, x0].max(), word[:, x1 - 1].max()) > 8
        outside[y0:y1, x0:x1] = 0
        ys, xs = np.nonzero(cv2.warpPerspective(word, shift, (1800, 1800)) > 100)
        hull = cv2.convexHull(np.stack([xs, ys], 1).astype(np.float32))
        gaps = [cv2.pointPolygonTest(quad[:, None], (float(x), float(y)), True) for x, y in hull[:, 0]]
        assert min(gaps) > -1.0
        for a, b in zip(quad, np.roll(quad, -1, 0), strict=True):  # each side is near some ink
            normal = np.array([a[1] - b[1], b[0] - a[0]]) / np.linalg.norm(b - a)
            assert ((hull[:, 0] - a) @ normal).min() < 4.5
    assert not outside.any()


def test_quads_start_at_the_top_left_of_the_word():
    layout = signs.compose(np.random.default_rng(0), 30.0, (600, 300), 5)
    quads = synthetic._word_quads(layout, np.eye(3))
    x0, y0, x1, y1 = layout.boxes.T
    low, high = -synthetic.MARGIN - 0.5, synthetic.MARGIN - 0.5
    expected = np.stack(
        [x0 + low, y0 + low, x1 + high, y0 + low, x1 + high, y1 + high, x0 + low, y1 + high], 1
    )
    np.testing.assert_allclose(quads.reshape(-1, 8), expected, atol=1e-4)


def test_contrast_is_the_largest_channel_difference_in_the_fainter_parts():
    image = np.full((40, 80, 3), 100, np.uint8)
    ink = np.zeros((40, 80), np.uint8)
    ink[15:25, 20:30] = 255
    image[15:25, 20:30] = (110, 70, 95)
    quad = np.array([[15, 10], [60, 10], [60, 30], [15, 30]], np.float32)
    assert synthetic.contrast(image, ink, quad) == pytest.approx(30, abs=1e-6)
    assert synthetic.contrast(image, np.zeros_like(ink), quad) == 0
    image[:, 24:] = (110, 70, 95)  # from here on the ground has the ink's color
    assert synthetic.contrast(image, ink, quad) < 13


# ---- words, fonts, surfaces ----


@few
@given(seed=seeds, count=st.integers(1, 6))
def test_lines_are_printable_words(seed, count):
    line = words.line_of_text(np.random.default_rng(seed), count)
    assert len(line) == count
    for word in line:
        assert word and all(letter in string.printable and not letter.isspace() for letter in word)
        assert any(letter.isalnum() for letter in word)


@pytest.mark.parametrize("face", range(len(fonts.FACES)), ids=[name for name, _ in fonts.FACES])
def test_every_face_has_every_letter(face):
    """No letter is the box of a missing glyph, and letters differ from one another."""
    letters = string.ascii_letters + string.digits
    missing = fonts._drawn("\uffff", face)[0]
    drawn = [fonts._drawn(letter, face)[0] for letter in letters + "$%#-.:&!,"]
    assert all(ink.max() > 200 for ink in drawn)
    assert not any(ink.shape == missing.shape and np.array_equal(ink, missing) for ink in drawn)
    assert len({(ink.shape, ink.tobytes()) for ink in drawn}) >= len(drawn) - 3


@few
@given(seed=seeds, height=st.floats(5, 120))
def test_lines_keep_their_capital_height(seed, height):
    rng = np.random.default_rng(seed)
    face = int(rng.integers(len(fonts.FACES)))
    style = fonts.Style(face, stretch=rng.uniform(0.7, 1.4), slant=rng.uniform(-0.1, 0.3))
    line = fonts.set_line(rng, ["H", "HE"], style, height)
    tall = line.boxes[:, 3] - line.boxes[:, 1]
    np.testing.assert_allclose(tall, height, atol=1 + 0.04 * height)
    assert line.boxes[1, 0] - line.boxes[0, 2] >= 2  # words stay apart
    assert line.baseline == pytest.approx(line.boxes[0, 3], abs=1.1)


@few
@given(seed=seeds)
def test_random_styles_always_draw(seed):
    rng = np.random.default_rng(seed)
    line = fonts.set_line(rng, words.line_of_text(rng, 3), fonts.random_style(rng), rng.uniform(5, 100))
    assert line.ink.dtype == np.uint8 and line.boxes.shape == (3, 4)
    assert (line.boxes[:, 2:] > line.boxes[:, :2]).all()
    assert (line.boxes[:, 2] <= line.ink.shape[1]).all() and (line.boxes[:, 3] <= line.ink.shape[0]).all()


@pytest.mark.parametrize("paint", [row[0] for row in surfaces.SURFACES], ids=lambda paint: paint.__name__)
@pytest.mark.parametrize("shape", [(2, 2), (3, 200), (150, 4), (120, 200)])
def test_surfaces_of_any_shape(paint, shape):
    image = paint(np.random.default_rng(1), shape)
    assert image.shape == (*shape, 3) and image.dtype == np.uint8


def test_backgrounds_vary_and_fill_the_picture():
    pictures = [backgrounds.paint(np.random.default_rng(seed), (90, 160)) for seed in range(12)]
    assert all(picture.shape == (90, 160, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert len({picture.mean((0, 1)).round().tobytes() for picture in pictures}) == 12


def test_lay_puts_corners_where_told():
    image = np.zeros((60, 80, 3), np.uint8)
    flat = np.full((10, 10, 3), 200, np.uint8)
    backgrounds.lay(image, flat, np.array([[20, 10], [60, 15], [55, 50], [15, 45]], np.float32))
    assert image[30, 38].tolist() == [200, 200, 200]
    assert (
        not image[:9].any() and not image[52:].any() and not image[:, :14].any() and not image[:, 62:].any()
    )
    backgrounds.lay(image, flat, np.array([[-90, -90], [-50, -90], [-50, -50], [-90, -50]], np.float32))
