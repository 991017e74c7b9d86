"""Folds what is linear into the convolution beside it: batch norm behind it, factors of channels before it.

TensorFlow's own rewriting does this only while it runs, other runtimes in their own ways or not at all.
Folded beforehand, all formats hold the same numbers.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from efficientnet_east.checkpoints import float16
from efficientnet_east.compat import tf

GraphDef = Any
NodeDef = Any
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
ENLARGING = ("ResizeBilinear", "ResizeNearestNeighbor")


def fold(graph: GraphDef, outputs: list[str]) -> GraphDef:
    """Fold batch norms and factors into the convolutions' kernels; operations keep their names.

    Args:
      graph: frozen, from `inference.graph.freeze`.
      outputs: names of the operations to keep.

    Returns:
      Another graph that computes the same. A `FusedBatchNormV3` has become a `BiasAdd` of the same name.
    """
    folded = tf.GraphDef()
    folded.CopyFrom(graph)
    nodes = {node.name: node for node in folded.node}
    readers = Counter(_name(source) for node in folded.node for source in node.input)
    for node in list(folded.node):
        if node.op == "FusedBatchNormV3":
            _fold_batch_norm(node, nodes, readers)
    for node in folded.node:
        if node.op in CONVOLUTIONS:
            _fold_factor(node, nodes, readers)
    return tf.graph_util.extract_sub_graph(folded, outputs)


def constant(node: NodeDef) -> np.ndarray:
    """The value of a `Const`."""
    return np.array(tf.make_ndarray(node.attr["value"].tensor))


def set_constant(node: NodeDef, value: np.ndarray) -> None:
    """Replace the value of a `Const`."""
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def with_means_in_two_steps(graph: GraphDef) -> GraphDef:
    """Take means over the columns first, and then over the rows.

    Of a 1280 x 720 image's first maps, 235,000 numbers, runtimes that add them up one by one lose three or
    four digits, each in its own way; of rows and columns alone, nobody does. OpenCV's importer for
    TensorFlow does not know the form, so that frozen graphs keep the mean as it is.

    Args:
      graph: from `fold`.

    Returns:
      Another graph that computes the same.
    """
    found = tf.GraphDef(versions=graph.versions)
    for node in graph.node:
        if node.op != "Mean":
            found.node.add().CopyFrom(node)
            continue
        columns = f"{node.name}/columns"
        for name, source, axis in ((columns, node.input[0], 2), (node.name, columns, 1)):
            axes = found.node.add(name=f"{name}/axis", op="Const")
            axes.attr["dtype"].type = tf.int32.as_datatype_enum
            set_constant(axes, np.array([axis], np.int32))
            step = found.node.add()
            step.CopyFrom(node)
            step.name, step.input[0], step.input[1] = name, source, axes.name
    return found


def with_kernels_rounded(graph: GraphDef) -> GraphDef:
    """Round every convolution's kernel to half precision, see `half`; the type stays float32.

    Args:
      graph: from `fold`.

    Returns:
      Another graph, whose kernels are the same in half precision.
    """
    rounded = tf.GraphDef()
    rounded.CopyFrom(graph)
    nodes = {node.name: node for node in rounded.node}
    for name in {node.input[1] for node in rounded.node if node.op in CONVOLUTIONS}:
        set_constant(nodes[name], float16.round_kernel(constant(nodes[name])))
    return rounded


def accurate(graph: GraphDef, precision: str) -> GraphDef:
    """Return the graph in the form that loses least where another runtime adds up and rounds."""
    graph = with_means_in_two_steps(with_merges_in_parts(graph))
    return with_kernels_rounded(graph) if precision == "float16" else graph


def with_merges_in_parts(graph: GraphDef) -> GraphDef:
    """Take the merges' 1x1 convolutions of each map alone, the coarse one's before it is enlarged.

    conv(concat(enlarge(a), b)) = enlarge(conv_a(a)) + conv_b(b), as both steps are linear. So the convolution
    of the coarse map has a quarter of the cells, and no map with the channels of both is written to memory.

    Args:
      graph: from `fold`.

    Returns:
      Another graph that computes the same.
    """
    changed = tf.GraphDef()
    changed.CopyFrom(graph)
    nodes = {node.name: node for node in changed.node}
    readers = Counter(_name(source) for node in changed.node for source in node.input)
    with tf.Graph().as_default() as known:
        tf.import_graph_def(graph, name="")
    more: dict[str, list[NodeDef]] = {}  # behind which operation -> what comes before it
    for bias in changed.node:
        merge = _merge_of(bias, nodes, readers)
        if merge:
            channels = int(known.get_tensor_by_name(f"{merge[1].input[0]}:0").shape[-1])
            more[bias.name] = _divide_merge(bias, *merge, nodes, channels)
    found = tf.GraphDef(versions=graph.versions)
    for node in changed.node:
        found.node.extend([*more.get(node.name, ()), node])
    return tf.graph_util.extract_sub_graph(found, _ends(graph))


def _ends(graph: GraphDef) -> list[str]:
    """The operations that no other one reads."""
    read = {_name(source) for node in graph.node for source in node.input}
    return [node.name for node in graph.node if node.name not in read]


def with_mean_as_bias(graph: GraphDef, images: str) -> GraphDef:
    """Take the mean color off by a depthwise convolution with ones and a bias, instead of by `Sub`.

    x * 1 + (-mean) is rounded once, so the values are the same. OpenCV's importer for TensorFlow makes a
    layer of `Sub` that takes one image at a time. On CPUs TensorFlow is quicker at this form, too.

    Args:
      graph: from `fold`.
      images: name of the placeholder.

    Returns:
      Another graph that computes the same.
    """
    nodes = {node.name: node for node in graph.node}
    found = tf.GraphDef(versions=graph.versions)
    for node in graph.node:
        if node.op != "Sub" or _name(node.input[0]) != images:
            found.node.add().CopyFrom(node)
            continue
        mean = constant(nodes[_name(node.input[1])])
        kernel, bias = f"{node.name}/ones", f"{node.name}/bias"
        for name, values in ((kernel, np.ones((1, 1, mean.size, 1))), (bias, -mean.reshape(-1))):
            part = found.node.add(name=name, op="Const")
            part.attr["dtype"].type = tf.float32.as_datatype_enum
            set_constant(part, values.astype(np.float32))
        copied = found.node.add(name=f"{node.name}/copy", op="DepthwiseConv2dNative")
        copied.input.extend([images, kernel])
        copied.attr["strides"].list.i.extend([1, 1, 1, 1])
        copied.attr["padding"].s = b"VALID"
        added = found.node.add(name=node.name, op="BiasAdd")
        added.input.extend([copied.name, bias])
        for step in (copied, added):
            step.attr["T"].type = tf.float32.as_datatype_enum
            step.attr["data_format"].s = b"NHWC"
    return found


def for_older_readers(graph: GraphDef) -> GraphDef:
    """Leave out attributes that only repeat their default, and write `AddV2` as `Add`.

    Who does not know an attribute or an operation refuses the whole file. For numbers both additions are the
    same.

    Args:
      graph: of operations that this TensorFlow knows.

    Returns:
      Another graph that computes the same.
    """
    with tf.Graph().as_default() as known:
        tf.import_graph_def(graph, name="")
    defaults = {
        op.type: {part.name: part.default_value for part in op.op_def.attr if part.HasField("default_value")}
        for op in known.get_operations()
    }
    stripped = tf.GraphDef()
    stripped.CopyFrom(graph)
    for node in stripped.node:
        for name, value in defaults[node.op].items():
            if name in node.attr and node.attr[name] == value:
                del node.attr[name]
        node.op = "Add" if node.op == "AddV2" else node.op
    return stripped


def _name(source: str) -> str:
    return source.lstrip("^").partition(":")[0]


def _fold_batch_norm(node: NodeDef, nodes: dict[str, NodeDef], readers: Counter[str]) -> None:
    """gamma (conv(x) - mean) / sqrt(variance + epsilon) + beta = conv'(x) + bias."""
    conv, *parts = (nodes[_name(source)] for source in node.input)
    alone = readers[conv.name] == 1 and conv.op in CONVOLUTIONS
    if not alone or any(part.op != "Const" for part in parts) or node.attr["is_training"].b:
        return
    gamma, beta, mean, variance = (constant(part).astype(np.float64) for part in parts)
    factor = gamma / np.sqrt(variance + node.attr["epsilon"].f)
    kernel = nodes[_name(conv.input[1])]
    values = constant(kernel)  # (height, width, inputs, outputs); depthwise (height, width, channels, 1)
    shape = (*values.shape[2:],) if conv.op == "DepthwiseConv2dNative" else (1, values.shape[3])
    set_constant(kernel, (values * factor.reshape(shape)).astype(np.float32))
    set_constant(nodes[_name(node.input[2])], (beta - mean * factor).astype(np.float32))
    name, source, bias, kind = node.name, node.input[0], node.input[2], node.attr["T"].type
    node.Clear()
    node.name, node.op = name, "BiasAdd"
    node.input.extend([source, bias])
    node.attr["T"].type = kind
    node.attr["data_format"].s = b"NHWC"


