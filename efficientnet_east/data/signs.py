"""Signs: one to several lines of words, bare or on a panel, painted flat before perspective."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from efficientnet_east.data import backgrounds, fonts, words

PANEL_ODDS = 0.62  # share of signs that bring their own ground
MAX_LINES = 6


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Where the ink of a sign lies, before any colour.

    Attributes:
      ink: uint8 (height, width), the sign's canvas, 255 where a letter covers fully.
      boxes: float32 (n, 4), x0, y0, x1, y1 of each word's ink on the canvas.
      texts: n words.
      extent: float32 (4,), x0, y0, x1, y1 of all ink together.
      height: capital height of the ordinary line, in pixels.
    """

    ink: np.ndarray
    boxes: np.ndarray
    texts: tuple[str, ...]
    extent: np.ndarray
    height: float


def compose(rng: np.random.Generator, height: float, room: tuple[float, float], most: int) -> Layout:
    """Sets the lines of a sign.

    Args:
      rng: source of chance.
      height: capital height in pixels.
      room: largest width and height of the ink, in pixels; one word may exceed it.
      most: largest number of words.

    Returns:
      The layout, with an empty margin around the ink for a panel's border or for a shadow.
    """
    style = fonts.random_style(rng)
    lines, texts, used = [], [], 0.0
    for _ in range(min(most, _line_count(rng))):
        size = height * (rng.uniform(0.55, 1.6) if rng.random() < 0.3 else 1)
        content = words.line_of_text(rng, min(most - len(texts), _word_count(rng)))
        line = fonts.set_line(rng, content, style, size)
        while line.ink.shape[1] > room[0] and len(content) > 1:
            content = content[:-1]
            line = fonts.set_line(rng, content, style, size)
        used += line.ink.shape[0] + size * 0.3
        if lines and (used > room[1] or line.ink.shape[1] > room[0]):
            break
        lines.append(line)
        texts.extend(content)
        if len(texts) >= most:
            break
    return _stacked(rng, lines, tuple(texts), height)


def _line_count(rng: np.random.Generator) -> int:
    return int(rng.choice(MAX_LINES, p=(0.5, 0.24, 0.12, 0.08, 0.04, 0.02))) + 1


def _word_count(rng: np.random.Generator) -> int:
    return int(rng.choice(5, p=(0.45, 0.3, 0.15, 0.07, 0.03))) + 1


def _stacked(
    rng: np.random.Generator, lines: list[fonts.Line], texts: tuple[str, ...], height: float
) -> Layout:
    """Lines under one another, to the left, centred or to the right."""
    leading = max(3.0, height * rng.uniform(0.25, 0.9))
    margin = [int(height * rng.uniform(0.3, 1.3)) + 3 for _ in range(2)]
    align = rng.choice((0.0, 0.5, 1.0), p=(0.4, 0.5, 0.1))
    width = max(line.ink.shape[1] for line in lines)
    tall = sum(line.ink.shape[0] for line in lines) + round(leading * (len(lines) - 1))
    ink = np.zeros((tall + 2 * margin[1] + len(lines), width + 2 * margin[0]), np.uint8)
    boxes, y = [], float(margin[1])
    for line in lines:
        x, top = margin[0] + int((width - line.ink.shape[1]) * align), int(y)
        ink[top : top + line.ink.shape[0], x : x + line.ink.shape[1]] = line.ink
        boxes.append(line.boxes + np.array([x, top, x, top], np.float32))
        y += line.ink.shape[0] + leading
    stacked = np.concatenate(boxes)
    extent = np.concatenate([stacked[:, :2].min(0), stacked[:, 2:].max(0)])
    return Layout(ink, stacked, texts, extent, height)


