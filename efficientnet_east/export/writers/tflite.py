"""TensorFlow Lite's format, for LiteRT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.compat import tf
from efficientnet_east.export import folding, int8, tflite_ranges
from efficientnet_east.export.network import Network
from efficientnet_east.inference.runtimes import feed, metadata
from efficientnet_east.inference.runtimes.metadata import Metadata
from efficientnet_east.system.quiet import while_starting


def write(network: Network, described: Metadata, images: Sequence[np.ndarray]) -> bytes:
    """Write TensorFlow Lite's format; the metadata is the last line, behind what interpreters read.

    Args:
      network: to be written.
      described: its metadata: precision and size are read.
      images: to calibrate int8 on, as for ONNX.

    Returns:
      The file.
    """
    spec = described.input
    shape = [None, None, None, 3] if spec.size is None else [1, *spec.size, 3]

    def examples() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [feed.to_input(image[None], spec)]

    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        fed = tf.placeholder(tf.float32, shape, name=network.inputs)
        accurate = folding.accurate(network.graph, described.precision)
        maps = tf.import_graph_def(
            accurate, {network.inputs: fed}, [f"{name}:0" for name in network.outputs], name=""
        )
        converter = tf.lite.TFLiteConverter.from_session(session, [fed], maps)
        if described.precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if described.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if described.precision == "int8":
            converter.representative_dataset = examples
            with while_starting():  # the converter prints its options
                converted = _quantize(converter, examples, accurate, described.float_below)
        else:
            converted = converter.convert()
    return metadata.seal(converted + b"\n" + metadata.dump(described) + b"\n")


def _quantize(
    converter: Any, examples: Callable[[], Iterator[list[np.ndarray]]], graph: Any, float_below: int
) -> bytes:
    """Quantize but for `int8.kept`; only the converter's debugger can be told what to leave."""
    strides = [(n.name, n.attr["strides"].list.i[1] if "strides" in n.attr else 1) for n in graph.node]
    names = set(int8.kept(strides, float_below))
    lite = tf.lite.experimental
    debugger = lite.QuantizationDebugger(converter=converter, debug_dataset=examples)
    debugger.calibrated_model = tflite_ranges.mean_of_images(debugger.calibrated_model, examples())
    interpreter = tf.lite.Interpreter(model_content=debugger.calibrated_model)
    # An operation that was fused of several has the names of all.
    fused = [detail["name"] for detail in interpreter.get_tensor_details()]
    left = [name for name in fused if not names.isdisjoint(name.split(";"))]
    debugger.options = lite.QuantizationDebugOptions(denylisted_nodes=left)
    return bytes(debugger.get_nondebug_quantized_model())


def share_of_int8(path: Path) -> float:
    """Measure the share of the constants, which are the tensors that no operation writes, in eight bits."""
    with while_starting():
        interpreter = tf.lite.Interpreter(model_path=str(path), experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
    written = {index for op in interpreter._get_ops_details() for index in op["outputs"]}
    counts = {True: 0, False: 0}
    for tensor in interpreter.get_tensor_details():
        if tensor["index"] not in written:
            counts[tensor["dtype"] == np.int8] += int(np.prod(tensor["shape"]))
    return counts[True] / max(sum(counts.values()), 1)
