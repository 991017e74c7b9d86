"""EfficientNet in tf-slim: stem, MBConv with squeeze-and-excite, stochastic depth.

Tan and Le, ICML 2019; constants as in the official TPU code, so that its checkpoints mean the same here:
`SAME` padding, batch norm with decay .99, epsilon 1e-3 and gamma, no biases but in squeeze-and-excite.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from efficientnet_east import scaling
from efficientnet_east.backbones import replicas
from efficientnet_east.backbones.arg_scopes import REGULARIZERS, isolated
from efficientnet_east.backbones.batch_norm import batch_norm_options
from efficientnet_east.backbones.feature_maps import named_maps
from efficientnet_east.backbones.gradients import quick_gradients
from efficientnet_east.backbones.precision import float32_variables, l2
from efficientnet_east.backbones.recompute import recomputed
from efficientnet_east.compat import Tensor, slim, tf
from efficientnet_east.errors import UserError

BN_DECAY, BN_EPSILON = 0.99, 1e-3
DROP_CONNECT = 0.2  # of the last block, for every variant (the paper's .3 was a slip)


def swish(x: Tensor) -> Tensor:
    """x * sigmoid(x) from two plain operations, which every exporter and runtime knows."""
    return x * tf.sigmoid(x)


def hard_swish(x: Tensor) -> Tensor:
    """x * relu6(x + 3) / 6 (Howard et al., MobileNetV3, 2019), which integer arithmetic can do."""
    return x * (tf.nn.relu6(x + 3.0) * (1.0 / 6.0))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "swish": swish,
    "hard-swish": hard_swish,
}


def get_activation(name: str) -> Callable[[Tensor], Tensor]:
    """Look an activation up.

    Args:
      name: a key of `ACTIVATIONS`.

    Returns:
      The function.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if name not in ACTIVATIONS:
        raise UserError("activation", f"unknown {name!r}", f"expected one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


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
    with slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d, slim.fully_connected], weights_regularizer=l2(weight_decay)
    ) as scope:
        return scope


def efficientnet(
    images: Tensor,
    network: scaling.Network,
    *,
    is_training: bool | Tensor = True,
    activation: str = "relu",
    num_classes: int | None = None,
    pre_stride: str = "block",
    levels: int = 5,
    drop_connect: float = DROP_CONNECT,
    batch_norm: str = "train",
    bn_decay: float = BN_DECAY,
    frozen: str | None = None,
    recompute: bool = False,
    seed: Tensor | None = None,
    reuse: bool | None = None,
    scope: str = "efficientnet",
) -> tuple[Tensor, dict[str, Tensor]]:
    """Build an EfficientNet.

    Args:
      images: float32 (batch, height, width, 3), RGB, normalized (`model.normalize`); of float16 or bfloat16
        all is computed, and returned, in that type, over variables of float32.
      network: the rows to walk, from `scaling.resolve`.
      is_training: whether batch norm uses the batch's statistics and blocks are dropped.
      activation: a key of `ACTIVATIONS`, used in the stem, after the expansion and the depthwise
        convolution, inside squeeze-and-excite and in the head.
      num_classes: None ends with the last map; a number adds head, pooling, dropout, classifier.
      pre_stride: which maps `f1` ... `f5` are, see `scaling.features`.
      levels: 5, or 6 or 7 to pool `f6` and `f7` (strides 64, 128) from `f5`.
      drop_connect: stochastic depth of the last block; block i of n drops i/n of it (Huang et al. 2016).
      batch_norm: `train`, `frozen` or `sync`, see `batch_norm.batch_norm_options`.
      bn_decay: of the moving statistics.
      frozen: everything up to and including this part is not trained, see `scaling.frozen_blocks`: its
        variables are not trainable, its statistics stay, none of its blocks are dropped.
      recompute: let the backward pass compute each block again instead of keeping what is inside of it.
      seed: int32 (2,) tensor from which the dropped blocks are drawn, such as [seed, step], for runs
        that can be repeated and resumed; None draws from the graph's random state.
      reuse: as in `tf.variable_scope`.
      scope: the variable scope.

    Returns:
      `net`, the last map (or the logits), and `end_points`: `f1` ... `f5` at strides 2, 4, 8, 16 and 32
      before the next down-sampling (and `f6`, `f7`); the same under `pool1` ... `pool5`, the keys that slim
      EAST code reads; `stem`, every `blocks_i`, and what lies inside of the blocks that are not recomputed:
      `blocks_i/expand` and `blocks_i/depthwise`, both activated; `head`, where there is one.

    Raises:
      UserError: an activation, a mode of batch norm or a part to freeze is unknown.
    """
    found = scaling.features(network, pre_stride)
    options: dict[str, Any] = {"is_training": is_training, "batch_norm": batch_norm, "bn_decay": bn_decay}
    options["activation"] = get_activation(activation)
    with (
        tf.variable_scope(scope, reuse=reuse, custom_getter=float32_variables),
        isolated(REGULARIZERS),
    ):
        drops: dict[str, Any] = {"drop_connect": drop_connect, "seed": seed}
        net, end_points = _trunk(images, network, found, frozen, recompute, **drops, **options)
        with _arg_scope(**options):
            if num_classes is not None or pre_stride == "expand":
                end_points["head"] = slim.conv2d(net, network.head, 1, scope="head")
            end_points |= named_maps(end_points, found, levels)
            if num_classes is None:
                return end_points["f5"], end_points
            logits = _classifier(end_points["head"], network, num_classes, is_training)
            return logits, end_points | {"logits": logits}


