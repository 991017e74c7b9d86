"""From RGB pixels to the score and geometry maps: normalise, backbone, merge, outputs."""

from __future__ import annotations

from typing import Any, NamedTuple

from efficientnet_east import backbones
from efficientnet_east.compat import slim, tf
from efficientnet_east.east_head import east_head

Tensor = Any

SIZE_DIVISOR = 32  # the coarsest map has stride 32
# ImageNet statistics of RGB pixels in [0, 255], with which the EfficientNet weights were trained.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class Outputs(NamedTuple):
    """score (batch, h, w, 1) and geometry (batch, h, w, 5 or 8), see `east_head.east_head`."""

    score: Tensor
    geometry: Tensor


def normalise(images: Tensor) -> Tensor:
    """Bring RGB pixels in [0, 255] to zero mean and unit deviation over ImageNet.

    Args:
      images: float32 or uint8 (batch, height, width, 3), RGB.

    Returns:
      float32 of the same shape.
    """
    scale = tf.constant([1.0 / d for d in DEVIATION], tf.float32)
    return (tf.cast(images, tf.float32) - tf.constant(MEAN, tf.float32)) * scale


def build(
    images: Tensor,
    *,
    backbone: str = "b0",
    activation: str = "relu",
    is_training: bool | Tensor = False,
    output_stride: int = 4,
    geometry: str = "rbox",
    text_scale: float = 512.0,
    drop_connect: float = 0.0,
    freeze_batch_norm: bool = False,
    weight_decay: float = 0.0,
    seed: Tensor | None = None,
    reuse: bool | None = None,
) -> Outputs:
    """Build the detector's graph.

    Args:
      images: uint8 or float32 (batch, height, width, 3), RGB in [0, 255], sides multiples of 32.
      backbone: see `scaling.get_variant`.
      activation: of the backbone; the head uses ReLU.
      is_training: batch statistics and stochastic depth on or off.
      output_stride: 4 or 2.
      geometry: "rbox" or "quad".
      text_scale: see `east_head.east_head`.
      drop_connect: stochastic depth of the backbone's last block.
      freeze_batch_norm: keep the backbone's moving statistics as they are.
      weight_decay: L2 factor for all kernels.
      seed: int32 (2,) tensor for stochastic depth, or None.
      reuse: as in `tf.variable_scope`.

    Returns:
      The score and geometry maps.

    Raises:
      UserError: an unknown backbone or activation.
    """
    with slim.arg_scope(backbones.efficientnet_arg_scope(weight_decay)):
        _, end_points = backbones.build(
            normalise(images),
            name=backbone,
            activation=activation,
            is_training=is_training,
            drop_connect=drop_connect,
            freeze_batch_norm=freeze_batch_norm,
            seed=seed,
            reuse=reuse,
        )
    return Outputs(
        *east_head(
            end_points,
            is_training=is_training,
            output_stride=output_stride,
            geometry=geometry,
            text_scale=text_scale,
            weight_decay=weight_decay,
            reuse=reuse,
        )
    )
