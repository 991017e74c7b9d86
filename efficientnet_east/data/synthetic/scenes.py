"""Generate scene-text images without files or network. Each image follows from its number.

Word quads are exact: a word's box goes through the homography that its letters went through.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

import cv2
import numpy as np

from efficientnet_east.data.synthetic import backgrounds, camera, clutter, signs, surfaces
from efficientnet_east.errors import UserError
from efficientnet_east.structures import Sample, Truth

MEDIAN_HEIGHT = 22.0  # pixels of a capital; the median height of the quads is then ICDAR 2015's, about 24
SPREAD = 0.62  # of the logarithm of the height; large signs find a place less often
MIN_SIDE = 128  # pixels; below that hardly a word fits
LEGIBLE_HEIGHT = 8.0  # pixels; lower words are marked ignore
LEGIBLE_CONTRAST = 14.0  # gray levels between ink and ground, see `contrast`; below: ignore
BORDER = 3.0  # pixels that stay free between words and the image's border
MARGIN = 1.0  # pixels between a word's ink and its quad
MOST_WORDS = 25  # of a scene
GRID = 4  # pixels of one cell of the map of taken places


class SyntheticScenes:
    """Street and interior scenes with words on them.

    Attributes:
      most_texts: the largest number of texts of any scene.

    Args:
      length: number of scenes, at least 1; scene i is the same whatever the length.
      seed: whole number from 0; other seeds give other scenes.
      size: height and width in pixels, each at least 128.

    Raises:
      UserError: an argument is out of its range.
    """

    most_texts = MOST_WORDS

    def __init__(self, length: int, seed: int, size: tuple[int, int] = (720, 1280)) -> None:
        for name, value, least in (("length", length, 1), ("seed", seed, 0), ("size", min(size), MIN_SIDE)):
            if value < least:
                raise UserError(
                    f"synthetic scenes: {name}", f"{value} is too small", f"expected at least {least}"
                )
        self.length, self.seed, self.size = length, seed, (int(size[0]), int(size[1]))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Return scene `index`, from 0; words are clockwise from their own top-left corner.

        Raises:
          IndexError: index below 0 or not below the length.
        """
        return self.with_lines(index)[0]

    def with_lines(self, index: int) -> tuple[Sample, np.ndarray]:
        """Return scene `index`, and which of its words stand in one line.

        Returns:
          The scene, and int (n,): words with the same number are one line.

        Raises:
          IndexError: index below 0 or not below the length.
        """
        number = operator.index(index)
        if not 0 <= number < self.length:
            raise IndexError(f"scene {number} of {self.length}")
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, number]))
        image, truth, lines = _scene(rng, self.size)
        return Sample(f"scene_{self.seed}_{number}", image, truth), lines


def _scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, Truth, np.ndarray]:
    """Background, objects, signs in the scene's light, signs with a light of their own, camera."""
    image = clutter.add(rng, backgrounds.paint(rng, size))
    image = camera.defocus(rng, surfaces.roughen(rng, image))
    ink = np.zeros(size, np.uint8)
    placed = list(_placements(rng, image, _word_count(rng)))
    own_light = rng.random(len(placed)) < rng.choice((0.1, 0.7), p=(0.7, 0.3))
    for (layout, matrix), shines in zip(placed, own_light, strict=True):
        if not shines:
            _hang(rng, image, ink, layout, matrix)
    image = camera.light(rng, image)
    for (layout, matrix), shines in zip(placed, own_light, strict=True):
        if shines:
            _hang(rng, image, ink, layout, matrix)
    image = camera.photograph(rng, image)
    return image, _truth(image, ink, placed), _lines([layout for layout, _ in placed])


def _lines(layouts: list[signs.Layout]) -> np.ndarray:
    """The line of each word, int (n,), with other numbers for the lines of another sign."""
    named = [(sign, line) for sign, layout in enumerate(layouts) for line in layout.lines]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(named))}
    return np.array([numbers[name] for name in named], np.intp)


def _truth(image: np.ndarray, ink: np.ndarray, placed: list[tuple[signs.Layout, np.ndarray]]) -> Truth:
    quads = np.concatenate([np.zeros((0, 4, 2), np.float32), *(_word_quads(*sign) for sign in placed)])
    texts = [text for layout, _ in placed for text in layout.texts]
    ignore = np.array([not _legible(image, ink, quad) for quad in quads], np.bool_)
    return Truth(quads, ignore, tuple("###" if skip else t for t, skip in zip(texts, ignore, strict=True)))