def _trunk(
    images: Tensor,
    network: scaling.Network,
    found: Sequence[scaling.Feature],
    frozen: str | None,
    recompute: bool,
    *,
    drop_connect: float,
    seed: Tensor | None,
    **options: Any,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Stem and blocks: the last map, and all maps by their names."""
    trained_from = 0 if frozen is None else scaling.frozen_blocks(network, frozen)
    is_training = options["is_training"]
    with _arg_scope(**options, trainable=frozen is None):
        net = slim.conv2d(images, network.stem, 3, stride=2, scope="stem")
    end_points = {"stem": net}
    for index, block in enumerate(network.blocks):
        trainable = frozen is None or index >= trained_from
        rate = drop_connect * index / len(network.blocks) if block.residual and trainable else 0.0
        drop = _drop_factors(net, rate, is_training, seed, index)
        build: Callable[..., dict[str, Tensor]] = functools.partial(
            _block, block=block, **options, trainable=trainable
        )
        if recompute and trainable and is_training is not False:
            tapped = [f.end_point for f in found if f.end_point.startswith(f"{block.name}/")]
            end_points |= _recomputed_block(build, net, drop, block, tapped)
        else:
            end_points |= build(net, drop)
        net = end_points[block.name]
    return net, end_points


def mbconv(
    inputs: Tensor, block: scaling.Block, activation: Callable[[Tensor], Tensor], drop: Tensor | None = None
) -> dict[str, Tensor]:
    """Build one inverted bottleneck: expand, depthwise, squeeze-and-excite, project linearly, add.

    Args:
      inputs: (batch, height, width, block.inputs).
      block: the row.
      activation: for squeeze-and-excite; the convolutions take theirs from the arg scope.
      drop: (batch, 1, 1, 1), a factor for each sample's residual branch; None for no factor.

    Returns:
      Under the block's name the output (batch, ceil(height / stride), ceil(width / stride), block.outputs);
      under `NAME/expand` and `NAME/depthwise` the activated maps inside.
    """
    inside = {}
    with tf.variable_scope(block.name, custom_getter=float32_variables):
        net = inputs
        if block.expand != 1:
            net = inside["expand"] = slim.conv2d(net, block.expanded, 1, scope="expand")
        net = inside["depthwise"] = slim.separable_conv2d(
            net, None, block.kernel, depth_multiplier=1, stride=block.stride, scope="depthwise"
        )
        if block.squeeze:
            net = squeeze_excite(net, block.squeeze, activation)
        net = slim.conv2d(net, block.outputs, 1, activation_fn=None, scope="project")
        if block.residual:
            net = (net if drop is None else net * tf.cast(drop, net.dtype)) + inputs
    return {f"{block.name}/{name}": tensor for name, tensor in inside.items()} | {block.name: net}


def _block(
    inputs: Tensor,
    drop: Tensor | None,
    *,
    block: scaling.Block,
    activation: Callable[[Tensor], Tensor],
    again: bool = False,
    **options: Any,
) -> dict[str, Tensor]:
    """`mbconv` in an arg scope of its own: when it is built again, another one may be around."""
    trains = options["is_training"] is not False  # else the graph may be for other runtimes: keep it plain
    quick = quick_gradients() if trains else contextlib.nullcontext()
    around = slim.arg_scope({}) if again else contextlib.nullcontext()
    with quick, around, _arg_scope(**options, activation=activation, again=again):
        return mbconv(inputs, block, activation, drop)


def _recomputed_block(
    build: Callable[..., dict[str, Tensor]],
    net: Tensor,
    drop: Tensor | None,
    block: scaling.Block,
    tapped: Sequence[str],
) -> dict[str, Tensor]:
    """The block's output, and those of its inner maps that are read outside; nothing else is kept."""
    kept = [block.name, *tapped]

    def part(net: Tensor, *drop: Tensor, again: bool) -> list[Tensor]:
        built = build(net, drop[0] if drop else None, again=again)
        return [built[name] for name in kept]

    return dict(zip(kept, recomputed(part, net, *([] if drop is None else [drop])), strict=True))


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
        # In float32 also for maps in half precision: a mean over many cells would lose digits there.
        gate = tf.reduce_mean(tf.cast(inputs, tf.float32), [1, 2], keepdims=True)  # (batch, 1, 1, channels)
        gate = slim.conv2d(gate, squeeze, 1, activation_fn=activation, scope="reduce")
        gate = slim.conv2d(gate, int(inputs.shape[3]), 1, activation_fn=tf.sigmoid, scope="expand")
        return tf.cast(gate, inputs.dtype) * inputs


def drop_factors(batch: Tensor, rate: float, seed: Tensor | None = None) -> Tensor:
    """Draw which samples' residual branch is dropped: 0, or 1 / (1 - rate) for those that are kept.

    Args:
      batch: int32 scalar, number of samples; in a strategy's replica, of its own.
      rate: probability of dropping a sample's branch.
      seed: int32 (2,) tensor, from which all replicas together draw what one would for the whole batch; or
        None for the graph's random state.

    Returns:
      float32 (batch, 1, 1, 1).
    """
    if seed is None:
        noise = tf.random_uniform([batch, 1, 1, 1])
    else:
        whole = _uniform([batch * replicas.count(), 1, 1, 1], seed)
        noise = replicas.own_rows(whole)
    return tf.floor(noise + (1.0 - rate)) / (1.0 - rate)


def _uniform(shape: Any, seed: Tensor) -> Tensor:
    """Numbers in [0, 1), the same under XLA: that draws the same bits, but makes other numbers of them."""
    seed = tf.bitwise.bitwise_and(seed, 2**31 - 1)  # from one below 0 XLA draws other bits
    bits = tf.random.stateless_uniform(shape, seed=seed, minval=None, maxval=None, dtype=tf.int32)
    return tf.cast(tf.bitwise.bitwise_and(bits, 2**23 - 1), tf.float32) / 2**23


def _drop_factors(
    net: Tensor, rate: float, is_training: bool | Tensor, seed: Tensor | None, index: int
) -> Tensor | None:
    """The factors of one block, None where nothing is ever dropped."""
    if rate == 0 or is_training is False:
        return None
    batch = tf.shape(net)[0]
    # Folded in, not added: block i + 1 must not draw under one seed what block i draws under the next.
    own = None if seed is None else tf.random.experimental.stateless_fold_in(seed, index)
    if is_training is True:
        return drop_factors(batch, rate, own)
    return tf.cond(is_training, lambda: drop_factors(batch, rate, own), lambda: tf.ones([batch, 1, 1, 1]))


def _classifier(net: Tensor, network: scaling.Network, classes: int, is_training: bool | Tensor) -> Tensor:
    net = tf.reduce_mean(tf.cast(net, tf.float32), [1, 2])  # (batch, head)
    net = slim.dropout(net, 1.0 - network.variant.dropout, is_training=is_training)
    return slim.fully_connected(
        net, classes, activation_fn=None, weights_initializer=dense_initializer, scope="logits"
    )


def _arg_scope(
    *,
    is_training: bool | Tensor,
    batch_norm: str,
    bn_decay: float,
    activation: Callable[[Tensor], Tensor],
    trainable: bool = True,
    again: bool = False,
) -> Any:
    """Everything that makes the function what it is, whatever arg scope the caller has around it."""
    normalized = batch_norm_options(
        batch_norm, is_training=is_training, decay=bn_decay, epsilon=BN_EPSILON, trainable=trainable
    )
    if again:  # the statistics have been updated the first time
        normalized["normalizer_params"]["updates_collections"] = "recomputed_updates"
    return slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d],
        weights_initializer=conv_initializer,
        activation_fn=activation,
        padding="SAME",
        trainable=trainable,
        **normalized,
    )
