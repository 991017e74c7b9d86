"""What runs a network: one file a runtime, imported only when a file of its kind is opened.

opened = open_runtime("b0.onnx", threads=2)
score, geometry = opened.run(images)

To add a runtime, write a module here with `load(path, threads) -> Runtime`, and add a row to `RUNTIMES`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import bundled
from efficientnet_east.config import Detect
from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.system import installed

SAVED_MODEL_FILE = "saved_model.pb"
# Kinds of models that have no suffix of their own.
SAVED_MODEL, CHECKPOINT = "a SavedModel", "a checkpoint"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One runtime.

    Attributes:
      opens: what it opens, for people.
      modules: the kind of a model (its suffix, `SAVED_MODEL` or `CHECKPOINT`) -> the module of this package
        that opens it.
      needs: what to install when an import of the module fails; empty where the module says so itself.
    """

    opens: str
    modules: Mapping[str, str]
    needs: str = ""


# For a kind of model, the first runtime that opens it is the usual one.
RUNTIMES = {
    "tensorflow": Entry(
        "a workdir, a checkpoint, a file of export-weights, a frozen .pb, or a SavedModel",
        {CHECKPOINT: "tensorflow_checkpoint", ".pb": "tensorflow_graph", SAVED_MODEL: "tensorflow_graph"},
        needs="tensorflow",
    ),
    "onnxruntime": Entry("an .onnx file", {".onnx": "onnx_runtime"}),
    "openvino": Entry("an .onnx file", {".onnx": "openvino_runtime"}),
    "opencv": Entry("an .onnx or .pb file", {".onnx": "opencv", ".pb": "opencv"}),
    "litert": Entry("a .tflite file", {".tflite": "litert"}),
}
AUTO = "auto"
# Files that people have and try. Without this list they would be taken for a checkpoint's prefix.
_FOREIGN = (".keras", ".h5", ".hdf5", ".pt", ".pth", ".ckpt", ".safetensors", ".mlir", ".zip")


def open_runtime(path: str | Path, threads: int = 0, runtime: str = AUTO) -> Runtime:
    """Open a network with the runtime that its file is for.

    Args:
      path: a workdir of train.py, its folder `best`, a checkpoint's prefix, a file of `export-weights`, or
        what `export` wrote: .onnx, .pb, .tflite, the folder of a SavedModel; or the name of a bundled model.
      threads: of the processor; 0 takes as many as this process may use (a checkpoint's configuration may
        say otherwise).
      runtime: a key of `RUNTIMES`, or `auto`; `opencv` reads .onnx and .pb, too.

    Returns:
      The runtime, ready to run.

    Raises:
      UserError: there is no such file, it is damaged, foreign, or not for this runtime, or the runtime is not
        installed.
    """
    if runtime != AUTO and runtime not in RUNTIMES:
        raise UserError("runtime", f"unknown {runtime!r}", f"expected one of {', '.join((AUTO, *RUNTIMES))}")
    readers = able(path)
    chosen = readers[0] if runtime == AUTO else runtime
    entry = RUNTIMES[chosen]
    if chosen not in readers:
        raise UserError(path, f"is not for the runtime {chosen}", f"expected {entry.opens}")
    if bundled.is_bundled(path):
        return _open_bundled(str(path), chosen, entry, threads)
    return _open(Path(path), entry, threads)


def able(path: str | Path) -> tuple[str, ...]:
    """Name the runtimes that open a model, installed or not.

    Args:
      path: see `open_runtime`; it need not be there.

    Returns:
      Keys of `RUNTIMES`, the usual one first.
    """
    if bundled.is_bundled(path):
        with_onnx = ("onnxruntime", "openvino") if bundled.MODELS[str(path)].onnx.is_file() else ()
        return (*(name for name in with_onnx if installed.find(name)), "tensorflow")
    kind = kind_of(Path(path))
    return tuple(name for name, entry in RUNTIMES.items() if kind in entry.modules)


def kind_of(path: Path) -> str:
    """Tell what kind of model a path names: a suffix of `RUNTIMES`, `SAVED_MODEL` or `CHECKPOINT`."""
    if path.is_dir():
        return SAVED_MODEL if (path / SAVED_MODEL_FILE).exists() else CHECKPOINT
    suffix = path.suffix.lower()
    known = any(suffix in entry.modules for entry in RUNTIMES.values())
    return suffix if known else CHECKPOINT


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


def _open(path: Path, entry: Entry, threads: int) -> Runtime:
    kind = kind_of(path)
    if kind == CHECKPOINT and path.suffix.lower() in _FOREIGN and path.is_file():
        problem = f"no runtime opens {path.suffix.lower()} files"
        what = "a workdir of train.py, or a file that `export` wrote (.onnx, .pb, .tflite, a SavedModel)"
        raise UserError(path, problem, f"expected {what}; files of other programs are not run")
    try:
        module = importlib.import_module(f"{__name__}.{entry.modules[kind]}")
    except ModuleNotFoundError as error:
        if not entry.needs:
            raise
        problem = f"needs {entry.needs}, and {error.name} is not installed"
        raise UserError(path, problem, f"Run `pip install {entry.needs}`, or use an .onnx file.") from None
    opened: Runtime = module.load(path, threads)
    return opened


def _open_bundled(name: str, chosen: str, entry: Entry, threads: int) -> Runtime:
    """Open a bundled model; if its file is broken, say how to mend the installation."""
    path = bundled.resolve(name, as_onnx=chosen != "tensorflow")
    try:
        return _open(path, entry, threads)
    except UserError as error:
        if error.where != str(path):
            raise
        raise bundled.broken(name, error) from None
