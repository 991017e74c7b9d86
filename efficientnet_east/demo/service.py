"""Requests about one uploaded image, and the answers; runs in the worker process, which may crash."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from efficientnet_east.data.images import read_image
from efficientnet_east.drawing.overlays import at_most, heat_overlay
from efficientnet_east.errors import UserError
from efficientnet_east.inference import runtimes
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.postprocess import Maps
from efficientnet_east.structures import Detections

# What a request may set. Others, such as `scales`, would let one request cost as much as hundreds.
THRESHOLDS = (
    "score_threshold", "box_threshold", "nms", "nms_iou", "min_box_side", "max_detections", "axis_aligned",
)  # fmt: skip
SHOWN_SIDE = 1600  # pixels of the heat map, which is only looked at
_JPEG_QUALITY = 92
KEPT_IMAGES, KEPT_PIXELS = 8, 20_000_000  # of which the maps are kept; the last image is kept at any size
_WARM_UP = (608, 896)


@dataclasses.dataclass(frozen=True)
class Question:
    """One image, and how to detect in it.

    Attributes:
      data: the bytes of an image file.
      model: a name of a loaded detector; empty takes the first.
      thresholds: fields of `THRESHOLDS`; text is converted.
      pictures: names of the pictures to draw: `boxes`, `heat`.
      max_pixels: above which the image is refused.
    """

    data: bytes
    model: str = ""
    thresholds: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    max_pixels: int = 50_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """The words of one image.

    Attributes:
      found: the words, in pixels of the image as a viewer shows it.
      width, height: of the image.
      seconds: spent on it, by the name of the part.
      pictures: JPEG files by name; without metadata.
      fresh: whether the network ran; otherwise kept maps were decoded again.
    """

    found: Detections
    width: int
    height: int
    seconds: dict[str, float]
    pictures: dict[str, bytes]
    fresh: bool = True

    def to_json(self) -> str:
        """One line, as `detect --formats json` writes it, without a name for the image."""
        return self.found.to_json(width=self.width, height=self.height)


class Service:
    """Answers questions. Keeps the last images' maps, so that new thresholds need no run of the network.

    Args:
      detectors: by name, at least one.
    """

    def __init__(self, detectors: Mapping[str, Detector]) -> None:
        self.detectors = detectors
        self._kept: dict[tuple[str, str], tuple[np.ndarray, list[Maps]]] = {}  # the last one at the end

    def warm_up(self) -> None:
        """Run each network once, so that the first image does not wait for its memory to be laid out."""
        for detector in self.detectors.values():
            detector(np.zeros((*_WARM_UP, 3), np.uint8))

    def answer(self, question: Question) -> Answer:
        """Detect in one image.

        Args:
          question: the image.

        Returns:
          The answer.

        Raises:
          UserError: an unknown model or threshold, or bytes that are no image.
        """
        detector = self._detector(question.model)
        detect = runtimes.with_overrides(detector.detect, _allowed(question.thresholds))
        seconds: dict[str, float] = {}
        key = (question.model, hashlib.sha256(question.data).hexdigest())
        fresh, begun = key not in self._kept, time.perf_counter()
        image, maps = self._run(detector, question) if fresh else self._kept.pop(key)
        self._keep(key, image, maps)
        seconds["maps"] = time.perf_counter() - begun
        found = detector.with_detect(detect).boxes(maps)
        seconds["boxes"] = time.perf_counter() - begun - seconds["maps"]
        pictures = {name: _picture(name, image, found, maps[0]) for name in question.pictures}
        return Answer(found, image.shape[1], image.shape[0], seconds, pictures, fresh)

    def _detector(self, name: str) -> Detector:
        name = name or next(iter(self.detectors))
        if name not in self.detectors:
            raise UserError("model", f"{name!r} is unknown", f"expected one of {', '.join(self.detectors)}")
        return self.detectors[name]

    def _run(self, detector: Detector, question: Question) -> tuple[np.ndarray, list[Maps]]:
        """Read the image, and run the network at each scale."""
        image = read_image(question.data, max_pixels=question.max_pixels)
        return image, detector.maps_per_scale(image)

    def _keep(self, key: tuple[str, str], image: np.ndarray, maps: list[Maps]) -> None:
        """Keep the maps of an image, and forget the oldest ones."""
        self._kept[key] = image, maps
        while len(self._kept) > 1 and (
            len(self._kept) > KEPT_IMAGES
            or sum(kept.size // 3 for kept, _ in self._kept.values()) > KEPT_PIXELS
        ):
            del self._kept[next(iter(self._kept))]


def _allowed(thresholds: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in thresholds if name not in THRESHOLDS]
    if unknown:
        raise UserError(unknown[0], "is unknown", f"expected some of {', '.join(THRESHOLDS)}")
    return dict(thresholds)


def _picture(name: str, image: np.ndarray, found: Detections, maps: Maps) -> bytes:
    if name == "boxes":
        return _jpeg(found.draw(image))
    return _jpeg(heat_overlay(at_most(image, SHOWN_SIDE), maps.score))


def _jpeg(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
