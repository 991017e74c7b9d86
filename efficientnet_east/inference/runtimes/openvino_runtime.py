"""OpenVINO on an .onnx file: fast on newer Intel processors, without TensorFlow or ONNX Runtime."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes import feed, metadata, protobuf
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.system.limits import available_threads

# Kernels that are kept, one a layer and size. OpenVINO's own 5000 would fill memory with each new size.
_KEPT_KERNELS = "500"
_PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def load(path: Path, threads: int) -> Runtime:
    """Open an .onnx file, see `runtimes.open_runtime`.

    OpenVINO chooses the number format: bfloat16 where the processor has instructions for it, else float32.

    Args:
      path: of the file.
      threads: 0 takes as many as this process may use.

    Returns:
      The runtime. Its precision is what OpenVINO chose; int8 files stay int8.

    Raises:
      UserError: the file cannot be used, or OpenVINO is not installed.
    """
    data, described = metadata.read_file(path)
    protobuf.expect_single_file(path, data)
    try:
        import openvino
    except ImportError:
        install = "`pip install openvino`, or the runtime onnxruntime"
        raise UserError("openvino", "is not installed", f"expected {install}") from None
    threads = threads or available_threads()
    try:
        compiled = _compile(openvino, data, threads)
        outputs = [compiled.output(name) for name in (described.score, described.geometry)]
    except RuntimeError as error:
        problem = f"cannot be opened ({' '.join(str(error).split())[:200]})"
        raise UserError(path, problem, "expected a network that OpenVINO knows; a newer one may") from None
    spec, request = described.input, compiled.create_infer_request()

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feed.expect_size(path, batch, spec)
        found = request.infer({spec.name: feed.to_input(batch, spec)}, share_inputs=True)
        score, geometry = (feed.to_maps(found[output], spec.layout) for output in outputs)
        return score, geometry

    opened = described.as_runtime(feed.one_at_a_time(run), "openvino", threads)
    chosen = _PRECISIONS.get(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(), "float32")
    return opened if opened.precision == "int8" else dataclasses.replace(opened, precision=chosen)


def _compile(openvino: Any, data: bytes, threads: int) -> Any:
    """The network for this processor: one image at a time, as soon as may be."""
    core = openvino.Core()
    wishes = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_KERNELS,
    }
    return core.compile_model(core.read_model(data), "CPU", wishes)
