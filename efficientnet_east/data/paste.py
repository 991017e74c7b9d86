"""Paste words of one image into the crop of another, where that shows no text."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from efficientnet_east.data.warp import warp
from efficientnet_east.geometry.intersections import intersection_matrix
from efficientnet_east.geometry.overlaps import bounds
from efficientnet_east.geometry.quads import clockwise, thickness, transform
from efficientnet_east.structures import Sample, Truth

MOST_WORDS = 4  # that are pasted into a crop
_TRIES = 20  # positions that are tried for a word
_SURROUND = 0.2  # ground that is pasted around a word, in heights of the word


def paste_words(
    crop: Sample,
    donor: Sample,
    rng: np.random.Generator,
    draw_linear: Callable[[], np.ndarray],
    most: int = MOST_WORDS,
) -> Sample:
    """Paste words of another image into a crop.

    A word is pasted with a little of the ground around it, and its edges are blended. It must be legible, lie
    wholly in its image and stand apart from the other texts there; in the crop it covers no text, illegible
    ones included.

    Args:
      crop: the square crop; its image is left as it is.
      donor: the image to take words from.
      rng: the only source of chance.
      draw_linear: draws how a word is scaled, stretched and turned, a matrix (2, 2).
      most: the largest number of words.

    Returns:
      A Sample with the words added behind the crop's own texts: 1 to `MOST_WORDS`, or fewer where there is no
      room or no such word.
    """
    count = min(int(rng.integers(1, MOST_WORDS + 1)), most)
    grown = _grown(donor.truth.quads)
    image, size = crop.image.copy(), crop.image.shape[0]
    quads, texts, taken = list(crop.truth.quads), list(crop.truth.texts), bounds(crop.truth.quads)
    for index in rng.permutation(_usable(donor, grown))[:count]:
        matrix = _free_place(draw_linear(), grown[index], taken, size, rng)
        if matrix is None:
            continue
        patch = transform(grown[index][None], matrix)
        _blend(image, donor.image, matrix, patch[0])
        quads.append(transform(donor.truth.quads[index][None], matrix)[0])
        texts.append(donor.truth.texts[index])
        taken = np.concatenate([taken, bounds(patch)], axis=1)
    ignore = np.concatenate([crop.truth.ignore, np.zeros(len(quads) - len(crop.truth.ignore), np.bool_)])
    truth = Truth(np.array(quads, np.float32).reshape(-1, 4, 2), ignore, tuple(texts))
    return Sample(crop.name, image, truth)


def _grown(quads: np.ndarray) -> np.ndarray:
    """The quads (n, 4, 2) with the ground around them."""
    following, before = np.roll(quads, -1, axis=1), np.roll(quads, 1, axis=1)
    outwards = np.zeros(quads.shape, np.float64)
    for other in (following, before):
        side = (quads - other).astype(np.float64)
        outwards += side / np.maximum(np.linalg.norm(side, axis=2, keepdims=True), 1e-6)
    return quads + outwards * (_SURROUND * thickness(clockwise(quads)))[:, None, None]


def _usable(donor: Sample, grown: np.ndarray) -> np.ndarray:
    """Indices of the legible words that lie wholly in their image, apart from all other texts."""
    low, high = grown.min(axis=1), grown.max(axis=1)
    inside = (low >= 0).all(axis=1) & (high <= np.array(donor.image.shape[1::-1]) - 1).all(axis=1)
    legible = np.flatnonzero(inside & ~donor.truth.ignore)
    common, _, _ = intersection_matrix(grown[legible], donor.truth.quads)
    return legible[(common > 0).sum(axis=1) <= 1]


def _free_place(
    linear: np.ndarray, quad: np.ndarray, taken: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray | None:
    """The matrix (2, 3) to a random place in the crop without text; None where none is found."""
    moved = quad @ linear.T
    low, high = moved.min(axis=0), moved.max(axis=0)
    room = size - 1 - (high - low)
    if (room <= 0).any():
        return None
    corners = rng.uniform(0, room, (_TRIES, 2))
    ends = corners + (high - low)
    left, top, right, bottom = taken[:, None] + np.array([-1, -1, 1, 1])[:, None, None]  # a pixel apart
    beside = (corners[:, :1] >= right) | (ends[:, :1] <= left)
    free = np.flatnonzero((beside | (corners[:, 1:] >= bottom) | (ends[:, 1:] <= top)).all(axis=1))
    return np.column_stack([linear, corners[free[0]] - low]) if len(free) else None


def _blend(image: np.ndarray, source: np.ndarray, matrix: np.ndarray, quad: np.ndarray) -> None:
    """Draw what a quad (4, 2) of the crop shows of the other image, in place, with soft edges."""
    low = np.maximum(np.floor(quad.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(quad.max(axis=0)) + 1, image.shape[0]).astype(int)
    wide, tall = (high - low).tolist()
    local = np.column_stack([matrix[:, :2], matrix[:, 2] - low])
    patch = warp(source, local, max(wide, tall))[:tall, :wide]
    alpha = np.zeros((tall, wide), np.float32)
    cv2.fillConvexPoly(alpha, np.rint(quad - low).astype(np.int32), 1.0)
    # 0 at the edge of the ground, 1 where the word begins.
    edge = 2 * max(1, int(0.4 * _SURROUND / (1 + 2 * _SURROUND) * thickness(clockwise(quad[None]))[0])) + 1
    alpha = cv2.erode(alpha, np.ones((edge, edge)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    alpha = cv2.blur(alpha, (edge, edge), borderType=cv2.BORDER_CONSTANT)[..., None]
    window = image[low[1] : high[1], low[0] : high[0]]
    window[:] = np.rint(window * (1 - alpha) + patch * alpha)
