"""Backbones with the calling convention of `tf_slim.nets`: images in, the last map and `end_points` out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from efficientnet_east import scaling
from efficientnet_east.backbones.efficientnet import (
    ACTIVATIONS,
    conv_initializer,
    efficientnet,
    efficientnet_arg_scope,
)
from efficientnet_east.errors import UserError

__all__ = [
    "ACTIVATIONS",
    "build",
    "conv_initializer",
    "efficientnet",
    "efficientnet_arg_scope",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b4_modified",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "scope_of",
]


def scope_of(name: str) -> str:
    """The variable scope of a backbone: `efficientnet-b0` for `b0`, `efficientnet-phi1.5` for `phi=1.5`."""
    return "efficientnet-" + name.replace("=", "")


def build(images: Any, name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Build any backbone by name.

    Args:
      images: float32 (batch, height, width, 3), RGB, normalised.
      name: a key of `scaling.VARIANTS`, or `phi=NUMBER`.
      **options: of `efficientnet`; `scope` is by default `scope_of(name)`.

    Returns:
      `net` and `end_points`, see `efficientnet`.

    Raises:
      UserError: the name or the activation is unknown.
    """
    activation = options.get("activation", "relu")
    if activation not in ACTIVATIONS:
        raise UserError("activation", f"unknown {activation!r}", f"one of {', '.join(ACTIVATIONS)}")
    network = scaling.resolve(scaling.get_variant(name))
    return efficientnet(images, network, **{"scope": scope_of(name)} | options)


def _named(name: str) -> Callable[..., tuple[Any, dict[str, Any]]]:
    return functools.partial(build, name=name)


efficientnet_b0 = _named("b0")
efficientnet_b1 = _named("b1")
efficientnet_b2 = _named("b2")
efficientnet_b3 = _named("b3")
efficientnet_b4 = _named("b4")
efficientnet_b5 = _named("b5")
efficientnet_b6 = _named("b6")
efficientnet_b7 = _named("b7")
efficientnet_b4_modified = _named("b4-modified")
