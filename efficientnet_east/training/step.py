"""One training step as a pure graph function: batch in, losses, updates and averages out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from efficientnet_east import losses, model
from efficientnet_east.backbones import replicas
from efficientnet_east.backbones.batch_norm import is_statistic
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import Tensor, tf
from efficientnet_east.config import Config, Train
from efficientnet_east.training import rates, teacher
from efficientnet_east.training.loss_scale import LossScale
from efficientnet_east.training.optimizer import Adam, decay, kernels


@dataclasses.dataclass(frozen=True)
class Step:
    """The tensors of one step, which is `train.accumulate` passes: by `add`, and the last one by `update`.

    Attributes:
      add: runs a pass: batch-norm statistics, and its gradients are added up; None if a step is one pass.
      update: runs the last pass and the step: batch-norm statistics, weights, averages, step counter.
      scalars: name -> scalar, to be logged; in the run of `update` means over the passes.
      finite: bool scalar of the same run, False if a loss or a gradient of any pass is not finite. In float16
        a gradient may be so: the step is left out, unless the loss's scale is at its floor already.
      outputs: the predicted maps.
      global_step: int64 variable, the number of steps done.
    """

    add: Any | None
    update: Any
    scalars: dict[str, Tensor]
    finite: Tensor
    outputs: model.Outputs
    global_step: Any


def build(
    images: Tensor,
    score: Tensor,
    geometry: Tensor,
    mask: Tensor,
    learning_rate: Tensor,
    config: Config,
    *,
    thawed: bool = False,
) -> Step:
    """Build the step.

    Args:
      images: uint8 (batch, size, size, 3), RGB.
      score: float32 (batch, size / stride, size / stride, 1), 1 on text.
      geometry: float32 (..., 5 or 8), see `geometry.label_maps`.
      mask: float32 (..., 1), 0 on ignored text.
      learning_rate: float32 scalar.
      config: its sections `model` and `train` are read.
      thawed: build what follows the step `train.unfreeze_at`, in which nothing is frozen any more.

    Returns:
      The step.
    """
    train = config.train
    global_step = tf.train.get_or_create_global_step()
    passes = _Passes(train.accumulate, global_step)
    outputs, terms = _losses(images, (score, geometry, mask), config, passes.number, thawed)
    factor = rates.factors(config.model.backbone, train.backbone_rate, train.layer_decay)
    variables = [variable for variable in tf.trainable_variables() if factor(replicas.name_of(variable))]
    scale = LossScale() if train.precision == "float16" else None
    measured = [*_gradients(terms["total"], variables, scale), *terms.values()]
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        add, means = passes.mean(measured)
        means = replicas.means_of(means)
        gradients, norm = _clipped(means[: len(variables)], train.clip_norm)
        scalars = {f"loss/{name}": term for name, term in zip(terms, means[len(variables) :], strict=True)}
        scalars["gradient_norm"] = norm
        good = tf.math.is_finite(norm)
        options = {"factor": factor, **_late(config, thawed, global_step)}
        if scale:
            gradients = [tf.where(good, gradient, tf.zeros_like(gradient)) for gradient in gradients]
            options["live"] = good
        updated = _apply(Adam(learning_rate, **options), gradients, variables, global_step)
        updated = tf.group(updated, *_common_statistics(train.batch_norm))
    if train.optimizer == "adamw":
        rate = learning_rate * tf.cast(good, tf.float32) if scale else learning_rate
        updated = decay(updated, rate * train.weight_decay, factor)
    updated = _average(updated, train, global_step)
    if scale:
        scalars["loss_scale"] = scale.value
        updated, good = _adapt(scale, updated, good)
    finite = tf.logical_and(tf.math.is_finite(scalars["loss/total"]), good)
    return Step(add, passes.reset_after(updated), scalars, finite, outputs, global_step)


def _adapt(scale: LossScale, updated: Any, good: Tensor) -> tuple[Any, Tensor]:
    """Set the loss's scale for the next step once all else is updated; whether the run may go on, too."""
    with tf.control_dependencies([updated]):
        updated = scale.update(good)
    return updated, scale.may_go_on(good)


def _losses(
    images: Tensor, labels: Sequence[Tensor], config: Config, number: Tensor, thawed: bool
) -> tuple[model.Outputs, dict[str, Tensor]]:
    """Build the maps of a pass, and its losses by name. The gradients are those of `total`."""
    train = config.train
    outputs = model.build(
        images,
        **config.model.model_dump(),
        is_training=True,
        drop_connect=train.drop_connect,
        batch_norm=train.batch_norm,
        frozen=None if thawed else train.frozen,
        recompute=train.recompute,
        seed=tf.stack([train.seed, number]),
        precision=train.precision,
    )
    terms = losses.east_losses(
        *outputs, *labels,
        score_loss=train.score_loss,
        score_weight=train.score_weight,
        iou_weight=train.iou_weight,
        angle_weight=train.angle_weight,
        quad_weight=train.quad_weight,
    )  # fmt: skip
    l2 = 0.0 if train.optimizer == "adamw" else train.weight_decay * _l2()
    total = terms["model"] + l2
    if train.teacher:
        taught = teacher.build_losses(images, outputs, config)
        total += train.teacher_weight * taught.pop("total")
        terms |= {f"teacher_{name}": term for name, term in taught.items()}
    return outputs, terms | {"total": total}


