"""Run a detector over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from efficientnet_east.data.hard_negatives import HardNegative
from efficientnet_east.geometry.intersections import intersection_matrix
from efficientnet_east.inference.detector import Detector
from efficientnet_east.structures import Detections, Source, Truth
from efficientnet_east.system.progress import track

_Result = TypeVar("_Result")


def detect_all(
    detector: Callable[[np.ndarray], Detections], samples: Source, progress: bool = True
) -> tuple[dict[str, Detections], dict[str, Truth]]:
    """Detect in every image of a data set.

    Args:
      detector: uint8 (height, width, 3) RGB to detections.
      samples: the images with their ground truth; each is read once, when its turn comes.
      progress: whether to show a progress bar, or plain lines where stderr is no terminal.

    Returns:
      Image name without suffix -> detections, and -> ground truth.
    """
    return _each(detector, samples, progress)


def _each(
    find: Callable[[np.ndarray], _Result], samples: Source, progress: bool
) -> tuple[dict[str, _Result], dict[str, Truth]]:
    found, truths = {}, {}
    for index in track(range(len(samples)), len(samples), "detect", show=progress):
        sample = samples[index]
        name = Path(sample.name).stem
        found[name], truths[name] = find(sample.image), sample.truth
    return found, truths


def detect_at(
    detector: Detector, samples: Source, thresholds: Sequence[float], progress: bool = True
) -> tuple[dict[float, dict[str, Detections]], dict[str, Truth]]:
    """Detect in every image with several thresholds on the score map; the network runs once per image.

    Args:
      detector: whose other settings are kept.
      samples: the images with their ground truth; each is read once, when its turn comes.
      thresholds: in (0, 1).
      progress: as for `detect_all`.

    Returns:
      Threshold -> image name without suffix -> detections; and image name -> ground truth.
    """
    variants = {
        threshold: detector.with_detect(detector.detect.model_copy(update={"score_threshold": threshold}))
        for threshold in thresholds
    }

    def find(image: np.ndarray) -> dict[float, Detections]:
        maps = detector.maps_per_scale(image)
        return {threshold: variant.boxes(maps) for threshold, variant in variants.items()}

    found, truths = _each(find, samples, progress)
    return {
        threshold: {name: by[threshold] for name, by in found.items()} for threshold in thresholds
    }, truths


def false_alarms(
    detector: Callable[[np.ndarray], Detections], samples: Source, progress: bool = True
) -> list[HardNegative]:
    """Find the boxes that share no pixel with any text, legible or not.

    Args:
      detector: uint8 (height, width, 3) RGB to detections.
      samples: the images with their ground truth; each is read once, when its turn comes.
      progress: as for `detect_all`.

    Returns:
      The boxes, clipped to the image, in the order of the images, best first.
    """
    places = []
    for index in track(range(len(samples)), len(samples), "mine", show=progress):
        sample = samples[index]
        found, last = detector(sample.image), np.array(sample.image.shape[1::-1], np.float32) - 1
        common, _, _ = intersection_matrix(found.quads, sample.truth.quads)
        for number in np.flatnonzero(~(common > 0).any(axis=1)):
            corners = np.clip(found.quads[number], 0, last)
            places.append(HardNegative(sample.name, corners, float(found.scores[number])))
    return places


def quads_of(detections: Mapping[str, Detections]) -> dict[str, np.ndarray]:
    """Return the boxes alone, as the protocols and `write_submission` take them."""
    return {name: found.quads for name, found in detections.items()}
