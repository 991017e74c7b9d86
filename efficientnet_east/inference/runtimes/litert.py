"""LiteRT, TensorFlow Lite's successor, on a .tflite file; else the interpreter that TensorFlow brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes import feed, metadata
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.system.limits import available_threads
from efficientnet_east.system.quiet import while_starting


def load(path: Path, threads: int) -> Runtime:
    """Open a .tflite file, see `runtimes.open_runtime`.

    Args:
      path: of the file.
      threads: 0 takes as many as this process may use.

    Returns:
      The runtime.

    Raises:
      UserError: the file cannot be used, or no interpreter is installed.
    """
    data, described = metadata.read_file(path)
    threads = threads or available_threads()
    try:
        interpreter = _interpreter()(model_content=data, num_threads=threads)
    except (ValueError, RuntimeError) as error:
        problem = f"cannot be opened ({str(error).partition(chr(10))[0]})"
        raise UserError(path, problem, "expected a network that this version of LiteRT knows") from None
    spec = described.input
    index = interpreter.get_input_details()[0]["index"]
    outputs = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
    shape: list[int] = []

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feed.expect_size(path, batch, spec)
        if spec.batch == 1 < len(batch):
            return feed.one_by_one(run, batch)
        if shape != list(batch.shape):  # memory is laid out anew for each size
            interpreter.resize_tensor_input(index, batch.shape)
            with while_starting():  # it says which delegate it uses
                interpreter.allocate_tensors()
            shape[:] = batch.shape
        interpreter.set_tensor(index, feed.to_input(batch, spec))
        interpreter.invoke()
        score, geometry = (interpreter.get_tensor(outputs[name]) for name in names)
        return feed.to_maps(score, "NHWC"), feed.to_maps(geometry, "NHWC")

    names = _output_names(path, outputs, described)
    return described.as_runtime(feed.one_at_a_time(run), "litert", threads)


def _interpreter() -> Any:
    """The class, from the small package if it is there."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from efficientnet_east.compat import tf
        except ImportError:
            install = "`pip install ai-edge-litert`"
            raise UserError(
                "ai-edge-litert", "is not installed, nor is TensorFlow", f"expected {install}"
            ) from None
        return tf.lite.Interpreter
    return Interpreter


def _output_names(path: Path, outputs: dict[str, Any], described: metadata.Metadata) -> tuple[str, str]:
    names = described.score, described.geometry
    if not set(names) <= set(outputs):
        raise UserError(path, f"has the outputs {', '.join(outputs)}", f"expected {' and '.join(names)}")
    return names
