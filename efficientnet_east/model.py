"""From RGB pixels to the score and geometry maps: normalise, backbone, merge, outputs."""

from __future__ import annotations

from typing import Any, NamedTuple

from efficientnet_east import backbones, scaling
from efficientnet_east.compat import slim, tf
from efficientnet_east.east_head import east_head
from efficientnet_east.errors import UserError

Tensor = Any

# Mean and deviation of RGB pixels in [0, 255] that published weights were trained with, by their family:
# `imagenet` the EfficientNets and MnasNet, `lite` the lite variants, `advprop` weights of adversarial
# training (Xie et al. 2020), `vgg` slim's ResNet, which takes off the mean colour only.
NORMALISATIONS = {
    "imagenet": ((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
    "lite": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    "advprop": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "vgg": ((123.68, 116.78, 103.94), (1.0, 1.0, 1.0)),
}


class Outputs(NamedTuple):
    """score (batch, h, w, 1) and geometry (batch, h, w, 5 or 8), see `east_head.east_head`."""

    score: Tensor
    geometry: Tensor


def normalise(images: Tensor, kind: str = "imagenet", *, by_row: bool = False) -> Tensor:
    """Bring RGB pixels in [0, 255] to what a backbone's published weights expect.

    Args:
      images: float32 or uint8 (batch, height, width, 3), RGB.
      kind: a key of `NORMALISATIONS`.
      by_row: compute whole rows of pixels at once, of images whose height and width are known. The values are
        the same; CPUs are four times as quick at long rows as at three channels.

    Returns:
      float32 of the same shape.

    Raises:
      UserError: another kind.
    """
    if kind not in NORMALISATIONS:
        raise UserError("normalisation", f"unknown {kind!r}", f"expected one of {', '.join(NORMALISATIONS)}")
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    mean, deviation = NORMALISATIONS[kind]
    if by_row:
        _, height, width, _ = images.shape
        images = tf.reshape(images, [-1, int(height), int(width) * 3])
        mean, deviation = mean * int(width), deviation * int(width)
    scale = tf.constant([1.0 / d for d in deviation], tf.float32)
    normal = (tf.cast(images, tf.float32) - tf.constant(mean, tf.float32)) * scale
    return tf.reshape(normal, [-1, int(height), int(width), 3]) if by_row else normal


def build(
    images: Tensor,
    *,
    backbone: str = "b0",
    activation: str = "relu",
    normalisation: str = "auto",
    pre_stride: str = "block",
    is_training: bool | Tensor = False,
    output_stride: int = 4,
    geometry: str = "rbox",
    text_scale: float = 512.0,
    merge: str = "u",
    levels: int = 5,
    fpn_width: int = 0,
    fpn_repeats: int = 0,
    drop_connect: float = 0.0,
    batch_norm: str = "train",
    bn_decay: float | None = None,
    frozen: str | None = None,
    recompute: bool = False,
    weight_decay: float = 0.0,
    seed: Tensor | None = None,
    precision: str = "float32",
    reuse: bool | None = None,
) -> Outputs:
    """Build the detector's graph.

    Args:
      images: uint8 or float32 (batch, height, width, 3), RGB in [0, 255], sides multiples of
        2**levels.
      backbone: see `catalogue.get_backbone`.
      activation: of the backbone; the head uses ReLU.
      normalisation: a key of `NORMALISATIONS`; `auto` takes that of the backbone's published weights.
      pre_stride: which of the backbone's maps are merged, see `scaling.features`.
      is_training: batch statistics and stochastic depth on or off.
      output_stride: 4 or 2.
      geometry: "rbox" or "quad".
      text_scale: see `east_head.east_head`.
      merge: how the maps are merged, a key of `east_head.MERGES`.
      levels: the coarsest map is f<levels>, of stride 2**levels; more than 5 are of use to BiFPN only.
      fpn_width: channels of BiFPN's maps; 0 takes what EfficientDet has for the backbone's size.
      fpn_repeats: number of BiFPN's cells; 0 as before.
      drop_connect: stochastic depth of the backbone's last block.
      batch_norm: `train`; `frozen` keeps the backbone's moving statistics as they are; `sync`, in backbone
        and head, see `backbones.batch_norm`.
      bn_decay: of the moving statistics; None takes those that backbone and head are made with.
      frozen: the backbone is not trained up to and including this part, see `scaling.frozen_blocks`.
      recompute: compute the backbone's blocks again in the backward pass, to save memory.
      weight_decay: L2 factor for all kernels.
      seed: int32 (2,) tensor for stochastic depth, or None.
      precision: `float32`, `bfloat16` or `float16`: what backbone and merge compute in. Variables, batch
        norm's statistics and the maps are float32.
      reuse: as in `tf.variable_scope`.

    Returns:
      The score and geometry maps.

    Raises:
      UserError: an unknown backbone or option of it, or images that do not fit.
      ValueError: an option of the head, see `east_head.east_head`.
    """
    described = backbones.get_backbone(backbone, pre_stride=pre_stride, levels=levels)
    check_sides(images, described.strides[-1])
    kind = described.normalisation if normalisation == "auto" else normalisation
    width, repeats = scaling.bifpn_size(described.phi)
    decay: dict[str, Any] = {} if bn_decay is None else {"bn_decay": bn_decay}
    # Graphs for inference, which other runtimes read, have the plain form.
    by_row = is_training is True and None not in images.shape.as_list()[1:3]
    with slim.arg_scope(backbones.efficientnet_arg_scope(weight_decay)):
        _, end_points = backbones.build(
            tf.cast(normalise(images, kind, by_row=by_row), precision),
            name=backbone,
            activation=activation,
            pre_stride=pre_stride,
            levels=levels,
            is_training=is_training,
            drop_connect=drop_connect,
            batch_norm=batch_norm,
            frozen=frozen,
            recompute=recompute,
            seed=seed,
            reuse=reuse,
            **decay,
        )
    return Outputs(
        *east_head(
            end_points,
            merge=merge,
            width=fpn_width or width,
            repeats=fpn_repeats or repeats,
            is_training=is_training,
            output_stride=output_stride,
            geometry=geometry,
            text_scale=text_scale,
            weight_decay=weight_decay,
            batch_norm="sync" if batch_norm == "sync" else "train",
            reuse=reuse,
            **decay,
        )
    )


def check_sides(images: Tensor, divisor: int = 32) -> None:
    """Refuse what is no RGB image, or has maps that would not meet; sizes unknown so far are let through.

    Args:
      images: (batch, height, width, 3).
      divisor: the stride of the coarsest map.

    Raises:
      UserError: the shape or dtype is another, or a side is known and no multiple of the divisor.
    """
    backbones.check_images(images, ("uint8", "float32"))
    sides = images.shape.as_list()[1:3]
    if any(side is not None and side % divisor for side in sides):
        problem = f"are {sides[0]} x {sides[1]} pixels"
        raise UserError("images", problem, f"expected sides that are multiples of {divisor}: pad them")
