"""EAST's U-shaped merge, or another one, and its two outputs: score map and geometry map (RBOX or QUAD).

Zhou et al., "EAST: An Efficient and Accurate Scene Text Detector", CVPR 2017, sections 3.2 and 3.3.

In a graph that has not used the scope before, the outputs are the operations `feature_fusion/Conv_7/Sigmoid`
and `feature_fusion/concat_3`, as in the well-known frozen EAST graph. For QUAD, which that graph does not
know, the second has the same name and eight channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from efficientnet_east.backbones.arg_scopes import isolated
from efficientnet_east.backbones.precision import float32_variables
from efficientnet_east.bifpn import bifpn, merge_arg_scope
from efficientnet_east.compat import Tensor, slim, tf

# After joining the maps at strides 16, 8, 4 and (optionally) 2.
MERGE_CHANNELS = (128, 64, 32, 32)
FINAL_CHANNELS = 32
# The first guesses, before anything is learned: text is rare, and boxes are about 20 pixels to every side.
# The outputs' kernels start close to 0 (Lin et al. 2017, RetinaNet, section 4.1): with the backbone's
# initializer, whose deviation is 1.4 for a single output channel, the sigmoids would start saturated.
SCORE_PRIOR, DISTANCE_PRIOR = 0.05, 20.0
OUTPUT_DEVIATION = 0.01
# QUAD is linear. Its unit is text_scale over this, 64 pixels by default: in single pixels Adam, whose steps
# are about as large for every weight, would need thousands of them to reach the corners of a long text.
QUAD_UNITS = 8.0
QUAD_PRIOR = [s * DISTANCE_PRIOR for s in (-1, -1, 1, -1, 1, 1, -1, 1)]  # x and y, clockwise from top left


def east_head(
    features: Mapping[str, Tensor],
    *,
    merge: str = "u",
    width: int = 64,
    repeats: int = 3,
    is_training: bool | Tensor = True,
    output_stride: int = 4,
    geometry: str = "rbox",
    text_scale: float = 512.0,
    weight_decay: float = 1e-5,
    bn_decay: float = 0.99,
    batch_norm: str = "train",
    reuse: bool | None = None,
    scope: str = "feature_fusion",
) -> tuple[Tensor, Tensor]:
    """Merge the backbone's maps from coarse to fine and predict text from the finest.

    Args:
      features: the backbone's end points; `f5`, `f4`, `f3`, `f2` are read, and `f1` for output stride 2;
        by BiFPN also `f6` and `f7`, if they are there. Heights and widths double from each to the next, so
        the image's sides are multiples of 32, or of the coarsest map's stride. Maps in half precision are
        merged in it; the outputs are computed in float32, and all variables are float32.
      merge: a key of `MERGES`.
      width: channels of BiFPN's maps.
      repeats: number of BiFPN's cells.
      is_training: whether batch norm uses the batch's statistics.
      output_stride: 4, or 2 for twice the resolution at about twice the cost of the head.
      geometry: "rbox" or "quad", see `geometry.label_maps`.
      text_scale: the largest distance that RBOX can express, in pixels. QUAD has no such bound; an eighth of
        this is the unit that its last layer learns in.
      weight_decay: L2 factor for the kernels.
      bn_decay: of the moving statistics.
      batch_norm: `train`, `frozen` or `sync`, see `backbones.batch_norm`.
      reuse: as in `tf.variable_scope`.
      scope: the variable scope.

    Returns:
      score float32 (batch, height / output_stride, width / output_stride, 1) in (0, 1), and geometry
      (..., 5): distances to the top, right, bottom and left edge in pixels of the image, then the angle in
      radians in (-pi/4, pi/4), counter-clockwise on the screen; or (..., 8): offsets to the four corners in
      pixels of the image, x before y, clockwise, in any order of the corners that is the same all around.

    Raises:
      ValueError: another output stride or geometry, an unknown merge, or BiFPN's `repeats` or `features` too
        few.
    """
    _check_options(merge, geometry, output_stride)
    layers: Any = {"is_training": is_training, "bn_decay": bn_decay, "batch_norm": batch_norm}
    layers["weight_decay"] = weight_decay
    with (
        tf.variable_scope(scope, reuse=reuse, custom_getter=float32_variables),
        isolated(),
        merge_arg_scope(**layers),
    ):
        finest = int(math.log2(output_stride))
        net = MERGES[merge](features, finest=finest, width=width, repeats=repeats, **layers)
        net = slim.conv2d(net, FINAL_CHANNELS, 3, scope="merge_final")
        return _outputs(tf.cast(net, tf.float32), geometry, text_scale)


def _check_options(merge: str, geometry: str, output_stride: int) -> None:
    for option, value, known in (("merge", merge, MERGES), ("geometry", geometry, OUTPUTS)):
        if value not in known:
            raise ValueError(f"{option} must be one of {', '.join(known)}, received {value!r}")
    if output_stride not in (2, 4):
        raise ValueError(f"output_stride must be 2 or 4, received {output_stride}")


def _u_merge(features: Mapping[str, Tensor], *, finest: int, **_: Any) -> Tensor:
    """Walk from f5 down to f<finest>: double the resolution, join the finer map, mix.

    Channels are `MERGE_CHANNELS` and the arg scope is the head's, so BiFPN's options are not read.
    """
    net = features["f5"]
    for step, level in enumerate(range(4, finest - 1, -1)):
        channels = MERGE_CHANNELS[step]
        net = tf.concat([_unpool(net), features[f"f{level}"]], 3, name=f"merge_f{level}_concat")
        net = slim.conv2d(net, channels, 1, scope=f"merge_f{level}_1x1")
        net = slim.conv2d(net, channels, 3, scope=f"merge_f{level}_3x3")
    return net


MERGES: dict[str, Callable[..., Tensor]] = {"u": _u_merge, "bifpn": bifpn}


def _unpool(net: Tensor) -> Tensor:
    # The size is written as the input's own shape times two because OpenCV's importer knows that form only.
    # In float32 whatever the map is: TensorFlow gives no other type back.
    resized = tf.image.resize_bilinear(tf.cast(net, tf.float32), [tf.shape(net)[1] * 2, tf.shape(net)[2] * 2])
    return tf.cast(resized, net.dtype)


def _outputs(net: Tensor, geometry: str, text_scale: float) -> tuple[Tensor, Tensor]:
    with slim.arg_scope(
        [slim.conv2d],
        normalizer_fn=None,
        activation_fn=tf.sigmoid,
        weights_initializer=tf.random_normal_initializer(stddev=OUTPUT_DEVIATION),
    ):
        score = slim.conv2d(net, 1, 1, biases_initializer=_prior(SCORE_PRIOR), scope="Conv_7")
        return score, OUTPUTS[geometry](net, text_scale)


def _rbox(net: Tensor, text_scale: float) -> Tensor:
    distances = slim.conv2d(net, 4, 1, biases_initializer=_prior(DISTANCE_PRIOR / text_scale), scope="Conv_8")
    angle = slim.conv2d(net, 1, 1, biases_initializer=tf.zeros_initializer(), scope="Conv_9")
    return tf.concat([distances * text_scale, (angle - 0.5) * (0.5 * math.pi)], 3, name="concat_3")


def _quad(net: Tensor, text_scale: float) -> Tensor:
    unit = text_scale / QUAD_UNITS
    prior = tf.constant_initializer([offset / unit for offset in QUAD_PRIOR])
    offsets = slim.conv2d(net, 8, 1, activation_fn=None, biases_initializer=prior, scope="Conv_8")
    return tf.multiply(offsets, unit, name="concat_3")


OUTPUTS: dict[str, Callable[[Tensor, float], Tensor]] = {"rbox": _rbox, "quad": _quad}


def _prior(probability: float) -> Any:
    """A bias that makes the sigmoid start at this value."""
    return tf.constant_initializer(math.log(probability / (1.0 - probability)))