def _gradients(loss: Tensor, variables: Sequence[Any], scale: LossScale | None) -> list[Tensor]:
    """Build the gradients of a loss, through the scaled one if there is a scale."""
    scaled = loss * scale.value if scale else loss
    gradients = tf.gradients(scaled, variables, unconnected_gradients="zero")
    return [gradient / scale.value for gradient in gradients] if scale else gradients


class _Passes:
    """What the passes of a step add up.

    The sums are local variables: they are zero between steps, when checkpoints are made, and in none of them.
    Each replica of a strategy has its own.

    Args:
      count: of the passes in a step; 1 needs no variable.
      global_step: number of steps done.
    """

    def __init__(self, count: int, global_step: Any) -> None:
        self._count = count
        self._sums: list[Any] = []
        self.number = tf.cast(global_step, tf.int32)  # of this pass, from the run's first
        if count > 1:
            self._done = _local("passes", [], tf.int32)
            self.number = self.number * count + self._done.read_value()

    def mean(self, tensors: Sequence[Tensor]) -> tuple[Any | None, list[Tensor]]:
        """Build the operation that adds tensors to their sums, and their means if this is the last pass."""
        if self._count == 1:
            return None, list(tensors)
        self._sums = [
            _local(f"sum_{number}", tensor.shape.as_list(), tensor.dtype)
            for number, tensor in enumerate(tensors)
        ]
        pairs = list(zip(self._sums, tensors, strict=True))
        with tf.control_dependencies([self.number]):  # which this pass has read before it changes
            add = tf.group(self._done.assign_add(1), *(total.assign_add(tensor) for total, tensor in pairs))
        return add, [(total.read_value() + tensor) / self._count for total, tensor in pairs]

    def reset_after(self, updated: Any) -> Any:
        """Build the operation after which the next step can begin."""
        if self._count == 1:
            return updated
        with tf.control_dependencies([updated]):
            return tf.group(*(v.assign(tf.zeros_like(v)) for v in [self._done, *self._sums]))


def _local(name: str, shape: Sequence[int], dtype: Any) -> Any:
    return tf.get_local_variable(
        f"accumulated/{name}",
        shape,
        dtype,
        tf.zeros_initializer(),
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _l2() -> Tensor:
    """Build half the square of all kernels that are trained. Slim's collection of losses is not used: a
    strategy fills it in its first replica alone.
    """
    return tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels()])


def _clipped(gradients: list[Tensor], clip_norm: float) -> tuple[list[Tensor], Tensor]:
    """Clip gradients to this global norm; return the norm that they had, too."""
    if clip_norm:
        return tf.clip_by_global_norm(gradients, clip_norm)
    return gradients, tf.global_norm(gradients)


def _late(config: Config, thawed: bool, global_step: Any) -> dict[str, Any]:
    """Make Adam's arguments about the part that was frozen up to `train.unfreeze_at`."""
    train = config.train
    if not (thawed and train.unfreeze_at):
        return {}
    steps = tf.cast(global_step + 1 - train.unfreeze_at, tf.float32)
    return {"late": rates.in_parts(config.model.backbone, train.frozen), "late_steps": steps}


def _apply(optimizer: Any, gradients: list[Tensor], variables: list[Any], global_step: Any) -> Any:
    """Let every replica move its own copies by the same gradients, and count the step."""
    options = {"skip_gradients_aggregation": True} if replicas.count() > 1 else {}
    updated = optimizer.apply_gradients(list(zip(gradients, variables, strict=True)), **options)
    with tf.control_dependencies([updated]):
        return replicas.local(global_step).assign_add(1)


def _common_statistics(batch_norm: str) -> list[Any]:
    """Let the replicas keep the mean of the statistics that each has for itself: all copies stay equal."""
    if replicas.count() == 1 or batch_norm == "sync":  # which are common already
        return []
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    moved = {update.inputs[0].name for update in updates}
    mine = [replicas.local(v) for v in tf.model_variables() if is_statistic(replicas.name_of(v))]
    mine = [variable for variable in mine if variable.handle.name in moved]  # others are frozen
    means = replicas.means_of([variable.read_value() for variable in mine])
    return [variable.assign(mean) for variable, mean in zip(mine, means, strict=True)]


def _average(updated: Any, train: Train, global_step: Any) -> Any:
    """Average the weights and the batch-norm statistics over the steps, once all updates are done."""
    if not train.ema_decay:
        return updated
    if replicas.count() > 1:
        return _average_of_copies(updated, train.ema_decay, global_step)
    average = tf.train.ExponentialMovingAverage(train.ema_decay, num_updates=global_step)
    with tf.control_dependencies([updated]):
        return average.apply(tf.model_variables())


def _average_of_copies(updated: Any, decay: float, global_step: Any) -> Any:
    """Average as `tf.train.ExponentialMovingAverage` does, which would exchange every variable again."""
    moves = []
    for variable in tf.model_variables():
        first = replicas.copies(variable)[0]
        average = tf.get_variable(
            replicas.name_of(variable) + tf_checkpoints.AVERAGE_SUFFIX,
            # Identity: both initial values can be fed, and not with the same number.
            initializer=lambda *_, value=first.initial_value, **__: tf.identity(value),
            dtype=tf.float32,
            shape=variable.shape,
            trainable=False,
        )
        moves.append((replicas.local(average), replicas.local(variable)))
    with tf.control_dependencies([updated]):
        steps = tf.cast(replicas.local(global_step).read_value(), tf.float32)
        keep = tf.minimum(decay, (1.0 + steps) / (10.0 + steps))
        return tf.group(*(a.assign_sub((a.read_value() - v.read_value()) * (1.0 - keep)) for a, v in moves))
