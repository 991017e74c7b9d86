"""Cut one random crop of one image: one affine matrix for the pixels and the quads, then change the colors.

A training image is seen once through one matrix (scale, aspect, rotation, offset), so that it is
interpolated once and the labels cannot drift away from the pixels. The scale is drawn around the scale
at which images are tested: argman's EAST pads every crop to a square and shrinks it, so its network
trains on text at a median of 0.58 of the size it later meets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from efficientnet_east.data.color import Color, expect, recolor
from efficientnet_east.data.paste import MOST_WORDS, paste_words
from efficientnet_east.data.warp import warp
from efficientnet_east.geometry import quads as geometry
from efficientnet_east.geometry.intersections import intersection_matrix
from efficientnet_east.structures import Sample, Truth


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What a random crop may look like.

    Attributes:
      size: side of the crop, in pixels; a multiple of 32.
      scale: smallest and largest scale, drawn log-uniformly. 1 keeps the pixels of the image.
      aspect: largest stretch of width against height, drawn log-uniformly in both directions; 1 is none.
      rotation: largest rotation to either side, in degrees.
      quarter_turns: probability of a further turn by 90 degrees, to either side: photographs hold few words
        that run upwards or downwards.
      text_crops: probability of a crop around a text that is not ignored; the others lie anywhere.
      tries: windows looked at to find one that cuts no text.
      kept: share of a text's area that must lie inside the crop; with less it is ignored.
      mosaic: share of crops that are put together from four windows of half the side, of different images.
      paste: share of the other crops into which words of another image, of any source, are pasted.
      color: the change of colors; None leaves them alone.
    """

    size: int = 512
    scale: tuple[float, float] = (0.6, 1.4)
    aspect: float = 1.15
    rotation: float = 10.0
    quarter_turns: float = 0.0
    text_crops: float = 0.8
    tries: int = 20
    kept: float = 0.9
    mosaic: float = 0.0
    paste: float = 0.0
    color: Color | None = dataclasses.field(default_factory=Color)

    def __post_init__(self) -> None:
        expect(self.size > 0 and self.size % 32 == 0, "augmentation.size", self.size, "a multiple of 32")
        low, high = self.scale
        expect(0 < low <= high < math.inf, "augmentation.scale", self.scale, "0 < smallest <= largest")
        expect(1 <= self.aspect < math.inf, "augmentation.aspect", self.aspect, "a number from 1")
        expect(0 <= self.rotation <= 180, "augmentation.rotation", self.rotation, "0 to 180 degrees")
        expect(0 <= self.quarter_turns <= 1, "augmentation.quarter_turns", self.quarter_turns, "0 to 1")
        expect(0 <= self.text_crops <= 1, "augmentation.text_crops", self.text_crops, "0 to 1")
        expect(self.tries >= 1, "augmentation.tries", self.tries, "at least 1")
        expect(0 < self.kept <= 1, "augmentation.kept", self.kept, "more than 0, at most 1")
        expect(0 <= self.mosaic <= 1, "augmentation.mosaic", self.mosaic, "0 to 1")
        expect(0 <= self.paste <= 1, "augmentation.paste", self.paste, "0 to 1")
        if self.mosaic:
            expect(self.size % 64 == 0, "augmentation.size", self.size, "a multiple of 64 for mosaics")


def augment(
    sample: Sample,
    rng: np.random.Generator,
    options: Augmentation,
    donor: Sample | None = None,
    room: int = MOST_WORDS,
) -> Sample:
    """Cut one random crop.

    Args:
      sample: the image and its texts; any size, with or without text. If it has a `focus`, the crop shows
        that, and as few texts as can be.
      rng: the only source of chance; the same generator state gives the same crop.
      options: what the crop may look like.
      donor: another image, words of which are pasted; see `paste.paste_words`.
      room: the largest number of words that are pasted.

    Returns:
      A Sample of `options.size` squared. Texts wholly outside are gone; texts of which less than
      `options.kept` lies inside have `ignore` set and keep their full quad, so that the label mask
      covers the part that is seen.
    """
    linear = _random_linear(rng, options)
    matrix = _choose_window(linear, sample, rng, options)
    truth = crop_truth(sample.truth, matrix, options.size, options.kept)
    crop = Sample(sample.name, warp(sample.image, matrix, options.size), truth)
    if donor is not None:
        crop = paste_words(crop, donor, rng, lambda: _random_linear(rng, options), room)
    if options.color is not None:
        crop = dataclasses.replace(crop, image=recolor(crop.image, rng, options.color))
    return crop


