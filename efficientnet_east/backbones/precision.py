"""Half precision: layers compute in the type of their inputs, over variables that stay float32.

Micikevicius et al., "Mixed Precision Training", ICLR 2018. A layer of slim asks for variables of its inputs'
type, and `float32_variables` answers with a float32 variable, cast: names, checkpoints, optimizer and
gradients are those of float32. Batch norm asks for float32 variables by itself and has float32 statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from efficientnet_east.compat import Tensor, slim, tf

HALVES = ("float16", "bfloat16")


def float32_variables(getter: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Get variables as float32, whatever the inputs are: a custom getter for variable scopes.

    Args:
      getter: of the scope outside.
      *arguments: of `tf.get_variable`.
      **options: of `tf.get_variable`.

    Returns:
      The variable; if it was asked for in half precision, a tensor with the values of a float32 variable.
    """
    dtype = tf.as_dtype(options.get("dtype") or tf.float32)
    if dtype.name not in HALVES:
        return getter(*arguments, **options)
    return tf.cast(getter(*arguments, **options | {"dtype": tf.float32}), dtype)


def l2(weight_decay: float) -> Callable[[Tensor], Tensor] | None:
    """Make a regularizer: half the squared norm of the float32 variable behind a kernel, times a factor.

    Args:
      weight_decay: the factor.

    Returns:
      A regularizer for slim's layers; None for a factor of 0.
    """
    if not weight_decay:
        return None
    of_float32 = slim.l2_regularizer(weight_decay)

    def regularize(kernel: Tensor) -> Tensor:
        cast = kernel.dtype.name in HALVES  # asked first: in a function's graph variables have no operation
        return of_float32(kernel.op.inputs[0] if cast and kernel.op.type == "Cast" else kernel)

    return regularize
