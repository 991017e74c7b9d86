"""What stands between a scene and its file: light, lens, sensor, JPEG."""

from __future__ import annotations

import functools
import statistics

import cv2
import numpy as np

from efficientnet_east.data import backgrounds


def light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Uneven light, shadows, lamps and a colour cast on a uint8 RGB image; a new image."""
    high, wide = image.shape[:2]
    small = (max(8, high // 16), max(8, wide // 16))
    gain = 1 + (backgrounds.fractal(rng, small, 2, 0.5).astype(np.float32) / 255 - 0.5) * rng.uniform(0, 0.9)
    gain *= rng.choice((1, rng.uniform(0.3, 1)), p=(0.6, 0.4))
    if rng.random() < 0.35:
        _shadow(rng, gain)
    if rng.random() < 0.4:
        rows, columns = np.ogrid[-1 : 1 : small[0] * 1j, -1 : 1 : small[1] * 1j]
        gain *= (1 - rng.uniform(0.1, 0.5) * (rows**2 + columns**2) / 2).astype(np.float32)
    cast = 1 + rng.normal(0, 0.08, 3) * rng.random()
    field = np.clip(gain[..., None] * cast * 128, 0, 255).astype(np.uint8)
    field = cv2.resize(field, (wide, high), interpolation=cv2.INTER_LINEAR)
    lit = cv2.multiply(image, field, scale=1 / 128)
    return cv2.add(lit, _lamps(rng, small, (wide, high))) if rng.random() < 0.3 else lit


def _shadow(rng: np.random.Generator, gain: np.ndarray) -> None:
    """A cast shadow with a straight edge, in place."""
    corners = rng.uniform(-0.5, 1.5, (4, 2)) * gain.shape[::-1]
    mask = cv2.fillConvexPoly(np.zeros_like(gain), cv2.convexHull(corners.astype(np.int32)), 1.0)
    gain *= 1 - cv2.blur(mask, (3, 3)) * rng.uniform(0.2, 0.65)


def _lamps(rng: np.random.Generator, small: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Light that is added: glare and lamps out of focus."""
    glare = np.zeros((*small, 3), np.uint8)
    for _ in range(rng.integers(1, 5)):
        centre = (int(rng.integers(small[1])), int(rng.integers(small[0])))
        tint = np.array([255, rng.uniform(200, 255), rng.uniform(140, 255)]) * rng.uniform(0.3, 1)
        cv2.circle(glare, centre, int(rng.integers(1, 2 + small[0] // 8)), tint.tolist(), -1)
    return cv2.resize(
        cv2.GaussianBlur(glare, (0, 0), rng.uniform(1, 4)), size, interpolation=cv2.INTER_LINEAR
    )


def photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blur, tone, noise and JPEG on a uint8 RGB image, as a phone adds them; a new image of the same size."""
    image = cv2.LUT(_blurred(rng, image), _tone(rng))
    image = _noisy(rng, image)
    if rng.random() < 0.15:
        soft = cv2.GaussianBlur(image, (0, 0), 1.5)
        image = cv2.addWeighted(image, 1.6, soft, -0.6, 0)
    quality = int(rng.integers(35, 97))
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def _blurred(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    kind = rng.random()
    if kind < 0.4:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5))
    if kind < 0.55:
        return cv2.filter2D(image, -1, _motion(rng))
    if kind < 0.85:
        high, wide = image.shape[:2]
        share = rng.uniform(0.55, 0.95)
        small = cv2.resize(
            image, (max(1, int(wide * share)), max(1, int(high * share))), interpolation=cv2.INTER_AREA
        )
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


def _tone(rng: np.random.Generator) -> np.ndarray:
    """Look-up table (1, 256, 3): exposure, contrast, gamma, white balance."""
    level = np.linspace(0, 1, 256)[:, None] * (1 + rng.normal(0, 0.04, 3))
    curve = np.clip(level, 0, 1) ** np.exp(rng.normal(0, 0.25))
    curve = 0.5 + (curve - 0.5) * rng.uniform(0.7, 1.2) + rng.normal(0, 0.05)
    return np.clip(curve * 255, 0, 255).astype(np.uint8)[None]


def _noisy(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    strength = abs(rng.normal(0, 6))
    if strength < 0.5:
        return image
    chance = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    return cv2.add(image, cv2.LUT(chance, (_quantiles() * strength).astype(np.float32)), dtype=cv2.CV_8U)


@functools.cache
def _quantiles() -> np.ndarray:
    """Standard normal quantiles of 256 equal steps: turns random bytes to normal noise by table look-up."""
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf((step + 0.5) / 256) for step in range(256)])
