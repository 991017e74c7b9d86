"""Small films."""

from pathlib import Path

import numpy as np

from efficientnet_east.data import video


def write_film(path: Path, frames: int = 5) -> Path:
    """Each frame grey, 40 levels lighter than the one before, with a red left half."""
    with video.written(path, 10.0) as append:
        for number in range(frames):
            frame = np.full((48, 64, 3), 40 * number, np.uint8)
            frame[:, :32] = (200, 0, 0)
            append(frame)
    return path
