"""Post-training quantisation of an ONNX network to eight bits, by ONNX Runtime's own tool.

Weights get a scale for each output channel, maps a scale and a zero point from the ranges seen in calibration
images. The last layers stay as they are: distances reach 512 pixels, of which 256 steps would leave two each.
So do the first ones, whose few channels have the widest ranges: in eight bits they cost 2 to 3 points of
hmean, and save little time.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes.onnx_runtime import without_telemetry

METHOD = "ranges seen (min, max); one scale for each output channel of the weights"
_OUTPUTS = "feature_fusion/"
_FIRST = ("/stem/", "/blocks_0/depthwise")
_MERGE = ("merge_", "fpn_", "Resize")


def quantise(model: Any, inputs: Sequence[np.ndarray]) -> Any:
    """Quantise an ONNX network.

    Args:
      model: an `onnx.ModelProto`, of float32.
      inputs: what it is fed with to see the ranges of its maps, float32 (1, 3, height, width) each.

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
        raise UserError("onnxruntime", "is not installed", "`pip install onnx onnxruntime`") from None
    name = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, result = (Path(folder) / f"{stage}.onnx" for stage in ("plain", "prepared", "int8"))
        plain.write_bytes(model.SerializeToString())
        logging.getLogger().addFilter(_without_advice)
        try:
            quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                result,
                _reader(quantization, ({name: array} for array in inputs)),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=kept(onnx.load(prepared)),
            )
        finally:
            logging.getLogger().removeFilter(_without_advice)
        return onnx.load(result)


def kept(model: Any) -> list[str]:
    """Names of the nodes that stay in float32: normalisation, the first layers, the outputs."""
    names = [node.name for node in model.graph.node]
    last = [
        name
        for name in names
        if name.startswith(_OUTPUTS) and not name.removeprefix(_OUTPUTS).startswith(_MERGE)
    ]
    first = [name for name in names if "/" not in name or any(part in name for part in _FIRST)]
    return first + last


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
