"""Draw what the bundled model finds in synthetic images.

    python benchmarks/pictures.py docs/images

writes the README's picture, of four images chosen by eye out of 36, the first of them without boxes, as the
image of its commands, and a picture of four images that nobody chose.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from efficientnet_east import Detector
from efficientnet_east.data.synthetic.scenes import SyntheticScenes

SHAPE = (720, 1280)
CHOSEN = ((21, 3), (23, 3), (23, 1), (24, 0))  # seed and number of a scene
NOT_CHOSEN = tuple((11, number) for number in range(4))
GREEN = (60, 220, 60)  # BGR


def main() -> None:
    """Write `words.jpg`, `detections.jpg` and `street.jpg` into a folder."""
    folder = Path(sys.argv[1])
    detector = Detector.load()
    for name, scenes in {"words.jpg": CHOSEN, "detections.jpg": NOT_CHOSEN}.items():
        write(folder / name, sheet([scene(*each) for each in scenes], detector), 85)
    write(folder / "street.jpg", scene(*CHOSEN[0])[..., ::-1], 90)


def scene(seed: int, number: int) -> np.ndarray:
    """One synthetic image."""
    return SyntheticScenes(6, seed, SHAPE)[number].image


def sheet(images: list[np.ndarray], detector: Detector) -> np.ndarray:
    """Put four images with their boxes into two rows."""
    pictures = [
        cv2.resize(drawn(image, detector), (760, 428), interpolation=cv2.INTER_AREA) for image in images
    ]
    return np.vstack([np.hstack(pictures[start : start + 2]) for start in (0, 2)])


def drawn(image: np.ndarray, detector: Detector) -> np.ndarray:
    """Draw the boxes on a BGR copy."""
    picture = np.ascontiguousarray(image[..., ::-1])
    for quad in detector(image).quads:
        cv2.polylines(picture, [np.rint(quad).astype(np.int32)], True, GREEN, 3, cv2.LINE_AA)
    return picture


def write(path: Path, image: np.ndarray, quality: int) -> None:
    """Write a JPEG of a BGR image."""
    path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


if __name__ == "__main__":
    main()
