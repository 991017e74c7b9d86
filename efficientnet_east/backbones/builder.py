"""Any backbone by name, as a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from efficientnet_east.backbones import catalog
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError


def build(images: Any, name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Build any backbone by name.

    Args:
      images: float32 (batch, height, width, 3), RGB, normalized.
      name: one that `get_backbone` knows, such as `b0`, `lite2`, `mnasnet-a1`, `phi=1.5` or `resnet50`.
      **options: of `efficientnet`; `scope` is by default `scope_of(name)`.

    Returns:
      `net` and `end_points`, see `efficientnet`.

    Raises:
      UserError: the name or the value of an option is unknown, or the images have no three channels.
    """
    features = {key: options[key] for key in ("pre_stride", "levels") if key in options}
    scope = catalog.get_backbone(name, **features).scope
    catalog.check_activation(name, options.get("activation", "relu"))
    check_images(images)
    return catalog.family_of(name).build(images, name, **{"scope": scope} | options)


def check_images(images: Any, kinds: Sequence[str] = ("float32", "float16", "bfloat16")) -> None:
    """Refuse what is no batch of RGB images.

    Args:
      images: a tensor.
      kinds: names of the dtypes that it may have.

    Raises:
      UserError: it is no tensor, or has another shape or dtype; height and width may be unknown.
    """
    if not tf.is_tensor(images):
        raise UserError(
            "images", f"are of type {type(images).__name__}", "expected a tensor, such as tf.constant(...)"
        )
    shape = images.shape
    if shape.rank != 4 or shape.as_list()[3] != 3:
        raise UserError("images", f"have the shape {shape}", "expected (batch, height, width, 3), RGB")
    if images.dtype.name not in kinds:
        raise UserError("images", f"are {images.dtype.name}", f"expected {' or '.join(kinds)}")


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
