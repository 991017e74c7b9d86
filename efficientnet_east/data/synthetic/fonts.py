"""From words to ink: text lines as masks, with the tight box of every word.

The outlines come from the fonts inside matplotlib (DejaVu, STIX, Computer Modern) and Pillow (Aileron), all
free. That is few faces, so a line is also stretched, slanted, thickened, thinned, spaced out or set in dots.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from efficientnet_east.errors import UserError
from efficientnet_east.system import installed

EM = 96  # pixels; glyphs are drawn this large, then reduced: photographs show no hinting
PILLOW = "Pillow"  # stands for the font inside Pillow

# (file, share of the lines); faces of one family share their weight
FACES: tuple[tuple[str, float], ...] = (
    (PILLOW, 5),
    ("DejaVuSans.ttf", 4),
    ("DejaVuSans-Bold.ttf", 5),
    ("DejaVuSans-Oblique.ttf", 1),
    ("DejaVuSans-BoldOblique.ttf", 1.5),
    ("DejaVuSansMono.ttf", 0.7),
    ("DejaVuSansMono-Bold.ttf", 1),
    ("DejaVuSerif.ttf", 1.2),
    ("DejaVuSerif-Bold.ttf", 1.5),
    ("DejaVuSerif-Italic.ttf", 0.7),
    ("DejaVuSerif-BoldItalic.ttf", 0.8),
    ("STIXGeneral.ttf", 1.2),
    ("STIXGeneralBol.ttf", 1.5),
    ("STIXGeneralItalic.ttf", 1),
    ("STIXGeneralBolIta.ttf", 1),
    ("cmr10.ttf", 0.6),
    ("cmb10.ttf", 0.8),
    ("cmss10.ttf", 2),
    ("cmti10.ttf", 0.8),
    ("cmtt10.ttf", 0.6),
)
_ODDS = np.array([share for _, share in FACES]) / sum(share for _, share in FACES)


@dataclasses.dataclass(frozen=True)
class Style:
    """How one line is set.

    Attributes:
      face: row of `FACES`.
      stretch: width over the face's own width.
      slant: tangent of the slant, positive leans to the right.
      weight: pixels at `EM` by which the strokes grow (negative: shrink).
      spacing: extra space between letters, in capital heights.
      gap: space between words, in capital heights.
      bounce: random shift of each letter up and down, in capital heights.
      dots: rows of lamps of a dot-matrix display, 0 for ordinary print.
    """

    face: int
    stretch: float = 1.0
    slant: float = 0.0
    weight: int = 0
    spacing: float = 0.0
    gap: float = 0.4
    bounce: float = 0.0
    dots: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class TypesetLine:
    """One line of ink.

    Attributes:
      ink: uint8 (height, width), 255 where fully covered.
      boxes: float32 (n, 4), x0, y0, x1, y1 of each word's ink, in pixels of `ink`.
      baseline: y of the baseline.
    """

    ink: np.ndarray
    boxes: np.ndarray
    baseline: int


def random_style(rng: np.random.Generator) -> Style:
    """Choose a style as signs have it: mostly plain, often bold, sometimes odd."""
    return Style(
        face=int(rng.choice(len(FACES), p=_ODDS)),
        stretch=float(np.exp(rng.normal(-0.08, 0.2))) if rng.random() < 0.7 else 1.0,
        slant=float(rng.uniform(-0.1, 0.35)) if rng.random() < 0.12 else 0.0,
        weight=int(rng.integers(-2, 6)) if rng.random() < 0.45 else 0,
        spacing=float(rng.uniform(-0.04, 0.25)) if rng.random() < 0.3 else 0.0,
        gap=float(rng.uniform(0.36, 0.75)),
        bounce=float(rng.uniform(0.02, 0.08)) if rng.random() < 0.05 else 0.0,
        dots=int(rng.integers(8, 15)) if rng.random() < 0.03 else 0,
    )


def set_line(rng: np.random.Generator, words: list[str], style: Style, height: float) -> TypesetLine:
    """Set words on one baseline.

    Args:
      rng: source of chance, used where the letters bounce.
      words: the words of the line, each with at least one visible letter.
      style: face and distortions.
      height: height of a capital letter in pixels.

    Returns:
      The line, its ink cropped to what is drawn.
    """
    scale = height / cap_height(style.face)
    inks, tops = zip(*(_reduced(_word_ink(rng, word, style), scale, style) for word in words), strict=True)
    above = -min(tops)
    depth = max(top + ink.shape[0] for ink, top in zip(inks, tops, strict=True))
    starts = _starts([ink.shape[1] for ink in inks], max(2.0, height * (style.gap + style.spacing)))
    canvas = np.zeros((above + depth, starts[-1] + inks[-1].shape[1]), np.uint8)
    boxes = []
    for ink, top, x in zip(inks, tops, starts, strict=True):
        y = above + top
        canvas[y : y + ink.shape[0], x : x + ink.shape[1]] = ink
        boxes.append((x, y, x + ink.shape[1], y + ink.shape[0]))
    return TypesetLine(canvas, np.array(boxes, np.float32), above)


@functools.cache
def cap_height(face: int) -> float:
    """Return the height of the letter H at `EM`, in pixels."""
    _, top, _, bottom = _font(face).getbbox("H", anchor="ls")
    return float(bottom - top)


@functools.cache
def _font(face: int) -> ImageFont.FreeTypeFont:
    name = FACES[face][0]
    if name == PILLOW:
        return ImageFont.load_default(EM).font_variant(layout_engine=ImageFont.Layout.BASIC)  # type: ignore[union-attr]
    return ImageFont.truetype(str(_folder() / name), EM, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def _folder() -> Path:
    """The fonts inside matplotlib, found without importing it."""
    spec = installed.find("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        problem = "they use the fonts of matplotlib, which is not installed"
        raise UserError("synthetic scenes", problem, "Run `pip install matplotlib`.")
    return Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"


def _word_ink(rng: np.random.Generator, word: str, style: Style) -> tuple[np.ndarray, int]:
    """A word at `EM`: ink (uint8, cropped) and the y of its first row, baseline = 0."""
    ink, top = _letters(rng, word, style) if style.spacing or style.bounce else _whole(word, style.face)
    if style.weight or style.slant:
        ink, top = _reshaped(ink, top, style)
    rows, columns = np.flatnonzero(ink.max(1) > 40), np.flatnonzero(ink.max(0) > 40)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], top + int(rows[0])


def _whole(word: str, face: int) -> tuple[np.ndarray, int]:
    ink, _, top = _drawn(word, face)
    return ink, top


def _drawn(text: str, face: int) -> tuple[np.ndarray, int, int]:
    """Ink of one string, and the x and y of its first pixel from the pen's start on the baseline."""
    left, top, right, bottom = (round(v) for v in _font(face).getbbox(text, anchor="ls"))
    picture = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(picture).text((-left, -top), text, fill=255, font=_font(face), anchor="ls")
    return np.asarray(picture), left, top


