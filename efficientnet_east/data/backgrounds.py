"""Procedural street and interior pictures for the synthetic scenes: surfaces in perspective, no text.

A surface is a grey field turned to colour by a ramp; a picture is several surfaces seen in perspective.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

Shape = tuple[int, int]  # height, width
Colour = tuple[int, int, int]  # RGB


def paint(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """A background.

    Args:
      rng: source of chance.
      shape: height and width in pixels.

    Returns:
      uint8 RGB (height, width, 3).
    """
    layout = LAYOUTS[rng.choice(len(LAYOUTS), p=(0.4, 0.35, 0.25))]
    return layout(rng, shape)


def random_colour(rng: np.random.Generator, vivid: float = 0.0) -> Colour:
    """A colour as photographs have it; `vivid` in [0, 1] moves from greyish to saturated."""
    saturation = rng.beta(1 + 5 * vivid, 4 - 2 * vivid)
    value = rng.beta(2, 1.7)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), saturation, 0.04 + 0.96 * value)
    return round(red * 255), round(green * 255), round(blue * 255)


def fractal(rng: np.random.Generator, shape: Shape, coarse: int = 4, roughness: float = 0.55) -> np.ndarray:
    """Noise with detail at every scale down to two pixels.

    Args:
      rng: source of chance.
      shape: height and width.
      coarse: cells along the longer side at the coarsest scale.
      roughness: amplitude of each scale over that of the next coarser one.

    Returns:
      uint8 (height, width), 0 to 255.
    """
    longest, amplitude, field, cells = max(shape), 1.0, None, coarse
    while cells < longest:
        size = (max(2, shape[0] * cells // longest), max(2, shape[1] * cells // longest))
        noise = rng.random(size, np.float32) * amplitude
        field = noise if field is None else cv2.resize(field, size[::-1]) + noise
        amplitude, cells = amplitude * roughness, cells * 2
    if field is None:
        field = rng.random((2, 2), np.float32)
    grey = cv2.normalize(field, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    return cv2.resize(grey, shape[::-1])


def ramp(grey: np.ndarray, colours: list[Colour]) -> np.ndarray:
    """Grey uint8 (h, w) to RGB (h, w, 3): black becomes the first colour, white the last."""
    stops = np.linspace(0, 255, len(colours))
    table = [np.interp(np.arange(256), stops, [c[channel] for c in colours]) for channel in range(3)]
    return cv2.LUT(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.stack(table, -1).astype(np.uint8)[None])


def shades(rng: np.random.Generator, spread: float, vivid: float = 0.0) -> list[Colour]:
    """Dark, middle and light shade of one random colour; `spread` in [0, 1] is how far apart."""
    base = np.array(random_colour(rng, vivid), float)
    light = np.clip(base + (255 - base) * spread, 0, 255)
    return [_rounded(base * (1 - spread)), _rounded(base), _rounded(light)]


def _rounded(colour: np.ndarray) -> Colour:
    return int(colour[0]), int(colour[1]), int(colour[2])


# ---- surfaces: (rng, shape) -> uint8 RGB ----


def plaster(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """A wall, smooth to stained."""
    return ramp(
        fractal(rng, shape, int(rng.integers(2, 8)), rng.uniform(0.4, 0.8)),
        shades(rng, rng.uniform(0.03, 0.3)),
    )


def concrete(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Grainy grey: asphalt, stone, pavement."""
    grey = cv2.addWeighted(fractal(rng, shape, 4, 0.6), 0.5, fractal(rng, shape, 64, 0.9), 0.5, 0)
    return ramp(grey, shades(rng, rng.uniform(0.15, 0.45)))


