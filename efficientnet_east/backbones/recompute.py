"""Gradients that compute a part of the network again instead of keeping its activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from efficientnet_east.compat import tf

Tensor = Any


def recomputed(build: Callable[..., Sequence[Tensor]], *inputs: Tensor) -> list[Tensor]:
    """Build a part of the graph whose inner tensors are not kept for the backward pass (Chen et al. 2016).

    The backward pass reads the part's inputs, and builds it a second time once the gradients of its outputs
    are there. Its variables are made as resource variables.

    Args:
      build: takes the inputs and `again` (False, then True for the copy), returns a list of tensors. It must
        not draw random numbers, must name its variables the same both times, and must leave moving
        statistics alone when `again` is True. It has to open every arg scope that it needs by itself.
      *inputs: floating-point tensors.

    Returns:
      The tensors that `build` returns.
    """
    scope = tf.get_variable_scope()

    @tf.custom_gradient
    def run(*inputs: Tensor) -> tuple[list[Tensor], Callable[..., Any]]:
        with tf.variable_scope(scope, use_resource=True, auxiliary_name_scope=False):
            outputs = build(*inputs, again=False)

        def gradient(*deltas: Tensor, variables: Sequence[Any] = ()) -> tuple[list[Tensor], list[Tensor]]:
            late = [_after(deltas[0], tensor) for tensor in inputs]
            with tf.variable_scope(scope, reuse=True, use_resource=True, auxiliary_name_scope=False):
                copies = build(*late, again=True)
            found = tf.gradients(copies, [*late, *variables], deltas, unconnected_gradients="zero")
            return found[: len(late)], found[len(late) :]

        return list(outputs), gradient

    return run(*inputs)


def _after(delta: Tensor, tensor: Tensor) -> Tensor:
    """The same tensor, not before `delta` is there.

    The dependence goes through the data, which no compiler may leave out: control dependencies alone would
    let XLA see two equal computations, and keep the first one's tensors after all.
    """
    first = tf.reduce_max(tf.reshape(delta, [-1])[:1])
    nothing = tf.where(tf.math.is_nan(first), math.nan, 0.0)
    return tensor + tf.cast(nothing, tensor.dtype)
