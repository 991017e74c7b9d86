"""Labels in the graph against `geometry.maps.encode`."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.graphs import shared
from hypothesis import example, given, settings
from hypothesis import strategies as st

from efficientnet_east.compat import tf
from efficientnet_east.data.augment import Augmentation, augment
from efficientnet_east.data.datasets import ImageDataset, find_records
from efficientnet_east.geometry import label_maps
from efficientnet_east.pjrt import graph_labels

SHAPE, MOST = (90, 130), 7
Texts = tuple[np.ndarray, np.ndarray]  # quads (n, 4, 2), ignore (n,)


def padded(images: list[Texts], most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the graph takes; behind each image's texts stands what must not be read."""
    quads = np.full((len(images), most, 4, 2), np.nan, np.float32)
    quads[:, ::2] = (0, 0), (60, 0), (60, 60), (0, 60)
    ignore = np.ones((len(images), most), bool)
    for number, (corners, skip) in enumerate(images):
        quads[number, : len(corners)], ignore[number, : len(corners)] = corners, skip
    return quads, ignore, np.array([len(corners) for corners, _ in images], np.int32)


@functools.cache
def encoder(batch: int, most: int, shape: tuple[int, int], **options: Any) -> Callable[..., list[np.ndarray]]:
    """`labels.encode`, built once."""
    with tf.Graph().as_default() as graph:
        feeds = [tf.placeholder(tf.float32, (batch, most, 4, 2)), tf.placeholder(tf.bool, (batch, most)),
                 tf.placeholder(tf.int32, (batch,))]  # fmt: skip
        made = graph_labels.encode(*feeds, shape, **options)
        session = tf.Session(graph=graph)
    return lambda *arrays: session.run(made, dict(zip(feeds, arrays, strict=True)))


def reference(images: list[Texts], shape: tuple[int, int], **options: Any) -> list[np.ndarray]:
    found = [label_maps.encode(quads, ignore, shape, **options) for quads, ignore in images]
    stacks = [np.stack([getattr(each, name) for each in found]) for name in ("score", "geometry", "mask")]
    return [stacks[0][..., None], stacks[1], stacks[2][..., None]]


def moved(images: list[Texts], seed: int) -> list[Texts]:
    """The same texts with their corners somewhere within 1e-3 pixels."""
    rng = np.random.default_rng(seed)
    return [(quads + rng.uniform(-1e-3, 1e-3, quads.shape), ignore) for quads, ignore in images]


def within(ours: np.ndarray, theirs: np.ndarray, spread: np.ndarray) -> bool:
    allowed = np.full(theirs.shape[3], 1e-3)
    allowed[4:5] = 1e-5 if theirs.shape[3] == 5 else 1e-3
    return bool((np.abs(ours - theirs) < allowed + spread).all())


def assert_as_reference(images: list[Texts], most: int, shape: tuple[int, int], **options: Any) -> float:
    """Within 1e-3 pixels and 1e-5 rad, but where 1e-3 pixels of the corners decide; the share of those cells.

    What they decide: whose cell it is (by an edge), which of two texts is larger, which of two rectangles
    is the least, at which of two corners a quad begins.
    """
    made = encoder(len(images), most, shape, **options)(*padded(images, most))
    expected = reference(images, shape, **options)
    unsure = np.zeros(expected[0].shape)
    spreads = [np.zeros_like(part) for part in expected]
    for seed in range(64):  # all of them only where the first did not come upon both sides of a tie
        others = reference(moved(images, seed), shape, **options)
        spreads = [np.maximum(spread, np.abs(other - part))
                   for spread, other, part in zip(spreads, others, expected, strict=True)]  # fmt: skip
        if seed >= 5 and all(map(within, made, expected, spreads)):
            break
    for ours, theirs, spread in zip(made, expected, spreads, strict=True):
        assert ours.dtype == np.float32 and ours.shape == theirs.shape
        assert within(ours, theirs, spread)
        unsure = np.maximum(unsure, spread.max(3, keepdims=True))
    return float((unsure > 0.1).mean())


