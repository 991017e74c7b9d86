"""Signs: one to several lines of words, bare or on a board, painted flat before perspective."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from efficientnet_east.data.synthetic import fonts, surfaces, words

BOARD_ODDS = 0.6  # share of signs that bring their own ground
BOARDS = (
    (255, 255, 255),
    (245, 242, 230),
    (20, 20, 22),
    (0, 75, 140),
    (0, 105, 60),
    (190, 20, 30),
    (250, 205, 20),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Where the ink of a sign lies, before any color.

    Attributes:
      ink: uint8 (height, width), the sign's canvas, 255 where a letter covers fully.
      boxes: float32 (n, 4), x0, y0, x1, y1 of each word's ink on the canvas.
      texts: n words.
      lines: n numbers from 0: the line that each word stands in, from the top.
      extent: float32 (4,), x0, y0, x1, y1 of all ink together.
      height: capital height of the ordinary line, in pixels.
      icon: center x, center y and radius of a pictogram's place, radius 0 for none.
    """

    ink: np.ndarray
    boxes: np.ndarray
    texts: tuple[str, ...]
    lines: tuple[int, ...]
    extent: np.ndarray
    height: float
    icon: tuple[int, int, int]


def compose(rng: np.random.Generator, height: float, room: tuple[float, float], most: int) -> Layout:
    """Set the lines of a sign.

    Args:
      rng: source of chance.
      height: capital height in pixels.
      room: largest width and height of the ink, in pixels; one word may exceed it.
      most: largest number of words.

    Returns:
      The layout, with an empty margin around the ink for a board's border or for a shadow.
    """
    style = fonts.random_style(rng)
    lines: list[fonts.TypesetLine] = []
    texts: list[str] = []
    used = 0.0
    for _ in range(int(rng.choice(6, p=(0.5, 0.24, 0.12, 0.08, 0.04, 0.02))) + 1):
        size = height * (rng.uniform(0.55, 1.6) if rng.random() < 0.3 else 1)
        count = min(most - len(texts), int(rng.choice(5, p=(0.42, 0.3, 0.17, 0.08, 0.03))) + 1)
        line, content = _fitting_line(rng, style, size, count, room[0])
        used += line.ink.shape[0] + size * 0.3
        if lines and (used > room[1] or line.ink.shape[1] > room[0]):
            break
        lines.append(line)
        texts.extend(content)
        if len(texts) >= most:
            break
    return _stacked(rng, lines, tuple(texts), height)


def _fitting_line(
    rng: np.random.Generator, style: fonts.Style, size: float, count: int, width: float
) -> tuple[fonts.TypesetLine, list[str]]:
    """A line of at most `count` words, of fewer where they are too wide, and those words."""
    content = words.line_of_text(rng, count)
    line = fonts.set_line(rng, content, style, size)
    while line.ink.shape[1] > width and len(content) > 1:
        content = content[:-1]
        line = fonts.set_line(rng, content, style, size)
    return line, content


