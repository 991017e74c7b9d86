"""Between a detector's arrays, uint8 and channels last, and what a written network wants."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes.metadata import Input
from efficientnet_east.inference.runtimes.runtime import Run


def to_input(batch: np.ndarray, spec: Input) -> np.ndarray:
    """Bring images to the form that a network is fed.

    Args:
      batch: uint8 (n, height, width, 3), RGB.
      spec: layout, type, and what is taken off.

    Returns:
      The images in this form; without a copy where they have it already.
    """
    if spec.layout == "NCHW" and spec.dtype == "float32":
        return cv2.dnn.blobFromImages(list(batch), 1.0, mean=spec.mean)
    arranged = batch.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else batch
    if spec.dtype == "uint8":
        return np.ascontiguousarray(arranged)
    floats = arranged.astype(np.float32)
    return floats - np.array(spec.mean, np.float32) if any(spec.mean) else floats


def to_maps(maps: np.ndarray, layout: str) -> np.ndarray:
    """Bring a network's output to channels last.

    Args:
      maps: (n, channels, h, w) or (n, h, w, channels), as `layout` says.
      layout: `NCHW` or `NHWC`.

    Returns:
      float32 (n, h, w, channels), contiguous.
    """
    last = maps.transpose(0, 2, 3, 1) if layout == "NCHW" else maps
    return np.ascontiguousarray(last, np.float32)


def one_by_one(run: Run, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run several images through a network that takes one at a time.

    Args:
      run: the network.
      batch: uint8 (n, height, width, 3).

    Returns:
      The maps of all.
    """
    scores, geometries = zip(*(run(batch[index : index + 1]) for index in range(len(batch))), strict=True)
    return np.concatenate(scores), np.concatenate(geometries)


def one_at_a_time(run: Run) -> Run:
    """Let several threads share a network that keeps its images and maps in itself: they wait for each other.

    Args:
      run: the network.

    Returns:
      The same, safe to be called from any thread.
    """
    turn = threading.Lock()

    def alone(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with turn:
            return run(batch)

    return alone


def expect_size(path: str | Path, batch: np.ndarray, spec: Input) -> None:
    """Refuse images that a network of one size does not take.

    Args:
      path: of the network, for the error.
      batch: (n, height, width, 3).
      spec: with the size, if there is one.

    Raises:
      UserError: the images have another size.
    """
    size = batch.shape[1:3]
    if spec.size is not None and size != spec.size:
        problem = f"was written for images of {spec.size[0]} x {spec.size[1]} pixels"
        raise UserError(path, f"{problem}, not {size[0]} x {size[1]}", "Export it without a size.")
