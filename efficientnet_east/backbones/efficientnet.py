"""EfficientNet in tf-slim: stem, MBConv with squeeze-and-excite, stochastic depth.

Tan and Le, ICML 2019; constants as in the official TPU code, so that its checkpoints mean the same here:
`SAME` padding, batch norm with decay .99, epsilon 1e-3 and gamma, no biases but in squeeze-and-excite.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from efficientnet_east import scaling
from efficientnet_east.compat import slim, tf

Tensor = Any  # tf.Tensor; TensorFlow ships no types

BN_DECAY, BN_EPSILON = 0.99, 1e-3
DROP_CONNECT = 0.2  # of the last block, for every variant (the paper's .3 was a slip)


def swish(x: Tensor) -> Tensor:
    """x * sigmoid(x) from two plain operations, which every exporter and runtime knows."""
    return x * tf.sigmoid(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": tf.nn.relu, "swish": swish}


def conv_initializer(shape: Sequence[int], dtype: Any = tf.float32, partition_info: Any = None) -> Tensor:
    """Draw an untruncated normal of deviation sqrt(2 / fan_out), as the official code does.

    Args:
      shape: [kernel, kernel, in, out]; a depthwise kernel is [kernel, kernel, channels, 1], so that its
        fan-out is the kernel's area.
      dtype: of the weights.
      partition_info: unused; slim hands it over.

    Returns:
      A tensor of the shape.
    """
    del partition_info
    height, width, _, outputs = (int(n) for n in shape)
    return tf.random_normal(shape, stddev=math.sqrt(2.0 / (height * width * outputs)), dtype=dtype)


def dense_initializer(shape: Sequence[int], dtype: Any = tf.float32, partition_info: Any = None) -> Tensor:
    """Draw the classifier's weights uniformly from +-1/sqrt(classes), as the official code does.

    Args:
      shape: [in, classes].
      dtype: of the weights.
      partition_info: unused; slim hands it over.

    Returns:
      A tensor of the shape.
    """
    del partition_info
    bound = 1.0 / math.sqrt(int(shape[1]))
    return tf.random_uniform(shape, -bound, bound, dtype=dtype)


def efficientnet_arg_scope(weight_decay: float = 1e-5) -> dict:
    """Build the arg scope that holds what changes training and not the network: L2 on the kernels.

    Args:
      weight_decay: factor of half the squared norm; batch-norm parameters and biases are left alone.

    Returns:
      An arg scope for `slim.arg_scope`.
    """
    regularizer = slim.l2_regularizer(weight_decay) if weight_decay else None
    with slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d, slim.fully_connected], weights_regularizer=regularizer
    ) as scope:
        return scope


def efficientnet(
    images: Tensor,
    network: scaling.Network,
    *,
    is_training: bool | Tensor = True,
    activation: str = "relu",
    num_classes: int | None = None,
    drop_connect: float = DROP_CONNECT,
    freeze_batch_norm: bool = False,
    bn_decay: float = BN_DECAY,
    seed: Tensor | None = None,
    reuse: bool | None = None,
    scope: str = "efficientnet",
) -> tuple[Tensor, dict[str, Tensor]]:
    """Build an EfficientNet.

    Args:
      images: float32 (batch, height, width, 3), RGB, normalised by the ImageNet mean and deviation
        (`model.normalise`).
      network: the rows to walk, from `scaling.resolve`.
      is_training: whether batch norm uses the batch's statistics and blocks are dropped.
      activation: a key of `ACTIVATIONS`, used in the stem, after the expansion and the depthwise
        convolution, inside squeeze-and-excite and in the head.
      num_classes: None ends with the trunk's last map; a number adds head, pooling, dropout, classifier.
      drop_connect: stochastic depth of the last block; block i of n drops i/n of it (Huang et al. 2016).
      freeze_batch_norm: use the moving statistics in training, too.
      bn_decay: of the moving statistics.
      seed: int32 (2,) tensor from which the dropped blocks are drawn, such as [seed, step], for runs
        that can be repeated and resumed; None draws from the graph's random state.
      reuse: as in `tf.variable_scope`.
      scope: the variable scope.

    Returns:
      `net`, the last map (or the logits), and `end_points`: `f1` ... `f5`, the block outputs at strides
      2, 4, 8, 16 and 32 before the next down-sampling; the same under `pool1` ... `pool5`, the keys
      that slim EAST code reads; `stem` and every `blocks_i`.
    """
    with (
        tf.variable_scope(scope, reuse=reuse),
        _network_arg_scope(is_training, freeze_batch_norm, bn_decay, activation),
    ):
        end_points: dict[str, Tensor] = {}
        net = slim.conv2d(images, network.stem, 3, stride=2, scope="stem")
        end_points["stem"] = net
        for index, block in enumerate(network.blocks):
            rate = drop_connect * index / len(network.blocks)
            own_seed = None if seed is None else tf.add(seed, [index, 0])
            drop = functools.partial(_drop_block, rate=rate, is_training=is_training, seed=own_seed)
            net = end_points[block.name] = mbconv(net, block, ACTIVATIONS[activation], drop)
        for level, feature in enumerate(scaling.features(network), start=1):
            end_points[f"f{level}"] = end_points[f"pool{level}"] = end_points[feature.block]
        if num_classes is not None:
            net = end_points["logits"] = _classifier(net, network, num_classes, is_training)
        return net, end_points


def mbconv(
    inputs: Tensor,
    block: scaling.Block,
    activation: Callable[[Tensor], Tensor],
    drop: Callable[[Tensor], Tensor],
) -> Tensor:
    """Build one inverted bottleneck: expand, depthwise, squeeze-and-excite, project linearly, add.

    Args:
      inputs: (batch, height, width, block.inputs).
      block: the row.
      activation: for squeeze-and-excite; the convolutions take theirs from the arg scope.
      drop: applied to the residual branch.

    Returns:
      (batch, ceil(height / stride), ceil(width / stride), block.outputs).
    """
    with tf.variable_scope(block.name):
        net = inputs
        if block.expand != 1:
            net = slim.conv2d(net, block.expanded, 1, scope="expand")
        net = slim.separable_conv2d(
            net, None, block.kernel, depth_multiplier=1, stride=block.stride, scope="depthwise"
        )
        net = squeeze_excite(net, block.squeeze, activation)
        net = slim.conv2d(net, block.outputs, 1, activation_fn=None, scope="project")
        return drop(net) + inputs if block.residual else net


def squeeze_excite(inputs: Tensor, squeeze: int, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Weigh channels by a gate computed from their means (Hu et al. 2018).

    Args:
      inputs: (batch, height, width, channels).
      squeeze: channels between the two 1x1 convolutions.
      activation: between them; the gate itself is a sigmoid.

    Returns:
      A tensor of the same shape.
    """
    with (
        tf.variable_scope("se"),
        slim.arg_scope([slim.conv2d], normalizer_fn=None, biases_initializer=tf.zeros_initializer()),
    ):
        gate = tf.reduce_mean(inputs, [1, 2], keepdims=True)  # (batch, 1, 1, channels)
        gate = slim.conv2d(gate, squeeze, 1, activation_fn=activation, scope="reduce")
        gate = slim.conv2d(gate, int(inputs.shape[3]), 1, activation_fn=tf.sigmoid, scope="expand")
        return gate * inputs


