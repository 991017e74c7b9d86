"""OpenCV's own networks on an .onnx or frozen .pb file; neither TensorFlow nor ONNX Runtime is needed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes import feed, metadata, protobuf
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.inference.threads import available_threads


def open(path: Path, threads: int) -> Runtime:
    """Open an .onnx or .pb file, see `runtimes.open_runtime`.

    Args:
      path: of the file.
      threads: 0 takes as many as this process may use. OpenCV has one number for the whole process.

    Returns:
      The runtime.

    Raises:
      UserError: the file cannot be used.
    """
    data, described = metadata.read_file(path)
    if path.suffix.lower() == ".onnx":
        protobuf.expect_single_file(path, data)
    threads = threads or available_threads()
    net = _read(path, data)
    wanted, names = described.input, [described.score, described.geometry]
    # Whatever layout the file has, OpenCV computes with channels first.
    fed = wanted.model_copy(update={"layout": "NCHW", "dtype": "float32"})

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feed.expect_size(path, batch, wanted)
        if cv2.getNumThreads() != threads:
            cv2.setNumThreads(threads)
        net.setInput(feed.to_input(batch, fed))
        try:
            score, geometry = net.forward(names)
        except cv2.error as error:
            raise _unusable(path, error) from None
        return feed.to_maps(score, "NCHW"), feed.to_maps(geometry, "NCHW")

    return described.as_runtime(run, "opencv", threads)


def _read(path: Path, data: bytes) -> cv2.dnn.Net:
    """The network, from bytes: whatever else the file names is never looked for."""
    read = cv2.dnn.readNetFromONNX if path.suffix.lower() == ".onnx" else cv2.dnn.readNetFromTensorflow
    try:
        return read(np.frombuffer(data, np.uint8))
    except cv2.error as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: cv2.error) -> UserError:
    said = " ".join(str(error.err or error).split())
    problem = f"cannot be run by OpenCV {cv2.__version__} ({said[:200]})"
    return UserError(path, problem, "a float32 export, or another runtime")
