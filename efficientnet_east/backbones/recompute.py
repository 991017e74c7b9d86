"""Gradients that compute a part of the network again instead of keeping its activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from efficientnet_east.compat import Tensor, override_gradient, tf


def recomputed(build: Callable[..., Sequence[Tensor]], *inputs: Tensor) -> list[Tensor]:
    """Build a part of the graph whose inner tensors are not kept for the backward pass (Chen et al. 2016).

    The backward pass reads the part's inputs, and builds it a second time once the gradients of its outputs
    are there. `tf.recompute_grad` does so, too, but asks for resource variables and finds them by searching
    the graph, which fails in a strategy's replicas. A graph that was saved and imported has the same
    gradients, but keeps the inner tensors: the copy is built by a function of this process.

    Args:
      build: takes the inputs and `again` (False, then True for the copy), returns a list of tensors. It must
        not draw random numbers, must name its variables the same both times, and must leave moving
        statistics alone when `again` is True. It has to open every arg scope that it needs by itself.
      *inputs: floating-point tensors.

    Returns:
      The tensors that `build` returns.
    """
    scope, variables = tf.get_variable_scope(), []

    def remember(getter: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        variables.append(getter(*arguments, **options))
        return variables[-1]

    with tf.variable_scope(scope, custom_getter=remember, auxiliary_name_scope=False):
        outputs = build(*inputs, again=False)
    trained = list({id(variable): variable for variable in variables if variable.trainable}.values())

    def gradient(op: Any, *deltas: Tensor) -> list[Tensor | None]:
        del op
        late = [_after(deltas[0], tensor) for tensor in inputs]
        with tf.variable_scope(scope, reuse=True, auxiliary_name_scope=False):
            copies = build(*late, again=True)
        found = tf.gradients(copies, [*late, *trained], deltas[: len(outputs)], unconnected_gradients="zero")
        return [None] * len(outputs) + found

    # One operation that has the part's inputs and variables as its own, and the gradient above.
    values = [tf.convert_to_tensor(variable) for variable in trained]
    passed = tf.identity_n([*outputs, *inputs, *values])
    override_gradient(passed[0].op, gradient)
    return passed[: len(outputs)]


def _after(delta: Tensor, tensor: Tensor) -> Tensor:
    """The same tensor, not before `delta` is there.

    The dependence goes through the data, which no compiler may leave out: control dependencies alone would
    let XLA see two equal computations, and keep the first one's tensors after all.
    """
    first = tf.reduce_max(tf.reshape(delta, [-1])[:1])
    nothing = tf.where(tf.math.is_nan(first), math.nan, 0.0)
    return tensor + tf.cast(nothing, tensor.dtype)