def mosaic(samples: Sequence[Sample], rng: np.random.Generator, options: Augmentation) -> Sample:
    """Put one random window of each of four images into the quarters of a crop.

    Args:
      samples: four, as for `augment`: top left, top right, bottom left, bottom right.
      rng: the only source of chance.
      options: what the crop may look like; its windows have half of `size`.

    Returns:
      A Sample of `options.size` squared, with the first one's name. A text that reaches over the edge of its
      window has `ignore` set, and covers the upright rectangle around what is seen of it: no window masks
      anything in its neighbors.
    """
    half = options.size // 2
    windows = dataclasses.replace(options, size=half, mosaic=0.0, kept=1.0)
    crops = [_kept_inside(augment(sample, rng, windows)) for sample in samples]
    rows = [np.concatenate([crops[i].image, crops[i + 1].image], axis=1) for i in (0, 2)]
    corners = np.array([(0, 0), (half, 0), (0, half), (half, half)], np.float32)
    moved = [crop.truth.quads + corner for crop, corner in zip(crops, corners, strict=True)]
    truth = Truth(
        np.concatenate(moved).astype(np.float32),
        np.concatenate([crop.truth.ignore for crop in crops]),
        tuple(text for crop in crops for text in crop.truth.texts),
    )
    return Sample(samples[0].name, np.concatenate(rows), truth)


def _kept_inside(crop: Sample) -> Sample:
    """The crop, whose texts that reach out of it are ignored and no larger than what is seen of them."""
    truth, size = crop.truth, crop.image.shape[0]
    quads, ignore = truth.quads.copy(), truth.ignore.copy()
    square = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32) - 0.5
    over = ((quads < -0.5) | (quads > size - 0.5)).any(axis=(1, 2))
    for index in np.flatnonzero(over):
        ends = _seen_part(quads[index], square)
        (left, top), (right, bottom) = ends.min(axis=0), ends.max(axis=0)
        quads[index] = [(left, top), (right, top), (right, bottom), (left, bottom)]
        ignore[index] = True
    return Sample(crop.name, crop.image, Truth(quads, ignore, truth.texts), crop.focus)


def _seen_part(quad: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Corners (k, 2) of what a square shows of a quad's convex hull."""
    _, common = cv2.intersectConvexConvex(cv2.convexHull(quad), square)
    # Next to nothing is seen: OpenCV finds no polygon, and a point on the edge will do.
    return square[:1] if common is None else np.clip(common.reshape(-1, 2), square[0], square[2])


def crop_truth(truth: Truth, matrix: np.ndarray, size: int, kept: float) -> Truth:
    """Take the texts through the same matrix as the pixels.

    Args:
      truth: texts in image pixels.
      matrix: float (2, 3), from image pixels to crop pixels.
      size: side of the crop, in pixels.
      kept: share of its area that a text needs inside the crop to stay a text.

    Returns:
      The texts that touch the crop, in crop pixels; those cut off too much are ignored.
    """
    moved = geometry.transform(truth.quads, matrix).astype(np.float32)
    share = shares_inside(moved, size)
    seen = share > 0
    texts = tuple(text for text, visible in zip(truth.texts, seen, strict=True) if visible)
    return Truth(moved[seen], (truth.ignore | (share < kept))[seen], texts)


def shares_inside(quads: np.ndarray, size: int) -> np.ndarray:
    """Return float64 (n,): the share of each quad's area inside the crop.

    Args:
      quads: float (n, 4, 2), in crop pixels.
      size: side of the crop, which covers -0.5 to size - 0.5 on both axes.
    """
    # Shifted by half a pixel, the crop is the square from 0 to size.
    shifted = quads.astype(np.float64) + 0.5
    shares = np.where(_apart(shifted, size), 0.0, 1.0)
    crossing = _crosses(shifted, size)
    if crossing.any():
        square = np.array([[[0, 0], [size, 0], [size, size], [0, size]]], dtype=np.float64)
        common, areas, _ = intersection_matrix(shifted[crossing], square)
        shares[crossing] = common[:, 0] / np.maximum(areas, 1e-9)
    return shares


def _random_linear(rng: np.random.Generator, options: Augmentation) -> np.ndarray:
    """The 2 x 2 part of the matrix: first stretched along the image's axes, then rotated."""
    low, high = np.log(options.scale)
    scale = math.exp(rng.uniform(low, high))
    stretch = math.exp(rng.uniform(-0.5, 0.5) * math.log(options.aspect))
    angle = math.radians(rng.uniform(-options.rotation, options.rotation))
    if options.quarter_turns and rng.random() < options.quarter_turns:
        angle += rng.choice([-1, 1]) * math.pi / 2
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale * stretch, scale / stretch])