def colour_sign(rng: np.random.Generator, layout: Layout, ground: np.ndarray, panel: bool) -> np.ndarray:
    """Paints a sign.

    Args:
      rng: source of chance.
      layout: the ink.
      ground: mean RGB of the picture where the sign will hang, 0 to 255.
      panel: whether the sign brings its own ground.

    Returns:
      float32 (height, width, 4): RGB times coverage, and coverage in [0, 1].
    """
    layer = np.zeros((*layout.ink.shape, 4), np.float32)
    if panel:
        board = np.array(_board_colour(rng), np.float32)
        _paint_board(rng, layer, board, layout.height)
        ground = board
    colour = _contrasting(rng, ground)
    ink = layout.ink.astype(np.float32) / 255
    for effect, odds in ((_outline, 0.12), (_shadow, 0.18), (_glow, 0.05), (_relief, 0.07)):
        if rng.random() < odds:
            effect(rng, layer, layout, colour)
    if rng.random() < 0.15:
        worn = backgrounds.fractal(rng, layout.ink.shape, 16, 0.9).astype(np.float32) / 255
        ink *= np.clip(worn * rng.uniform(2, 5), 0, 1)
    _cover(layer, _fill(rng, layout, colour), ink * rng.choice((1, rng.uniform(0.6, 1))))
    return layer


def _cover(layer: np.ndarray, colour: np.ndarray, coverage: np.ndarray) -> None:
    """Paints over a layer, in place: `colour` (3,) or (h, w, 3), `coverage` (h, w) in [0, 1]."""
    cover = coverage[..., None]
    layer *= 1 - cover
    layer[..., :3] += colour * cover
    layer[..., 3] += coverage


def _contrasting(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """A text colour for a ground, at a contrast drawn first: mostly high, sometimes hardly any."""
    wanted = rng.choice((rng.uniform(8, 40), rng.uniform(40, 90), rng.uniform(90, 255)), p=(0.06, 0.22, 0.72))
    plain = [(255, 255, 255), (250, 250, 245), (10, 10, 12), (40, 40, 45)]
    options = np.array(plain + [backgrounds.random_colour(rng, 0.9) for _ in range(8)], np.float32)
    options[6:] = options[6:] * 0.5 + np.float32(ground) * 0.5 if wanted < 90 else options[6:]
    distance = np.abs((options - np.float32(ground)) @ np.float32((0.3, 0.55, 0.15)))
    score = np.abs(distance - wanted) + rng.uniform(0, 40, len(options)) * (wanted > 60)
    return options[np.argmin(score)]


BOARDS = (
    (255, 255, 255),
    (245, 242, 230),
    (20, 20, 22),
    (0, 75, 140),
    (0, 105, 60),
    (190, 20, 30),
    (250, 205, 20),
)


def _board_colour(rng: np.random.Generator) -> backgrounds.Colour:
    if rng.random() < 0.5:
        base = np.array(BOARDS[rng.integers(len(BOARDS))]) + rng.normal(0, 12, 3)
        return tuple(int(v) for v in base.clip(0, 255))  # type: ignore[return-value]
    return backgrounds.random_colour(rng, rng.random())


def _paint_board(rng: np.random.Generator, layer: np.ndarray, colour: np.ndarray, height: float) -> None:
    """The panel: rounded or not, plain, shaded or stained, with or without a border."""
    high, wide = layer.shape[:2]
    mask = np.zeros((high, wide), np.uint8)
    radius = int(rng.uniform(0, 0.5) * min(high, wide) / 2) if rng.random() < 0.35 else 0
    _rounded_box(mask, radius, 0, 255)
    shade = np.ones((high, wide, 1), np.float32)
    if rng.random() < 0.6:
        grey = backgrounds.fractal(rng, (high, wide), 2, rng.uniform(0.3, 0.7)).astype(np.float32)[..., None]
        shade = 1 + (grey / 255 - 0.5) * rng.uniform(0.05, 0.4)
    coverage = mask.astype(np.float32) / 255 * (1 if rng.random() < 0.8 else rng.uniform(0.6, 1))
    _cover(layer, np.clip(colour * shade, 0, 255), coverage)
    if rng.random() < 0.35:
        border = np.zeros_like(mask)
        inset = int(height * rng.uniform(0, 0.12))
        width = max(1, int(height * rng.uniform(0.03, 0.14)))
        _rounded_box(border, radius, inset, 255, width)
        _cover(layer, np.float32(backgrounds.random_colour(rng, 0.5)), border.astype(np.float32) / 255)


def _rounded_box(mask: np.ndarray, radius: int, inset: int, value: int, width: int = -1) -> None:
    """A box with round corners on a mask, filled or (`width` > 0) as a line."""
    high, wide = mask.shape
    left, top, right, bottom = inset, inset, wide - 1 - inset, high - 1 - inset
    turn = np.linspace(0, np.pi / 2, 8 if radius else 1)
    centres = (
        (right - radius, bottom - radius),
        (left + radius, bottom - radius),
        (left + radius, top + radius),
    )
    points = []
    for quarter, (x, y) in enumerate((*centres, (right - radius, top + radius))):
        angle = turn + quarter * np.pi / 2
        points.append(np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1))
    outline = [np.round(np.concatenate(points)).astype(np.int32)]
    if width < 0:
        cv2.fillPoly(mask, outline, value, cv2.LINE_AA)
    else:
        cv2.polylines(mask, outline, True, value, width, cv2.LINE_AA)


