"""Things that are not text, some of them a little like it: poles, wires, fences, arrows, people, discs."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from efficientnet_east.data.synthetic.backgrounds import lay
from efficientnet_east.data.synthetic.surfaces import random_color, surface


def add(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Draw some objects into a background, in place.

    Args:
      rng: source of chance.
      image: uint8 RGB (h, w, 3).

    Returns:
      The same array.
    """
    for _ in range(rng.poisson(7)):
        OBJECTS[rng.integers(len(OBJECTS))](rng, image)
    return image


def _point(rng: np.random.Generator, image: np.ndarray) -> tuple[int, int]:
    return int(rng.integers(image.shape[1])), int(rng.integers(image.shape[0]))


def _size(rng: np.random.Generator, image: np.ndarray, low: float = 0.02, high: float = 0.3) -> int:
    """A length in pixels, small ones more often."""
    return max(2, int(min(image.shape[:2]) * np.exp(rng.uniform(np.log(low), np.log(high)))))


def _pole(rng: np.random.Generator, image: np.ndarray) -> None:
    x, lean = int(rng.integers(image.shape[1])), int(rng.normal(0, 20))
    width = _size(rng, image, 0.005, 0.08)
    cv2.line(image, (x, 0), (x + lean, image.shape[0]), random_color(rng), width, cv2.LINE_AA)
    shine = random_color(rng)
    cv2.line(
        image,
        (x - width // 4, 0),
        (x + lean - width // 4, image.shape[0]),
        shine,
        max(1, width // 4),
        cv2.LINE_AA,
    )


def _wires(rng: np.random.Generator, image: np.ndarray) -> None:
    color, sag = random_color(rng), _size(rng, image, 0.01, 0.2)
    start, end = rng.integers(0, max(2, image.shape[0] // 2), 2)
    x = np.linspace(0, image.shape[1], 30)
    share = x / image.shape[1]
    for wire in range(rng.integers(1, 5)):
        y = start + (end - start) * share + sag * 4 * share * (1 - share) + wire * rng.uniform(4, 25)
        cv2.polylines(
            image, [np.stack([x, y], 1).astype(np.int32)], False, color, int(rng.integers(1, 3)), cv2.LINE_AA
        )


def _fence(rng: np.random.Generator, image: np.ndarray) -> None:
    """Bars side by side between two rails, or a mesh."""
    left, top = _point(rng, image)
    high, wide = _size(rng, image, 0.06, 0.5), _size(rng, image, 0.2, 1.2)
    pitch, color, slope = (
        _size(rng, image, 0.01, 0.06) + 2,
        random_color(rng),
        int(rng.choice((0, 0, high))),
    )
    width = max(1, pitch // int(rng.integers(3, 9)))
    for x in range(left, left + wide, pitch):
        cv2.line(image, (x, top), (x + slope, top + high), color, width, cv2.LINE_AA)
        if slope:
            cv2.line(image, (x + slope, top), (x, top + high), color, width, cv2.LINE_AA)
    for y in (top, top + high):
        cv2.line(image, (left, y), (left + wide, y), color, width + 1, cv2.LINE_AA)


def _grid(rng: np.random.Generator, image: np.ndarray) -> None:
    """A small grid of boxes, dots or dashes: ventilation, loudspeakers, keypads, lamps."""
    left, top = _point(rng, image)
    pitch = _size(rng, image, 0.01, 0.05) + 2
    kind, color = rng.integers(3), random_color(rng)
    rows, columns = rng.integers(1, 9), rng.integers(3, 14)
    if rng.random() < 0.5:
        corner = (left + int(columns) * pitch, top + int(rows) * pitch)
        cv2.rectangle(image, (left - pitch // 2, top - pitch // 2), corner, random_color(rng), -1)
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * pitch, top + row * pitch
            if kind == 0:
                cv2.circle(
                    image, (x + pitch // 3, y + pitch // 3), max(1, pitch // 3), color, -1, cv2.LINE_AA
                )
            else:
                wide = pitch // 2 if kind == 1 else pitch * 3 // 4
                cv2.rectangle(image, (x, y), (x + wide, y + pitch // (2 if kind == 1 else 4)), color, -1)


def _arrow(rng: np.random.Generator, image: np.ndarray) -> None:
    start, reach = np.array(_point(rng, image)), _size(rng, image, 0.03, 0.2)
    angle = rng.choice((0, 90, 180, 270)) + rng.normal(0, 8)
    end = start + reach * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    if rng.random() < 0.6:
        radius = int(reach * 0.8)
        cv2.circle(
            image,
            tuple(((start + end) / 2).astype(int).tolist()),
            radius,
            random_color(rng, 0.8),
            -1,
            cv2.LINE_AA,
        )
    cv2.arrowedLine(
        image,
        start.tolist(),
        end.astype(int).tolist(),
        random_color(rng, 0.3),
        max(1, reach // 8),
        cv2.LINE_AA,
        0,
        0.4,
    )


def _rings(rng: np.random.Generator, image: np.ndarray) -> None:
    """Traffic signs, clocks, wheels, logos: discs in one another."""
    center, radius = _point(rng, image), _size(rng, image, 0.015, 0.15)
    axes = np.array([radius, int(radius * rng.uniform(0.6, 1))])
    for share in np.sort(rng.uniform(0.2, 1, rng.integers(1, 5)))[::-1]:
        size = np.maximum(1, axes * share).astype(int).tolist()
        cv2.ellipse(image, center, size, 0, 0, 360, random_color(rng, 0.7), -1, cv2.LINE_AA)
    if rng.random() < 0.4:
        cv2.line(
            image,
            (center[0] - radius // 2, center[1]),
            (center[0] + radius // 2, center[1]),
            (240, 240, 240),
            radius // 4 + 1,
        )


def _polygon(rng: np.random.Generator, image: np.ndarray) -> None:
    """Stars, triangles, shards: one filled shape."""
    count, radius = int(rng.integers(3, 12)), _size(rng, image, 0.01, 0.15)
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.random()
    reach = radius * np.where(np.arange(count) % 2, rng.uniform(0.4, 1), 1)
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None] + _point(rng, image)
    cv2.fillPoly(image, [points.astype(np.int32)], random_color(rng, 0.8), cv2.LINE_AA)


def _stripes(rng: np.random.Generator, image: np.ndarray) -> None:
    """Bars of uneven width: bar codes, zebra crossings, piano keys, hazard tape."""
    high, wide = _size(rng, image, 0.03, 0.15), _size(rng, image, 0.06, 0.4)
    widths = rng.integers(1, rng.integers(3, 12), wide)
    code = np.repeat(np.arange(wide) % 2, widths)[:wide].astype(np.uint8)
    ends = np.array([random_color(rng), random_color(rng)], np.uint8)
    flat = np.ascontiguousarray(np.broadcast_to(ends[code], (high, wide, 3)))
    lay(image, flat, _quadrangle(rng, image, high, wide))


def _door(rng: np.random.Generator, image: np.ndarray) -> None:
    """A framed piece of another surface: door, window, poster, screen, car side."""
    high, wide = _size(rng, image, 0.08, 0.6), _size(rng, image, 0.08, 0.6)
    flat = surface(rng, (high, wide))
    cv2.rectangle(flat, (0, 0), (wide - 1, high - 1), random_color(rng), max(1, min(high, wide) // 16))
    lay(image, flat, _quadrangle(rng, image, high, wide))


def _quadrangle(rng: np.random.Generator, image: np.ndarray, high: int, wide: int) -> np.ndarray:
    corners = np.array([[0, 0], [wide, 0], [wide, high], [0, high]]) + rng.normal(0, 0.07, (4, 2)) * min(
        high, wide
    )
    return (corners + _point(rng, image)).astype(np.float32)


# outlines in half head widths, the head's center at (0, 0)
LEGS = ((-1.5, 6), (1.5, 6), (1.3, 14), (0.3, 14), (0, 8.5), (-0.3, 14), (-1.3, 14))
TRUNK = ((-0.6, 1), (0.6, 1), (2.1, 1.9), (2.5, 6.5), (1.8, 6.7), (1.5, 3.4), (1.6, 7))


def _person(rng: np.random.Generator, image: np.ndarray) -> None:
    """Legs, trunk and arms, head and hair; seen from the front, from the side or from behind."""
    center, head = np.array(_point(rng, image)), _size(rng, image, 0.012, 0.1)
    skin = (np.array([225, 180, 150]) * rng.uniform(0.35, 1)).tolist()
    hair = (np.array([40, 30, 25]) * rng.uniform(0.3, 2)).tolist()
    turn, lean = rng.uniform(0.55, 1.1), np.radians(rng.normal(0, 5))
    upright = np.array([[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]])
    trunk = (*TRUNK, *((-x, y) for x, y in reversed(TRUNK)))
    for outline, color in ((LEGS, random_color(rng)), (trunk, random_color(rng, 0.5))):
        corners = np.array(outline) * (turn * head, head) @ upright + center
        cv2.fillPoly(image, [np.round(corners).astype(np.int32)], color, cv2.LINE_AA)
    x, y = center.tolist()
    axes = (int(head * 0.95), int(head * 1.25))
    cv2.ellipse(image, (x, y), axes, 0, 0, 360, skin if rng.random() < 0.6 else hair, -1, cv2.LINE_AA)
    cv2.ellipse(image, (x, y - head // 3), (head, int(head * 1.05)), 0, 170, 370, hair, -1, cv2.LINE_AA)


OBJECTS: tuple[Callable[[np.random.Generator, np.ndarray], None], ...] = (
    _pole,
    _wires,
    _fence,
    _grid,
    _arrow,
    _rings,
    _polygon,
    _stripes,
    _door,
    _door,
    _person,
    _person,
)