def _merge_of(
    bias: NodeDef, nodes: dict[str, NodeDef], readers: Counter[str]
) -> tuple[NodeDef, NodeDef, NodeDef] | None:
    """The convolution, the enlarged map and the other map of a merge, where they are read by nobody else."""
    if bias.op != "BiasAdd":
        return None
    conv = nodes[_name(bias.input[0])]
    joined = nodes[_name(conv.input[0])] if conv.op == "Conv2D" else conv
    if joined.op != "ConcatV2" or len(joined.input) != 3 or readers[joined.name] != 1:
        return None
    large, other = (nodes[_name(source)] for source in joined.input[:2])
    alone = readers[large.name] == readers[conv.name] == 1 and large.op in ENLARGING
    kernel = constant(nodes[_name(conv.input[1])])
    return (conv, large, other) if alone and kernel.shape[:2] == (1, 1) else None


def _divide_merge(
    bias: NodeDef, conv: NodeDef, large: NodeDef, other: NodeDef, nodes: dict[str, NodeDef], channels: int
) -> list[NodeDef]:
    """Make a merge's bias the sum of the merge's parts, and return the operations that it needs before it.

    Args:
      bias: that the convolution's output is given; keeps its name.
      conv: the convolution, which goes on with the other map alone.
      large: the enlarged map.
      other: the map that it was joined with.
      nodes: all, by name.
      channels: of the enlarged map.
    """
    kernel = nodes[_name(conv.input[1])]
    values = constant(kernel)  # (1, 1, channels of both, outputs)
    part, coarse = _renamed(kernel, f"{kernel.name}/coarse"), _renamed(conv, f"{conv.name}/coarse")
    set_constant(part, values[:, :, :channels])
    set_constant(kernel, values[:, :, channels:])
    source = _name(large.input[0])
    coarse.input[:] = [source, part.name]
    size, enlarged = _sizes(large.input[1], source, coarse.name, nodes), _renamed(large, f"{conv.name}/large")
    enlarged.input[:] = [coarse.name, size[-1].name if size else large.input[1]]
    conv.input[0] = other.name
    biased = _renamed(bias, f"{conv.name}/biased")
    bias.op = "AddV2"
    bias.input[:] = [biased.name, enlarged.name]
    del bias.attr["data_format"]
    return [part, coarse, *size, enlarged, biased]


