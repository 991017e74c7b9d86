"""What runs a network: one file a runtime, imported only when a file of its kind is opened.

opened = open_runtime("b0.onnx", threads=2)
score, geometry = opened.run(images)
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import model_file
from efficientnet_east.config import Detect
from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.system import installed

# Each module has `open(path, threads) -> Runtime`.
RUNTIMES = {
    "tensorflow": "a workdir, a checkpoint, a file of export-weights, a frozen .pb, or a SavedModel",
    "onnxruntime": "an .onnx file",
    "opencv": "an .onnx or .pb file",
    "litert": "a .tflite file",
}
AUTO = "auto"
_MODULES = {"onnxruntime": "onnx_runtime", "opencv": "opencv", "litert": "litert"}
_BY_SUFFIX = {".onnx": "onnxruntime", ".pb": "tensorflow", ".tflite": "litert"}
# Files that people have and try: better named than taken for a checkpoint's prefix.
_FOREIGN = (".keras", ".h5", ".hdf5", ".pt", ".pth", ".ckpt", ".safetensors", ".mlir", ".zip")
SAVED_MODEL_FILE = "saved_model.pb"


def open_runtime(path: str | Path, threads: int = 0, runtime: str = AUTO) -> Runtime:
    """Open a network with the runtime that its file is for.

    Args:
      path: a workdir of train.py, its folder `best`, a checkpoint's prefix, a file of `export-weights`, or
        what `export` wrote: .onnx, .pb, .tflite, the folder of a SavedModel; or `default`.
      threads: of the processor; 0 takes as many as this process may use (a checkpoint's configuration may
        say otherwise).
      runtime: a key of `RUNTIMES`, or `auto`; `opencv` reads .onnx and .pb, too.

    Returns:
      The runtime, ready to run.

    Raises:
      UserError: there is no such file, it is damaged, foreign, or not for this runtime, or the runtime is not
        installed.
    """
    _expect_known(runtime)
    readers = able(path)
    chosen = readers[0] if runtime == AUTO else runtime
    if chosen not in readers:
        raise UserError(path, f"is not for the runtime {chosen}", f"expected {RUNTIMES[chosen]}")
    path = model_file.resolve(path, as_onnx=chosen != "tensorflow")
    suffix = path.suffix.lower()
    try:
        module = importlib.import_module(f"{__name__}.{_module(path, suffix, chosen)}")
    except ModuleNotFoundError as error:
        if chosen != "tensorflow":
            raise
        problem = f"needs TensorFlow, and {error.name} is not installed"
        raise UserError(path, problem, "expected `pip install tensorflow`, or an .onnx file") from None
    return module.open(path, threads)


def able(path: str | Path) -> tuple[str, ...]:
    """The runtimes that a network is for, installed or not.

    Args:
      path: see `open_runtime`; it need not be there.

    Returns:
      Keys of `RUNTIMES`, the usual one first.
    """
    if str(path) == model_file.DEFAULT:
        with_onnx = installed.find("onnxruntime") is not None and model_file.shipped_onnx().is_file()
        return ("onnxruntime", "tensorflow") if with_onnx else ("tensorflow",)
    path = Path(path)
    suffix = path.suffix.lower()
    own = _BY_SUFFIX.get(suffix, "tensorflow") if not path.is_dir() else "tensorflow"
    return (own, "opencv") if suffix in (".onnx", ".pb") and not path.is_dir() else (own,)


def with_overrides(detect: Detect, overrides: Mapping[str, Any]) -> Detect:
    """Put a caller's thresholds over those that a network comes with.

    Args:
      detect: the network's.
      overrides: fields of the configuration's section `detect`; text is converted.

    Returns:
      Both together.

    Raises:
      UserError: an unknown field, or a value that is out of range.
    """
    return configuration.load(None, {**detect.model_dump(exclude_unset=True), **overrides}).detect


def _expect_known(runtime: str) -> None:
    if runtime != AUTO and runtime not in RUNTIMES:
        raise UserError("runtime", f"unknown {runtime!r}", f"expected one of {', '.join((AUTO, *RUNTIMES))}")


def _module(path: Path, suffix: str, chosen: str) -> str:
    """The file of this package that opens a network."""
    if chosen != "tensorflow":
        return _MODULES[chosen]
    if (path / SAVED_MODEL_FILE).exists() or suffix == ".pb":
        return "tensorflow_graph"
    if suffix in _FOREIGN and path.is_file():
        what = "a workdir of train.py, or a file that `export` wrote (.onnx, .pb, .tflite, a SavedModel)"
        raise UserError(
            path, f"no runtime here opens {suffix} files; models are programs", f"expected {what}"
        )
    return "tensorflow_checkpoint"
