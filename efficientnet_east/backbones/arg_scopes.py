"""Keep a network the same whatever `slim.arg_scope` its caller has around it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from efficientnet_east.compat import slim

# Where variables, maps and updates are listed and where variables are stored: the network stays the same.
_PLACES = (
    "variables_collections", "outputs_collections", "updates_collections", "collections", "device",
    "caching_device",
)  # fmt: skip
REGULARIZERS = ("weights_regularizer", "biases_regularizer")


def isolated(keep: Collection[str] = ()) -> Any:
    """Leave the arg scope around, but for options that cannot change the network.

    Layers take every option that they are not given from the arg scope around them. A head's stride, NCHW,
    dilation or renormalization would build another backbone without a word.

    Args:
      keep: options that stay besides collections and devices, such as `REGULARIZERS`.

    Returns:
      A context in which layers of slim have their own defaults.
    """
    kept = {*_PLACES, *keep}
    return slim.arg_scope(
        {
            function: {name: value for name, value in options.items() if name in kept}
            for function, options in slim.current_arg_scope().items()
        }
    )
