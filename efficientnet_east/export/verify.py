"""Whether a file is the network that it was written from: raw maps and final boxes, on images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from efficientnet_east.config import Detect
from efficientnet_east.geometry.intersections import iou_matrix
from efficientnet_east.inference.postprocess import find_boxes
from efficientnet_east.inference.runtimes.runtime import Run, Runtime

LEAST_IOU = 0.99
# Smaller geometry (pixels, radians) counts as one: an angle of 0 has no relative difference.
_LEAST_GEOMETRY = 1.0
_FEWEST_CELLS = 50
_OVERLAP_STEPS = (0.0, 0.01, -0.01, 0.02, -0.02)
_WIDEST_GAP = 0.2  # that the threshold is moved by, to where no cell stands


@dataclasses.dataclass(frozen=True)
class Difference:
    """How one image's results differ from the checkpoint's.

    Attributes:
      image: its name.
      size: height and width of the network's input.
      score: the largest difference of a score.
      geometry: the largest relative difference, in the cells that are text or next to be.
      geometry_everywhere: in all cells; where there is no text the geometry means nothing.
      boxes: number of final boxes of the checkpoint.
      other_boxes: and of the file.
      iou: the smallest overlap of a box with its counterpart; 1 without boxes.
      threshold: the scores' threshold that boxes were made with.
      nms_iou: the overlap from which boxes were merged.
    """

    image: str
    size: tuple[int, int]
    score: float
    geometry: float
    geometry_everywhere: float
    boxes: int
    other_boxes: int
    iou: float
    threshold: float
    nms_iou: float

    def as_dict(self) -> dict[str, Any]:
        """For a report."""
        return dataclasses.asdict(self)


def compare(name: str, image: np.ndarray, reference: Run, written: Runtime, detect: Detect) -> Difference:
    """Run one image through both, and compare.

    Args:
      name: of the image.
      image: uint8 (height, width, 3), RGB, of sides that the network takes.
      reference: the checkpoint's network.
      written: the file's.
      detect: how boxes are made.

    Returns:
      The differences; infinite where a map is not finite or has another shape.
    """
    (score, geometry), (other_score, other_geometry) = reference(image[None]), written.run(image[None])
    size = (int(image.shape[0]), int(image.shape[1]))
    same = score.shape == other_score.shape and geometry.shape == other_geometry.shape
    if not (same and np.isfinite(other_score).all() and np.isfinite(other_geometry).all()):
        return Difference(
            name, size, np.inf, np.inf, np.inf, 0, 0, 0.0, detect.score_threshold, detect.nms_iou
        )
    apart = np.abs(score - other_score)[0, ..., 0]
    relative = np.abs(geometry - other_geometry) / np.maximum(np.abs(geometry), _LEAST_GEOMETRY)
    worst = relative[0].max(axis=-1)
    threshold = quiet_threshold(score[0, ..., 0], float(apart.max()), detect.score_threshold)
    maps = (score, geometry), (other_score, other_geometry)
    nms_iou, boxes = most_alike(
        maps, detect.model_copy(update={"score_threshold": threshold}), written.stride
    )
    return Difference(
        name, size, float(apart.max()), float(worst[text_cells(score[0, ..., 0], threshold)].max()),
        float(worst.max()), len(boxes[0]), len(boxes[1]), least_overlap(*boxes), threshold, nms_iou,
    )  # fmt: skip


def most_alike(
    maps: Sequence[tuple[np.ndarray, np.ndarray]], detect: Detect, stride: int
) -> tuple[float, list[np.ndarray]]:
    """Make boxes of both networks' maps, so that no merge hangs on the last digit of an overlap.

    Args:
      maps: score and geometry of the one and of the other, of a batch of one.
      detect: how boxes are made.
      stride: pixels per cell.

    Returns:
      The overlap from which boxes were merged: the configured one, or the first of its neighbours with which
      all boxes have a counterpart; and the quads of both.
    """
    first = None
    for step in _OVERLAP_STEPS:
        limits = detect.model_copy(update={"nms_iou": float(np.clip(detect.nms_iou + step, 0.001, 0.999))})
        quads = [find_boxes(s[0, ..., 0], g[0], np.ones(2), limits, stride).quads for s, g in maps]
        first = first or (limits.nms_iou, quads)
        if least_overlap(*quads) >= LEAST_IOU:
            return limits.nms_iou, quads
    return first or (detect.nms_iou, [])


def quiet_threshold(score: np.ndarray, apart: float, wanted: float) -> float:
    """A threshold that no score is so near to that rounding decides on which side it falls.

    Args:
      score: the checkpoint's scores (h, w).
      apart: how much the file's differ from them.
      wanted: the configured threshold. Where it leaves too few cells, a lower one is taken, so that there
        are boxes to be compared.

    Returns:
      The middle of the gap between two scores that is nearest to the one that is wanted; what is wanted if
      there is no gap as wide as twice the difference.
    """
    values = np.unique(score.astype(np.float64))
    if (score >= wanted).sum() < _FEWEST_CELLS and score.size > _FEWEST_CELLS:
        wanted = float(np.sort(score, axis=None)[-_FEWEST_CELLS])
    edges = np.concatenate([[0.0], values, [1.0]])
    gaps = (edges[1:] - edges[:-1]) > 2 * apart
    low, high = edges[:-1][gaps] + apart, edges[1:][gaps] - apart
    nearest = np.clip(wanted, np.nextafter(low, 1), np.nextafter(high, 0))
    near = nearest[np.abs(nearest - wanted) < _WIDEST_GAP]
    inside = near[(near > 0) & (near < 1)]
    return float(inside[np.argmin(np.abs(inside - wanted))]) if len(inside) else wanted


def text_cells(score: np.ndarray, threshold: float) -> np.ndarray:
    """The cells whose geometry means something: those with half the threshold's score, and the best ones.

    Args:
      score: (h, w).
      threshold: of the scores.

    Returns:
      bool (h, w), of which at least one is True.
    """
    best = np.sort(score, axis=None)[-min(_FEWEST_CELLS, score.size)]
    return score >= min(threshold / 2, best)


def least_overlap(quads: np.ndarray, others: np.ndarray) -> float:
    """The smallest IoU of a box with its counterpart among the others.

    Args:
      quads: float32 (n, 4, 2).
      others: float32 (m, 4, 2).

    Returns:
      1 if there are no boxes at all, 0 if one has no counterpart of its own.
    """
    if len(quads) != len(others):
        return 0.0
    if not len(quads):
        return 1.0
    overlaps = iou_matrix(quads, others)
    partners = overlaps.argmax(axis=1)
    return float(overlaps.max(axis=1).min()) if len(set(partners)) == len(quads) else 0.0


def problems(differences: Sequence[Difference], limit: float | None, everywhere: bool) -> list[str]:
    """What is larger than it may be.

    Args:
      differences: of all images.
      limit: see `formats.Format.tolerances`; None asks for finite maps of the right shape only.
      everywhere: whether the geometry counts in all cells, not only in those that are text.

    Returns:
      A line for each image that differs too much, the worst first.
    """
    found = []
    for d in differences:
        geometry = d.geometry_everywhere if everywhere else d.geometry
        apart = max(d.score, geometry)
        if limit is None and np.isfinite(apart):
            continue
        if limit is None or apart > limit or d.boxes != d.other_boxes or d.iou < LEAST_IOU:
            boxes = f"{d.other_boxes} of {d.boxes} boxes, least IoU {d.iou:.4f}"
            maps = f"score {d.score:.1e}, geometry {geometry:.1e} apart (at most {limit or np.inf:.0e})"
            found.append((apart, f"{d.image} at {d.size[1]} x {d.size[0]}: {maps}; {boxes}"))
    return [line for _, line in sorted(found, reverse=True)]
