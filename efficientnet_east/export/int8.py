"""Post-training quantization to eight bits: what stays in float32, and ONNX Runtime's own tool.

Weights get a scale for each output channel, maps a scale and a zero point from the ranges seen in calibration
images. A trained B0 with swish loses 9 points of hmean if that is all. Four things bring it to none:

* The last layers stay as they are: distances reach 512 pixels, of which 256 steps would leave two each.
* So do the first ones, whose few channels have the widest ranges: stem and first depthwise convolution, at no
  cost in time, or, where that is not enough, all layers on maps finer than a stride.
* A range is the mean of those of single images: the one spot in all of them that shines brightest would make
  every step coarse.
* What swish reads counts from -8 on, below which swish is next to nothing, however far down its range goes.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes.onnx_runtime import without_telemetry

_OUTPUTS = "feature_fusion/"
_FIRST = ("/stem/", "/blocks_0/depthwise")
_BACKBONE = ("/stem/", "/blocks_")
LEAST_SWISH = -8.0
_MERGE = ("merge_", "fpn_", "Resize")


def quantize(model: Any, inputs: Sequence[np.ndarray], float_below: int = 0) -> Any:
    """Quantize an ONNX network.

    Args:
      model: an `onnx.ModelProto`, of float32.
      inputs: what it is fed with to see the ranges of its maps, float32 (1, 3, height, width) each.
      float_below: see `kept`.

    Returns:
      Another ModelProto, in the QDQ form: float32 at both ends.

    Raises:
      UserError: ONNX Runtime is not installed.
    """
    without_telemetry()
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError:
        raise UserError("onnxruntime", "is not installed", "Run `pip install onnx onnxruntime`.") from None
    name = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, result = (Path(folder) / f"{stage}.onnx" for stage in ("plain", "prepared", "int8"))
        plain.write_bytes(model.SerializeToString())
        logging.getLogger().addFilter(_without_advice)
        try:
            quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            graph = onnx.load(prepared)
            excluded = kept(((node.name, _stride(node)) for node in graph.graph.node), float_below)
            swish = swish_inputs(graph, excluded)
            found = _ranges(prepared, swish, _reader(quantization, ({name: array} for array in inputs)))
            quantization.quantize_static(
                prepared,
                result,
                _reader(quantization, ({name: array} for array in inputs)),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                # Kernels of 7 bits: processors without VNNI add two products in 16 bits, too few for 8.
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=excluded,
                extra_options={"CalibMovingAverage": True, "TensorQuantOverrides": found},
            )
        finally:
            logging.getLogger().removeFilter(_without_advice)
        return onnx.load(result)


def swish_inputs(model: Any, excluded: Sequence[str]) -> list[str]:
    """Names of the maps x of which the network takes x sigmoid(x).

    Args:
      model: an `onnx.ModelProto`.
      excluded: names of nodes whose outputs are left out.
    """
    products = {frozenset(node.input) for node in model.graph.node if node.op_type == "Mul"}
    ours = {name for node in model.graph.node if node.name not in excluded for name in node.output}
    return [
        node.input[0]
        for node in model.graph.node
        if node.op_type == "Sigmoid" and node.input[0] in ours and {node.input[0], node.output[0]} in products
    ]


def _ranges(path: Path, names: Sequence[str], reader: Any) -> dict[str, list[dict[str, Any]]]:
    """What some maps of a network range over, in the form of the tool's overrides."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    if not names:
        return {}
    calibrator = create_calibrator(
        path,
        None,
        str(path.with_name("watched.onnx")),
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"moving_average": True, "averaging_constant": 0.01},
    )
    calibrator.collect_data(reader)
    seen = calibrator.compute_data().data
    found = {}
    for name in names:
        low, high = (np.float32(np.ravel(limit)[0]) for limit in seen[name].range_value)
        found[name] = [{"rmin": max(low, np.float32(LEAST_SWISH)), "rmax": max(high, np.float32(1e-3))}]
    return found


def kept(layers: Iterable[tuple[str, int]], float_below: int) -> list[str]:
    """Names of the operations that stay in float32: normalisation, the first layers, the outputs.

    Args:
      layers: name and stride of each operation (1 if it has none), from the network's input to its outputs.
      float_below: stride of the backbone's maps from which on there are eight bits; 0: almost from the first.

    Returns:
      The names.
    """
    found, reached = [], 1
    for name, stride in layers:
        reached *= stride
        first = any(part in name for part in _FIRST) or "/" not in name
        fine = reached < float_below and any(part in name for part in _BACKBONE)
        last = name.startswith(_OUTPUTS) and not name.removeprefix(_OUTPUTS).startswith(_MERGE)
        if first or fine or last:
            found.append(name)
    return found


def _stride(node: Any) -> int:
    """Of a node of ONNX."""
    found = [int(part.ints[0]) for part in node.attribute if part.name == "strides"]
    return found[0] if found else 1


def share_of_int8(model: Any) -> float:
    """How much of a network's weights has eight bits, as a share of their number.

    Args:
      model: an `onnx.ModelProto`.
    """
    from onnx import TensorProto

    counts = {True: 0, False: 0}
    for tensor in model.graph.initializer:
        counts[tensor.data_type in (TensorProto.INT8, TensorProto.UINT8)] += int(np.prod(tensor.dims))
    return counts[True] / max(sum(counts.values()), 1)


def _reader(quantization: Any, feeds: Iterator[dict[str, np.ndarray]]) -> Any:
    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(feeds, None)

    return Reader()


def _without_advice(record: logging.LogRecord) -> bool:
    """The tool advises to do beforehand what has been done."""
    return "pre-processing" not in record.getMessage()
