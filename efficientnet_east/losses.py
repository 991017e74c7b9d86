"""EAST's losses: dice or balanced cross-entropy on the score, -log IoU and angle on RBOX, corners on QUAD.

Zhou et al. 2017, section 3.4. Unlike some public versions the geometry terms are averaged over the positive
cells, so that they do not grow with the share of text in a crop.

Sums over the batch are sums over all replicas of a `tf.distribute` strategy: each has the whole batch's loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from efficientnet_east.backbones import replicas
from efficientnet_east.compat import Tensor, tf
from efficientnet_east.geometry.label_maps import CHANNELS

# In cells. Keeps the dice loss defined without text, and its slope against false alarms there worth having.
DICE_SMOOTHING = 100.0
# Background cells that cross-entropy looks at, for each text cell: those with the highest scores (Shrivastava
# et al. 2016). In a batch with next to no text there are at least so many for each image.
MINED_RATIO, LEAST_MINED = 3.0, 128.0
# Halvings of the interval in which the score of the last mined cell is looked for, and its lower end.
_HALVINGS, _LEAST_SCORE = 16, 1e-6


def dice_loss(score: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """One minus the (smoothed) dice coefficient over the whole batch (Milletari et al. 2016).

    Args:
      score: float32 (batch, h, w, 1) in [0, 1], predicted.
      truth: the same shape, 1 on text.
      mask: the same shape, 0 where nothing is to be learned.

    Returns:
      A scalar in [0, 1). In a batch without text it is the smoothed share of false alarms.
    """
    overlap, total = replicas.sums_over(
        tf.reduce_sum(score * truth * mask), tf.reduce_sum(score * mask) + tf.reduce_sum(truth * mask)
    )
    return 1.0 - (2.0 * overlap + DICE_SMOOTHING) / (total + DICE_SMOOTHING)


def balanced_cross_entropy(score: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy in which text and background weigh the same (Zhou et al. 2017, equation 4).

    Args:
      score: float32 (batch, h, w, 1) in [0, 1], predicted.
      truth: the same shape, 1 on text.
      mask: the same shape, 0 where nothing is to be learned.

    Returns:
      A scalar; in a batch without text the mean over the background.
    """
    score = tf.clip_by_value(score, 1e-6, 1.0 - 1e-6)
    positive, negative = truth * mask, (1.0 - truth) * mask
    on_text = _mean(-tf.log(score), positive)
    on_background = _mean(-tf.log(1.0 - score), negative)
    return 0.5 * (on_text + on_background)


def mined_cross_entropy(score: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy over the text and the background cells that look most like text.

    The hardest background cells are those above a score that is found by bisection: counting is cheap on
    every device, and the counts of replicas can be added, where sorting would need all scores in one place.

    Args:
      score: float32 (batch, h, w, 1) in [0, 1], predicted.
      truth: the same shape, 1 on text.
      mask: the same shape, 0 where nothing is to be learned; on text what a cell weighs.

    Returns:
      A scalar: the mean over the text's weight and the mined cells together.
    """
    score = tf.clip_by_value(score, _LEAST_SCORE, 1.0 - _LEAST_SCORE)
    positive, negative = truth * mask, (1.0 - truth) * mask
    images = tf.cast(tf.shape(score)[0], tf.float32)
    weight, images = replicas.sums_over(tf.reduce_sum(positive), images)
    count = tf.stop_gradient(tf.maximum(MINED_RATIO * weight, LEAST_MINED * images))
    hard = negative * tf.cast(score >= _score_of_hardest(score, negative, count), tf.float32)
    terms = -positive * tf.log(score) - hard * tf.log(1.0 - score)
    total, mined = replicas.sums_over(tf.reduce_sum(terms), tf.reduce_sum(hard))
    return total / tf.maximum(weight + mined, 1.0)


def _score_of_hardest(score: Tensor, negative: Tensor, count: Tensor) -> Tensor:
    """The score above which about so many background cells lie; below all of them if there are fewer."""
    score, high = tf.stop_gradient(score), tf.constant(0.0)
    low = tf.constant(math.log(_LEAST_SCORE))  # of the logarithm, in which scores near 0 differ, too
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        above = tf.reduce_sum(negative * tf.cast(score >= tf.exp(middle), tf.float32))
        too_many = replicas.sums_over(above)[0] > count
        low, high = tf.where(too_many, middle, low), tf.where(too_many, high, middle)
    return tf.exp(low) * (1.0 - 1e-6)


def dice_and_cross_entropy(score: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Dice, which sees a batch as a whole, plus cross-entropy, which does not rest where dice saturates.

    The slope of dice at a cell is proportional to s(1 - s): a false alarm of score .98 hardly teaches it.

    Args:
      score: float32 (batch, h, w, 1) in [0, 1], predicted.
      truth: the same shape, 1 on text.
      mask: the same shape, see `mined_cross_entropy`.

    Returns:
      A scalar.
    """
    return dice_loss(score, truth, mask) + mined_cross_entropy(score, truth, mask)


SCORE_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "dice": dice_loss,
    "balanced_cross_entropy": balanced_cross_entropy,
    "dice_and_cross_entropy": dice_and_cross_entropy,
}