# Multiples of 2**-20 pixels: products of the least numbers that there are become 0 here, and not there.
corner = st.tuples(
    *(st.floats(-40, most, width=32).map(lambda x: round(x * 2**20) / 2**20) for most in (170, 130))
)
image = st.lists(st.tuples(st.lists(corner, min_size=4, max_size=4), st.booleans()), max_size=MOST).map(
    lambda texts: (np.array([quad for quad, _ in texts], np.float32).reshape(-1, 4, 2),
                   np.array([skip for _, skip in texts], bool)))  # fmt: skip

NOTHING = np.zeros((0, 4, 2), np.float32), np.zeros(0, bool)
TWO_BEGINNINGS = np.array([[(0, -(2.0**-23)), (0, 7), (4, 0), (0, 0)]], np.float32), np.array([False])


@pytest.mark.parametrize("geometry", label_maps.CHANNELS)
@settings(deadline=None, max_examples=40)
@given(images=st.lists(image, min_size=2, max_size=2), ring=st.booleans())
@example(images=[NOTHING, TWO_BEGINNINGS], ring=False)
def test_any_quads(images: list[Texts], ring: bool, geometry: str) -> None:
    assert_as_reference(images, MOST, SHAPE, ring=ring, geometry=geometry, min_side=5.0)


