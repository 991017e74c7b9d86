"""Draw an image through an affine matrix."""

from __future__ import annotations

import cv2
import numpy as np


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Draw the image through an affine matrix into a square.

    Where the matrix shrinks the image by two or more, the image is first reduced by area averaging:
    bilinear interpolation alone would skip pixels and turn thin strokes into dots.

    Args:
      image: uint8 (height, width, 3).
      matrix: float (2, 3), from image pixels to crop pixels, (x, y), pixel centers at integers.
      size: side of the crop, in pixels.

    Returns:
      uint8 (size, size, 3); what lies outside the image has the image's mean color.
    """
    fill = cv2.mean(image)
    image, matrix = _needed_part(image, matrix, size)
    height, width = image.shape[:2]
    factors = np.maximum(1, np.floor(1 / np.linalg.norm(matrix[:, :2], axis=0)))
    if factors.max() > 1:
        reduced = np.maximum(1, np.rint([width, height] / factors)).astype(int)
        image = cv2.resize(image, (int(reduced[0]), int(reduced[1])), interpolation=cv2.INTER_AREA)
        ratio = [width, height] / reduced
        # Pixel u of the reduced image is centered on pixel (u + 0.5) * ratio - 0.5 of the full one.
        matrix = _compose(matrix, ratio, ratio / 2 - 0.5)
    return cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )


def _needed_part(image: np.ndarray, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that the crop shows, and the matrix for it.

    Large photographs are then not reduced as a whole, and OpenCV's warp takes no side above 32766 pixels.
    """
    ends = np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5
    corners = np.linalg.solve(matrix[:, :2], (ends - matrix[:, 2]).T).T
    # Beyond its edge the crop still draws on the neighbors that interpolation and averaging mix in.
    margin = 2 * np.ceil(1 + 1 / np.linalg.norm(matrix[:, :2], axis=0))
    last = np.array([image.shape[1], image.shape[0]]) - 1
    low = np.clip(np.floor(corners.min(axis=0) - margin), 0, last).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + margin), 0, last).astype(int)
    return image[low[1] : high[1] + 1, low[0] : high[0] + 1], _compose(matrix, np.ones(2), low)


def _compose(matrix: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The matrix (2, 3) applied after x -> scale * x + offset."""
    return np.column_stack([matrix[:, :2] * scale, matrix[:, :2] @ offset + matrix[:, 2]])
