"""What stands between a scene and its file: light, lens, exposure, sensor, JPEG."""

from __future__ import annotations

import functools
import statistics

import cv2
import numpy as np

from efficientnet_east.data.synthetic import surfaces

EXPOSURE = (92.0, 22.0)  # mean and deviation over scenes of the mean gray level, as in ICDAR 2015
CONTRAST = (54.0, 10.0)  # the same for the standard deviation within a scene


def light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Light a uint8 RGB image unevenly, with shadows, lamps and a color cast. Returns a new image."""
    high, wide = image.shape[:2]
    small = (max(8, high // 16), max(8, wide // 16))
    gain = 1 + (surfaces.fractal(rng, small, 2, 0.5).astype(np.float32) / 255 - 0.5) * rng.uniform(0, 1.2)
    if rng.random() < 0.4:
        _shadow(rng, gain)
    if rng.random() < 0.4:
        rows, columns = np.linspace(-1, 1, small[0])[:, None], np.linspace(-1, 1, small[1])
        gain *= (1 - rng.uniform(0.1, 0.5) * (rows**2 + columns**2) / 2).astype(np.float32)
    cast = 1 + rng.normal((0.03, 0, -0.05), 0.07)
    coarse = np.clip(gain[..., None] * cast * 128, 0, 255).astype(np.uint8)
    field = cv2.resize(coarse, (wide, high), interpolation=cv2.INTER_LINEAR)
    lit = cv2.multiply(image, field, scale=1 / 128)
    return cv2.add(lit, _lamps(rng, small, (wide, high))) if rng.random() < 0.35 else lit


def _shadow(rng: np.random.Generator, gain: np.ndarray) -> None:
    """A cast shadow with a straight edge, in place."""
    corners = rng.uniform(-0.5, 1.5, (4, 2)) * gain.shape[::-1]
    mask = cv2.fillConvexPoly(np.zeros_like(gain), cv2.convexHull(corners.astype(np.int32)), 1.0)
    gain *= 1 - cv2.blur(mask, (3, 3)) * rng.uniform(0.2, 0.7)


def _lamps(rng: np.random.Generator, small: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Light that is added: glare, lamps out of focus, rows of ceiling lights."""
    glare = np.zeros((*small, 3), np.uint8)
    start, step = rng.random(2) * small[::-1], rng.normal(0, 4, 2)
    radius = int(rng.integers(1, 2 + small[0] // 8))
    tint = np.array([255, rng.uniform(200, 255), rng.uniform(130, 255)]) * rng.uniform(0.3, 1)
    for number in range(rng.integers(1, 7)):
        x, y = np.round(start + step * number).astype(int).tolist()
        cv2.ellipse(glare, (x, y), (radius, max(1, radius // 2)), 0, 0, 360, tint.tolist(), -1)
    return cv2.resize(
        cv2.GaussianBlur(glare, (0, 0), rng.uniform(0.7, 4)), size, interpolation=cv2.INTER_LINEAR
    )


def defocus(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blur a background as if out of focus, or leave it as it is."""
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 3)) if rng.random() < 0.5 else image


def photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add blur, exposure, noise and JPEG artifacts as of a phone. Returns a new uint8 RGB image."""
    image = cv2.LUT(_blurred(rng, image), _tone(rng, image))
    if rng.random() < 0.35:
        image = _bloom(rng, image)
    image = _noisy(rng, image)
    if rng.random() < 0.2:
        soft = cv2.GaussianBlur(image, (0, 0), 1.5)
        image = cv2.addWeighted(image, 1.6, soft, -0.6, 0)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 97))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def _blurred(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    kind = rng.random()
    if kind < 0.4:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5))
    if kind < 0.55:
        return cv2.filter2D(image, -1, _motion(rng))
    if kind < 0.9:
        high, wide = image.shape[:2]
        share = rng.uniform(0.55, 0.95)
        size = (max(1, int(wide * share)), max(1, int(high * share)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (wide, high), interpolation=cv2.INTER_LINEAR)
    return image


def _motion(rng: np.random.Generator) -> np.ndarray:
    """A kernel that smears along a short straight path."""
    size = int(rng.integers(1, 4)) * 2 + 1
    kernel = np.zeros((size, size), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * (size - 1) / 2
    ends = [tuple(int(v) for v in np.round((size - 1) / 2 + side * reach)) for side in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8)
    return kernel / kernel.sum()


def _tone(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Look-up table (1, 256, 3): automatic exposure with its errors, contrast, white balance."""
    gray = image[::8, ::8].mean(2)
    mean, spread = float(gray.mean()), float(gray.std())
    gain = np.clip(rng.normal(*CONTRAST) / max(spread, 1), 0.7, 2.2)
    level = (np.arange(256) - mean) * gain + np.clip(rng.normal(*EXPOSURE), 35, 170)
    balanced = level[:, None] * (1 + rng.normal(0, 0.03, 3))
    return np.clip(_soft_ends(balanced), 0, 255).astype(np.uint8)[None]


def _soft_ends(level: np.ndarray) -> np.ndarray:
    """Bends both ends of the tone curve, so that shadows and lights are pressed before they clip."""
    low, high = 30.0, 225.0
    shadows = low * np.exp(np.minimum(level - low, 0) / low)
    lights = 255 - (255 - high) * np.exp(-np.maximum(level - high, 0) / (255 - high))
    return np.where(level < low, shadows, np.where(level > high, lights, level))


def _bloom(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Light that spills over from bright places."""
    small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    spill = cv2.GaussianBlur(np.maximum(small, 170) - 170, (0, 0), rng.uniform(1, 6))
    large = cv2.resize(spill, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.addWeighted(image, 1, large, rng.uniform(0.3, 1.5), 0)


def _noisy(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    strength = abs(rng.normal(0, 5))
    if strength < 0.5:
        return image
    words = rng.integers(0, 2**64, image.size // 8 + 1, np.uint64)  # eight random bytes at a time
    chance = words.astype("<u8").view(np.uint8)[: image.size].reshape(image.shape)
    noise = np.round(_quantiles() * strength).astype(np.int16)
    return cv2.add(image, cv2.LUT(chance, noise), dtype=cv2.CV_8U)


@functools.cache
def _quantiles() -> np.ndarray:
    """Standard normal quantiles of 256 equal steps: turns random bytes to normal noise by table look-up."""
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf((step + 0.5) / 256) for step in range(256)])
