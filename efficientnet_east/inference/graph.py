"""The TensorFlow runtime of a detector: the inference graph with a checkpoint's averaged weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from efficientnet_east import model
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.config import Config
from efficientnet_east.inference import calibration
from efficientnet_east.inference.runtimes.runtime import Run
from efficientnet_east.system.limits import available_threads

INPUT_NAME = "input_images"


def load_session(prefix: str, config: Config) -> tuple[Any, Any, model.Outputs]:
    """Build the inference graph in a graph and session of its own, and load a checkpoint into it.

    Args:
      prefix: of the checkpoint.
      config: its sections `model` and `train.threads` are read, and the calibration of `detect`, which is
        folded into the weights.

    Returns:
      The session, to be closed by the caller; the placeholder, float32 (batch, height, width, 3), RGB in
      [0, 255]; and the maps.

    Raises:
      UserError: the checkpoint is damaged or of another architecture.
    """
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3], name=INPUT_NAME)
        outputs = model.build(images, **config.model.model_dump(), is_training=False)
        variables = tf.global_variables()
        session = tf.Session(graph=graph, config=session_config(config.train.threads))
        weights = tf_checkpoints.averaged(tf_checkpoints.read(prefix))
        weights = calibration.fold(weights, config.detect.score_scale, config.detect.score_offset)
        tf_checkpoints.check_fit(prefix, weights, variables)
        tf_checkpoints.assign(session, weights, variables)
    return session, images, outputs


def load_graph(prefix: str, config: Config) -> Run:
    """Make a runtime of a checkpoint, see `load_session`.

    Args:
      prefix: of the checkpoint.
      config: its sections `model` and `train.threads` are read.

    Returns:
      A runtime, see `runtimes.runtime.Run` and `refuse_after_fork`; it keeps its session until it is dropped.

    Raises:
      UserError: the checkpoint is damaged or of another architecture.
    """
    session, images, outputs = load_session(prefix, config)

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        score, geometry = session.run(outputs, {images: batch})
        return score, geometry

    return refuse_after_fork(run)


def refuse_after_fork(run: Run) -> Run:
    """Raise an error in a forked process, where a session would wait for ever for threads that it lacks.

    Args:
      run: what runs a session.

    Returns:
      The same for the process that calls this function; RuntimeError in others.
    """
    home = os.getpid()

    def checked(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if os.getpid() != home:
            raise RuntimeError(
                "TensorFlow does not work in a forked process. Load the detector in the process that uses it."
            )
        return run(batch)

    return checked


def session_config(threads: int) -> tf.ConfigProto:
    """A session's configuration.

    Args:
      threads: for one operation, and for operations side by side; 0 takes as many as this process may use.

    Returns:
      The configuration; GPUs take memory as they need it.
    """
    threads = threads or available_threads()
    config = tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    config.gpu_options.allow_growth = True
    return config


def freeze(session: Any, outputs: Sequence[str]) -> tf.GraphDef:
    """Turn a session's graph into one without variables, for runtimes that know constants only.

    What follows from variables alone, such as the shares of BiFPN's fusions, is computed here and becomes a
    constant, too: OpenCV's importer does not compute, and takes constant factors only.

    Args:
      session: of the graph, its variables loaded.
      outputs: names of the operations to keep; what they do not need is left out.

    Returns:
      The graph; operations keep their names.
    """
    frozen = tf.graph_util.convert_variables_to_constants(
        session, session.graph.as_graph_def(), list(outputs)
    )
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as own:
        tf.import_graph_def(frozen, name="")
        values = own.run(_computed_constants(graph))
    for node in frozen.node:
        if node.name in values:
            node.CopyFrom(tf.NodeDef(name=node.name, op="Const"))
            node.attr["dtype"].type = tf.as_dtype(values[node.name].dtype).as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values[node.name]))
    return tf.graph_util.extract_sub_graph(frozen, list(outputs))


def _computed_constants(graph: Any) -> dict[str, Any]:
    """Name -> tensor, for operations that read constants only and are read by others."""
    constant: set[Any] = set()
    read: dict[str, Any] = {}
    for op in graph.get_operations():  # an operation comes after those that it reads
        sources = [tensor.op for tensor in op.inputs]
        computed = sources and constant.issuperset(sources) and len(op.outputs) == 1
        if op.type == "Const" or (computed and not op.op_def.is_stateful):  # a random draw is stateful
            constant.add(op)
        else:
            read |= {source.name: source.outputs[0] for source in sources if source in constant}
    return {name: tensor for name, tensor in read.items() if tensor.op.type != "Const"}
