"""One random crop of one image: a single affine matrix for the pixels and for the quads, then colour.

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

from efficientnet_east.errors import UserError
from efficientnet_east.geometry import quads as geometry
from efficientnet_east.structures import Sample, Truth

# Rows: luma and the two chroma axes of YIQ, in which saturation and hue are a scaling and a rotation.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_TO_RGB = np.linalg.inv(_TO_YIQ)
# The values of a byte, as the argument of look-up tables.
_LEVELS = np.arange(256, dtype=np.float64)


@dataclasses.dataclass(frozen=True)
class Colour:
    """How far colours stray; 0 switches a part off.

    Attributes:
      brightness: largest shift, as a share of full white.
      contrast: largest change of contrast, as a logarithm (0.3: between 0.74 and 1.35 times).
      saturation: largest change of saturation, as a share.
      hue: largest rotation of the hue, in degrees.
      gamma: largest change of gamma, as a logarithm.
      grey: probability of a colourless crop.
      blur: probability of a Gaussian blur of up to `blur_sigma` pixels.
      blur_sigma: largest standard deviation of the blur, in pixels.
      noise: probability of Gaussian noise of up to `noise_sigma` grey levels.
      noise_sigma: largest standard deviation of the noise, in grey levels.
      motion: probability of a blur along a line of 3 to `motion_pixels` pixels, as of a camera that moved.
      motion_pixels: length of the longest such line.
      jpeg: probability of JPEG's artifacts.
      jpeg_quality: the lowest quality; the highest is 90.
    """

    brightness: float = 0.12
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 8.0
    gamma: float = 0.25
    grey: float = 0.05
    blur: float = 0.1
    blur_sigma: float = 1.2
    noise: float = 0.1
    noise_sigma: float = 10.0
    motion: float = 0.0
    motion_pixels: int = 7
    jpeg: float = 0.0
    jpeg_quality: int = 30

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            _expect(0 <= value < math.inf, f"augmentation.colour.{name}", value, "a number from 0")
        for name in ("grey", "blur", "noise", "motion", "jpeg"):
            _expect(getattr(self, name) <= 1, f"augmentation.colour.{name}", getattr(self, name), "0 to 1")
        _expect(self.motion_pixels >= 3, "augmentation.colour.motion_pixels", self.motion_pixels, "3 or more")
        _expect(self.jpeg_quality <= 90, "augmentation.colour.jpeg_quality", self.jpeg_quality, "0 to 90")


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
      colour: the change of colours; None leaves them alone.
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
    colour: Colour | None = dataclasses.field(default_factory=Colour)

    def __post_init__(self) -> None:
        _expect(self.size > 0 and self.size % 32 == 0, "augmentation.size", self.size, "a multiple of 32")
        low, high = self.scale
        _expect(0 < low <= high < math.inf, "augmentation.scale", self.scale, "0 < smallest <= largest")
        _expect(1 <= self.aspect < math.inf, "augmentation.aspect", self.aspect, "a number from 1")
        _expect(0 <= self.rotation <= 180, "augmentation.rotation", self.rotation, "0 to 180 degrees")
        _expect(0 <= self.quarter_turns <= 1, "augmentation.quarter_turns", self.quarter_turns, "0 to 1")
        _expect(0 <= self.text_crops <= 1, "augmentation.text_crops", self.text_crops, "0 to 1")
        _expect(self.tries >= 1, "augmentation.tries", self.tries, "at least 1")
        _expect(0 < self.kept <= 1, "augmentation.kept", self.kept, "more than 0, at most 1")
        _expect(0 <= self.mosaic <= 1, "augmentation.mosaic", self.mosaic, "0 to 1")
        if self.mosaic:
            _expect(self.size % 64 == 0, "augmentation.size", self.size, "a multiple of 64 for mosaics")


def augment(sample: Sample, rng: np.random.Generator, options: Augmentation) -> Sample:
    """Cuts one random crop.

    Args:
      sample: the image and its texts; any size, with or without text. If it has a `focus`, the crop shows
        that, and as few texts as can be.
      rng: the only source of chance; the same generator state gives the same crop.
      options: what the crop may look like.

    Returns:
      A Sample of `options.size` squared. Texts wholly outside are gone; texts of which less than
      `options.kept` lies inside have `ignore` set and keep their full quad, so that the label mask
      covers the part that is seen.
    """
    linear = _random_linear(rng, options)
    matrix = _choose_window(linear, sample, rng, options)
    image = warp(sample.image, matrix, options.size)
    if options.colour is not None:
        image = recolour(image, rng, options.colour)
    return Sample(sample.name, image, crop_truth(sample.truth, matrix, options.size, options.kept))


def mosaic(samples: Sequence[Sample], rng: np.random.Generator, options: Augmentation) -> Sample:
    """Puts one random window of each of four images into the quarters of a crop.

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


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Draws the image through an affine matrix into a square.

    Where the matrix shrinks the image by two or more, the image is first reduced by area averaging:
    bilinear interpolation alone would skip pixels and turn thin strokes into dots.

    Args:
      image: uint8 (height, width, 3).
      matrix: float (2, 3), from image pixels to crop pixels, (x, y), pixel centres at integers.
      size: side of the crop, in pixels.

    Returns:
      uint8 (size, size, 3); what lies outside the image has the image's mean colour.
    """
    fill = cv2.mean(image)
    image, matrix = _needed_part(image, matrix, size)
    height, width = image.shape[:2]
    factors = np.maximum(1, np.floor(1 / np.linalg.norm(matrix[:, :2], axis=0)))
    if factors.max() > 1:
        reduced = np.maximum(1, np.rint([width, height] / factors)).astype(int)
        image = cv2.resize(image, (int(reduced[0]), int(reduced[1])), interpolation=cv2.INTER_AREA)
        ratio = [width, height] / reduced
        # Pixel u of the reduced image is centred on pixel (u + 0.5) * ratio - 0.5 of the full one.
        matrix = _compose(matrix, ratio, ratio / 2 - 0.5)
    return cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )


def crop_truth(truth: Truth, matrix: np.ndarray, size: int, kept: float) -> Truth:
    """Takes the texts through the same matrix as the pixels.

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
    """Returns float64 (n,): the share of each quad's area inside the crop.

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
        common, areas, _ = geometry.intersection_matrix(shifted[crossing], square)
        shares[crossing] = common[:, 0] / np.maximum(areas, 1e-9)
    return shares


def recolour(image: np.ndarray, rng: np.random.Generator, options: Colour) -> np.ndarray:
    """Changes tone, colour, sharpness and noise.

    Brightness, contrast and gamma are one look-up table, saturation, hue and grey one 3 x 3 matrix, so
    that the usual crop costs two passes over its pixels.

    Args:
      image: uint8 (height, width, 3), RGB; not changed.
      rng: the only source of chance.
      options: how far to go.

    Returns:
      A new uint8 (height, width, 3).
    """
    image = cv2.LUT(image, _tone_curve(rng, options))
    image = cv2.transform(image, _colour_matrix(rng, options))
    blur, noise = rng.random(2) < (options.blur, options.noise)
    strength = rng.uniform(0.3, 1.0, 2)
    if blur and options.blur_sigma:
        image = cv2.GaussianBlur(image, (0, 0), strength[0] * options.blur_sigma)
    if noise and options.noise_sigma:
        image = _add_noise(image, rng, strength[1] * options.noise_sigma)
    if options.motion and rng.random() < options.motion:
        image = _move_camera(image, rng, options.motion_pixels)
    if options.jpeg and rng.random() < options.jpeg:
        quality = int(rng.integers(options.jpeg_quality, 91))
        packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = cv2.cvtColor(cv2.imdecode(packed, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
    return image


def _move_camera(image: np.ndarray, rng: np.random.Generator, longest: int) -> np.ndarray:
    """The mean along a short line in a random direction."""
    length = rng.uniform(3, longest)
    angle = rng.uniform(0, math.pi)
    side = 2 * math.ceil(length / 2) + 1
    step = np.array([math.cos(angle), math.sin(angle)]) * (length - 1) / 2
    kernel = np.zeros((side, side), np.float32)
    center, fine = side // 2, 16  # sixteenths of a pixel
    ends = [[round((center + sign * float(part)) * fine) for part in step] for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, shift=4)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


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

    The limits hold for the window's centre and are set on the image's own axes, where they are a box
    even when the window is rotated. An image smaller than the window lies wholly in it.
    """
    centre = (options.size - 1) / 2
    last = np.array([shape[1] - 1, shape[0] - 1], dtype=np.float64)
    reach = centre / np.linalg.norm(linear, axis=0)
    low, high = np.sort([reach, last - reach], axis=0)
    if offsets is None:
        points = rng.uniform(low, high, (options.tries, 2))
    else:
        points = np.clip(np.linalg.solve(linear, (offsets + centre).T).T, low, high)
    return points @ linear.T - centre


