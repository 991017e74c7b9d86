"""BiFPN, the weighted bi-directional feature pyramid, as a merge that ends on its finest level.

Tan, Pang and Le, "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020, section 3.

A cell takes a map of each level and gives one of each, first from coarse to fine and then back:

    f4_td  = [f4_in, up(f5_in)]        f3_out = [f3_in, f3_td, down(f2_out)]
    f3_td  = [f3_in, up(f4_td)]        f4_out = [f4_in, f4_td, down(f3_out)]
    f2_out = [f2_in, up(f3_td)]        f5_out = [f5_in, down(f4_out)]

where brackets are a weighted mean and then a separable convolution. The last cell ends with the finest
level's node: nothing would read the others, and so they would never learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from efficientnet_east.backbones.arg_scopes import isolated
from efficientnet_east.backbones.batch_norm import batch_norm_options
from efficientnet_east.backbones.efficientnets import conv_initializer
from efficientnet_east.backbones.precision import float32_variables, l2
from efficientnet_east.compat import Tensor, slim, tf

FUSION_EPSILON = 1e-4


def bifpn(
    features: Mapping[str, Tensor],
    *,
    finest: int,
    width: int,
    repeats: int,
    is_training: bool | Tensor = True,
    weight_decay: float = 1e-5,
    bn_decay: float = 0.99,
    batch_norm: str = "train",
    activation: Callable[[Tensor], Tensor] = tf.nn.relu,
) -> Tensor:
    """Merge maps by repeated top-down and bottom-up passes, and return the finest.

    In the first cell, a level between the finest and the coarsest has two 1x1 convolutions, one for each of
    the two nodes that read its input. Published EfficientDets have them, and they are what lets the two
    passes choose different channels of a map that is narrowed from hundreds to `width`. Later cells read
    maps that are `width` wide already and have none.

    Args:
      features: maps `f<level>` of stride 2**level. All from `finest` on that follow one another are read, so
        the coarsest is chosen by what is there; sides double exactly from each to the next finer one.
      finest: the level that is returned.
      width: channels of every level.
      repeats: number of cells, at least 1; `scaling.bifpn_size` has the published ones.
      is_training: whether batch norm uses the batch's statistics.
      weight_decay: L2 factor for the kernels; the fusion's weights are left alone.
      bn_decay: of the moving statistics.
      batch_norm: `train`, `frozen` or `sync`, see `backbones.batch_norm`.
      activation: after each node's convolution.

    Returns:
      (batch, height, width of the finest map, `width`). Variables are in the scopes `fpn_0/f4_td`, ...

    Raises:
      ValueError: no cell is asked for, or `features` has no two levels to merge.
    """
    levels = _levels(features, finest)
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, received {repeats}")
    with isolated(), merge_arg_scope(is_training, weight_decay, bn_decay, batch_norm, activation):
        maps = {level: features[f"f{level}"] for level in levels}
        for repeat in range(repeats):
            with tf.variable_scope(f"fpn_{repeat}", custom_getter=float32_variables):
                inputs = _laterals(maps, levels, width, "in") if repeat == 0 else maps
                down = _top_down(inputs, levels)
                if repeat < repeats - 1:
                    again = _laterals(maps, levels[1:-1], width, "in_again") if repeat == 0 else {}
                    maps = _bottom_up(inputs | again, down, levels)
        return down[finest]


def merge_arg_scope(
    is_training: bool | Tensor,
    weight_decay: float,
    bn_decay: float,
    batch_norm: str,
    activation: Callable[[Tensor], Tensor] = tf.nn.relu,
) -> Any:
    """Build the arg scope of a merge's convolutions.

    Args:
      is_training: whether batch norm uses the batch's statistics.
      weight_decay: L2 factor for the kernels.
      bn_decay: of the moving statistics.
      batch_norm: `train`, `frozen` or `sync`, see `backbones.batch_norm`.
      activation: after batch norm.

    Returns:
      A context in which convolutions are followed by batch norm and the activation.
    """
    normalized = batch_norm_options(batch_norm, is_training=is_training, decay=bn_decay)
    return slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d],
        weights_initializer=conv_initializer,
        weights_regularizer=l2(weight_decay),
        activation_fn=activation,
        padding="SAME",
        **normalized,
    )


def _levels(features: Mapping[str, Tensor], finest: int) -> list[int]:
    """The levels that follow one another in `features`, finest first."""
    coarsest = finest
    while f"f{coarsest + 1}" in features:
        coarsest += 1
    if f"f{finest}" not in features or coarsest == finest:
        raise ValueError(f"f{finest} and f{finest + 1} are needed, received {', '.join(features) or 'none'}")
    return list(range(finest, coarsest + 1))


def _laterals(
    maps: Mapping[int, Tensor], levels: Sequence[int], width: int, purpose: str
) -> dict[int, Tensor]:
    """The backbone's maps at the common width."""
    return {
        level: slim.conv2d(maps[level], width, 1, activation_fn=None, scope=f"f{level}_{purpose}")
        for level in levels
    }


def _top_down(inputs: Mapping[int, Tensor], levels: Sequence[int]) -> dict[int, Tensor]:
    """From the coarsest input down to the finest level's only node, which is its output, too."""
    nodes = {levels[-1]: inputs[levels[-1]]}
    for level in reversed(levels[:-1]):
        scope = f"f{level}_out" if level == levels[0] else f"f{level}_td"
        nodes[level] = _node([inputs[level], _double(nodes[level + 1])], scope)
    return nodes


def _bottom_up(
    inputs: Mapping[int, Tensor], down: Mapping[int, Tensor], levels: Sequence[int]
) -> dict[int, Tensor]:
    """From the finest output up: each level's input, its top-down node if it has one, the finer output."""
    outputs = {levels[0]: down[levels[0]]}
    for level in levels[1:]:
        middle = [] if level == levels[-1] else [down[level]]
        finer = slim.max_pool2d(outputs[level - 1], 3, stride=2, padding="SAME")
        outputs[level] = _node([inputs[level], *middle, finer], f"f{level}_out")
    return outputs


def _node(inputs: Sequence[Tensor], scope: str) -> Tensor:
    """The paper's fast normalized fusion, then a 3x3 depthwise-separable convolution."""
    with tf.variable_scope(scope):
        # Not called "weights": what ends so is a kernel, and decays.
        raw = tf.nn.relu(slim.model_variable("fusion", [len(inputs)], initializer=tf.ones_initializer()))
        shares = tf.cast(raw / (tf.reduce_sum(raw) + FUSION_EPSILON), inputs[0].dtype)
        net = inputs[0] * shares[0]
        for index, other in enumerate(inputs[1:], start=1):
            net += other * shares[index]
        return slim.separable_conv2d(net, int(net.shape[3]), 3, depth_multiplier=1, scope="conv")


def _double(net: Tensor) -> Tensor:
    """Each cell four times: the nearest neighbor, as in published EfficientDets."""
    shape = net.shape.as_list()
    if tf.get_default_graph().building_function and None not in shape:
        # XLA, which compiles exported steps, knows no gradient of the resizing.
        batch, height, width, channels = shape
        rows = tf.reshape(tf.stack([net, net], 2), [batch, 2 * height, width, channels])
        return tf.reshape(tf.stack([rows, rows], 3), [batch, 2 * height, 2 * width, channels])
    # OpenCV's importer knows only this form of the size, which is Keras' own.
    return tf.image.resize_nearest_neighbor(net, tf.shape(net)[1:3] * tf.constant([2, 2]))