def _word_count(rng: np.random.Generator) -> int:
    return int(np.clip(round(np.exp(rng.normal(2.2, 0.65))), 2, MOST_WORDS))


def _placements(
    rng: np.random.Generator, image: np.ndarray, count: int
) -> Iterator[tuple[signs.Layout, np.ndarray]]:
    """Signs and their homographies, apart from one another, until `count` words hang or no room is left."""
    high, wide = image.shape[:2]
    taken = np.zeros((high // GRID + 1, wide // GRID + 1), np.uint8)
    roll = rng.normal(0, 5)
    for attempt in range(40):
        if count <= 0:
            return
        height = np.exp(rng.normal(np.log(MEDIAN_HEIGHT), SPREAD)) * (0.96**attempt)
        height = float(np.clip(height, 5, min(high, wide) / 5))
        layout = signs.compose(rng, height, (wide * 0.6, high * 0.5), count)
        matrix = _free_place(rng, taken, layout, _view(rng, layout, roll), image)
        if matrix is not None:
            count -= len(layout.texts)
            yield layout, matrix


def _view(rng: np.random.Generator, layout: signs.Layout, roll: float) -> np.ndarray:
    """Homography 3x3 of a sign seen by a camera: turned about its three axes, its center at (0, 0)."""
    high, wide = layout.ink.shape
    tilt = roll + rng.normal(0, rng.choice((2, 10, 20), p=(0.55, 0.35, 0.1)))
    tilt = np.clip(tilt, -38, 38)
    if rng.random() < 0.012:
        tilt += rng.choice((-90, 90))
    yaw, pitch = np.clip(rng.normal(0, (22, 10)), -58, 40)
    turn = np.eye(3)
    for axis, degrees in ((1, yaw), (0, pitch), (2, tilt)):
        vector = np.zeros(3)
        vector[axis] = np.radians(degrees)
        turn = cv2.Rodrigues(vector)[0] @ turn
    distance = max(high, wide) * rng.uniform(1.5, 6)
    project = np.diag([distance, distance, 1.0]) @ np.column_stack([turn[:, 0], turn[:, 1], (0, 0, distance)])
    return project @ np.array([[1, 0, -wide / 2], [0, 1, -high / 2], [0, 0, 1]])


def _free_place(
    rng: np.random.Generator, taken: np.ndarray, layout: signs.Layout, view: np.ndarray, image: np.ndarray
) -> np.ndarray | None:
    """Moves a view to a free place inside the image and takes it; None where none is found.

    The words must lie inside; a board may be cut. Of some free places the one on the calmest ground is taken,
    as people hang signs on walls rather than on leaves.
    """
    span = _mapped(_rectangle(*layout.extent), view)
    high, wide = layout.ink.shape
    whole = _mapped(_rectangle(0, 0, wide, high), view)
    low = BORDER + MARGIN * 2 - span.min(0)
    room = np.array(image.shape[1::-1]) - BORDER - MARGIN * 2 - span.max(0) - low
    if (room <= 0).any():
        return None
    found = []
    for _ in range(8):
        shift = low + rng.random(2) * room
        spot = cv2.fillConvexPoly(np.zeros_like(taken), _cells(whole + shift), 1)
        if not cv2.bitwise_and(taken, spot).any():
            found.append((_unrest(image, whole + shift), shift, spot))
    if not found:
        return None
    _, shift, spot = min(found[: rng.integers(2, 9)], key=lambda place: place[0])
    cv2.bitwise_or(taken, cv2.dilate(spot, np.ones((3, 3), np.uint8)), taken)
    return np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]) @ view


def _cells(corners: np.ndarray) -> np.ndarray:
    return np.round(corners / GRID).astype(np.int32)


def _unrest(image: np.ndarray, corners: np.ndarray) -> float:
    """How busy the picture is under a quadrangle: standard deviation of every fourth pixel of its box."""
    spot, _ = _window(image, corners)
    return float(spot[::4, ::4].std()) if spot.size else 0.0


