"""ONNX Runtime on an .onnx file; TensorFlow is not needed, and neither is the package `onnx`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes import feed, metadata, protobuf
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.inference.threads import available_threads


def open(path: Path, threads: int) -> Runtime:
    """Open an .onnx file, see `runtimes.open_runtime`.

    Args:
      path: of the file.
      threads: 0 takes as many as this process may use.

    Returns:
      The runtime.

    Raises:
      UserError: the file cannot be used, or ONNX Runtime is not installed.
    """
    data, described = metadata.read_file(path)
    protobuf.expect_single_file(path, data)
    without_telemetry()
    try:
        import onnxruntime
    except ImportError:
        install = "`pip install onnxruntime`, or the runtime opencv"
        raise UserError("onnxruntime", "is not installed", install) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a class of its own for each way to fail
        problem = f"cannot be opened ({str(error).partition(chr(10))[0]})"
        raise UserError(path, problem, "a network that ONNX Runtime knows; a newer one may") from None
    wanted, names = described.input, [described.score, described.geometry]

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feed.expect_size(path, batch, wanted)
        score, geometry = session.run(names, {wanted.name: feed.to_input(batch, wanted)})
        return feed.to_maps(score, wanted.layout), feed.to_maps(geometry, wanted.layout)

    return described.as_runtime(run, "onnxruntime", threads or available_threads())


def without_telemetry() -> None:
    """Before ONNX Runtime is imported: its newer releases report to their maker, and mark the machine.

    Whoever wants that sets the variables to something else.
    """
    for name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):  # it was renamed between releases
        os.environ.setdefault(name, "1")
