"""A network as the bytes of one file, for each format. A SavedModel, too, is one file in a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.compat import tf
from efficientnet_east.export import folding, int8, onnx_graph
from efficientnet_east.export.network import Network, described_graph
from efficientnet_east.inference.runtimes import SAVED_MODEL_FILE, feed, metadata
from efficientnet_east.inference.runtimes.metadata import Metadata

COMMENT = b"// "  # of StableHLO's text


def frozen(network: Network, described: Metadata, calibration: Sequence[np.ndarray]) -> bytes:
    """Write a frozen TensorFlow graph, a GraphDef.

    Args:
      network: to be written.
      described: its metadata.
      calibration: not read.

    Returns:
      The file.
    """
    return metadata.seal(_for_tensorflow(network, described).SerializeToString(deterministic=True))


def _for_tensorflow(network: Network, described: Metadata) -> Any:
    """The graph as TensorFlow, also an older one, and OpenCV read it."""
    graph = folding.with_mean_as_bias(described_graph(network, described), network.inputs)
    return folding.for_older_readers(graph)


def saved_model(network: Network, described: Metadata, calibration: Sequence[np.ndarray]) -> bytes:
    """Write a SavedModel with the signature `serving_default`: input `images`, outputs `score`, `geometry`.

    Args:
      network: to be written.
      described: its metadata.
      calibration: not read.

    Returns:
      The file saved_model.pb, all that there is in the folder: a graph without variables.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
            tf.import_graph_def(_for_tensorflow(network, described), name="")
            images, score, geometry = (
                graph.get_tensor_by_name(f"{name}:0") for name in (network.inputs, *network.outputs)
            )
            signature = tf.saved_model.predict_signature_def(
                {"images": images}, {"score": score, "geometry": geometry}
            )
            builder = tf.saved_model.Builder(str(path))
            builder.add_meta_graph_and_variables(
                session, ["serve"], {"serving_default": signature}, strip_default_attrs=True
            )
            builder.save()
        return metadata.seal((path / SAVED_MODEL_FILE).read_bytes())


def onnx(network: Network, described: Metadata, calibration: Sequence[np.ndarray]) -> bytes:
    """Write ONNX, see `onnx_graph`; int8 as `int8.quantise` does, half precision for the weights only.

    Args:
      network: to be written.
      described: its metadata: precision and size are read.
      calibration: images for int8, uint8 (height, width, 3), RGB, of sides that the network takes.

    Returns:
      The file.
    """
    model = onnx_graph.write(
        _accurate(network, described), network.inputs, network.outputs, network.channels,
        described.stride, described.input.size,
    )  # fmt: skip
    if described.precision == "float16":
        onnx_graph.halve_weights(model)
    if described.precision == "int8":
        shown = [feed.to_input(image[None], described.input) for image in calibration]
        model = int8.quantise(model, shown, _float_below(described))
    entry = model.metadata_props.add()
    entry.key, entry.value = "efficientnet_east", metadata.dump(described).decode()
    return metadata.seal(model.SerializeToString(deterministic=True))


def tflite(network: Network, described: Metadata, calibration: Sequence[np.ndarray]) -> bytes:
    """Write TensorFlow Lite's format; the metadata is the last line, behind what interpreters read.

    Args:
      network: to be written.
      described: its metadata: precision and size are read.
      calibration: as for `onnx`.

    Returns:
      The file.
    """
    wanted = described.input
    shape = [None, None, None, 3] if wanted.size is None else [1, *wanted.size, 3]

    def examples() -> Iterator[list[np.ndarray]]:
        for image in calibration:
            yield [feed.to_input(image[None], wanted)]

    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        images = tf.placeholder(tf.float32, shape, name=network.inputs)
        accurate = _accurate(network, described)
        maps = tf.import_graph_def(
            accurate, {network.inputs: images}, [f"{name}:0" for name in network.outputs], name=""
        )
        converter = tf.lite.TFLiteConverter.from_session(session, [images], maps)
        if described.precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if described.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if described.precision == "int8":
            converter.representative_dataset = examples
            converted = _quantised(converter, examples, accurate, _float_below(described))
        else:
            converted = converter.convert()
    return metadata.seal(converted + b"\n" + metadata.dump(described) + b"\n")


