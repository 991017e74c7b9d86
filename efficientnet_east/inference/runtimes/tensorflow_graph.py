"""TensorFlow on a frozen .pb or a SavedModel.

TensorFlow says that models are programs: an operation of a graph may read and write files. So no graph is
loaded as a whole here: it is read as data, every operation in it must be one of those that this project's
networks are made of, and it must describe itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError
from efficientnet_east.inference.graph import refuse_after_fork, session_config
from efficientnet_east.inference.runtimes import SAVED_MODEL_FILE, feed, metadata, protobuf
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.system.limits import available_threads

OPERATIONS = frozenset((
    "Add", "AddV2", "BiasAdd", "Cast", "ConcatV2", "Const", "Conv2D", "DepthwiseConv2dNative", "Identity",
    "Maximum", "MaxPool", "Mean", "Minimum", "Mul", "Pack", "Pad", "Placeholder", "RealDiv", "Relu", "Relu6",
    "ResizeBilinear", "ResizeNearestNeighbor", "Rsqrt", "Shape", "Sigmoid", "StridedSlice", "Sub",
))  # fmt: skip
_META_GRAPHS = 2  # the field of a SavedModel
_PROGRAM = "an export of this project: models are programs, and foreign ones are not run"


def load(path: Path, threads: int) -> Runtime:
    """Open a frozen .pb or the folder of a SavedModel, see `runtimes.open_runtime`.

    Args:
      path: of the file or folder.
      threads: 0 takes as many as this process may use.

    Returns:
      The runtime.

    Raises:
      UserError: the file cannot be used.
    """
    file = path / SAVED_MODEL_FILE if path.is_dir() else path
    data, described = metadata.read_file(file)
    graph_def = _parse(file, data)
    threads = threads or available_threads()
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(graph_def, name="")
            names = (described.input.name, described.score, described.geometry)
            images, *maps = (graph.get_tensor_by_name(f"{name}:0") for name in names)
        except (ValueError, KeyError) as error:
            problem = f"is no graph that can be used ({str(error).partition(chr(10))[0]})"
            raise UserError(file, problem, f"expected {_PROGRAM}") from None
    session = tf.Session(graph=graph, config=session_config(threads))

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feed.expect_size(path, batch, described.input)
        score, geometry = session.run(maps, {images: feed.to_input(batch, described.input)})
        return score, geometry

    return described.as_runtime(refuse_after_fork(run), "tensorflow", threads)


def _parse(file: Path, data: bytes) -> Any:
    """The graph, of known operations only."""
    try:
        graph_def = _meta_graph(data) if file.name == SAVED_MODEL_FILE else tf.GraphDef.FromString(data)
    except Exception as error:  # protobuf has an error class for each of its implementations
        raise UserError(file, f"is no graph ({error})", f"expected {_PROGRAM}") from None
    nodes = [*graph_def.node, *(node for inner in graph_def.library.function for node in inner.node_def)]
    unknown = sorted({node.op for node in nodes} - OPERATIONS)
    if unknown:
        problem = f"holds operations that no network here has: {', '.join(unknown[:3])}"
        raise UserError(file, problem, f"expected {_PROGRAM}")
    return graph_def


def _meta_graph(data: bytes) -> Any:
    """A SavedModel's only graph; its file is never given to TensorFlow's loader, which would run it."""
    graphs = [value for number, value in protobuf.fields(memoryview(data)) if number == _META_GRAPHS]
    if len(graphs) != 1 or isinstance(graphs[0], int):
        raise ValueError(f"it has {len(graphs)} graphs")
    return tf.MetaGraphDef.FromString(bytes(graphs[0])).graph_def
