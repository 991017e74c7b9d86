"""Draw the README's picture: what the bundled model finds in four synthetic images, chosen by eye out of 36.

    python benchmarks/pictures.py docs/images

also writes the first of them without boxes, as the image of the README's commands.
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
GREEN = (60, 220, 60)  # BGR


def main() -> None:
    """Write `words.jpg` and `street.jpg` into a folder."""
    folder = Path(sys.argv[1])
    detector = Detector.load()
    scenes = [SyntheticScenes(6, seed, SHAPE)[number].image for seed, number in CHOSEN]
    pictures = [
        cv2.resize(drawn(image, detector), (760, 428), interpolation=cv2.INTER_AREA) for image in scenes
    ]
    rows = [np.hstack(pictures[start : start + 2]) for start in (0, 2)]
    write(folder / "words.jpg", np.vstack(rows), 85)
    write(folder / "street.jpg", scenes[0][..., ::-1], 90)


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