def _needed_part(image: np.ndarray, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that the crop shows, and the matrix for it.

    Large photographs are then not reduced as a whole, and OpenCV's warp takes no side above 32766 pixels.
    """
    ends = np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5
    corners = np.linalg.solve(matrix[:, :2], (ends - matrix[:, 2]).T).T
    # Beyond its edge the crop still draws on the neighbours that interpolation and averaging mix in.
    margin = 2 * np.ceil(1 + 1 / np.linalg.norm(matrix[:, :2], axis=0))
    last = np.array([image.shape[1], image.shape[0]]) - 1
    low = np.clip(np.floor(corners.min(axis=0) - margin), 0, last).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + margin), 0, last).astype(int)
    return image[low[1] : high[1] + 1, low[0] : high[0] + 1], _compose(matrix, np.ones(2), low)


def _compose(matrix: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The matrix (2, 3) applied after x -> scale * x + offset."""
    return np.column_stack([matrix[:, :2] * scale, matrix[:, :2] @ offset + matrix[:, 2]])


def _apart(quads: np.ndarray, size: int) -> np.ndarray:
    """True (...,) where a quad (..., 4, 2) lies wholly beside the square from 0 to size."""
    return ((quads.max(axis=-2) <= 0) | (quads.min(axis=-2) >= size)).any(axis=-1)


def _crosses(quads: np.ndarray, size: int) -> np.ndarray:
    """True (...,) where a quad's bounding box is neither wholly in nor wholly beside the square."""
    outside = ((quads.min(axis=-2) < 0) | (quads.max(axis=-2) > size)).any(axis=-1)
    return outside & ~_apart(quads, size)


def _tone_curve(rng: np.random.Generator, options: Colour) -> np.ndarray:
    """uint8 (256,): gamma, then contrast about middle grey, then brightness."""
    shift, contrast, gamma = rng.uniform(-1, 1, 3) * (options.brightness, options.contrast, options.gamma)
    curve = (_LEVELS / 255) ** math.exp(gamma)
    curve = (curve - 0.5) * math.exp(contrast) + 0.5 + shift
    return np.clip(np.rint(curve * 255), 0, 255).astype(np.uint8)


def _colour_matrix(rng: np.random.Generator, options: Colour) -> np.ndarray:
    """float64 (3, 3) on RGB: saturation and hue as a scaled rotation of the chroma axes."""
    saturation, hue = rng.uniform(-1, 1, 2) * (options.saturation, math.radians(options.hue))
    saturation = 0.0 if rng.random() < options.grey else max(0.0, 1 + saturation)
    cos, sin = saturation * math.cos(hue), saturation * math.sin(hue)
    return _TO_RGB @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _TO_YIQ


def _add_noise(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Adds noise through a table that turns random bytes into normal quantiles: drawing floats costs more."""
    # Logistic approximation of the normal quantile.
    share = (_LEVELS + 0.5) / 256
    levels = np.rint(sigma * np.log(share / (1 - share)) / 1.702).astype(np.int16)
    noise = cv2.LUT(rng.integers(0, 256, image.shape, dtype=np.uint8), levels)
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _expect(holds: bool, where: str, value: object, expected: str) -> None:
    if not holds:
        raise UserError(where, f"is {value}", f"expected {expected}")