def _float_below(described: Metadata) -> int:
    return described.calibration.float_below if described.calibration else 0


def _quantised(
    converter: Any, examples: Callable[[], Iterator[list[np.ndarray]]], graph: Any, float_below: int
) -> bytes:
    """Quantise but for `int8.kept`; only the converter's debugger can be told what to leave."""
    strides = [(n.name, n.attr["strides"].list.i[1] if "strides" in n.attr else 1) for n in graph.node]
    names = set(int8.kept(strides, float_below))
    lite = tf.lite.experimental
    debugger = lite.QuantizationDebugger(converter=converter, debug_dataset=examples)
    interpreter = tf.lite.Interpreter(model_content=debugger.calibrated_model)
    # An operation that was fused of several has the names of all.
    fused = [detail["name"] for detail in interpreter.get_tensor_details()]
    left = [name for name in fused if not names.isdisjoint(name.split(";"))]
    debugger.options = lite.QuantizationDebugOptions(denylisted_nodes=left)
    return bytes(debugger.get_nondebug_quantized_model())


def _accurate(network: Network, described: Metadata) -> Any:
    """The graph in the form that loses least where others add up and round."""
    graph = folding.with_means_in_two_steps(network.graph)
    return folding.with_kernels_rounded(graph) if described.precision == "float16" else graph


def stablehlo(network: Network, described: Metadata, calibration: Sequence[np.ndarray]) -> bytes:
    """Write StableHLO, as text for one size: float32 (1, height, width, 3) to score and geometry.

    Args:
      network: to be written.
      described: its metadata: the size is read.
      calibration: not read.

    Returns:
      The file; its first line is a comment, the metadata.
    """
    if described.input.size is None:
        raise ValueError("StableHLO is written for one size")
    spec = tf.TensorSpec([1, *described.input.size, 3], tf.float32)

    def forward(images: Any) -> Any:
        names = [f"{name}:0" for name in network.outputs]
        return tf.import_graph_def(network.graph, {network.inputs: images}, names, name="")

    wrapped = tf.wrap_function(forward, [spec])
    compiled = tf.function(lambda images: wrapped(images), input_signature=[spec], jit_compile=True)
    zeros = np.zeros(spec.shape, np.float32)
    text = compiled.experimental_get_compiler_ir(zeros)(stage="stablehlo", platform_name="CPU")
    return metadata.seal(COMMENT + metadata.dump(described) + b"\n" + str(text).encode())


def _share_of_onnx(path: Path) -> float:
    import onnx as library

    return int8.share_of_int8(library.load(path))


def _share_of_tflite(path: Path) -> float:
    """Of the constants, which are the tensors that no operation writes."""
    interpreter = tf.lite.Interpreter(model_path=str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    written = {index for op in interpreter._get_ops_details() for index in op["outputs"]}
    counts = {True: 0, False: 0}
    for tensor in interpreter.get_tensor_details():
        if tensor["index"] not in written:
            counts[tensor["dtype"] == np.int8] += int(np.prod(tensor["shape"]))
    return counts[True] / max(sum(counts.values()), 1)


SHARES = {"onnx": _share_of_onnx, "tflite": _share_of_tflite}  # of int8 in the weights of a file
WRITERS = {
    "onnx": onnx, "frozen": frozen, "saved_model": saved_model, "tflite": tflite, "stablehlo": stablehlo
}  # fmt: skip
LAYOUTS = {"onnx": "NCHW"}  # of the input; all others have NHWC
PRECISIONS = {
    "onnx": ("float32", "float16", "int8"), "frozen": ("float32",), "saved_model": ("float32",),
    "tflite": ("float32", "float16", "int8"), "stablehlo": ("float32",),
}  # fmt: skip
SUFFIXES = {"onnx": ".onnx", "frozen": ".pb", "saved_model": "", "tflite": ".tflite", "stablehlo": ".mlir"}