def _window(image: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image under the bounding box of `corners`, as a view, and its (x, y) offset."""
    x0, y0 = np.maximum(np.floor(corners.min(0)) - 1, 0).astype(int)
    x1, y1 = np.maximum(np.ceil(corners.max(0)) + 2, 0).astype(int)
    return image[y0:y1, x0:x1], np.array([x0, y0])


def _hang(
    rng: np.random.Generator, image: np.ndarray, ink: np.ndarray, layout: signs.Layout, matrix: np.ndarray
) -> None:
    """Paints a sign into the image and its letters into the map of ink, in place."""
    high, wide = layout.ink.shape
    spot, offset = _window(image, _mapped(_rectangle(0, 0, wide, high), matrix))
    ground = np.array(cv2.mean(spot)[:3], np.float32)
    layer = signs.color_sign(rng, layout, ground, bool(rng.random() < signs.BOARD_ODDS))
    local = np.array([[1, 0, -offset[0]], [0, 1, -offset[1]], [0, 0, 1]]) @ matrix
    seen = cv2.warpPerspective(layer, local, spot.shape[1::-1])
    through = cv2.cvtColor(255 - seen[..., 3], cv2.COLOR_GRAY2RGB)
    spot[:] = cv2.add(cv2.multiply(spot, through, scale=1 / 255), seen[..., :3])
    letters = cv2.warpPerspective(layout.ink, local, spot.shape[1::-1])
    patch = ink[offset[1] : offset[1] + spot.shape[0], offset[0] : offset[0] + spot.shape[1]]
    np.maximum(patch, letters, out=patch)


def _word_quads(layout: signs.Layout, matrix: np.ndarray) -> np.ndarray:
    """Quads float32 (n, 4, 2) of the words, clockwise from each word's top-left."""
    x0, y0, x1, y1 = (layout.boxes + np.array([-MARGIN, -MARGIN, MARGIN, MARGIN])).T - 0.5
    corners = np.stack([x0, y0, x1, y0, x1, y1, x0, y1], 1)
    return _mapped(corners.reshape(-1, 2), matrix).reshape(-1, 4, 2).astype(np.float32)


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _mapped(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (n, 2) through a homography."""
    return cv2.perspectiveTransform(points[None].astype(np.float64), matrix)[0]


def _legible(image: np.ndarray, ink: np.ndarray, quad: np.ndarray) -> bool:
    """Whether a reader can be asked for this word: high enough, and its ink stands out in the picture."""
    sides = np.linalg.norm(quad - np.roll(quad, -1, 0), axis=1)
    if min(sides[0] + sides[2], sides[1] + sides[3]) / 2 < LEGIBLE_HEIGHT:
        return False
    return contrast(image, ink, quad) >= LEGIBLE_CONTRAST


def contrast(image: np.ndarray, ink: np.ndarray, quad: np.ndarray) -> float:
    """Measure how far a word's ink stands out from the ground beside it, in its fainter parts.

    For each pixel of ink: the largest difference over R, G, B from the mean of the ground nearby. Of these,
    the value that 70 % of the ink exceeds, so that a black word half on a black window counts as faint.

    Args:
      image: uint8 RGB (h, w, 3).
      ink: uint8 (h, w), 255 where a letter covers fully.
      quad: (4, 2), the word.

    Returns:
      0 to 255; 0 without ink.
    """
    spot, offset = _window(image, quad)
    letters, _ = _window(ink, quad)
    inside = np.zeros(letters.shape, np.uint8)
    cv2.fillConvexPoly(inside, np.round(quad - offset).astype(np.int32), 255)
    side = int(np.linalg.norm(quad[3] - quad[0]))
    step = max(1, side // 20)  # large words tell enough in every few pixels
    letters, inside, spot = (plane[::step, ::step] for plane in (letters & inside, inside, spot))
    peak = int(letters.max())  # hairlines of small print nowhere cover a whole pixel
    ground = ((letters <= peak // 5) & (inside > 0)).astype(np.float32)
    reach = (max(3, side // step),) * 2
    share = cv2.blur(ground, reach)
    nearby = cv2.blur(spot * ground[..., None], reach) / np.maximum(share, 1e-6)[..., None]
    stands_out = np.abs(spot - nearby).max(2)[(letters > peak // 2) & (share > 0.01)]
    return float(np.percentile(stands_out, 30)) if stands_out.size else 0.0
