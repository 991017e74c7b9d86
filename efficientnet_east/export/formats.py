"""The formats that a network is exported to. Loads no TensorFlow: writers are imported when they are used.

To add a format, write a module in `writers/` with `write(network, described, images) -> bytes`, and add a row
to `FORMATS`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientnet_east.inference.runtimes import AUTO, SAVED_MODEL_FILE, open_runtime
from efficientnet_east.inference.runtimes.metadata import Calibration, Metadata
from efficientnet_east.inference.runtimes.runtime import Runtime

if TYPE_CHECKING:
    from efficientnet_east.export.network import Network

_INT8 = "mean of the images' ranges (min, max); one scale for each output channel of the weights"


@dataclasses.dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
      purpose: what it is for, for people.
      module: of `writers`.
      suffix: of the file's name; empty for a folder.
      tolerances: precision -> how far a map may be from the checkpoint's (scores absolute, geometry
        relative). None: int8, which is judged by its detections.
      file: the name of the file in the folder, where the format is a folder.
      layout: of the input.
      also: precision -> the runtime that checks the file, too, beside the usual one.
      needs_size: whether it is written for images of one size only.
      one_image: whether a file for one size takes one image at a time.
      int8_method: how int8's ranges are found, for the metadata.
      own_runtime: whether the module opens its files itself, to check them.
      package: what writes it beside TensorFlow, and may not be installed.
    """

    purpose: str
    module: str
    suffix: str
    tolerances: Mapping[str, float | None]
    file: str = ""
    layout: str = "NHWC"
    also: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs_size: bool = False
    one_image: bool = False
    int8_method: str = ""
    own_runtime: bool = False
    package: str = ""

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that it can be written in."""
        return tuple(self.tolerances)

    def readers(self, precision: str) -> list[str]:
        """Name the runtimes that check a file of this precision."""
        return [AUTO, self.also[precision]] if precision in self.also else [AUTO]

    def expect_package(self) -> None:
        """Import `package`, before anything slow begins.

        Raises:
          ModuleNotFoundError: it is not installed.
        """
        if self.package:
            importlib.import_module(self.package)

    def writer(self) -> Any:
        """Import the module that writes it."""
        return importlib.import_module(f"efficientnet_east.export.writers.{self.module}")

    def open(self, path: Path, threads: int, runtime: str) -> Runtime:
        """Open a file of this format, to check it."""
        opened = self.writer().open_written if self.own_runtime else open_runtime
        runs: Runtime = opened(path, threads, runtime)
        return runs

    def path(self, output: Path) -> Path:
        """Return the path of the one file, for an output that may be a folder."""
        return output / self.file if self.file else output


FORMATS = {
    "onnx": Format(
        "for ONNX Runtime and OpenCV (the best choice for most)",
        "onnx",
        ".onnx",
        {"float32": 1e-3, "float16": 1e-2, "int8": None},
        layout="NCHW",
        also={"float32": "opencv", "float16": "opencv"},
        int8_method=_INT8,
        package="onnx",
    ),
    "frozen": Format(
        "TensorFlow's frozen graph, .pb, for OpenCV 4 and older programs",
        "frozen",
        ".pb",
        {"float32": 1e-4},
        also={"float32": "opencv"},
    ),
    "saved_model": Format(
        "a folder, for TensorFlow and TensorFlow Serving",
        "saved_model",
        "",
        {"float32": 1e-4},
        file=SAVED_MODEL_FILE,
    ),
    "tflite": Format(
        "for phones, LiteRT",
        "tflite",
        ".tflite",
        {"float32": 1e-3, "float16": 1e-2, "int8": None},
        one_image=True,
        int8_method=_INT8,
    ),
    "stablehlo": Format(
        "the forward pass for PJRT",
        "stablehlo",
        ".mlir",
        {"float32": 1e-3},
        needs_size=True,
        one_image=True,
        own_runtime=True,
    ),
}


def encode(
    network: Network,
    name: str,
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    calibration: Calibration | None = None,
    images: Sequence[np.ndarray] = (),
) -> tuple[Metadata, bytes]:
    """Write a network in one of the formats.

    Args:
      network: to be written.
      name: a key of `FORMATS`.
      precision: one of the format's.
      size: height and width, if the file takes no others.
      calibration: of int8, for the metadata.
      images: to calibrate int8 on, uint8 (height, width, 3), RGB, of sides that the network takes.

    Returns:
      The metadata, and the bytes of the file.
    """
    from efficientnet_east.export.network import describe

    kind = FORMATS[name]
    batch = 1 if size is not None and kind.one_image else None
    described = describe(network, name, kind.layout, precision, size, batch, calibration)
    return described, kind.writer().write(network, described, images)