def drop_connect_branch(branch: Tensor, rate: float, seed: Tensor | None = None) -> Tensor:
    """Drop a residual branch for whole samples, scaling the others up by 1 / (1 - rate).

    Args:
      branch: (batch, height, width, channels).
      rate: probability of dropping a sample's branch.
      seed: int32 (2,) tensor, or None for the graph's random state.

    Returns:
      A tensor of the same shape.
    """
    shape = [tf.shape(branch)[0], 1, 1, 1]
    if seed is None:
        noise = tf.random_uniform(shape, dtype=branch.dtype)
    else:
        noise = tf.random.stateless_uniform(shape, seed=seed, dtype=branch.dtype)
    return branch * tf.floor(noise + (1.0 - rate)) / (1.0 - rate)


def _drop_block(branch: Tensor, *, rate: float, is_training: bool | Tensor, seed: Tensor | None) -> Tensor:
    if rate == 0 or is_training is False:
        return branch
    if is_training is True:
        return drop_connect_branch(branch, rate, seed)
    return tf.cond(is_training, lambda: drop_connect_branch(branch, rate, seed), lambda: branch)


def _classifier(net: Tensor, network: scaling.Network, classes: int, is_training: bool | Tensor) -> Tensor:
    net = slim.conv2d(net, network.head, 1, scope="head")
    net = tf.reduce_mean(net, [1, 2])  # (batch, head)
    net = slim.dropout(net, 1.0 - network.variant.dropout, is_training=is_training)
    return slim.fully_connected(
        net, classes, activation_fn=None, weights_initializer=dense_initializer, scope="logits"
    )


def _network_arg_scope(
    is_training: bool | Tensor, freeze_batch_norm: bool, bn_decay: float, activation: str
) -> Any:
    """Everything that makes the function what it is, whatever arg scope the caller has around it."""
    batch_norm = {
        "is_training": False if freeze_batch_norm else is_training,
        "decay": bn_decay,
        "epsilon": BN_EPSILON,
        "center": True,
        "scale": True,
        "activation_fn": None,
    }
    return slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d],
        weights_initializer=conv_initializer,
        biases_initializer=None,
        normalizer_fn=slim.batch_norm,
        normalizer_params=batch_norm,
        activation_fn=ACTIVATIONS[activation],
        padding="SAME",
    )