def random_images(count: int, seed: int) -> list[Texts]:
    """Convex, hollow and crossed quads of all sizes, many of them smaller than a cell."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        size = np.exp(rng.uniform(np.log(0.5), np.log(80), (number % (MOST + 1), 1, 1)))
        place = rng.uniform(-10, SHAPE[::-1], (len(size), 1, 2))
        images.append(((place + size * rng.uniform(0, 1, (len(size), 4, 2))).astype(np.float32),
                       rng.random(len(size)) < 0.3))  # fmt: skip
    return images


@pytest.mark.parametrize("options", [{}, {"ring": True, "stride": 8, "shrink": 0.49},
                                     {"geometry": "quad", "min_side": 4.0, "ring": True},
                                     {"core": 8.0, "balance": 0.5}])  # fmt: skip
def test_random_quads(options: dict[str, Any]) -> None:
    images = random_images(160, seed=4)
    shares = [assert_as_reference(images[start : start + 40], MOST, SHAPE, **options)
              for start in range(0, 160, 40)]  # fmt: skip
    assert np.mean(shares) < 5e-4


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


CASES = {
    "a point": [[(20, 20)] * 4],
    "a line": [[(8, 8), (48, 28), (88, 48), (48, 28)]],
    "crossing": [[(10, 10), (90, 70), (90, 10), (10, 70)]],
    "hollow": [[(10, 10), (90, 10), (40, 30), (50, 80)]],
    "three corners": [[(10, 10), (90, 10), (90, 60), (90, 60)]],
    "the other way": [box(20, 60, 100, 30)],
    "edges on cells": [box(8, 16, 80, 40)],
    "far outside": [box(1e5, 1e5, 2e5, 1.1e5), box(-9e4, 20, -8e4, 40)],
    "all around": [box(-1e4, -1e4, 1e4, 1e4)],
    "small on large": [box(10, 10, 100, 80), box(30, 30, 60, 50)],
    "small before large": [box(30, 30, 60, 50), box(10, 10, 100, 80)],
    "no cell of its own": [box(41, 41, 43.5, 42.5)],
    "one cell, two texts": [box(41, 41, 43.5, 42.5), box(41, 40.5, 43, 42)],
    "a small one's cell is a large one's": [box(10, 10, 100, 80), box(41, 41, 43.5, 42.5)],
    "outside, with a cell near": [box(-1.4, -1.4, -0.6, -0.6), box(128.6, 20.5, 129.2, 21.2)],
    "two of one size": [box(20, 20, 60, 40), box(40, 30, 80, 50)],
    "none": [],
}


@pytest.mark.parametrize("geometry", label_maps.CHANNELS)
@pytest.mark.parametrize("ignored", [False, True])
def test_cases(geometry: str, ignored: bool) -> None:
    """Single precision has all digits of these: no cell may differ."""
    images = [(np.array(quads, np.float32).reshape(-1, 4, 2), np.full(len(quads), ignored))
              for quads in CASES.values()]  # fmt: skip
    for options in ({"ring": True}, {"min_side": 2.0}, {"shrink": 0.0, "stride": 2},
                    {"core": 9.0, "balance": 1.0}):  # fmt: skip
        made = encoder(len(images), 3, SHAPE, geometry=geometry, **options)(*padded(images, 3))
        expected = reference(images, SHAPE, geometry=geometry, **options)
        for name, *maps_of in zip(CASES, *made, *expected, strict=True):
            for ours, theirs in zip(maps_of[:3], maps_of[3:], strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-5, err_msg=f"{name}, {options}")


@functools.cache
def real_crops() -> list[Texts]:
    records = find_records(shared("data/icdar2015"), None, 40, None, "train")
    source, crops = ImageDataset(records), Augmentation(color=None)
    truths = [augment(source[i], np.random.default_rng(i), crops).truth for i in range(len(source))]
    return [(truth.quads, truth.ignore) for truth in truths]


@pytest.mark.parametrize("geometry", label_maps.CHANNELS)
def test_real_crops(geometry: str) -> None:
    """Nowhere on 650,000 cells does single precision matter more than rounding the corners would."""
    crops = real_crops()
    most = max(len(quads) for quads, _ in crops)
    options: dict[str, Any] = {"geometry": geometry, "ring": True, "min_side": 6.0}
    share = assert_as_reference(crops, most, (512, 512), **options)
    assert share < 2e-4
    score, _, mask = encoder(len(crops), most, (512, 512), **options)(*padded(crops, most))
    expected = reference(crops, (512, 512), **options)
    assert ((score != expected[0]) | (mask != expected[2])).mean() < 1e-5 < expected[0].mean()


def test_more_room_changes_nothing() -> None:
    images = random_images(MOST + 1, seed=5)
    for few, many in zip(encoder(len(images), MOST, SHAPE)(*padded(images, MOST)),
                         encoder(len(images), 64, SHAPE)(*padded(images, 64)), strict=True):  # fmt: skip
        np.testing.assert_array_equal(few, many)


@pytest.mark.parametrize("geometry", label_maps.CHANNELS)
def test_compiles_without_tensorflow_calls(geometry: str) -> None:
    """What an exported step needs: StableHLO alone, with the same result."""
    images, shape = random_images(MOST + 1, seed=6)[-2:], (64, 96)
    specs = [tf.TensorSpec((2, MOST, 4, 2), tf.float32), tf.TensorSpec((2, MOST), tf.bool),
             tf.TensorSpec((2,), tf.int32)]  # fmt: skip
    options: dict[str, Any] = {"geometry": geometry, "ring": True}
    wrapped = tf.wrap_function(lambda *texts: graph_labels.encode(*texts, shape, **options), specs)
    compiled = tf.function(lambda *texts: wrapped(*texts), jit_compile=True, input_signature=specs)
    arrays = [tf.constant(array) for array in padded(images, MOST)]
    program = compiled.experimental_get_compiler_ir(*arrays)(stage="stablehlo")
    assert "stablehlo.while" in program and "custom_call" not in program and "f64" not in program
    for ours, theirs in zip(compiled(*arrays), reference(images, shape, **options), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-3)


def test_what_it_refuses() -> None:
    with tf.Graph().as_default():
        ignore, count = tf.zeros((2, 3), tf.bool), tf.zeros((2,), tf.int32)
        with pytest.raises(ValueError, match="rbox, quad"):
            graph_labels.encode(tf.zeros((2, 3, 4, 2)), ignore, count, SHAPE, geometry="circle")
        for size in ((2, None, 4, 2), (None, 3, 4, 2), (2, 0, 4, 2)):
            with pytest.raises(ValueError, match="static"):
                graph_labels.encode(tf.placeholder(tf.float32, size), ignore, count, SHAPE)