def _letters(rng: np.random.Generator, word: str, style: Style) -> tuple[np.ndarray, int]:
    """Letter by letter, with room between them and each a little up or down."""
    font, cap = _font(style.face), cap_height(style.face)
    pieces, x = [], 0.0
    for letter in word:
        ink, left, top = _drawn(letter, style.face)
        pieces.append((ink, round(x) + left, top + round(rng.uniform(-1, 1) * style.bounce * cap)))
        x += max(font.getlength(letter) + style.spacing * cap, 0.2 * cap)
    x0, y0 = min(p[1] for p in pieces), min(p[2] for p in pieces)
    width = max(p[1] + p[0].shape[1] for p in pieces) - x0
    canvas = np.zeros((max(p[2] + p[0].shape[0] for p in pieces) - y0, width), np.uint8)
    for ink, left, top in pieces:
        spot = canvas[top - y0 :, left - x0 :][: ink.shape[0], : ink.shape[1]]
        np.maximum(spot, ink, out=spot)
    return canvas, y0


def _reshaped(ink: np.ndarray, top: int, style: Style) -> tuple[np.ndarray, int]:
    """Strokes thicker or thinner, letters slanted."""
    pad = abs(style.weight) + 1
    side = math.ceil(abs(style.slant) * ink.shape[0]) + pad
    ink = cv2.copyMakeBorder(ink, pad, pad, side, side, cv2.BORDER_CONSTANT)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (abs(style.weight) + 1, abs(style.weight) + 1))
    if style.weight > 0:
        ink = cv2.dilate(ink, brush)
    elif style.weight < 0:
        ink = cv2.erode(ink, brush)
    if style.slant:
        matrix = np.array([[1, -style.slant, style.slant * ink.shape[0] / 2], [0, 1, 0]])
        ink = cv2.warpAffine(ink, matrix, ink.shape[::-1])
    return ink, top - pad


def _reduced(word: tuple[np.ndarray, int], scale: float, style: Style) -> tuple[np.ndarray, int]:
    """From `EM` to the final size; the second value is the first row again, baseline = 0."""
    ink, top = word
    height = max(1, round(ink.shape[0] * scale))
    width = max(1, round(ink.shape[1] * scale * style.stretch))
    if style.dots:
        ink = _lamps(ink, style.dots)
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(ink, (width, height), interpolation=kind), round(top * scale)


def _lamps(ink: np.ndarray, rows: int) -> np.ndarray:
    """The same ink as round lamps, about `rows` for the height of a capital."""
    pitch = max(4, EM // (rows + 4))
    grid = cv2.resize(
        ink, (max(1, ink.shape[1] // pitch), max(1, ink.shape[0] // pitch)), interpolation=cv2.INTER_AREA
    )
    lamp = cv2.circle(
        np.zeros((pitch, pitch), np.uint8), (pitch // 2, pitch // 2), max(1, int(pitch * 0.4)), 255, -1
    )
    return np.kron((grid > 100).astype(np.uint8), lamp)


def _starts(widths: list[int], gap: float) -> list[int]:
    """Left edges of pieces set one after the other with `gap` between them."""
    return [round(sum(widths[:i]) + i * gap) for i in range(len(widths))]
