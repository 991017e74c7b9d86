"""What the maps of a TensorFlow Lite network range over, from which eight bits take their steps.

The converter measures ranges itself, with two faults. It takes the widest of all images, which costs accuracy
(benchmarks/results/int8.md). And where an addition writes into its input's memory, it measures the sum in the
input's place: the last convolution of most blocks with a shortcut gets the sum's range, up to four times its
own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from efficientnet_east.compat import lite_files, tf
from efficientnet_east.export.int8 import LEAST_SWISH


def mean_of_images(calibrated: bytes, inputs: Iterable[Sequence[np.ndarray]]) -> bytes:
    """Replace each map's range by the mean of those of single images.

    Args:
      calibrated: what the converter writes before it quantizes: float32, a range beside each map.
      inputs: a list of one array for each image, float32 (1, height, width, 3).

    Returns:
      The same network with other ranges. What swish reads counts from -8 on, as in `int8`.
    """
    files, schema = lite_files()
    model = files.read_model_from_bytearray(bytearray(calibrated))
    maps = _with_ranges(model)
    low, high = np.mean(list(_limits(calibrated, list(maps), inputs)), axis=0)  # each: (maps,)
    swish = _swish_inputs(model, schema.BuiltinOperator)
    for (index, quantization), least, most in zip(maps.items(), low, high, strict=True):
        least = max(least, LEAST_SWISH) if index in swish else least
        # Zero stays inside: it pads, and needs a step of its own.
        quantization.min = np.array([min(least, 0)], np.float32)
        quantization.max = np.array([max(most, 1e-3)], np.float32)
    return bytes(files.convert_object_to_bytearray(model))


def _with_ranges(model: Any) -> dict[int, Any]:
    """The maps' places in the network, and what says how to quantize each."""
    found = {index: tensor.quantization for index, tensor in enumerate(model.subgraphs[0].tensors)}
    return {i: kept for i, kept in found.items() if kept is not None and kept.min is not None}


def _limits(
    network: bytes, maps: Sequence[int], inputs: Iterable[Sequence[np.ndarray]]
) -> Iterator[list[list[np.float32]]]:
    """For each image the least and the largest value of each map: (2, maps)."""
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(
        model_content=network,
        # Each map keeps its own memory, and none hides inside a delegate.
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=plain,
    )
    fed = interpreter.get_input_details()[0]["index"]
    shape: tuple[int, ...] = ()
    for (image,) in inputs:
        if image.shape != shape:
            shape = image.shape
            interpreter.resize_tensor_input(fed, shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(fed, image)
        interpreter.invoke()
        values = [interpreter.get_tensor(index) for index in maps]
        yield [[value.min() for value in values], [value.max() for value in values]]


def _swish_inputs(model: Any, kinds: Any) -> set[int]:
    """The maps x of which the network takes x sigmoid(x)."""

    def operators(kind: int) -> list[Any]:
        codes = model.operatorCodes
        return [op for op in model.subgraphs[0].operators if codes[op.opcodeIndex].builtinCode == kind]

    products = {frozenset(op.inputs) for op in operators(kinds.MUL)}
    sigmoids = [(op.inputs[0], op.outputs[0]) for op in operators(kinds.LOGISTIC)]
    return {read for read, written in sigmoids if frozenset((read, written)) in products}
