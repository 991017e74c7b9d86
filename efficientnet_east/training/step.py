"""One training step as a pure graph function: batch in, losses, updates and averages out."""

from __future__ import annotations

import dataclasses
from typing import Any

from efficientnet_east import losses, model
from efficientnet_east.compat import tf
from efficientnet_east.config import Config, Train

Tensor = Any


@dataclasses.dataclass(frozen=True)
class Step:
    """The tensors of one step.

    Attributes:
      update: runs the step: batch-norm statistics, weights, averages, step counter.
      scalars: name -> scalar, to be logged.
      finite: bool scalar, False if the loss or a gradient is not finite.
      outputs: the predicted maps.
      global_step: int64 variable, the number of steps done.
    """

    update: Any
    scalars: dict[str, Tensor]
    finite: Tensor
    outputs: model.Outputs
    global_step: Any


def build(
    images: Tensor, score: Tensor, geometry: Tensor, mask: Tensor, learning_rate: Tensor, config: Config
) -> Step:
    """Build the step.

    Args:
      images: uint8 (batch, size, size, 3), RGB.
      score: float32 (batch, size / stride, size / stride, 1), 1 on text.
      geometry: float32 (..., 5 or 8), see `geometry.maps`.
      mask: float32 (..., 1), 0 on ignored text.
      learning_rate: float32 scalar.
      config: its sections `model` and `train` are read.

    Returns:
      The step.
    """
    train = config.train
    global_step = tf.train.get_or_create_global_step()
    decoupled = train.optimizer == "adamw"
    outputs = model.build(
        images,
        **config.model.model_dump(),
        is_training=True,
        drop_connect=train.drop_connect,
        batch_norm=train.batch_norm,
        frozen=train.frozen,
        recompute=train.recompute,
        weight_decay=0.0 if decoupled else train.weight_decay,
        seed=tf.stack([train.seed, tf.cast(global_step, tf.int32)]),
    )
    terms = losses.east_losses(
        *outputs, score, geometry, mask,
        score_loss=train.score_loss,
        score_weight=train.score_weight,
        iou_weight=train.iou_weight,
        angle_weight=train.angle_weight,
        quad_weight=train.quad_weight,
    )  # fmt: skip
    regularisers = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    total = tf.add_n([terms["model"], *regularisers])
    gradients, norm = _gradients(total, train.clip_norm)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        updated = tf.train.AdamOptimizer(learning_rate).apply_gradients(gradients, global_step)
    if decoupled:
        updated = _decay(updated, learning_rate * train.weight_decay)
    update = _average(updated, train, global_step)
    scalars = {f"loss/{name}": term for name, term in terms.items()} | {
        "loss/total": total,
        "gradient_norm": norm,
    }
    finite = tf.logical_and(tf.math.is_finite(total), tf.math.is_finite(norm))
    return Step(update, scalars, finite, outputs, global_step)


def _gradients(loss: Tensor, clip_norm: float) -> tuple[list[tuple[Tensor, Any]], Tensor]:
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss, variables)
    if clip_norm:
        gradients, norm = tf.clip_by_global_norm(gradients, clip_norm)
    else:
        norm = tf.global_norm(gradients)
    return list(zip(gradients, variables, strict=True)), norm


def _decay(updated: Any, amount: Tensor) -> Any:
    """AdamW's decay (Loshchilov and Hutter 2019), on kernels alone, after the gradient step."""
    kernels = [v for v in tf.trainable_variables() if v.op.name.endswith("weights")]
    with tf.control_dependencies([updated]):
        return tf.group(*(kernel.assign_sub(amount * kernel.read_value()) for kernel in kernels))


def _average(updated: Any, train: Train, global_step: Any) -> Any:
    """Moving averages of the weights and of the batch-norm statistics, once all updates are done."""
    if not train.ema_decay:
        return updated
    average = tf.train.ExponentialMovingAverage(train.ema_decay, num_updates=global_step)
    with tf.control_dependencies([updated]):
        return average.apply(tf.model_variables())
