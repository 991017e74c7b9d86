"""The batch norm of backbones and heads: learning, frozen, or synchronized over a strategy's replicas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from efficientnet_east.backbones import replicas
from efficientnet_east.compat import Tensor, slim, tf
from efficientnet_east.errors import UserError

MODES = ("train", "frozen", "sync")


def batch_norm_options(
    mode: str, *, is_training: bool | Tensor, decay: float, epsilon: float = 1e-3, trainable: bool = True
) -> dict[str, Any]:
    """Make the options of a slim layer that put batch norm behind it.

    Args:
      mode: `train` normalizes by the statistics of the batch while training and averages them for later;
        `frozen` always normalizes by the averages and leaves them as they are; `sync` is `train` with the
        statistics of all replicas of a `tf.distribute` strategy, and outside of one the same as `train`.
      is_training: whether this is training.
      decay: of the moving statistics.
      epsilon: added to the variance.
      trainable: whether gamma and beta are; if not, the statistics are frozen, too.

    Returns:
      `normalizer_fn`, `normalizer_params` and `biases_initializer`, for a layer or an arg scope.

    Raises:
      UserError: another mode.
    """
    if mode not in MODES:
        raise UserError("batch_norm", f"unknown mode {mode!r}", f"expected one of {', '.join(MODES)}")
    frozen = mode == "frozen" or not trainable
    params = {
        "is_training": False if frozen else is_training,
        "decay": decay,
        "epsilon": epsilon,
        "center": True,
        "scale": True,
        "activation_fn": None,
        "trainable": trainable,
    }
    synchronized = mode == "sync" and not frozen and is_training is not False
    return {
        "normalizer_fn": sync_batch_norm if synchronized else slim.batch_norm,
        "normalizer_params": params,
        "biases_initializer": None,
    }


def sync_batch_norm(
    inputs: Tensor,
    *,
    is_training: bool,
    decay: float,
    epsilon: float,
    center: bool = True,
    scale: bool = True,
    activation_fn: Any = None,
    trainable: bool = True,
    updates_collections: str = tf.GraphKeys.UPDATE_OPS,
    reuse: bool | None = None,
    scope: str | None = None,
) -> Tensor:
    """Batch norm over the batches of all replicas (Peng et al., "MegDet", CVPR 2018), for NHWC maps.

    Replicas must hold equally many images. Variables and names are those of `slim.batch_norm`, and on one
    replica so are the results. Averages of the variance take the unbiased estimate, as the fused kernel's do.

    Args:
      inputs: (batch, height, width, channels), float32, or in half precision, of which the statistics are
        computed in float32.
      is_training: a Python bool; a strategy's replicas cannot meet inside of a condition.
      decay: of the moving statistics.
      epsilon: added to the variance.
      center: must be True; here for `slim`'s calling convention, like the next two.
      scale: must be True.
      activation_fn: must be None.
      trainable: whether gamma and beta are.
      updates_collections: where the updates of the moving statistics are put.
      reuse: as in `tf.variable_scope`.
      scope: the variable scope, by default `BatchNorm`.

    Returns:
      A tensor of the same shape.

    Raises:
      ValueError: an option has another value than it may have.
    """
    if not (center and scale and activation_fn is None and isinstance(is_training, bool)):
        raise ValueError("sync_batch_norm needs center, scale, no activation_fn, and is_training as a bool")
    with tf.variable_scope(scope, "BatchNorm", [inputs], reuse=reuse):
        gamma = _variable("gamma", inputs, 1.0, trainable)
        beta = _variable("beta", inputs, 0.0, trainable)
        moving_mean = _variable("moving_mean", inputs, 0.0, None)
        moving_variance = _variable("moving_variance", inputs, 1.0, None)
        if not is_training:
            mean, variance = moving_mean, moving_variance
        else:
            mean, variance, unbiased = _moments(tf.cast(inputs, tf.float32))
            for moving, new in ((moving_mean, mean), (moving_variance, unbiased)):
                update = moving.assign_sub((1.0 - decay) * (moving - new))
                tf.add_to_collection(updates_collections, update)
        normal = tf.nn.batch_normalization(tf.cast(inputs, tf.float32), mean, variance, beta, gamma, epsilon)
        return tf.cast(normal, inputs.dtype)


def _variable(leaf: str, inputs: Tensor, value: float, trainable: bool | None) -> Any:
    """A variable of one number for each channel; `trainable` None makes it a statistic."""
    statistic = trainable is None
    return tf.get_variable(
        leaf,
        [int(inputs.shape[3])],
        tf.float32,
        tf.constant_initializer(value),
        trainable=bool(trainable),
        collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.MODEL_VARIABLES],
        # Every replica assigns, all of them the same value.
        synchronization=tf.VariableSynchronization.ON_READ if statistic else tf.VariableSynchronization.AUTO,
        aggregation=tf.VariableAggregation.MEAN if statistic else tf.VariableAggregation.NONE,
    )


def _moments(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and unbiased variance of each channel, (channels,), over all replicas."""
    mean = replicas.mean_over(tf.reduce_mean(inputs, [0, 1, 2]))
    # The squares are taken around the common mean: E[x^2] - E[x]^2 would lose digits.
    variance = replicas.mean_over(tf.reduce_mean(tf.square(inputs - mean), [0, 1, 2]))
    shape = tf.shape(inputs)
    count = tf.cast(shape[0] * shape[1] * shape[2] * replicas.count(), tf.float32)
    return mean, variance, variance * count / tf.maximum(count - 1.0, 1.0)


STATISTICS = ("moving_mean", "moving_variance")


def is_statistic(name: str) -> bool:
    """Tell whether a variable of this name is a moving mean or variance."""
    return name.endswith(tuple(f"/{leaf}" for leaf in STATISTICS))


def reestimate(
    session: Any, updates: Sequence[Any], statistics: Sequence[Any], feeds: Iterable[Mapping[Any, Any]]
) -> dict[str, np.ndarray]:
    """Estimate the statistics of every batch norm over many batches, all weights standing still.

    Moving averages follow weights that move. After a change that leaves the weights as they are, such as
    another activation, plain means over some batches are exact ("precise batch norm", Wu and Johnson 2021).

    Args:
      session: of the graph; the statistics' variables are overwritten.
      updates: the update operations of a graph that was built with `is_training=True`, `bn_decay=0` and
        `drop_connect=0`, so that each run sets the variables to the statistics of its batch.
      statistics: the variables, moving means and variances.
      feeds: a feed dictionary for each batch.

    Returns:
      Variable name -> estimate, float32: for means the mean over the batches; for variances that of all their
      cells together, which is the mean of the variances and the variance of the means.

    Raises:
      ValueError: there is no batch.
    """
    values: dict[str, list[np.ndarray]] = {variable.op.name: [] for variable in statistics}
    for feed in feeds:
        session.run(updates, feed)
        for name, value in zip(values, session.run(list(statistics)), strict=True):
            values[name].append(value.astype(np.float64))
    if not values or not all(values.values()):
        raise ValueError("reestimate needs statistics and at least one batch")
    found = {}
    for name, batches in values.items():
        found[name] = np.mean(batches, axis=0)
        if name.endswith("/moving_variance"):
            found[name] = found[name] + np.var(values[name.replace("variance", "mean")], axis=0)
    return {name: value.astype(np.float32) for name, value in found.items()}
