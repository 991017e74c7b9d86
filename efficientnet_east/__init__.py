"""EAST scene-text detection on EfficientNet backbones, in tf-slim on today's TensorFlow.

Importing this package loads neither TensorFlow nor OpenCV: each public name is fetched when first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Detections": "structures",
    "Detector": "inference.detector",
    "Sample": "structures",
    "Truth": "structures",
    "UserError": "errors",
    "get_backbone": "backbones.catalog",
}
_MODULES = ("backbones", "bifpn", "compat", "east_head", "losses", "model", "scaling")

__all__ = ["Detections", "Detector", "Sample", "Truth", "UserError", "__version__", "get_backbone", *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