def _choose_window(
    linear: np.ndarray, sample: Sample, rng: np.random.Generator, options: Augmentation
) -> np.ndarray:
    """The matrix (2, 3) whose offset cuts the fewest texts, of `options.tries` random ones.

    Where the sample says what the crop must show, it shows that, and of all texts as few as can be.
    """
    truth, matrix = sample.truth, np.column_stack([linear, np.zeros(2)])
    targets = np.flatnonzero(~truth.ignore)
    moved = geometry.transform(truth.quads, matrix).astype(np.float64)
    focus = None if sample.focus is None else geometry.transform(sample.focus, matrix).astype(np.float64)
    if focus is not None:
        offsets = _offsets_around(focus, rng, options)
    elif len(targets) and rng.random() < options.text_crops:
        offsets = _offsets_around(moved[rng.choice(targets)], rng, options)
    else:
        offsets = None
    offsets = _inside_image(offsets, linear, sample.image.shape, rng, options)
    corners = offsets[:, None, None] - 0.5  # (tries, 1, 1, 2)
    if focus is None:
        unwanted = _crosses(moved[targets] - corners, options.size).sum(axis=1)
    else:
        # A rotated window that had to move into the image may have lost what it was placed around.
        lost = _crosses(focus - corners[:, 0], options.size) | _apart(focus - corners[:, 0], options.size)
        unwanted = (~_apart(moved - corners, options.size)).sum(axis=1) + lost * (1 + len(moved))
    return np.column_stack([linear, -offsets[int(np.argmin(unwanted))]])


def _offsets_around(quad: np.ndarray, rng: np.random.Generator, options: Augmentation) -> np.ndarray:
    """Offsets (tries, 2) of windows that hold the quad, or that lie in it where it is too big."""
    ends = np.sort([quad.min(axis=0), quad.max(axis=0) - (options.size - 1)], axis=0)
    return rng.uniform(ends[0], ends[1], (options.tries, 2))


def _inside_image(
    offsets: np.ndarray | None,
    linear: np.ndarray,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    options: Augmentation,
) -> np.ndarray:
    """Offsets (tries, 2) whose windows waste no pixels beside the image; None draws them anywhere.

    The limits hold for the window's center and are set on the image's own axes, where they are a box
    even when the window is rotated. An image smaller than the window lies wholly in it.
    """
    center = (options.size - 1) / 2
    last = np.array([shape[1] - 1, shape[0] - 1], dtype=np.float64)
    reach = center / np.linalg.norm(linear, axis=0)
    low, high = np.sort([reach, last - reach], axis=0)
    if offsets is None:
        points = rng.uniform(low, high, (options.tries, 2))
    else:
        points = np.clip(np.linalg.solve(linear, (offsets + center).T).T, low, high)
    return points @ linear.T - center


def _apart(quads: np.ndarray, size: int) -> np.ndarray:
    """True (...,) where a quad (..., 4, 2) lies wholly beside the square from 0 to size."""
    return ((quads.max(axis=-2) <= 0) | (quads.min(axis=-2) >= size)).any(axis=-1)


def _crosses(quads: np.ndarray, size: int) -> np.ndarray:
    """True (...,) where a quad's bounding box is neither wholly in nor wholly beside the square."""
    outside = ((quads.min(axis=-2) < 0) | (quads.max(axis=-2) > size)).any(axis=-1)
    return outside & ~_apart(quads, size)
