"""Flat surfaces for the synthetic scenes: walls, bricks, leaves, shelves, and the colors they come in.

A surface is mostly a gray field of noise or of a pattern, turned to color by a ramp.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

Shape = tuple[int, int]  # height, width
Color = tuple[int, int, int]  # RGB


def random_color(rng: np.random.Generator, vivid: float = 0.0) -> Color:
    """Choose a color as photographs have it; `vivid` in [0, 1] moves from grayish to saturated.

    Hues are warm or blue most of the time, as in street photographs; any hue is possible.
    """
    hue = rng.choice((rng.normal(0.09, 0.045), rng.normal(0.58, 0.06), rng.random()), p=(0.55, 0.22, 0.23))
    saturation = rng.beta(1 + 4 * vivid, 3.6 - 2 * vivid)
    return hsv(hue, saturation, 0.03 + 0.97 * rng.beta(1.4, 1.3))


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Return RGB from 0 to 255 for hue (any turn), saturation and value in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def fractal(rng: np.random.Generator, shape: Shape, coarse: int = 4, roughness: float = 0.55) -> np.ndarray:
    """Make noise with detail at every scale down to two pixels.

    Args:
      rng: source of chance.
      shape: height and width.
      coarse: cells along the longer side at the coarsest scale.
      roughness: amplitude of each scale over that of the next coarser one.

    Returns:
      uint8 (height, width), 0 to 255.
    """
    longest, amplitude, cells = max(shape), 1.0, coarse
    field = rng.random((2, 2), np.float32)
    while cells < longest:
        size = (max(2, shape[0] * cells // longest), max(2, shape[1] * cells // longest))
        field = cv2.resize(field, size[::-1]) + rng.random(size, np.float32) * np.float32(amplitude)
        amplitude, cells = amplitude * roughness, cells * 2
    return cv2.resize(_levelled(field), shape[::-1])


def _levelled(field: np.ndarray) -> np.ndarray:
    """Stretches any field to uint8, 0 to 255."""
    low, high = float(field.min()), float(field.max())
    return cv2.convertScaleAbs(field - low, alpha=255 / max(high - low, 1e-6))


def ramp(gray: np.ndarray, colors: list[Color]) -> np.ndarray:
    """Turn gray uint8 (h, w) into RGB (h, w, 3): black becomes the first color, white the last."""
    stops = np.linspace(0, 255, len(colors))
    table = [np.interp(np.arange(256), stops, [c[channel] for c in colors]) for channel in range(3)]
    return cv2.LUT(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), np.stack(table, -1).astype(np.uint8)[None])


def roughen(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add fine noise to a uint8 RGB image, so that nothing in it is quite flat. Returns a new image."""
    amount = rng.uniform(0.03, 0.3)
    field = cv2.convertScaleAbs(
        fractal(rng, image.shape[:2], 6, rng.uniform(0.6, 0.9)), alpha=amount, beta=128 * (1 - amount)
    )
    return cv2.multiply(image, cv2.cvtColor(field, cv2.COLOR_GRAY2RGB), scale=1 / 128)


def shades(rng: np.random.Generator, spread: float, vivid: float = 0.0) -> list[Color]:
    """Choose a dark, a middle and a light shade of one random color; `spread` in [0, 1] is how far apart."""
    base = np.array(random_color(rng, vivid), float)
    light = np.clip(base + (255 - base) * spread, 0, 255)
    return [_rounded(base * (1 - spread)), _rounded(base), _rounded(light)]


def _rounded(color: np.ndarray) -> Color:
    return int(color[0]), int(color[1]), int(color[2])


# ---- surfaces: (rng, shape) -> uint8 RGB ----


