"""Dynamic loss scaling, for gradients that float16 would lose (Micikevicius et al., ICLR 2018).

The loss is multiplied before the gradients are taken, and they are divided again in float32. After many good
steps the scale doubles; if a gradient overflows, the step is left out and the scale is halved.
"""

from __future__ import annotations

from typing import Any

from efficientnet_east.compat import Tensor, tf

FIRST, FLOOR, LARGEST = 2.0**15, 1.0, 2.0**24
GROWTH_STEPS = 2000  # good ones, after which the scale doubles
SCALE, GOOD_STEPS = "loss_scale", "loss_scale_good_steps"  # names of the variables


class LossScale:
    """The scale of a graph, and the number of good steps since it changed: two variables of the checkpoint.

    Attributes:
      value: float32 scalar, the scale before this step.
    """

    def __init__(self) -> None:
        self._scale = _variable(SCALE, FIRST, tf.float32)
        self._good_steps = _variable(GOOD_STEPS, 0, tf.int32)
        self.value = self._scale.read_value()

    def may_go_on(self, good: Tensor) -> Tensor:
        """Tell whether a step is good, or a lower scale may make the next one so.

        Args:
          good: bool scalar, whether all of the step's gradients are finite.

        Returns:
          A bool scalar.
        """
        return tf.logical_or(good, self.value > FLOOR)

    def update(self, good: Tensor) -> Any:
        """Build the operation that sets the scale for the next step.

        Args:
          good: bool scalar, whether all of the step's gradients are finite.

        Returns:
          The operation; it has to wait for whatever reads the scale.
        """
        steps = tf.where(good, self._good_steps.read_value() + 1, 0)
        grown = tf.minimum(2.0 * self.value, LARGEST)
        grows = steps >= GROWTH_STEPS
        scale = tf.where(good, tf.where(grows, grown, self.value), tf.maximum(0.5 * self.value, FLOOR))
        return tf.group(self._scale.assign(scale), self._good_steps.assign(tf.where(grows, 0, steps)))


def _variable(name: str, value: float, dtype: Any) -> Any:
    return tf.get_variable(
        name,
        [],
        dtype,
        tf.constant_initializer(value),
        trainable=False,
        # Every replica assigns, all of them the same value.
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
