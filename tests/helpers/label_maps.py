"""Texts and label maps by hand."""

import math
from typing import Any

import cv2
import numpy as np

from efficientnet_east.geometry.label_maps import Maps, encode


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def text(x: float, y: float, width: float, height: float, degrees: float) -> np.ndarray:
    """A text whose top-left corner is (x, y) and which rises by an angle; school trigonometry."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    right, down = np.array([cos, -sin]) * width, np.array([sin, cos]) * height
    corner = np.array([x, y])
    return np.array([corner, corner + right, corner + right + down, corner + down], np.float32)


def labels(
    *quads: np.ndarray, shape: tuple[int, int] = (240, 320), ignore: bool | list[bool] = False, **options: Any
) -> Maps:
    stack = np.array(quads, np.float32).reshape(-1, 4, 2)
    return encode(stack, np.broadcast_to(np.array(ignore), len(stack)), shape, **options)


def depth(quad: np.ndarray, shape: tuple[int, int], stride: int = 4) -> np.ndarray:
    """Signed distance of every cell's pixel from the border of a quad, positive inside (OpenCV)."""
    contour = quad.astype(np.float32)
    return np.array(
        [
            [cv2.pointPolygonTest(contour, (float(j), float(i)), True) for j in range(0, shape[1], stride)]
            for i in range(0, shape[0], stride)
        ]
    )
