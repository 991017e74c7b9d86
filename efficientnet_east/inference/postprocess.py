"""From the maps of one image, at one scale or several, to its `Detections`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from efficientnet_east.config import Detect
from efficientnet_east.geometry.intersections import intersection_matrix
from efficientnet_east.geometry.label_maps import candidates
from efficientnet_east.geometry.nms import locality_aware, standard
from efficientnet_east.geometry.quads import bounding, thickness
from efficientnet_east.structures import Detections

CELLS = 600 * 600  # of the largest image that is read as a whole by default: `max_candidates` is for so many
_LONG = 120  # pixels of the network's input; shorter texts are better seen at a larger scale
# A box is a part of a longer one's text if this share of it lies in there, and if it is this thick beside it.
# A thinner one is a text of its own, such as small print in a large box.
_WITHIN, _AS_THICK = 0.6, 0.5


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
      The detections in pixels of the image, best first. The largest scale finds most texts. A smaller one
      adds only long boxes, of 120 pixels of the network's input or more, which replace what a larger scale
      found of the same texts.
    """
    largest, *smaller = sorted(maps, key=lambda one: -float(np.prod(one.scale)))
    quads, scores = _in_one(*largest, detect, stride)
    for one in smaller:
        more, their_scores = _in_one(*one, detect, stride)
        long = _length(more * one.scale) >= _LONG
        more, their_scores = more[long], their_scores[long]
        rest = ~_replaced(quads, more, detect.nms_iou)
        quads, scores = np.concatenate([more, quads[rest]]), np.concatenate([their_scores, scores[rest]])
    best_first = np.argsort(-scores, kind="stable")[: detect.max_detections or None]
    quads, scores = quads[best_first], scores[best_first]
    return Detections(bounding(quads) if detect.axis_aligned else quads, scores)


def _in_one(
    score: np.ndarray, geometry: np.ndarray, scale: np.ndarray, detect: Detect, stride: int
) -> tuple[np.ndarray, np.ndarray]:
    most = detect.max_candidates * max(1, math.ceil(score.size / CELLS))
    found = candidates(score, geometry, threshold=detect.score_threshold, stride=stride, most=most)
    if detect.nms == "standard":
        quads, scores = standard(found.quads, found.scores, detect.nms_iou)
    else:
        points = found.points if detect.nms == "corners" else None
        quads, scores = locality_aware(found.quads, found.scores, detect.nms_iou, points=points)
    keep = (thickness(quads) >= detect.min_box_side) & (scores >= detect.box_threshold)
    # Pixel centres lie at integers, so it is half a pixel to the image's edge, where scaling leaves 0 at 0.
    mapped = (quads[keep] + 0.5) / scale - 0.5
    return mapped.astype(np.float32), scores[keep]


def _replaced(quads: np.ndarray, longer: np.ndarray, iou: float) -> np.ndarray:
    """Which of the quads (n,) are the same texts as the longer ones, or parts of them."""
    common, areas, longer_areas = intersection_matrix(quads, longer)
    part = common > _WITHIN * areas[:, None]
    part &= thickness(quads)[:, None] > _AS_THICK * thickness(longer)
    same = common > iou * (areas[:, None] + longer_areas - common)
    return (part | same).any(axis=1)


def _length(quads: np.ndarray) -> np.ndarray:
    """The longer of two neighboring sides (n,)."""
    return np.linalg.norm(quads[:, 1:3] - quads[:, :2], axis=2).max(axis=1, initial=0)