def brushed(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Streaks one way: metal, wood, curtains."""
    ratio = int(rng.integers(8, 40))
    small = (
        (shape[0], max(2, shape[1] // ratio)) if rng.random() < 0.5 else (max(2, shape[0] // ratio), shape[1])
    )
    grey = cv2.resize(
        fractal(rng, small, int(rng.integers(3, 40)), 0.8), shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    return ramp(grey, shades(rng, rng.uniform(0.1, 0.5)))


def gradient(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Sky, screens, lit walls: a smooth passage of colours."""
    ends = [random_colour(rng, 0.3) for _ in range(rng.integers(2, 4))]
    across, down = rng.normal(size=2)
    field = np.linspace(0, down, shape[0], dtype=np.float32)[:, None] + np.linspace(
        0, across, shape[1], dtype=np.float32
    )
    grey = cv2.normalize(field, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    return ramp(cv2.addWeighted(grey, 0.85, fractal(rng, shape, 3, 0.5), 0.15, 0), ends)


def masonry(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Bricks, tiles or slabs, with joints."""
    height = int(np.exp(rng.uniform(np.log(10), np.log(110))))
    width = int(height * rng.uniform(1, 3.2))
    joint = max(1, round(height * rng.uniform(0.02, 0.14)))
    rows = np.arange(shape[0]) // height
    offset = (rows % 2) * (width // 2 if rng.random() < 0.6 else 0)
    columns = np.arange(shape[1])[None] + offset[:, None]
    tones = rng.normal(128, rng.uniform(3, 40), 997).clip(0, 255).astype(np.uint8)
    grey = tones[(rows[:, None] * 131 + columns // width) % 997]
    seam = (columns % width < joint) | (np.arange(shape[0]) % height < joint)[:, None]
    grey[seam] = rng.integers(256)
    grey = cv2.addWeighted(grey, 0.8, fractal(rng, shape, 8, 0.8), 0.2, 0)
    return ramp(grey, shades(rng, rng.uniform(0.2, 0.6)))


def slats(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Shutters, blinds, corrugated iron, radiators, stairs: parallel bars with a rounded shade."""
    length = shape[0] if rng.random() < 0.6 else shape[1]
    pitch = np.exp(rng.uniform(np.log(5), np.log(70)))
    phase = (np.arange(length) / pitch + rng.random()) % 1
    profile = (255 * np.abs(phase * 2 - 1) ** rng.uniform(0.2, 3)).astype(np.uint8)
    grey = (
        np.repeat(profile[:, None], shape[1], 1)
        if length == shape[0]
        else np.repeat(profile[None], shape[0], 0)
    )
    return ramp(
        cv2.addWeighted(np.ascontiguousarray(grey), 0.75, fractal(rng, shape), 0.25, 0),
        shades(rng, rng.uniform(0.1, 0.7)),
    )


def facade(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """A house front: rows of windows."""
    image = plaster(rng, shape)
    high, wide = int(rng.integers(40, 180)), int(rng.integers(30, 160))
    share = rng.uniform(0.4, 0.85, 2)
    frame, bars = random_colour(rng), int(rng.integers(0, 3))
    panes = [random_colour(rng) for _ in range(5)]
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
    """Leaves over leaves, from dark to light."""
    hue = rng.normal(0.27, 0.06)
    dark = [_rounded(255 * np.array(colorsys.hsv_to_rgb(hue, 0.5, value))) for value in (0.05, 0.35)]
    image = ramp(fractal(rng, shape, 8, 0.8), dark)
    count = min(900, shape[0] * shape[1] // 300)
    centres = rng.random((count, 2)) * shape[::-1]
    size, turn = np.exp(rng.uniform(1.0, 2.8, (count, 1))), rng.uniform(0, np.pi, (count, 1))
    axis = np.concatenate([np.cos(turn), np.sin(turn)], 1) * size
    side = axis[:, ::-1] * (-0.4, 0.4)
    leaves = np.stack([centres - axis, centres + side, centres + axis, centres - side], 1).astype(np.int32)
    for level, leaf in zip(np.linspace(0.15, rng.uniform(0.5, 0.95), count), leaves, strict=True):
        shade = colorsys.hsv_to_rgb(hue + 0.06 * (level - 0.5), 0.55, level * 0.8)
        cv2.fillConvexPoly(image, leaf, [255 * c for c in shade])
    return image


def shelves(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Goods side by side on boards: boxes, bottles, books without a letter."""
    image = ramp(fractal(rng, shape), shades(rng, 0.2))
    pitch = int(rng.integers(30, 120))
    for top in range(0, shape[0], pitch):
        left = 0
        while left < shape[1]:
            wide = int(pitch * rng.uniform(0.12, 0.9))
            high = int(pitch * rng.uniform(0.45, 0.85))
            _goods(rng, image, (left, top + int(pitch * 0.9) - high, wide, high))
            left += wide + int(rng.integers(1, 6))
        cv2.rectangle(image, (0, top + int(pitch * 0.9)), (shape[1], top + pitch), random_colour(rng), -1)
    return image


def _goods(rng: np.random.Generator, image: np.ndarray, box: tuple[int, int, int, int]) -> None:
    left, top, wide, high = box
    cv2.rectangle(image, (left, top), (left + wide, top + high), random_colour(rng, 0.6), -1)
    kind = rng.integers(4)
    middle = (left + wide // 2, top + high // 2)
    if kind == 0:
        cv2.circle(image, middle, max(1, min(wide, high) // 3), random_colour(rng, 0.6), -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.rectangle(
            image, (left, middle[1]), (left + wide, middle[1] + high // 4), random_colour(rng, 0.6), -1
        )
    elif kind == 2:
        cv2.ellipse(
            image, (middle[0], top), (wide // 2, high // 6 + 1), 0, 0, 360, random_colour(rng, 0.4), -1
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
    """One of `SURFACES`, uint8 RGB of that shape."""
    return SURFACES[rng.choice(len(SURFACES), p=_ODDS)][0](rng, shape)


# ---- layouts: surfaces in perspective ----


def _room(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """A back wall, and floor, ceiling and side walls (or road, sky and house fronts) running towards it."""
    height, width = shape
    left, right = np.sort(rng.uniform(0.05, 0.95, 2)) * width
    top, bottom = rng.uniform(0, 0.4) * height, rng.uniform(0.5, 1) * height
    back = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    reach = rng.uniform(1.5, 4)
    centre = back.mean(0) + rng.normal(0, 0.05, 2) * shape[::-1]
    front = (centre + (back - centre) * reach * max(shape) / max(right - left, bottom - top, 1)).astype(
        np.float32
    )
    image = surface(rng, shape)
    for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
        lay(image, surface(rng, (256, 512)), np.stack([front[a], front[b], back[b], back[a]]))
    return image


def _patchwork(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Surfaces behind surfaces, each a quadrangle at some slant."""
    image = _slanted(rng, shape)
    for _ in range(rng.integers(3, 9)):
        size = rng.uniform(0.15, 0.7, 2) * shape
        centre = rng.random(2) * shape[::-1]
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size[::-1] / 2
        corners = corners * (1 + rng.normal(0, 0.12, (4, 2))) + centre
        lay(image, surface(rng, (int(size[0]) + 2, int(size[1]) + 2)), corners.astype(np.float32))
    return image


def _slanted(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """One surface, seen from the side."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    seen = np.float32(corners + (corners - 0.5) * rng.uniform(0, 1.2, (4, 2))) * np.float32(shape[::-1])
    flat = surface(rng, shape)
    matrix = cv2.getPerspectiveTransform(corners * np.float32(shape[::-1]), seen)
    return cv2.warpPerspective(flat, matrix, shape[::-1], borderMode=cv2.BORDER_REFLECT)


LAYOUTS = (_room, _patchwork, _slanted)


def lay(image: np.ndarray, flat: np.ndarray, corners: np.ndarray) -> None:
    """Lays a flat picture into a quadrangle of the image, in place.

    Args:
      image: uint8 RGB (h, w, 3).
      flat: uint8 RGB, any size.
      corners: float32 (4, 2), where the corners of `flat` land, clockwise from its top-left; may lie outside.
    """
    x0, y0 = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(corners.max(0)) + 1, image.shape[1::-1]).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    high, wide = flat.shape[:2]
    source = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    matrix = cv2.getPerspectiveTransform(source, (corners - (x0, y0)).astype(np.float32))
    spot = image[y0:y1, x0:x1]
    seen = cv2.warpPerspective(flat, matrix, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros(spot.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(corners - (x0, y0)).astype(np.int32)], 255)
    cv2.copyTo(seen, mask, spot)
