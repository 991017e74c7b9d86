"""From an image to `Detections`: fit, run the network, decode, merge, map back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from efficientnet_east import config as configuration
from efficientnet_east.config import Detect
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.maps import decode
from efficientnet_east.geometry.nms import locality_aware
from efficientnet_east.geometry.quads import thickness
from efficientnet_east.structures import Detections

PADDING = (124, 116, 104)  # ImageNet's mean colour: zero to the network
CONFIG_FILE = "config.yaml"

# A runtime: uint8 (1, height, width, 3) RGB -> score (1, h, w, 1), geometry (1, h, w, 5 or 8).
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Detector:
    """Finds words in images.

    Args:
      run: the network: uint8 (1, height, width, 3), RGB, sides multiples of `divisor`, to the score map
        (1, h, w, 1) and the geometry map (1, h, w, 5 or 8), see `geometry.maps`.
      detect: thresholds and limits.
      stride: pixels per cell of the maps.
      divisor: what the sides of the network's input must be multiples of.
    """

    def __init__(self, run: Run, detect: Detect, stride: int = 4, divisor: int = 32) -> None:
        self.run, self.detect, self.stride, self.divisor = run, detect, stride, divisor

    @classmethod
    def load(cls, path: str | Path, overrides: dict[str, Any] | None = None) -> Detector:
        """Load a trained detector; the runtime is chosen by the file.

        Args:
          path: a workdir of train.py (its newest checkpoint), its folder `best`, or a checkpoint's prefix,
            with the configuration read from the same folder; or what `export` wrote: .onnx, .pb, .tflite,
            the folder of a SavedModel.
          overrides: fields of the configuration's section `detect`; `threads`, by default as many as this
            process may use; and `runtime`, to take OpenCV (`opencv`) for an .onnx or .pb file.

        Returns:
          A detector with the averaged weights.

        Raises:
          UserError: see `runtimes.open_runtime`, or a threshold is out of range.
        """
        from efficientnet_east.inference import runtimes

        given = dict(overrides or {})
        threads = configuration.load(None, {"threads": given.pop("threads", 0)}).train.threads
        opened = runtimes.open_runtime(path, threads, given.pop("runtime", runtimes.AUTO))
        detect = runtimes.with_overrides(opened.detect, given)
        return cls(opened.run, detect, opened.stride, opened.divisor)

    def __call__(self, image: np.ndarray) -> Detections:
        """Find the words of one image.

        Args:
          image: uint8 (height, width, 3), RGB.

        Returns:
          The detections, in pixels of `image`.
        """
        score, geometry, scale = self.maps(image)
        return find_boxes(score, geometry, scale, self.detect, self.stride)

    def maps(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run the network on one image.

        Args:
          image: uint8 (height, width, 3), RGB.

        Returns:
          score float32 (h, w), geometry float32 (h, w, 5 or 8), both without the padding, and the
          factors (2,) by which x and y of the network's input differ from those of the image.
        """
        fitted, scale = fit(image, self.detect.max_side)
        height, width = (-(-side // self.stride) for side in fitted.shape[:2])
        score, geometry = self.run(pad(fitted, self.divisor)[None])
        return score[0, :height, :width, 0], geometry[0, :height, :width], scale


def fit(image: np.ndarray, max_side: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale an image down to a longest side, if it is larger.

    Args:
      image: uint8 (height, width, 3).
      max_side: in pixels.

    Returns:
      The image, and the factors (2,) by which its width and height changed.
    """
    height, width = image.shape[:2]
    factor = min(1.0, max_side / max(height, width))
    if factor == 1.0:
        return image, np.ones(2)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.array(size) / (width, height)


def pad(image: np.ndarray, divisor: int = 32) -> np.ndarray:
    """Extend an image to the right and downwards, so that no pixel moves or is stretched.

    Args:
      image: uint8 (height, width, 3), RGB.
      divisor: what height and width become multiples of.

    Returns:
      uint8, filled up with the mean colour.
    """
    below, right = (-side % divisor for side in image.shape[:2])
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=PADDING)


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
    quads, scores = decode(score, geometry, threshold=detect.score_threshold, stride=stride)
    quads, scores = locality_aware(quads, scores, detect.nms_iou)
    keep = (thickness(quads) >= detect.min_box_side) & (scores >= detect.box_threshold)
    # Pixel centres lie at integers, so it is half a pixel to the image's edge, where scaling leaves 0 at 0.
    mapped = (quads[keep] + 0.5) / scale - 0.5
    return Detections(mapped.astype(np.float32), scores[keep])


def config_beside(prefix: str) -> Path:
    """The configuration that a checkpoint was trained with.

    Args:
      prefix: of the checkpoint.

    Returns:
      The path of `config.yaml` in the checkpoint's folder.

    Raises:
      UserError: there is none.
    """
    path = Path(prefix).parent / CONFIG_FILE
    if not path.exists():
        raise UserError(path, "no such file", "the configuration that train.py leaves beside its checkpoints")
    return path
