"""Options of ONNX Runtime, and other ways to feed it: what each costs or saves, at equal output.

    python benchmarks/session_options.py OUT.json [--model default] [--rounds 9]

All cases take turns within one process on one 1280x736 image of noise. Written down are the medians of the
milliseconds by the clock, of this thread, and of the whole process, and how far the outputs are from those of
the first case at most. The clock needs a quiet machine. With one thread the second figure does not.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from step import machine

from efficientnet_east.checkpoints import bundled
from efficientnet_east.inference.runtimes import onnx_runtime

SHAPE = 736, 1280
INPUT = "input_images"
PACKAGES = ("onnxruntime", "opencv-python-headless", "numpy")
Run = Callable[[np.ndarray], Sequence[np.ndarray]]  # uint8 (1, height, width, 3) -> maps


def session(
    path: Path, threads: int, shared_memory: bool = True, pattern: bool = False, spin: bool = True
) -> Any:
    """Open a session as `runtimes.onnx_runtime` does, but for the options."""
    onnx_runtime.without_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_mem_pattern = pattern
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    if shared_memory:
        onnx_runtime._lend_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def by_opencv(batch: np.ndarray) -> np.ndarray:
    """Make the input as the runtime does today."""
    return cv2.dnn.blobFromImages(list(batch), 1.0)


def by_numpy(batch: np.ndarray) -> np.ndarray:
    """Make the input by NumPy."""
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32)


def plain(opened: Any, feed: Callable[[np.ndarray], np.ndarray], batch: np.ndarray) -> Sequence[np.ndarray]:
    """Run a session, which makes its outputs itself."""
    found: Sequence[np.ndarray] = opened.run(None, {INPUT: feed(batch)})
    return found


def bound(opened: Any, kept: list[np.ndarray], batch: np.ndarray) -> Sequence[np.ndarray]:
    """Run a session into arrays that are kept."""
    binding, fed = opened.io_binding(), by_opencv(batch)
    binding.bind_cpu_input(INPUT, fed)
    for output, array in zip(opened.get_outputs(), kept, strict=True):
        binding.bind_output(output.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    opened.run_with_iobinding(binding)
    return kept


def cases(path: Path, threads: int) -> dict[str, Run]:
    """List what is compared; the first is what the runtime does."""
    open_with = functools.partial(session, path, threads)
    usual = open_with()
    shapes = [(1, channels, *(side // 4 for side in SHAPE)) for channels in (1, 5)]
    kept = [np.zeros(shape, np.float32) for shape in shapes]
    return {
        "as it is": functools.partial(plain, usual, by_opencv),
        "input by NumPy": functools.partial(plain, usual, by_numpy),
        "outputs bound": functools.partial(bound, usual, kept),
        "memory pattern": functools.partial(plain, open_with(pattern=True), by_opencv),
        "memory of its own": functools.partial(plain, open_with(shared_memory=False), by_opencv),
        "threads do not spin": functools.partial(plain, open_with(spin=False), by_opencv),
        "one thread more": functools.partial(plain, session(path, threads + 1), by_opencv),
    }


def measure(runs: dict[str, Run], rounds: int) -> dict[str, dict[str, float]]:
    """Let the cases take turns; the first round is the warm-up."""
    batch = np.random.default_rng(0).integers(0, 256, (1, *SHAPE, 3), np.uint8)
    clocks = {"ms": time.perf_counter, "thread_ms": time.thread_time, "process_ms": time.process_time}
    laps: dict[str, list[list[float]]] = {name: [] for name in runs}
    outputs = {}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            begun = [clock() for clock in clocks.values()]
            outputs[name] = run(batch)
            laps[name].append(
                [clock() - before for clock, before in zip(clocks.values(), begun, strict=True)]
            )
    expected = next(iter(outputs.values()))
    figures = {}
    for name, found in laps.items():
        columns = zip(*found[1:], strict=True)
        row = {
            clock: round(1e3 * statistics.median(column), 1)
            for clock, column in zip(clocks, columns, strict=True)
        }
        differences = (np.abs(a - b).max() for a, b in zip(outputs[name], expected, strict=True))
        figures[name] = row | {"difference": max(map(float, differences))}
    return figures


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", type=Path, help="file to write")
    parser.add_argument("--model", default=bundled.DEFAULT, help="name of a bundled model, or an .onnx file")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    return parser


def main() -> None:
    """Measure with each number of threads; write and print the figures."""
    options = parser().parse_args()
    path = bundled.resolve(options.model, as_onnx=True)
    figures: dict[str, Any] = {"machine": machine(PACKAGES), "model": options.model}
    for threads in options.threads:
        figures[f"{threads} threads"] = measure(cases(path, threads), options.rounds)
    options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
