"""The images that an export is checked on, and those that int8 is calibrated on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from efficientnet_east.data.folders import is_image, list_files
from efficientnet_east.data.images import SUFFIXES, read_image
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError
from efficientnet_east.inference.preprocess import prepare
from efficientnet_east.structures import Source

SCENE_SIZE = (384, 640)
MOST_IMAGES = 20
# Height and width; sides that no stride divides are padded before they reach the network, as a Detector does.
ODD_SIZES = ((1, 1), (33, 65), (47, 211), (250, 97), (131, 300))
_CALIBRATION_SIZE = (480, 640)  # of the windows; whole images would only take longer


def scenes(count: int, seed: int) -> SyntheticScenes:
    """Generated images with text, where there are no real ones."""
    return SyntheticScenes(count, seed, SCENE_SIZE)


def inputs(
    samples: Source, divisor: int, max_side: int, size: tuple[int, int] | None
) -> Iterator[tuple[str, np.ndarray]]:
    """The network's inputs: whole images, and pieces of the first in odd sizes.

    Args:
      samples: the images; at most `MOST_IMAGES` are read.
      divisor: what the sides must be multiples of.
      max_side: larger images are scaled down to this.
      size: if the network takes one size only, every image is fitted to it.

    Yields:
      A name, and uint8 (height, width, 3), RGB.
    """
    for index in range(min(len(samples), MOST_IMAGES)):
        sample = samples[index]
        yield sample.name, prepare(sample.image, max_side, divisor=divisor, size=size).pixels
        if index == 0:
            for height, width in ODD_SIZES:
                piece = middle(sample.image, (height, width))
                pixels = prepare(piece, max_side, divisor=divisor, size=size).pixels
                yield f"{sample.name}[{height}x{width}]", pixels


def middle(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A window of at most this height and width, from the middle of an image."""
    top, left = (max(0, (whole - part) // 2) for whole, part in zip(image.shape, size, strict=False))
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])


def calibration(
    folder: Path, limit: int, divisor: int, size: tuple[int, int] | None
) -> tuple[list[np.ndarray], dict[str, str]]:
    """Read images to calibrate int8 on.

    Args:
      folder: with images, subfolders not looked into.
      limit: how many to take; of more, evenly many are left out.
      divisor: what the sides must be multiples of.
      size: of the network's input, if it takes one only.

    Returns:
      uint8 (height, width, 3) each, RGB; and for each file its SHA-256.

    Raises:
      UserError: the folder has no images, or one cannot be read.
    """
    paths = _image_files(folder)
    chosen = [paths[index] for index in np.unique(np.linspace(0, len(paths) - 1, limit).astype(int))]
    height, width = (side + -side % divisor for side in _CALIBRATION_SIZE)
    images, digests = [], {}
    for path in chosen:
        data = path.read_bytes()
        window = middle(read_image(path), size or (height, width))
        images.append(
            prepare(window, max(height, width), divisor=divisor, size=size or (height, width)).pixels
        )
        digests[path.name] = hashlib.sha256(data).hexdigest()
    return images, digests


def _image_files(folder: Path) -> Sequence[Path]:
    files = [path for path in list_files(folder) if is_image(path.name)]
    if not files:
        raise UserError(folder, "has no images", f"expected files ending in {', '.join(SUFFIXES)}")
    return files
