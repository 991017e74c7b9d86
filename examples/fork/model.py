"""EAST in the manner of the tf-slim forks, with an EfficientNet instead of their ResNet-50.

Zhou et al., "EAST: An Efficient and Accurate Scene Text Detector", CVPR 2017. Only the backbone comes
from this project, in the two lines that call it. The rest stands for a fork's own code.
"""

from __future__ import annotations

import math
from typing import Any

from efficientnet_east import backbones
from efficientnet_east.compat import slim, tf

Tensor = Any

# Of RGB pixels in [0, 255]. A ResNet-50 fork only subtracts the mean; these weights also need the division.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
ANGLE_WEIGHT = 10.0


def normalize(images: Tensor) -> Tensor:
    """Normalize RGB pixels in [0, 255] as the ImageNet weights expect.

    Args:
      images: float32 (batch, height, width, 3), RGB.

    Returns:
      float32 of the same shape.
    """
    return (images - tf.constant(MEAN)) * tf.constant([1.0 / deviation for deviation in DEVIATION])


def unpool(net: Tensor) -> Tensor:
    """Double height and width, bilinearly.

    Args:
      net: float32 (batch, height, width, channels).

    Returns:
      float32 (batch, 2 * height, 2 * width, channels).
    """
    return tf.image.resize_bilinear(net, [tf.shape(net)[1] * 2, tf.shape(net)[2] * 2])


def model(
    images: Tensor,
    backbone: str = "b0",
    *,
    is_training: bool = True,
    text_scale: float = 512.0,
    weight_decay: float = 1e-5,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Build the detector.

    Args:
      images: float32 (batch, height, width, 3), RGB in [0, 255], sides multiples of 32.
      backbone: what `backbones.get_backbone` knows.
      is_training: whether batch norm uses the batch's statistics and blocks are dropped.
      text_scale: the largest distance of the geometry, in pixels.
      weight_decay: L2 factor for all kernels.
      **options: of the backbone, such as `activation`, `frozen` or `seed`.

    Returns:
      score (batch, height / 4, width / 4, 1) in (0, 1), and geometry (..., 5): top, right, bottom, left in
      pixels, and the angle in (-pi/4, pi/4).
    """
    with slim.arg_scope(backbones.efficientnet_arg_scope(weight_decay)):
        _, end_points = backbones.build(normalize(images), backbone, is_training=is_training, **options)
    with (
        tf.variable_scope("feature_fusion"),
        slim.arg_scope([slim.conv2d], weights_regularizer=slim.l2_regularizer(weight_decay)),
    ):
        merged = merge([end_points[f"pool{level}"] for level in (5, 4, 3, 2)], is_training)
        with slim.arg_scope([slim.conv2d], activation_fn=tf.sigmoid):
            score = slim.conv2d(merged, 1, 1)
            distances = slim.conv2d(merged, 4, 1) * text_scale
            angle = (slim.conv2d(merged, 1, 1) - 0.5) * (0.5 * math.pi)
        return score, tf.concat([distances, angle], 3)


def merge(features: list[Tensor], is_training: bool) -> Tensor:
    """Walk from the coarsest map to the finest: double it, put the next one beside it, mix.

    Args:
      features: maps at strides 32, 16, 8, 4, with any channels.
      is_training: whether batch norm uses the batch's statistics.

    Returns:
      (batch, height / 4, width / 4, 32).
    """
    batch_norm = {"normalizer_fn": slim.batch_norm, "normalizer_params": {
        "is_training": is_training, "decay": 0.99, "epsilon": 1e-3, "scale": True}}  # fmt: skip
    with slim.arg_scope([slim.conv2d], **batch_norm):
        net = features[0]
        for skip, channels in zip(features[1:], (128, 64, 32), strict=True):
            net = tf.concat([unpool(net), skip], 3)
            net = slim.conv2d(net, channels, 1)
            net = slim.conv2d(net, channels, 3)
        return slim.conv2d(net, 32, 3)


def loss(
    true_score: Tensor, score: Tensor, true_geometry: Tensor, geometry: Tensor, training_mask: Tensor
) -> Tensor:
    """Add the dice loss of the score and, averaged over text cells, -log IoU and the angle's error.

    Args:
      true_score: float32 (batch, h, w, 1), 1 on text.
      score: the same shape, predicted.
      true_geometry: float32 (batch, h, w, 5): top, right, bottom, left, angle.
      geometry: the same shape, predicted.
      training_mask: (batch, h, w, 1), 0 on ignored text.

    Returns:
      A scalar, 0 for a perfect prediction.
    """
    text = true_score * training_mask
    seen = tf.reduce_sum(score * training_mask) + tf.reduce_sum(text)
    dice = 1.0 - (2.0 * tf.reduce_sum(score * text) + 1.0) / (seen + 1.0)

    overlap = _area(tf.minimum(geometry, true_geometry))
    union = _area(geometry) + _area(true_geometry) - overlap
    turned = 1.0 - tf.cos(geometry[..., 4] - true_geometry[..., 4])
    error = tf.log((union + 1.0) / (overlap + 1.0)) + ANGLE_WEIGHT * turned  # (batch, h, w)
    # Over all cells, as in some forks, the mean would grow with the share of text in the crop.
    return dice + tf.reduce_sum(error * text[..., 0]) / tf.maximum(tf.reduce_sum(text), 1.0)


def _area(geometry: Tensor) -> Tensor:
    top, right, bottom, left, _ = tf.unstack(geometry, axis=3)
    return (top + bottom) * (left + right)
