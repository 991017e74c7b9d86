"""Classify wrong detections: several words, a part of a word, a loosely placed box, or background."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from efficientnet_east.evaluation.icdar2015 import ImageResult, Result
from efficientnet_east.geometry.intersections import intersection_matrix
from efficientnet_east.structures import Truth

JOINED, CUT, LOOSE, BACKGROUND = "joined", "cut", "loose", "background"
KINDS = {
    JOINED: "covers more than half of each of several words",
    CUT: "lies mostly inside one word and covers less than half of it",
    LOOSE: "has an IoU of at least 1/3 with a word",
    BACKGROUND: "none of these",
}
_MOST, _LOOSE_IOU = 0.5, 1 / 3


def kinds_of(
    result: Result, found: Mapping[str, np.ndarray], truths: Mapping[str, Truth]
) -> dict[str, dict[int, str]]:
    """Classify each wrong detection.

    Args:
      result: of the ICDAR 2015 protocol.
      found: image name to the quads (n, 4, 2) that were scored.
      truths: image name to its texts.

    Returns:
      Image name to the kind, a key of `KINDS`, of each detection that counts and is not right, by its index.
    """
    return {
        name: _of_image(result.images[name], found.get(name, np.zeros((0, 4, 2))), truth)
        for name, truth in truths.items()
    }


def counts(kinds: Mapping[str, Mapping[int, str]]) -> dict[str, int]:
    """Count what `kinds_of` named: kind to the number of detections of it, every kind once."""
    counted = Counter(kind for image in kinds.values() for kind in image.values())
    return {kind: counted[kind] for kind in KINDS}


def _of_image(image: ImageResult, quads: np.ndarray, truth: Truth) -> dict[int, str]:
    settled = {pair[1] for pair in image.pairs} | set(image.ignored)
    wrong = [index for index in range(len(quads)) if index not in settled]
    if not wrong:
        return {}
    texts = truth.quads[~truth.ignore]
    common, text_areas, areas = intersection_matrix(texts, quads[wrong])  # (texts, wrong)
    of_text = common / np.maximum(text_areas[:, None], 1e-9)
    of_box = common / np.maximum(areas, 1e-9)
    iou = common / np.maximum(text_areas[:, None] + areas - common, 1e-9)
    return {index: _kind(of_text[:, k], of_box[:, k], iou[:, k]) for k, index in enumerate(wrong)}


def _kind(of_text: np.ndarray, of_box: np.ndarray, iou: np.ndarray) -> str:
    if (of_text > _MOST).sum() > 1:
        return JOINED
    if ((of_box > _MOST) & (of_text < _MOST)).any():
        return CUT
    return LOOSE if (iou >= _LOOSE_IOU).any() else BACKGROUND
