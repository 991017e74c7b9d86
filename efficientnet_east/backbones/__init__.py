"""Backbones with the calling convention of `tf_slim.nets`: images in, the last map and `end_points` out.

`catalog`, `costs`, `families` and `report` are numbers and load no TensorFlow. So that you can import them
without it, each name of this folder is fetched when you first use it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from efficientnet_east.backbones.builder import (
        build,
        check_images,
        efficientnet_b0,
        efficientnet_b1,
        efficientnet_b2,
        efficientnet_b3,
        efficientnet_b4,
        efficientnet_b4_modified,
        efficientnet_b5,
        efficientnet_b6,
        efficientnet_b7,
    )
    from efficientnet_east.backbones.catalog import get_backbone, register, scope_of
    from efficientnet_east.backbones.efficientnets import (
        ACTIVATIONS,
        conv_initializer,
        efficientnet,
        efficientnet_arg_scope,
    )
    from efficientnet_east.backbones.families.family import Backbone, Family
    from efficientnet_east.backbones.resnet import resnet50

_HOMES = {
    "ACTIVATIONS": "efficientnets",
    "Backbone": "families.family",
    "Family": "families.family",
    "build": "builder",
    "check_images": "builder",
    "conv_initializer": "efficientnets",
    "efficientnet": "efficientnets",
    "efficientnet_arg_scope": "efficientnets",
    **{f"efficientnet_b{number}": "builder" for number in range(8)},
    "efficientnet_b4_modified": "builder",
    "get_backbone": "catalog",
    "register": "catalog",
    "resnet50": "resnet",
    "scope_of": "catalog",
}
__all__ = [
    "ACTIVATIONS",
    "Backbone",
    "Family",
    "build",
    "check_images",
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
    "get_backbone",
    "register",
    "resnet50",
    "scope_of",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
