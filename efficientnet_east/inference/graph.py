"""The TensorFlow runtime of a detector: the inference graph with a checkpoint's averaged weights."""

from __future__ import annotations

import numpy as np

from efficientnet_east import checkpoints, model
from efficientnet_east.compat import tf
from efficientnet_east.config import Config
from efficientnet_east.inference.detector import Run, available_threads

INPUT_NAME = "input_images"


def load_graph(prefix: str, config: Config) -> Run:
    """Build the inference graph in a graph and session of its own, and load a checkpoint into it.

    Args:
      prefix: of the checkpoint.
      config: its sections `model` and `train.threads` are read.

    Returns:
      A runtime, see `detector.Run`; it keeps its session until it is dropped.

    Raises:
      UserError: the checkpoint is damaged or of another architecture.
    """
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3], name=INPUT_NAME)
        outputs = model.build(images, **config.model.model_dump(), is_training=False)
        variables = tf.global_variables()
        session = tf.Session(graph=graph, config=session_config(config.train.threads))
        weights = checkpoints.averaged(checkpoints.read(prefix))
        checkpoints.check_fit(prefix, weights, variables)
        checkpoints.assign(session, weights, variables)

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        score, geometry = session.run(outputs, {images: batch})
        return score, geometry

    return run


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
