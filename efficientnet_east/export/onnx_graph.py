"""Writes a folded graph as ONNX: channels first, one operation for one, no layout changes in between.

Only what this project's networks are made of is known; anything else is refused. Operator set 13 is the
newest that OpenCV 4.10 reads in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.export.folding import constant

OPERATOR_SET = 13
IR_VERSION = 8
_INT32 = 3  # TensorFlow's number for it
NodeDef = Any
HEIGHT_AND_WIDTH = ("height", "width")  # `runtimes.opencv` knows these names
_SIMPLE = {"Relu": "Relu", "Sigmoid": "Sigmoid", "AddV2": "Add", "Add": "Add", "Sub": "Sub", "Mul": "Mul"}
_RESIZE = {"ResizeBilinear": "linear", "ResizeNearestNeighbor": "nearest"}


def write(
    graph: Any,
    inputs: str,
    outputs: Sequence[str],
    channels: Sequence[int],
    stride: int,
    size: tuple[int, int] | None = None,
) -> Any:
    """Write a graph as ONNX.

    Args:
      graph: a GraphDef, frozen and folded.
      inputs: name of the placeholder, (batch, height, width, 3); it becomes (batch, 3, height, width).
      outputs: names of the operations that become outputs (batch, channels, h, w): score and geometry.
      channels: of each output.
      stride: pixels per cell of the outputs.
      size: height and width to write down; None leaves them open. The batch is always open.

    Returns:
      An `onnx.ModelProto`.

    Raises:
      UserError: the package `onnx` is not installed, or an operation is unknown.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError:
        raise UserError("onnx", "is not installed", "expected `pip install onnx`") from None
    writer = _Writer(graph)
    for node in graph.node:
        writer.convert(node)
    sides: Sequence[str | int] = size or HEIGHT_AND_WIDTH
    cells = [side // stride if isinstance(side, int) else f"{side}_div_{stride}" for side in sides]
    image = helper.make_tensor_value_info(inputs, TensorProto.FLOAT, ["batch", 3, *sides])
    maps = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", depth, *cells])
        for name, depth in zip(outputs, channels, strict=True)
    ]
    written = helper.make_graph(writer.nodes, "east", [image], maps, list(writer.initializers.values()))
    imports = [helper.make_opsetid("", OPERATOR_SET)]
    model = helper.make_model(written, opset_imports=imports, producer_name="efficientnet_east")
    model.ir_version = IR_VERSION
    checker.check_model(model, full_check=True)
    return model


