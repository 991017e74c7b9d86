"""Running a detector over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from efficientnet_east.data.hard_negatives import Place
from efficientnet_east.geometry.quads import intersection_matrix
from efficientnet_east.structures import Detections, Source, Truth


def detect_all(
    detector: Callable[[np.ndarray], Detections], samples: Source, progress: bool = True
) -> tuple[dict[str, Detections], dict[str, Truth]]:
    """Detect in every image of a data set.

    Args:
      detector: uint8 (height, width, 3) RGB to detections.
      samples: the images with their ground truth; each is read once, when its turn comes.
      progress: whether to show a progress bar; there is none where stderr is no terminal.

    Returns:
      Image name without suffix -> detections, and -> ground truth.
    """
    found, truths = {}, {}
    hidden = None if progress else True  # None: tqdm looks whether there is a terminal
    for index in tqdm(range(len(samples)), desc="detect", unit="image", disable=hidden, leave=False):
        sample = samples[index]
        name = Path(sample.name).stem
        found[name], truths[name] = detector(sample.image), sample.truth
    return found, truths


def false_alarms(
    detector: Callable[[np.ndarray], Detections], samples: Source, progress: bool = True
) -> list[Place]:
    """Find where a detector sees text that shares no pixel with any text, illegible ones included.

    Args:
      detector: uint8 (height, width, 3) RGB to detections.
      samples: the images with their ground truth; each is read once, when its turn comes.
      progress: whether to show a progress bar.

    Returns:
      The boxes, cut off at the image's border, in the order of the images, best first.
    """
    places = []
    for index in tqdm(range(len(samples)), desc="mine", unit="image", disable=not progress, leave=False):
        sample = samples[index]
        found, last = detector(sample.image), np.array(sample.image.shape[1::-1], np.float32) - 1
        common, _, _ = intersection_matrix(found.quads, sample.truth.quads)
        for number in np.flatnonzero(~(common > 0).any(axis=1)):
            corners = np.clip(found.quads[number], 0, last)
            places.append(Place(sample.name, corners, float(found.scores[number])))
    return places


def quads_of(detections: Mapping[str, Detections]) -> dict[str, np.ndarray]:
    """The boxes alone, as `evaluation.icdar.score` and `write_submission` want them."""
    return {name: found.quads for name, found in detections.items()}
