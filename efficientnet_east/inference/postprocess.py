"""From the maps of one image, at one scale or several, to its `Detections`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from efficientnet_east.config import Detect
from efficientnet_east.geometry.label_maps import decode
from efficientnet_east.geometry.nms import locality_aware, standard
from efficientnet_east.geometry.quads import bounding, thickness
from efficientnet_east.structures import Detections

CELLS = 600 * 600  # of the largest image that is read as a whole by default: `max_candidates` is for so many


class Maps(NamedTuple):
    """The output of a network for one image at one scale, without padding.

    Attributes:
      score: float32 (h, w) in [0, 1].
      geometry: float32 (h, w, 5 or 8).
      scale: (2,), factors of x and y from the image to the network's input.
    """

    score: np.ndarray
    geometry: np.ndarray
    scale: np.ndarray


def find_boxes(
    score: np.ndarray, geometry: np.ndarray, scale: np.ndarray, detect: Detect, stride: int = 4
) -> Detections:
    """Turn the maps of one image into detections.

    Args:
      score: float32 (h, w) in [0, 1].
      geometry: float32 (h, w, 5 or 8).
      scale: (2,), factors of x and y from the image to the network's input.
      detect: thresholds and limits.
      stride: pixels per cell.

    Returns:
      The detections in pixels of the image.
    """
    return find_in_scales([Maps(score, geometry, scale)], detect, stride)


def find_in_scales(maps: Sequence[Maps], detect: Detect, stride: int = 4) -> Detections:
    """Turn the maps of one image, seen at several scales, into detections.

    Args:
      maps: of each scale.
      detect: thresholds and limits.
      stride: pixels per cell.

    Returns:
      The detections in pixels of the image. Of boxes of different scales that overlap, the best is kept.
    """
    found = [_in_one(*one, detect, stride) for one in maps]
    quads, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if len(maps) > 1:
        quads, scores = standard(quads, scores, detect.nms_iou)
    if detect.max_detections:
        quads, scores = quads[: detect.max_detections], scores[: detect.max_detections]
    return Detections(bounding(quads) if detect.axis_aligned else quads, scores)


def _in_one(
    score: np.ndarray, geometry: np.ndarray, scale: np.ndarray, detect: Detect, stride: int
) -> tuple[np.ndarray, np.ndarray]:
    most = detect.max_candidates * max(1, math.ceil(score.size / CELLS))
    quads, scores = decode(score, geometry, threshold=detect.score_threshold, stride=stride, most=most)
    suppress = locality_aware if detect.nms == "locality" else standard
    quads, scores = suppress(quads, scores, detect.nms_iou)
    keep = (thickness(quads) >= detect.min_box_side) & (scores >= detect.box_threshold)
    # Pixel centres lie at integers, so it is half a pixel to the image's edge, where scaling leaves 0 at 0.
    mapped = (quads[keep] + 0.5) / scale - 0.5
    return mapped.astype(np.float32), scores[keep]