def _fill(rng: np.random.Generator, layout: Layout, colour: np.ndarray) -> np.ndarray:
    """The letters' colour: one, or (sometimes) running into a neighbouring one from top to bottom."""
    if rng.random() > 0.1:
        return colour
    other = np.clip(colour + rng.normal(0, 50, 3), 0, 255)
    share = np.linspace(0, 1, layout.ink.shape[0], dtype=np.float32)[:, None, None]
    return np.broadcast_to(colour * (1 - share) + np.float32(other) * share, (*layout.ink.shape, 3))


def _outline(rng: np.random.Generator, layer: np.ndarray, layout: Layout, colour: np.ndarray) -> None:
    width = max(1, round(layout.height * rng.uniform(0.04, 0.12)))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    edge = _contrasting(rng, colour)
    _cover(layer, edge, cv2.dilate(layout.ink, brush).astype(np.float32) / 255)


def _shadow(rng: np.random.Generator, layer: np.ndarray, layout: Layout, colour: np.ndarray) -> None:
    reach = layout.height * rng.uniform(0.03, 0.14)
    angle = rng.uniform(0, 2 * np.pi)
    matrix = np.float32([[1, 0, reach * np.cos(angle)], [0, 1, reach * np.sin(angle)]])
    dark = cv2.warpAffine(layout.ink, matrix, layout.ink.shape[::-1]).astype(np.float32) / 255
    if rng.random() < 0.6:
        dark = cv2.GaussianBlur(dark, (0, 0), 0.3 + reach * rng.uniform(0.2, 0.8))
    _cover(layer, np.float32(colour * 0.15), dark * rng.uniform(0.3, 0.9))


def _glow(rng: np.random.Generator, layer: np.ndarray, layout: Layout, colour: np.ndarray) -> None:
    light = (
        cv2.GaussianBlur(layout.ink, (0, 0), layout.height * rng.uniform(0.1, 0.3)).astype(np.float32) / 255
    )
    _cover(layer, np.clip(colour * 0.6 + 60, 0, 255), np.clip(light * rng.uniform(0.5, 1.2), 0, 0.8))


def _relief(rng: np.random.Generator, layer: np.ndarray, layout: Layout, colour: np.ndarray) -> None:
    """Raised letters: a light edge on one side, a dark one on the other."""
    step = max(1, round(layout.height * rng.uniform(0.02, 0.06)))
    for shift, shade in ((-step, 250.0), (step, 10.0)):
        moved = np.roll(layout.ink, (shift, shift), (0, 1)).astype(np.float32) / 255
        _cover(layer, np.full(3, shade, np.float32), moved * rng.uniform(0.4, 0.9))