def _sizes(name: str, source: str, instead: str, nodes: dict[str, NodeDef]) -> list[NodeDef]:
    """Copy the operations that compute a size from a map, and let them ask another map of the same size.

    OpenCV's importer wants the size to be that of the very map that is enlarged.
    """
    node = nodes[_name(name)]
    if node.op == "Const":
        return []
    copied, before = _renamed(node, f"{node.name}/coarse"), list[NodeDef]()
    for index, below in enumerate(node.input):
        if _name(below) == source:
            copied.input[index] = instead
        elif more := _sizes(below, source, instead, nodes):
            before += more
            copied.input[index] = more[-1].name
    return [*before, copied]


def _renamed(node: NodeDef, name: str) -> NodeDef:
    copied = type(node)()
    copied.CopyFrom(node)
    copied.name = name
    return copied


def _fold_factor(conv: NodeDef, nodes: dict[str, NodeDef], readers: Counter[str]) -> None:
    """conv(factor x) = conv'(x); the zeros that pad the borders stay zeros."""
    before = nodes[_name(conv.input[0])]
    if before.op != "Mul" or readers[before.name] != 1 or conv.op != "Conv2D":
        return
    factor = nodes[_name(before.input[1])]
    if factor.op != "Const":
        return
    kernel = nodes[_name(conv.input[1])]
    values = constant(kernel).astype(np.float64) * constant(factor).reshape(-1, 1)
    set_constant(kernel, values.astype(np.float32))
    conv.input[0] = before.input[0]