def halve_weights(model: Any) -> None:
    """Store the convolutions' kernels in half precision; computing goes on in float32.

    Args:
      model: an `onnx.ModelProto`, which is changed.
    """
    from onnx import TensorProto, helper, numpy_helper

    kernels = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name in kernels:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}/half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], name=name, to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Writer:
    """Collects nodes and initializers, going over the graph in its order."""

    def __init__(self, graph: Any) -> None:
        self.by_name = {node.name: node for node in graph.node}
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.padding: dict[str, list[int]] = {}  # of a `Pad` -> what its convolution takes over
        self.same: dict[str, str] = {}  # an operation that is left out -> the one that stands for it

    def convert(self, node: NodeDef) -> None:
        """Append what a node becomes; constants and the sizes of resizing become parts of others."""
        if node.op in ("Const", "Placeholder", "Shape", "StridedSlice", "Pack") or self._is_size(node):
            return
        converters: dict[str, Callable[[NodeDef], None]] = {
            "Conv2D": self._conv, "DepthwiseConv2dNative": self._conv, "BiasAdd": self._bias,
            "Relu6": self._relu6, "Mean": self._mean, "MaxPool": self._max_pool, "ConcatV2": self._concat,
            "Pad": self._pad, **dict.fromkeys(_SIMPLE, self._simple), **dict.fromkeys(_RESIZE, self._resize),
        }  # fmt: skip
        if node.op not in converters:
            raise UserError(
                node.name, f"is a {node.op}, which cannot be written as ONNX", "expected another format"
            )
        converters[node.op](node)

    def _append(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def _initializer(self, name: str, value: np.ndarray) -> str:
        from onnx import numpy_helper

        self.initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def _source(self, name: str) -> str:
        name = name.partition(":")[0]
        return self.same.get(name, name)

    def _input(self, name: str) -> str:
        """An operand: another node's output, or a constant with its channels first."""
        name = self._source(name)
        node = self.by_name[name]
        if node.op != "Const":
            return name
        value = constant(node).astype(np.float32)
        return self._initializer(name, value.reshape(-1, 1, 1) if value.ndim == 1 else value)

    def _simple(self, node: NodeDef) -> None:
        self._append(_SIMPLE[node.op], [self._input(name) for name in node.input], node.name)

    def _conv(self, node: NodeDef) -> None:
        kernel = constant(self.by_name[self._source(node.input[1])])
        depthwise = node.op == "DepthwiseConv2dNative"
        # (height, width, inputs, outputs) -> (outputs, inputs / groups, height, width)
        weights = kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        if depthwise:
            weights = weights.reshape(-1, 1, *kernel.shape[:2])
        source, strides = self._source(node.input[0]), list(node.attr["strides"].list.i[1:3])
        size = [int(side) for side in kernel.shape[:2]]
        before = self.padding.get(node.input[0])
        if before:
            source = self._source(self.by_name[node.input[0]].input[0])
        pads = before or _padding(node.attr["padding"].s, size, strides)
        weight = self._initializer(self._source(node.input[1]), weights)
        self._append(
            "Conv", [source, weight], node.name, kernel_shape=size, strides=strides, pads=pads,
            group=kernel.shape[2] if depthwise else 1,
        )  # fmt: skip

    def _bias(self, node: NodeDef) -> None:
        """Becomes the convolution's own; nothing else reads the convolution."""
        conv = next(other for other in reversed(self.nodes) if other.output[0] == self._source(node.input[0]))
        value = constant(self.by_name[self._source(node.input[1])])
        conv.input.append(self._initializer(self._source(node.input[1]), value))
        conv.output[0] = conv.name = node.name

    def _relu6(self, node: NodeDef) -> None:
        limits = [
            self._initializer(name, np.array(value, np.float32)) for name, value in (("zero", 0), ("six", 6))
        ]
        self._append("Clip", [self._source(node.input[0]), *limits], node.name)

    def _mean(self, node: NodeDef) -> None:
        axis = {1: 2, 2: 3}[int(constant(self.by_name[self._source(node.input[1])])[0])]
        self._append("ReduceMean", [self._source(node.input[0])], node.name, axes=[axis], keepdims=1)

    def _max_pool(self, node: NodeDef) -> None:
        size, strides = list(node.attr["ksize"].list.i[1:3]), list(node.attr["strides"].list.i[1:3])
        pads = _padding(node.attr["padding"].s, size, strides)
        self._append(
            "MaxPool", [self._source(node.input[0])], node.name, kernel_shape=size, strides=strides, pads=pads
        )

    def _concat(self, node: NodeDef) -> None:
        self._append("Concat", [self._source(name) for name in node.input[:-1]], node.name, axis=1)

    def _pad(self, node: NodeDef) -> None:
        (top, bottom), (left, right) = constant(self.by_name[self._source(node.input[1])])[1:3]
        self.padding[node.name] = [int(top), int(left), int(bottom), int(right)]

    def _is_size(self, node: NodeDef) -> bool:
        return bool(node.op == "Mul" and node.attr["T"].type == _INT32)

    def _resize(self, node: NodeDef) -> None:
        """Twice the size, all that the merges ask for; as TensorFlow's first version: no half pixels."""
        scales = self._initializer("twice", np.array([1, 1, 2, 2], np.float32))
        options = {"nearest_mode": "floor"} if node.op == "ResizeNearestNeighbor" else {}
        self._append(
            "Resize", [self._source(node.input[0]), "", scales], node.name, mode=_RESIZE[node.op],
            coordinate_transformation_mode="asymmetric", **options,
        )  # fmt: skip


def _padding(kind: bytes, size: list[int], strides: list[int]) -> list[int]:
    """TensorFlow's `SAME` for sides that the strides divide, as those of all maps are."""
    if kind == b"VALID":
        return [0, 0, 0, 0]
    totals = [max(side - step, 0) for side, step in zip(size, strides, strict=True)]
    first = [total // 2 for total in totals]
    return [*first, *(total - start for total, start in zip(totals, first, strict=True))]
