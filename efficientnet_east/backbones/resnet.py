"""ResNet-50 v1 of `tf_slim.nets`, behind the interface of the EfficientNets: the baseline to compare with.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. Names and padding are those of slim, so
that its `resnet_v1_50.ckpt` fits.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from efficientnet_east.backbones import catalog
from efficientnet_east.backbones.arg_scopes import REGULARIZERS, isolated
from efficientnet_east.backbones.batch_norm import batch_norm_options
from efficientnet_east.backbones.families import resnet50 as numbers
from efficientnet_east.backbones.feature_maps import named_maps
from efficientnet_east.backbones.precision import float32_variables
from efficientnet_east.backbones.recompute import recomputed
from efficientnet_east.compat import Tensor, slim, tf

BN_DECAY, BN_EPSILON = 0.997, 1e-5  # slim's, with which its weights were trained


def resnet50(
    images: Tensor,
    *,
    is_training: bool | Tensor = True,
    activation: str = "relu",
    num_classes: int | None = None,
    pre_stride: str = "block",
    levels: int = 5,
    drop_connect: float = 0.0,
    batch_norm: str = "train",
    bn_decay: float = BN_DECAY,
    frozen: str | None = None,
    recompute: bool = False,
    seed: Tensor | None = None,
    reuse: bool | None = None,
    scope: str = numbers.SCOPE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Build ResNet-50 v1.

    Args:
      images: float32 (batch, height, width, 3), RGB minus the mean color (normalization `vgg`); in half
        precision as in `efficientnets.efficientnet`.
      is_training: whether batch norm uses the batch's statistics.
      activation: `relu` only.
      num_classes: None ends with the last map; a number adds pooling and a classifier.
      pre_stride: `block` only.
      levels: 5, or 6 or 7 to pool `f6` and `f7` from `f5`.
      drop_connect: unused; this network was made without.
      batch_norm: `train`, `frozen` or `sync`, see `batch_norm.batch_norm_options`.
      bn_decay: of the moving statistics.
      frozen: everything up to and including this part is not trained: `conv1`, or `block1` to `block4`.
      recompute: let the backward pass compute each unit again instead of keeping what is inside of it.
      seed: unused.
      reuse: as in `tf.variable_scope`.
      scope: the variable scope.

    Returns:
      `net`, the last map (or the logits), and `end_points`: the maps that the well-known ResNet-50 EAST
      merges under `f1` (`conv1`), `f2` (`pool1`), `f3` (`block1`), `f4` (`block2`) and `f5` (`block4`), the
      same under `pool1` ... `pool5`, and every unit, such as `block1/unit_1`.

    Raises:
      UserError: an option that this network does not have.
    """
    del drop_connect, seed
    catalog.check_activation(numbers.NAME, activation)
    still = -1 if frozen is None else numbers.frozen_rows(frozen)
    options: dict[str, Any] = {"is_training": is_training, "batch_norm": batch_norm, "bn_decay": bn_decay}
    found = catalog.get_backbone(numbers.NAME, pre_stride=pre_stride).features
    with (
        tf.variable_scope(scope, reuse=reuse, custom_getter=float32_variables),
        isolated(REGULARIZERS),
    ):
        net, end_points = _trunk(images, still, recompute and is_training is not False, **options)
        end_points |= named_maps(end_points, found, levels)
        if num_classes is None:
            return net, end_points
        pooled = tf.reduce_mean(tf.cast(net, tf.float32), [1, 2], keepdims=True)
        # A convolution of one cell, as in slim's own.
        logits = tf.squeeze(slim.conv2d(pooled, num_classes, 1, activation_fn=None, scope="logits"), [1, 2])
        return logits, end_points | {"logits": logits}


def _trunk(images: Tensor, still: int, recompute: bool, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The last map, and all maps by their names. Of the rows, the first `still` are not trained."""
    with _arg_scope(**options, trainable=still < 0):
        net = slim.nets.resnet_utils.conv2d_same(images, numbers.STEM, 7, stride=2, scope="conv1")
    end_points = {"conv1": net}
    net = end_points["pool1"] = slim.max_pool2d(net, 3, stride=2, padding="SAME", scope="pool1")
    for number, row in enumerate(numbers.ROWS, start=1):
        part = {**options, "trainable": number > still}
        for unit in range(1, row.units + 1):
            build: Callable[..., list[Tensor]] = functools.partial(_unit, row=row, unit=unit, **part)
            net = recomputed(build, net)[0] if recompute and part["trainable"] else build(net)[0]
            end_points[f"{row.name}/unit_{unit}"] = net
        end_points[row.name] = net
    return net, end_points


def _unit(net: Tensor, *, row: numbers.Row, unit: int, again: bool = False, **options: Any) -> list[Tensor]:
    """One bottleneck unit, of which the last of a block takes the stride."""
    stride = row.stride if unit == row.units else 1
    with (
        tf.variable_scope(row.name, custom_getter=float32_variables),
        tf.variable_scope(f"unit_{unit}"),
        slim.arg_scope({}) if again else contextlib.nullcontext(),
        _arg_scope(**options, again=again),
    ):
        return [slim.nets.resnet_v1.bottleneck(net, row.outputs, row.channels, stride)]


def _arg_scope(
    *, is_training: bool | Tensor, batch_norm: str, bn_decay: float, trainable: bool, again: bool = False
) -> Any:
    """What `resnet_utils.resnet_arg_scope` sets, but for the weight decay, which is the caller's."""
    normalized = batch_norm_options(
        batch_norm, is_training=is_training, decay=bn_decay, epsilon=BN_EPSILON, trainable=trainable
    )
    if again:
        normalized["normalizer_params"]["updates_collections"] = "recomputed_updates"
    return slim.arg_scope(
        [slim.conv2d],
        weights_initializer=slim.variance_scaling_initializer(),
        activation_fn=tf.nn.relu,
        padding="SAME",
        trainable=trainable,
        **normalized,
    )
