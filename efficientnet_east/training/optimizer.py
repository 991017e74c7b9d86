"""Adam for fine-tuning and half precision: a rate for each variable, late starts, steps left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from efficientnet_east.backbones import replicas
from efficientnet_east.backbones.replicas import name_of
from efficientnet_east.compat import Tensor, tf


class Adam(tf.train.AdamOptimizer):
    """Adam (Kingma and Ba, ICLR 2015); names of variables are those of `tf.train.AdamOptimizer`.

    A factor of the rate does not belong on the gradient: Adam's steps do not change with its scale.

    Args:
      rate: float32 scalar.
      factor: from a variable's name to its factor of the rate.
      late: from a variable's name to whether it has not been trained since the first step.
      late_steps: float32 scalar, the number of this step counted from the one in which those began, from 1
        on: their moments, which began at 0 there, are corrected by it.
      live: bool scalar; where it is False, weights and moments stay as they are. The gradients have to be
        finite all the same. None for True.
    """

    _lr_t: Any
    _beta1_t: Any
    _beta2_t: Any

    def __init__(
        self,
        rate: Tensor,
        *,
        factor: Callable[[str], float] = lambda name: 1.0,
        late: Callable[[str], bool] = lambda name: False,
        late_steps: Tensor | None = None,
        live: Tensor | None = None,
    ) -> None:
        super().__init__(rate)
        self._factor, self._late, self._live = factor, late, live
        if late_steps is not None:
            self._late_powers = tf.pow(self._beta1, late_steps), tf.pow(self._beta2, late_steps)
        self._powers: Sequence[Tensor] = ()  # of the variable at hand, if they are not those of all

    def _prepare(self) -> None:
        super()._prepare()
        if self._live is not None:
            self._lr_t *= tf.cast(self._live, tf.float32)
            self._beta1_t, self._beta2_t = (
                tf.where(self._live, beta, 1.0) for beta in (self._beta1_t, self._beta2_t)
            )

    def _apply_dense(self, grad: Tensor, var: Any) -> Any:
        return self._apply(super()._apply_dense, grad, var)

    def _resource_apply_dense(self, grad: Tensor, var: Any) -> Any:
        return self._apply(super()._resource_apply_dense, grad, var)

    def _apply(self, apply: Callable[[Tensor, Any], Any], grad: Tensor, var: Any) -> Any:
        name, of_all = name_of(var), self._lr_t
        factor = self._factor(name)
        self._lr_t = of_all if factor == 1.0 else of_all * factor
        self._powers = self._late_powers if self._late(name) else ()
        try:
            return apply(grad, var)
        finally:
            self._lr_t, self._powers = of_all, ()

    def _get_beta_accumulators(self) -> Sequence[Any]:
        return self._powers or super()._get_beta_accumulators()


def decay(updated: Any, amount: Tensor, factor: Callable[[str], float]) -> Any:
    """Build AdamW's decay (Loshchilov and Hutter 2019), on kernels alone, after the gradient step.

    Args:
      updated: the operation of the gradient step.
      amount: float32 scalar, the share of a kernel that is taken off.
      factor: from a variable's name to its factor of that, the same as of the rate.

    Returns:
      The operation of both.
    """
    with tf.control_dependencies([updated]):
        shares = [(replicas.local(v), amount * factor(name_of(v))) for v in kernels()]
        return tf.group(*(kernel.assign_sub(share * kernel.read_value()) for kernel, share in shares))


def kernels() -> list[Any]:
    """List the graph's trained variables that decay shrinks: kernels of convolutions."""
    return [v for v in tf.trainable_variables() if name_of(v).endswith("weights")]
