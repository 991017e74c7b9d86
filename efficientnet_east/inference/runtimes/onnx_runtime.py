"""ONNX Runtime on an .onnx file; TensorFlow is not needed, and neither is the package `onnx`."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes import feed, metadata, protobuf
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.system.limits import available_threads


def load(path: Path, threads: int) -> Runtime:
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
        raise UserError("onnxruntime", "is not installed", f"expected {install}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # one is kept for each size of image that ever was
    _lend_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a class of its own for each way to fail
        problem = f"cannot be opened ({str(error).partition(chr(10))[0]})"
        raise UserError(
            path, problem, "expected a network that ONNX Runtime knows; a newer one may"
        ) from None
    spec, names = described.input, [described.score, described.geometry]

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feed.expect_size(path, batch, spec)
        score, geometry = session.run(names, {spec.name: feed.to_input(batch, spec)})
        return feed.to_maps(score, spec.layout), feed.to_maps(geometry, spec.layout)

    return described.as_runtime(run, "onnxruntime", threads or available_threads())


def without_telemetry() -> None:
    """Before ONNX Runtime is imported: its newer releases report to their maker, and mark the machine.

    Whoever wants that sets the variables to something else.
    """
    for name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):  # it was renamed between releases
        os.environ.setdefault(name, "1")


@functools.cache
def _lend_memory() -> None:
    """Have one store of memory for all sessions of this process, which takes no more than it needs.

    Each session's own would double what it takes from the system whenever an image has a new size that fits
    nowhere, and give nothing back.
    """
    import onnxruntime

    exactly, unlimited, usual = 1, 0, -1
    taken = onnxruntime.OrtArenaCfg({
        "max_mem": unlimited, "arena_extend_strategy": exactly, "initial_chunk_size_bytes": usual,
        "max_dead_bytes_per_chunk": 1 << 20,
    })  # fmt: skip
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    with contextlib.suppress(Exception):  # the program around has a store of its own, which then serves
        onnxruntime.create_and_register_allocator(memory, taken)