def rbox_losses(geometry: Tensor, truth: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """-log IoU of the boxes as if they had the same angle, and 1 - cos of the angle's error.

    Args:
      geometry: float32 (batch, h, w, 5), predicted: top, right, bottom, left in pixels, angle in radians.
      truth: the same shape.
      positive: (batch, h, w, 1), 1 on the cells that count.

    Returns:
      Two scalars, each averaged over the positive cells and 0 if there are none.
    """
    top, right, bottom, left, angle = tf.split(geometry, 5, axis=3)
    true_top, true_right, true_bottom, true_left, true_angle = tf.split(truth, 5, axis=3)
    height = tf.minimum(top, true_top) + tf.minimum(bottom, true_bottom)
    width = tf.minimum(left, true_left) + tf.minimum(right, true_right)
    intersection = height * width
    union = (
        (top + bottom) * (left + right) + (true_top + true_bottom) * (true_left + true_right) - intersection
    )
    # One square pixel on both sides keeps the logarithm finite where a box is empty.
    iou = _mean(tf.log(union + 1.0) - tf.log(intersection + 1.0), positive)
    return iou, _mean(1.0 - tf.cos(angle - true_angle), positive)


def quad_loss(offsets: Tensor, truth: Tensor, positive: Tensor) -> Tensor:
    """Smoothed L1 of the corners in the order that fits best, relative to the text's size (equation 9).

    The sum over the eight offsets is divided by eight and by the shortest side of the true quad. Without that
    a text would count with its size: an error of a tenth of its height, which costs a large and a small text
    as much of their IoU, would cost in pixels what the height is, and long texts have most cells besides.

    Args:
      offsets: float32 (batch, h, w, 8), predicted: x and y of four corners, in pixels from the cell's pixel.
      truth: the same shape; clockwise, from any corner.
      positive: (batch, h, w, 1), 1 on the cells that count.

    Returns:
      A scalar, averaged over the positive cells and 0 if there are none.
    """
    orders = [tf.concat([truth[..., start:], truth[..., :start]], 3) for start in (0, 2, 4, 6)]
    errors = [tf.reduce_sum(_smoothed_l1(offsets - order), 3, keepdims=True) for order in orders]
    sides = tf.square(orders[1] - truth)  # (batch, h, w, 8): each corner less the one before it
    shortest = tf.reduce_min(sides[..., ::2] + sides[..., 1::2], 3, keepdims=True)
    # At least a pixel: by a side of no length nothing could be divided.
    size = tf.sqrt(tf.maximum(shortest, 1.0))
    return _mean(tf.reduce_min(tf.stack(errors), 0) / (8.0 * size), positive)


def _smoothed_l1(error: Tensor) -> Tensor:
    """Half the square up to one pixel, a straight line beyond (Girshick 2015)."""
    error = tf.abs(error)
    bent = tf.minimum(error, 1.0)
    return bent * (error - 0.5 * bent)


def geometry_losses(
    geometry: Tensor,
    truth: Tensor,
    positive: Tensor,
    *,
    iou_weight: float = 1.0,
    angle_weight: float = 10.0,
    quad_weight: float = 1.0,
) -> tuple[dict[str, Tensor], Tensor]:
    """Compute the losses of the form that a map is in, see `geometry.label_maps`.

    Args:
      geometry: float32 (batch, h, w, 5 or 8), predicted.
      truth: the same shape.
      positive: (batch, h, w, 1), 1 on the cells that count.
      iou_weight: of -log IoU.
      angle_weight: of the angle loss.
      quad_weight: of the loss of the corners.

    Returns:
      The unweighted terms, `iou` and `angle` or `quad`, and their weighted sum.
    """
    if geometry.shape[3] == CHANNELS["quad"]:
        quad = quad_loss(geometry, truth, positive)
        return {"quad": quad}, quad_weight * quad
    iou, angle = rbox_losses(geometry, truth, positive)
    return {"iou": iou, "angle": angle}, iou_weight * iou + angle_weight * angle


def east_losses(
    score: Tensor,
    geometry: Tensor,
    true_score: Tensor,
    true_geometry: Tensor,
    mask: Tensor,
    *,
    score_loss: str = "dice",
    score_weight: float = 1.0,
    **geometry_weights: float,
) -> dict[str, Tensor]:
    """Combine the losses of a detector.

    Args:
      score: float32 (batch, h, w, 1), predicted.
      geometry: float32 (batch, h, w, 5 or 8), predicted.
      true_score: (batch, h, w, 1), 1 on text.
      true_geometry: of the shape of `geometry`, read where `true_score` and `mask` are 1.
      mask: (batch, h, w, 1), 0 on ignored text.
      score_loss: a key of `SCORE_LOSSES`.
      score_weight: of the score loss.
      **geometry_weights: of the geometry's terms, see `geometry_losses`.

    Returns:
      Scalars `score` and those of the geometry (unweighted), and `model`, their weighted sum.
    """
    score_term = SCORE_LOSSES[score_loss](score, true_score, mask)
    terms, weighted = geometry_losses(geometry, true_geometry, true_score * mask, **geometry_weights)
    return {"score": score_term} | terms | {"model": score_weight * score_term + weighted}


def teacher_losses(
    score: Tensor,
    geometry: Tensor,
    teacher_score: Tensor,
    teacher_geometry: Tensor,
    *,
    score_weight: float = 1.0,
    **geometry_weights: float,
) -> dict[str, Tensor]:
    """Compare a detector's maps with those of a better one, in every cell (Hinton et al. 2015).

    Labels say yes or no, and nothing where a text is ignored. A teacher says how sure one can be, everywhere.

    Args:
      score: float32 (batch, h, w, 1), predicted.
      geometry: float32 (batch, h, w, 5 or 8), predicted.
      teacher_score: of the shape of `score`, in [0, 1].
      teacher_geometry: of the shape of `geometry`; it counts where `teacher_score` is above a half, and as
        much as that score.
      score_weight: of the score's term.
      **geometry_weights: of the geometry's terms, see `geometry_losses`.

    Returns:
      Scalars `score` (the Kullback-Leibler divergence, by the cells that `mined_cross_entropy` would count)
      and those of the geometry (unweighted), and `total`, their weighted sum. All are 0 if the maps agree.
    """
    score, target = (tf.clip_by_value(s, _LEAST_SCORE, 1.0 - _LEAST_SCORE) for s in (score, teacher_score))
    divergence = target * tf.log(target / score) + (1.0 - target) * tf.log((1.0 - target) / (1.0 - score))
    images = tf.cast(tf.shape(score)[0], tf.float32)
    total, text, images = replicas.sums_over(tf.reduce_sum(divergence), tf.reduce_sum(target), images)
    score_term = total / (text + tf.maximum(MINED_RATIO * text, LEAST_MINED * images))
    sure = target * tf.cast(target > 0.5, tf.float32)
    terms, weighted = geometry_losses(geometry, teacher_geometry, sure, **geometry_weights)
    return {"score": score_term} | terms | {"total": score_weight * score_term + weighted}


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean, 0 where all weights are 0."""
    total, weight = replicas.sums_over(tf.reduce_sum(values * weights), tf.reduce_sum(weights))
    return total / tf.maximum(weight, 1.0)
