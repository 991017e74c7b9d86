"""OpenCV's own networks on an .onnx or frozen .pb file; neither TensorFlow nor ONNX Runtime is needed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes import feed, metadata, protobuf
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.system.limits import available_threads

_DIM_VALUE, _DIM_PARAM = 0x08, 0x12  # field and wire type within ONNX's TensorShapeProto.Dimension
_ANY_SIDE = 384


def load(path: Path, threads: int) -> Runtime:
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
    spec, names = described.input, [described.score, described.geometry]
    # Whatever layout the file has, OpenCV computes with channels first.
    nchw = spec.model_copy(update={"layout": "NCHW", "dtype": "float32"})

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feed.expect_size(path, batch, spec)
        if len(batch) > 1:  # together they are no quicker, and older .pb files take one at a time
            return feed.one_by_one(run, batch)
        height, width = (side // described.stride for side in batch.shape[1:3])
        batch = _at_least(batch, least_side(described.divisor))
        if cv2.getNumThreads() != threads:
            cv2.setNumThreads(threads)
        net.setInput(feed.to_input(batch, nchw))
        try:
            score, geometry = net.forward(names)
        except cv2.error as error:
            raise _unusable(path, error) from None
        maps = (feed.to_maps(found, "NCHW")[:, :height, :width] for found in (score, geometry))
        return next(maps), next(maps)

    return described.as_runtime(feed.one_at_a_time(run), "opencv", threads)


def least_side(divisor: int) -> int:
    """The side from which on OpenCV's maps are right.

    Where the coarsest map is a single row or column, OpenCV 5.0 reads beyond it: other maps each time.

    Args:
      divisor: the coarsest map's stride.
    """
    return 2 * divisor


def _at_least(batch: np.ndarray, side: int) -> np.ndarray:
    """Extend images to the right and downwards by their own edge, up to a side."""
    below, right = (max(0, side - own) for own in batch.shape[1:3])
    return np.pad(batch, ((0, 0), (0, below), (0, right), (0, 0)), mode="edge") if below or right else batch


def _read(path: Path, data: bytes) -> cv2.dnn.Net:
    """The network, from bytes: whatever else the file names is never looked for."""
    onnx = path.suffix.lower() == ".onnx"
    read = cv2.dnn.readNetFromONNX if onnx else cv2.dnn.readNetFromTensorflow
    if onnx and int(cv2.__version__.partition(".")[0]) < 5:
        data = _with_size(data)
    try:
        return read(np.frombuffer(data, np.uint8))
    except cv2.error as error:
        raise _unusable(path, error) from None


def _with_size(data: bytes) -> bytes:
    """Write a height and width into the description of the input, which OpenCV 4 wants to be told.

    It then takes any other size all the same. In place: the name of a side becomes a number of the same
    length, for the numbers of protocol buffers may have leading zeros (here: trailing ones).
    """
    for name in (b"height", b"width"):
        named = bytes([_DIM_PARAM, len(name)]) + name
        number = bytes([0x80 | (_ANY_SIDE & 0x7F), 0x80 | (_ANY_SIDE >> 7)])
        valued = bytes([_DIM_VALUE]) + number + b"\x80" * (len(named) - 4) + b"\0"
        data = data.replace(named, valued, 1)
    return data


def _unusable(path: Path, error: cv2.error) -> UserError:
    said = " ".join(str(error.err or error).split())
    problem = f"cannot be run by OpenCV {cv2.__version__} ({said[:200]})"
    return UserError(path, problem, "expected a float32 export, or another runtime")