def plaster(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint a wall, smooth to stained."""
    return ramp(
        fractal(rng, shape, int(rng.integers(2, 8)), rng.uniform(0.4, 0.8)),
        shades(rng, rng.uniform(0.03, 0.3)),
    )


def concrete(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint grainy gray: asphalt, stone, pavement."""
    gray = cv2.addWeighted(fractal(rng, shape, 4, 0.6), 0.5, fractal(rng, shape, 64, 0.9), 0.5, 0)
    return ramp(gray, shades(rng, rng.uniform(0.15, 0.45)))


def brushed(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint streaks one way: metal, wood, curtains."""
    ratio = int(rng.integers(8, 40))
    small = (
        (shape[0], max(2, shape[1] // ratio)) if rng.random() < 0.5 else (max(2, shape[0] // ratio), shape[1])
    )
    gray = cv2.resize(
        fractal(rng, small, int(rng.integers(3, 40)), 0.8), shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    return ramp(gray, shades(rng, rng.uniform(0.1, 0.5)))


def gradient(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint sky, screens, lit walls: a smooth passage of colors."""
    ends = [random_color(rng, 0.3) for _ in range(rng.integers(2, 4))]
    across, down = rng.normal(size=2)
    field = np.linspace(0, down, shape[0], dtype=np.float32)[:, None] + np.linspace(
        0, across, shape[1], dtype=np.float32
    )
    gray = _levelled(field)
    return ramp(cv2.addWeighted(gray, 0.85, fractal(rng, shape, 3, 0.5), 0.15, 0), ends)


def masonry(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint bricks, tiles or slabs, with joints."""
    height = int(np.exp(rng.uniform(np.log(10), np.log(110))))
    width = int(height * rng.uniform(1, 3.2))
    joint = max(1, round(height * rng.uniform(0.02, 0.14)))
    rows = np.arange(shape[0]) // height
    offset = (rows % 2) * (width // 2 if rng.random() < 0.6 else 0)
    columns = np.arange(shape[1])[None] + offset[:, None]
    tones = rng.normal(128, rng.uniform(3, 40), 997).clip(0, 255).astype(np.uint8)
    gray = tones[(rows[:, None] * 131 + columns // width) % 997]
    seam = (columns % width < joint) | (np.arange(shape[0]) % height < joint)[:, None]
    gray[seam] = rng.integers(256)
    gray = cv2.addWeighted(gray, 0.8, fractal(rng, shape, 8, 0.8), 0.2, 0)
    return ramp(gray, shades(rng, rng.uniform(0.2, 0.6)))


def slats(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint shutters, blinds, corrugated iron, radiators, stairs: parallel bars with a rounded shade."""
    length = shape[0] if rng.random() < 0.6 else shape[1]
    pitch = np.exp(rng.uniform(np.log(5), np.log(70)))
    phase = (np.arange(length) / pitch + rng.random()) % 1
    profile = (255 * np.abs(phase * 2 - 1) ** rng.uniform(0.2, 3)).astype(np.uint8)
    gray = (
        np.repeat(profile[:, None], shape[1], 1)
        if length == shape[0]
        else np.repeat(profile[None], shape[0], 0)
    )
    return ramp(
        cv2.addWeighted(np.ascontiguousarray(gray), 0.75, fractal(rng, shape), 0.25, 0),
        shades(rng, rng.uniform(0.1, 0.7)),
    )


def facade(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint a house front: rows of windows."""
    image = plaster(rng, shape)
    high, wide = int(rng.integers(40, 180)), int(rng.integers(30, 160))
    share = rng.uniform(0.4, 0.85, 2)
    frame, bars = random_color(rng), int(rng.integers(0, 3))
    panes = [random_color(rng) for _ in range(5)]
    for top in range(int(rng.integers(-high, 0)), shape[0], high):
        for left in range(int(rng.integers(-wide, 0)), shape[1], wide):
            corner = (left + int(wide * share[0]), top + int(high * share[1]))
            cv2.rectangle(image, (left, top), corner, panes[rng.integers(5)], -1)
            cv2.rectangle(image, (left, top), corner, frame, max(1, wide // 25))
            for bar in range(1, bars + 1):
                x = left + (corner[0] - left) * bar // (bars + 1)
                cv2.line(image, (x, top), (x, corner[1]), frame, max(1, wide // 40))
    return image


def foliage(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint leaves over leaves, from dark to light."""
    hue = rng.normal(0.27, 0.06)
    dark = [hsv(hue, 0.5, value) for value in (0.05, 0.35)]
    image = ramp(fractal(rng, shape, 8, 0.8), dark)
    count = min(900, shape[0] * shape[1] // 300)
    centers = rng.random((count, 2)) * shape[::-1]
    size, turn = np.exp(rng.uniform(1.0, 2.8, (count, 1))), rng.uniform(0, np.pi, (count, 1))
    axis = np.concatenate([np.cos(turn), np.sin(turn)], 1) * size
    side = axis[:, ::-1] * (-0.4, 0.4)
    leaves = np.stack([centers - axis, centers + side, centers + axis, centers - side], 1).astype(np.int32)
    for level, leaf in zip(np.linspace(0.15, rng.uniform(0.5, 0.95), count), leaves, strict=True):
        cv2.fillConvexPoly(image, leaf, hsv(hue + 0.06 * (level - 0.5), 0.55, level * 0.8))
    return image


def shelves(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint goods side by side on boards: boxes, bottles, books without a letter."""
    image = ramp(fractal(rng, shape), shades(rng, 0.2))
    pitch = int(rng.integers(30, 120))
    for top in range(0, shape[0], pitch):
        left = 0
        while left < shape[1]:
            wide = int(pitch * rng.uniform(0.12, 0.9))
            high = int(pitch * rng.uniform(0.45, 0.85))
            _goods(rng, image, (left, top + int(pitch * 0.9) - high, wide, high))
            left += wide + int(rng.integers(1, 6))
        cv2.rectangle(image, (0, top + int(pitch * 0.9)), (shape[1], top + pitch), random_color(rng), -1)
    return image


def _goods(rng: np.random.Generator, image: np.ndarray, box: tuple[int, int, int, int]) -> None:
    left, top, wide, high = box
    cv2.rectangle(image, (left, top), (left + wide, top + high), random_color(rng, 0.5), -1)
    kind = rng.integers(4)
    middle = (left + wide // 2, top + high // 2)
    if kind == 0:
        cv2.circle(image, middle, max(1, min(wide, high) // 3), random_color(rng, 0.5), -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.rectangle(
            image, (left, middle[1]), (left + wide, middle[1] + high // 4), random_color(rng, 0.5), -1
        )
    elif kind == 2:
        cv2.ellipse(
            image, (middle[0], top), (wide // 2, high // 6 + 1), 0, 0, 360, random_color(rng, 0.4), -1
        )


SURFACES: tuple[tuple[Callable[[np.random.Generator, Shape], np.ndarray], float], ...] = (
    (plaster, 5),
    (concrete, 3),
    (brushed, 2),
    (gradient, 4),
    (masonry, 4),
    (slats, 1.5),
    (facade, 2),
    (foliage, 1),
    (shelves, 1.5),
)
_ODDS = np.array([share for _, share in SURFACES]) / sum(share for _, share in SURFACES)


def surface(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint one of `SURFACES`, uint8 RGB of that shape."""
    return SURFACES[rng.choice(len(SURFACES), p=_ODDS)][0](rng, shape)
