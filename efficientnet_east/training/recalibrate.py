"""New batch-norm statistics for weights that stay as they are, as a change of the activation needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from efficientnet_east import model
from efficientnet_east.backbones.batch_norm import is_statistic, reestimate
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.config import Config
from efficientnet_east.data.loader import Batch
from efficientnet_east.inference.graph import session_config


def recalibrated(
    weights: Mapping[str, np.ndarray], config: Config, batches: Iterable[Batch], count: int
) -> dict[str, np.ndarray]:
    """Estimate every batch norm's statistics, of backbone and head, on training crops.

    They are what each layer sees when every batch is normalized by itself, as in training.
    The graph and the session are this function's own.

    Args:
      weights: variable name -> array, of all model variables.
      config: its sections `model`, `data` and `train` are read.
      batches: training batches; no more than `count` are taken.
      count: number of batches, at least 1.

    Returns:
      Variable name -> array, of the moving means and variances.
    """
    size = config.data.crop_size
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, [None, size, size, 3])
        model.build(images, **config.model.model_dump(), is_training=True, bn_decay=0.0)
        variables = tf.global_variables()
        statistics = [variable for variable in variables if is_statistic(variable.op.name)]
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        with tf.Session(graph=graph, config=session_config(config.train.threads)) as session:
            tf_checkpoints.assign(session, weights, variables)
            feeds = ({images: batch.images} for batch in itertools.islice(batches, count))
            return reestimate(session, updates, statistics, feeds)
