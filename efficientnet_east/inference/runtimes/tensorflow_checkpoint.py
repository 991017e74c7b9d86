"""TensorFlow on a checkpoint of train.py."""

from __future__ import annotations

from pathlib import Path

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.inference import graph
from efficientnet_east.inference.detector import config_beside
from efficientnet_east.inference.runtimes.runtime import Runtime


def load(path: Path, threads: int) -> Runtime:
    """Open a checkpoint, see `runtimes.open_runtime`; its configuration is read from the same folder.

    Args:
      path: a workdir, or a prefix.
      threads: 0 takes those of the configuration.

    Returns:
      The runtime, with the averaged weights.

    Raises:
      UserError: no checkpoint, a damaged one, or one that its configuration does not fit.
    """
    prefix = tf_checkpoints.find(path)
    config = configuration.load(str(config_beside(prefix)), {"threads": threads} if threads else None)
    network = config.model
    return Runtime(
        graph.load_graph(prefix, config), network.output_stride, network.size_divisor,
        configuration.folded(config.detect),
        "tensorflow", threads=config.train.threads,
    )  # fmt: skip
