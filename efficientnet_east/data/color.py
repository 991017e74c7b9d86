"""Random changes of tone, colors, sharpness and noise of a crop."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from efficientnet_east.errors import UserError

# Rows: luma and the two chroma axes of YIQ, in which saturation and hue are a scaling and a rotation.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_TO_RGB = np.linalg.inv(_TO_YIQ)
# The values of a byte, as the argument of look-up tables.
_LEVELS = np.arange(256, dtype=np.float64)
_EXTENTS = ("brightness", "contrast", "saturation", "hue", "gamma")


@dataclasses.dataclass(frozen=True)
class Color:
    """How far colors stray; 0 switches a part off.

    Attributes:
      brightness: largest shift, as a share of full white.
      contrast: largest change of contrast, as a logarithm (0.3: between 0.74 and 1.35 times).
      saturation: largest change of saturation, as a share.
      hue: largest rotation of the hue, in degrees.
      gamma: largest change of gamma, as a logarithm.
      gray: probability of a colorless crop.
      blur: probability of a Gaussian blur of up to `blur_sigma` pixels.
      blur_sigma: largest standard deviation of the blur, in pixels.
      noise: probability of Gaussian noise of up to `noise_sigma` gray levels.
      noise_sigma: largest standard deviation of the noise, in gray levels.
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
    gray: float = 0.05
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
            expect(0 <= value < math.inf, f"augmentation.color.{name}", value, "a number from 0")
        for name in ("gray", "blur", "noise", "motion", "jpeg"):
            expect(getattr(self, name) <= 1, f"augmentation.color.{name}", getattr(self, name), "0 to 1")
        expect(self.motion_pixels >= 3, "augmentation.color.motion_pixels", self.motion_pixels, "3 or more")
        expect(self.jpeg_quality <= 90, "augmentation.color.jpeg_quality", self.jpeg_quality, "0 to 90")

    def scaled(self, strength: float) -> Color:
        """Return these options with stronger or weaker changes.

        Blur and noise become more frequent, not stronger: small words would be lost in them.

        Args:
          strength: factor on tone, saturation and hue, and on the probabilities of gray, blur and noise,
            which stay at most 1. JPEG and motion have probabilities of their own and do not change.
        """
        far = {name: strength * getattr(self, name) for name in _EXTENTS}
        often = {name: min(1.0, strength * getattr(self, name)) for name in ("gray", "blur", "noise")}
        return dataclasses.replace(self, **far, **often)


def recolor(image: np.ndarray, rng: np.random.Generator, options: Color) -> np.ndarray:
    """Change tone, color, sharpness and noise.

    Brightness, contrast and gamma are one look-up table, saturation, hue and gray one 3 x 3 matrix, so
    that the usual crop costs two passes over its pixels.

    Args:
      image: uint8 (height, width, 3), RGB; not changed.
      rng: the only source of chance.
      options: how far to go.

    Returns:
      A new uint8 (height, width, 3).
    """
    image = cv2.LUT(image, _tone_curve(rng, options))
    image = cv2.transform(image, _color_matrix(rng, options))
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


def _tone_curve(rng: np.random.Generator, options: Color) -> np.ndarray:
    """uint8 (256,): gamma, then contrast about middle gray, then brightness."""
    shift, contrast, gamma = rng.uniform(-1, 1, 3) * (options.brightness, options.contrast, options.gamma)
    curve = (_LEVELS / 255) ** math.exp(gamma)
    curve = (curve - 0.5) * math.exp(contrast) + 0.5 + shift
    return np.clip(np.rint(curve * 255), 0, 255).astype(np.uint8)


def _color_matrix(rng: np.random.Generator, options: Color) -> np.ndarray:
    """float64 (3, 3) on RGB: saturation and hue as a scaled rotation of the chroma axes."""
    saturation, hue = rng.uniform(-1, 1, 2) * (options.saturation, math.radians(options.hue))
    saturation = 0.0 if rng.random() < options.gray else max(0.0, 1 + saturation)
    cos, sin = saturation * math.cos(hue), saturation * math.sin(hue)
    return _TO_RGB @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _TO_YIQ


def _add_noise(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Add noise through a table that turns random bytes into normal quantiles: drawing floats costs more."""
    # Logistic approximation of the normal quantile.
    share = (_LEVELS + 0.5) / 256
    levels = np.rint(sigma * np.log(share / (1 - share)) / 1.702).astype(np.int16)
    noise = cv2.LUT(rng.integers(0, 256, image.shape, dtype=np.uint8), levels)
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def expect(holds: bool, where: str, value: object, expected: str) -> None:
    """Raise UserError unless a condition holds.

    Args:
      holds: the condition.
      where: the field.
      value: its value.
      expected: what would be right.

    Raises:
      UserError: it does not hold.
    """
    if not holds:
        raise UserError(where, f"is {value}", f"expected {expected}")