def _stacked(
    rng: np.random.Generator, lines: list[fonts.TypesetLine], texts: tuple[str, ...], height: float
) -> Layout:
    """Lines under one another, left, centered or right, perhaps with room for a pictogram beside them."""
    leading = max(3.0, height * rng.uniform(0.25, 0.9))
    above, below, left, right = (int(height * share) + 3 for share in rng.uniform(0.3, 1.3, 2).repeat(2))
    width = max(line.ink.shape[1] for line in lines)
    tall = sum(line.ink.shape[0] for line in lines) + round(leading * (len(lines) - 1)) + len(lines)
    icon = (0, 0, 0)
    if rng.random() < 0.2:
        radius = max(3, int(min(tall, 4 * height) / 2))
        gap = 2 * radius + int(0.4 * height)
        at_left = rng.random() < 0.5
        icon = (left + radius if at_left else left + width + gap - radius, above + tall // 2, radius)
        left, right = (left + gap, right) if at_left else (left, right + gap)
    ink = np.zeros((tall + above + below, width + left + right), np.uint8)
    align = rng.choice((0.0, 0.5, 1.0), p=(0.4, 0.5, 0.1))
    boxes, y = [], float(above)
    for line in lines:
        x, top = left + int((width - line.ink.shape[1]) * align), int(y)
        ink[top : top + line.ink.shape[0], x : x + line.ink.shape[1]] = line.ink
        boxes.append(line.boxes + np.array([x, top, x, top], np.float32))
        y += line.ink.shape[0] + leading
    stacked = np.concatenate(boxes)
    extent = np.concatenate([stacked[:, :2].min(0), stacked[:, 2:].max(0)])
    numbers = tuple(number for number, line in enumerate(lines) for _ in line.boxes)
    return Layout(ink, stacked, texts, numbers, extent, height, icon)


def color_sign(rng: np.random.Generator, layout: Layout, ground: np.ndarray, board: bool) -> np.ndarray:
    """Paint a sign.

    Args:
      rng: source of chance.
      layout: the ink.
      ground: float32 (3,), mean RGB of the picture where the sign will hang, 0 to 255.
      board: whether the sign brings its own ground.

    Returns:
      uint8 (height, width, 4): RGB times coverage, and coverage; 255 covers fully.
    """
    layer = np.zeros((*layout.ink.shape, 4), np.float32)
    if board:
        ground = _paint_board(rng, layer, layout.height)
    color = _contrasting(rng, ground)
    if layout.icon[2]:
        _paint_icon(rng, layer, layout, color)
    for effect, odds in ((_outline, 0.12), (_shadow, 0.18), (_glow, 0.05), (_relief, 0.07)):
        if rng.random() < odds:
            effect(rng, layer, layout, color)
    ink = layout.ink.astype(np.float32) / 255
    if rng.random() < 0.15:
        worn = surfaces.fractal(rng, layout.ink.shape, 16, 0.9).astype(np.float32) / 255
        ink *= np.clip(worn * rng.uniform(2, 5), 0, 1)
    strength = 1.0 if rng.random() < 0.6 else rng.uniform(0.6, 1)
    _cover(layer, _fill(rng, layout, color), ink * np.float32(strength))
    return (layer * np.array([1, 1, 1, 255], np.float32)).astype(np.uint8)


def _cover(layer: np.ndarray, color: np.ndarray, coverage: np.ndarray) -> None:
    """Paints over a layer, in place: `color` (3,) or (h, w, 3), `coverage` (h, w) in [0, 1]."""
    cover = coverage[..., None]
    layer *= 1 - cover
    layer[..., :3] += color * cover
    layer[..., 3] += coverage


def _contrasting(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """A text color for a ground, at a contrast drawn first: mostly high, sometimes hardly any."""
    target = float(
        rng.choice((rng.uniform(8, 40), rng.uniform(40, 90), rng.uniform(90, 255)), p=(0.06, 0.22, 0.72))
    )
    plain = [(255, 255, 255), (250, 250, 245), (10, 10, 12), (40, 40, 45)]
    options = np.array(plain + [surfaces.random_color(rng, 0.9) for _ in range(8)], np.float32)
    if target < 90:
        options[6:] = (options[6:] + ground) / 2
    distance = np.abs((options - ground) @ np.array([0.3, 0.55, 0.15], np.float32))
    score = np.abs(distance - target) + rng.uniform(0, 40, len(options)) * (target > 60)
    return options[np.argmin(score)]


def _paint_board(rng: np.random.Generator, layer: np.ndarray, height: float) -> np.ndarray:
    """The board, in place, rounded or not, framed or not. Returns its mean RGB."""
    high, wide = layer.shape[:2]
    mask = np.zeros((high, wide), np.uint8)
    radius = int(rng.uniform(0, 0.5) * min(high, wide) / 2) if rng.random() < 0.35 else 0
    _rounded_box(mask, radius, 0)
    print_ = _print(rng, (high, wide))
    coverage = mask.astype(np.float32) / 255 * np.float32(1 if rng.random() < 0.8 else rng.uniform(0.6, 1))
    _cover(layer, print_, coverage)
    if rng.random() < 0.35:
        border = np.zeros_like(mask)
        inset, width = int(height * rng.uniform(0, 0.12)), max(1, int(height * rng.uniform(0.03, 0.14)))
        _rounded_box(border, radius, inset, width)
        frame = np.array(surfaces.random_color(rng, 0.5), np.float32)
        _cover(layer, frame, border.astype(np.float32) / 255)
    return print_.mean((0, 1))


def _print(rng: np.random.Generator, shape: surfaces.Shape) -> np.ndarray:
    """What a board shows behind its words, float32 RGB: one color and its stains, now and then a picture."""
    if rng.random() < 0.12:
        picture = surfaces.surface(rng, shape).astype(np.float32)
        return picture * np.float32(rng.uniform(0.2, 1)) + np.float32(rng.uniform(0, 60))
    plain = np.array(surfaces.random_color(rng, rng.random()), np.float32)
    if rng.random() < 0.5:
        plain = (np.array(BOARDS[rng.integers(len(BOARDS))]) + rng.normal(0, 12, 3)).astype(np.float32)
    gray = surfaces.fractal(rng, shape, 2, rng.uniform(0.3, 0.7)).astype(np.float32)[..., None]
    stains = 1 + (gray / 255 - 0.5) * np.float32(rng.uniform(0, 0.4))
    return np.clip(plain * stains, 0, 255)


def _rounded_box(mask: np.ndarray, radius: int, inset: int, width: int = -1) -> None:
    """A box with round corners on a mask, filled or (`width` > 0) as a line."""
    high, wide = mask.shape
    near, right, bottom = inset + radius, wide - 1 - inset - radius, high - 1 - inset - radius
    turn = np.linspace(0, np.pi / 2, 8 if radius else 1)
    points = []
    for quarter, center in enumerate(((right, bottom), (near, bottom), (near, near), (right, near))):
        angle = turn + quarter * np.pi / 2
        points.append(radius * np.stack([np.cos(angle), np.sin(angle)], 1) + center)
    outline = [np.round(np.concatenate(points)).astype(np.int32)]
    if width < 0:
        cv2.fillPoly(mask, outline, 255, cv2.LINE_AA)
    else:
        cv2.polylines(mask, outline, True, 255, width, cv2.LINE_AA)


def _paint_icon(rng: np.random.Generator, layer: np.ndarray, layout: Layout, color: np.ndarray) -> None:
    """A pictogram beside the words, in place: an arrow, a disc with a hole, a star; perhaps on a disc."""
    x, y, radius = layout.icon
    mask = np.zeros(layout.ink.shape, np.uint8)
    if rng.random() < 0.4:
        cv2.circle(mask, (x, y), radius, 255, -1, cv2.LINE_AA)
        _cover(layer, color, mask.astype(np.float32) / 255)
        color, radius = _contrasting(rng, color), int(radius * 0.65) + 1
        mask[:] = 0
    kind, turn = rng.integers(3), rng.integers(4) * np.pi / 2
    if kind == 0:
        across, down = round(radius * np.cos(turn)), round(radius * np.sin(turn))
        tail, tip = (x - across, y - down), (x + across, y + down)
        cv2.arrowedLine(mask, tail, tip, 255, max(1, radius // 3), cv2.LINE_AA, 0, 0.5)
    elif kind == 1:
        cv2.circle(mask, (x, y), radius, 255, max(1, int(radius * rng.uniform(0.15, 0.6))), cv2.LINE_AA)
    else:
        angle = np.linspace(0, 2 * np.pi, int(rng.integers(3, 11)), endpoint=False) + turn
        spoke = radius * np.where(np.arange(len(angle)) % 2, rng.uniform(0.4, 1), 1)
        star = np.stack([x + spoke * np.cos(angle), y + spoke * np.sin(angle)], 1)
        cv2.fillPoly(mask, [np.round(star).astype(np.int32)], 255, cv2.LINE_AA)
    _cover(layer, color, mask.astype(np.float32) / 255)


def _fill(rng: np.random.Generator, layout: Layout, color: np.ndarray) -> np.ndarray:
    """The letters' color: one, or (sometimes) running into a neighboring one from top to bottom."""
    if rng.random() > 0.1:
        return color
    other = np.clip(color + rng.normal(0, 50, 3), 0, 255).astype(np.float32)
    share = np.linspace(0, 1, layout.ink.shape[0], dtype=np.float32)[:, None, None]
    return color * (1 - share) + other * share


def _outline(rng: np.random.Generator, layer: np.ndarray, layout: Layout, color: np.ndarray) -> None:
    width = max(1, round(layout.height * rng.uniform(0.04, 0.12)))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    edge = _contrasting(rng, color)
    _cover(layer, edge, cv2.dilate(layout.ink, brush).astype(np.float32) / 255)


def _shadow(rng: np.random.Generator, layer: np.ndarray, layout: Layout, color: np.ndarray) -> None:
    reach = layout.height * rng.uniform(0.03, 0.14)
    angle = rng.uniform(0, 2 * np.pi)
    matrix = np.array([[1, 0, reach * np.cos(angle)], [0, 1, reach * np.sin(angle)]])
    moved = cv2.warpAffine(layout.ink, matrix, layout.ink.shape[::-1])
    if rng.random() < 0.6:
        moved = cv2.GaussianBlur(moved, (0, 0), 0.3 + reach * rng.uniform(0.2, 0.8))
    _cover(
        layer, color * np.float32(0.15), moved.astype(np.float32) * np.float32(rng.uniform(0.3, 0.9) / 255)
    )


def _glow(rng: np.random.Generator, layer: np.ndarray, layout: Layout, color: np.ndarray) -> None:
    halo = cv2.GaussianBlur(layout.ink, (0, 0), layout.height * rng.uniform(0.1, 0.3))
    light = halo.astype(np.float32) / 255
    _cover(layer, np.clip(color * 0.6 + 60, 0, 255), np.clip(light * rng.uniform(0.5, 1.2), 0, 0.8))


def _relief(rng: np.random.Generator, layer: np.ndarray, layout: Layout, color: np.ndarray) -> None:
    """Raised letters: a light edge on one side, a dark one on the other."""
    step = max(1, round(layout.height * rng.uniform(0.02, 0.06)))
    for shift, shade in ((-step, 250.0), (step, 10.0)):
        moved = np.roll(layout.ink, (shift, shift), (0, 1)).astype(np.float32) / 255
        _cover(layer, np.full(3, shade, np.float32), moved * np.float32(rng.uniform(0.4, 0.9)))
