"""From RGB pixels to the score and geometry maps: normalize, backbone, merge, outputs."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from efficientnet_east import backbones, scaling
from efficientnet_east.compat import Tensor, slim, tf
from efficientnet_east.east_head import east_head
from efficientnet_east.errors import UserError
from efficientnet_east.options import NORMALIZATIONS, ModelOptions


class Outputs(NamedTuple):
    """score (batch, h, w, 1) and geometry (batch, h, w, 5 or 8), see `east_head.east_head`."""

    score: Tensor
    geometry: Tensor


def normalize(images: Tensor, kind: str = "imagenet", *, by_row: bool = False) -> Tensor:
    """Bring RGB pixels in [0, 255] to what a backbone's published weights expect.

    Args:
      images: float32 or uint8 (batch, height, width, 3), RGB.
      kind: a key of `NORMALIZATIONS`.
      by_row: compute whole rows of pixels at once, of images whose height and width are known. The values are
        the same; CPUs are four times as quick at long rows as at three channels.

    Returns:
      float32 of the same shape.

    Raises:
      UserError: another kind.
    """
    if kind not in NORMALIZATIONS:
        raise UserError("normalization", f"unknown {kind!r}", f"expected one of {', '.join(NORMALIZATIONS)}")
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    mean, deviation = NORMALIZATIONS[kind]
    if by_row:
        _, height, width, _ = images.shape
        images = tf.reshape(images, [-1, int(height), int(width) * 3])
        mean, deviation = mean * int(width), deviation * int(width)
    scale = tf.constant([1.0 / d for d in deviation], tf.float32)
    normal = (tf.cast(images, tf.float32) - tf.constant(mean, tf.float32)) * scale
    return tf.reshape(normal, [-1, int(height), int(width), 3]) if by_row else normal


normalise, NORMALISATIONS = normalize, NORMALIZATIONS  # as forks of earlier versions call them


def build(
    images: Tensor,
    options: ModelOptions | None = None,
    *,
    is_training: bool | Tensor = False,
    drop_connect: float = 0.0,
    batch_norm: str = "train",
    bn_decay: float | None = None,
    frozen: str | None = None,
    recompute: bool = False,
    weight_decay: float = 0.0,
    seed: Tensor | None = None,
    precision: str = "float32",
    reuse: bool | None = None,
    **fields: Any,
) -> Outputs:
    """Build the detector's graph.

    Args:
      images: uint8 or float32 (batch, height, width, 3), RGB in [0, 255], sides multiples of 2**levels.
      options: what the network is; None for the defaults.
      is_training: batch statistics and stochastic depth on or off.
      drop_connect: stochastic depth of the backbone's last block.
      batch_norm: `train`; `frozen` keeps the backbone's moving statistics as they are; `sync`, in backbone
        and head, see `backbones.batch_norm`.
      bn_decay: of the moving statistics; None takes those that backbone and head are made with.
      frozen: the backbone is not trained up to and including this part, see `catalog.frozen_parts`.
      recompute: compute the backbone's blocks again in the backward pass, to save memory.
      weight_decay: L2 factor for all kernels.
      seed: int32 (2,) tensor for stochastic depth, or None.
      precision: `float32`, `bfloat16` or `float16`: what backbone and merge compute in. Variables, batch
        norm's statistics and the maps are float32.
      reuse: as in `tf.variable_scope`.
      **fields: fields of `ModelOptions`, such as `backbone="b4"`; they win over `options`.

    Returns:
      The score and geometry maps.

    Raises:
      UserError: an unknown backbone or option of it, or images that do not fit.
      ValueError, TypeError: an option of the head, or one that does not exist.
    """
    if "normalisation" in fields:  # as forks of earlier versions call it
        fields["normalization"] = fields.pop("normalisation")
    options = dataclasses.replace(options or ModelOptions(), **fields)
    described = backbones.get_backbone(options.backbone, pre_stride=options.pre_stride, levels=options.levels)
    check_sides(images, described.strides[-1])
    common: dict[str, Any] = {"is_training": is_training, "reuse": reuse}
    common |= {} if bn_decay is None else {"bn_decay": bn_decay}
    training = {"drop_connect": drop_connect, "batch_norm": batch_norm, "frozen": frozen}
    training |= {"recompute": recompute, "seed": seed}
    pixels = tf.cast(_normalized(images, options, described.normalization, is_training), precision)
    with slim.arg_scope(backbones.efficientnet_arg_scope(weight_decay)):
        kept = {name: getattr(options, name) for name in ("activation", "pre_stride", "levels")}
        _, end_points = backbones.build(pixels, name=options.backbone, **kept, **training, **common)
    head = _head_options(options, described.phi)
    head["batch_norm"] = "sync" if batch_norm == "sync" else "train"
    return Outputs(*east_head(end_points, weight_decay=weight_decay, **head, **common))


def _head_options(options: ModelOptions, phi: float) -> dict[str, Any]:
    """What `east_head` takes of the options; the size of BiFPN is the backbone's unless it is given."""
    width, repeats = scaling.bifpn_size(phi)
    head = {name: getattr(options, name) for name in ("merge", "output_stride", "geometry", "text_scale")}
    return head | {"width": options.fpn_width or width, "repeats": options.fpn_repeats or repeats}


def _normalized(images: Tensor, options: ModelOptions, auto: str, is_training: bool | Tensor) -> Tensor:
    """The pixels as the backbone expects them. Graphs for inference, which other runtimes read, are plain."""
    kind = auto if options.normalization == "auto" else options.normalization
    by_row = is_training is True and None not in images.shape.as_list()[1:3]
    return normalize(images, kind, by_row=by_row)


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
