"""Paint street and interior scenes: surfaces in perspective, without text."""

from __future__ import annotations

import cv2
import numpy as np

from efficientnet_east.data.synthetic.surfaces import Shape, surface


def paint(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Paint a background.

    Args:
      rng: source of chance.
      shape: height and width in pixels.

    Returns:
      uint8 RGB (height, width, 3).
    """
    layout = LAYOUTS[rng.choice(len(LAYOUTS), p=(0.4, 0.35, 0.25))]
    return layout(rng, shape)


def _room(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """A back wall, and floor, ceiling and side walls (or road, sky and house fronts) running towards it."""
    height, width = shape
    left, right = np.sort(rng.uniform(0.05, 0.95, 2)) * width
    top, bottom = rng.uniform(0, 0.4) * height, rng.uniform(0.5, 1) * height
    back = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    reach = rng.uniform(1.5, 4)
    center = back.mean(0) + rng.normal(0, 0.05, 2) * shape[::-1]
    front = (center + (back - center) * reach * max(shape) / max(right - left, bottom - top, 1)).astype(
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
        center = rng.random(2) * shape[::-1]
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size[::-1] / 2
        corners = corners * (1 + rng.normal(0, 0.12, (4, 2))) + center
        lay(image, surface(rng, (int(size[0]) + 2, int(size[1]) + 2)), corners.astype(np.float32))
    return image


def _slanted(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """One surface, seen from the side."""
    size = np.array(shape[::-1])
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    seen = corners + (corners - 0.5) * rng.uniform(0, 1.2, (4, 2))
    flat = surface(rng, shape)
    matrix = cv2.getPerspectiveTransform(
        (corners * size).astype(np.float32), (seen * size).astype(np.float32)
    )
    return cv2.warpPerspective(flat, matrix, shape[::-1], borderMode=cv2.BORDER_REFLECT)


LAYOUTS = (_room, _patchwork, _slanted)


def lay(image: np.ndarray, flat: np.ndarray, corners: np.ndarray) -> None:
    """Lay a flat picture into a quadrangle of the image, in place.

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
