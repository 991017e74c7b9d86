"""What every family of backbones answers for itself: its names, its numbers, its graph.

A family is one class in one file. To add one, see `docs/extending.md`.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from efficientnet_east.backbones import costs
from efficientnet_east.backbones.costs import Layer
from efficientnet_east.errors import UserError
from efficientnet_east.scaling import Feature, Network


@dataclasses.dataclass(frozen=True)
class StageRow:
    """One line of the table that `report` prints: layers that are listed together.

    Attributes:
      name: of the stage, such as `stem` or `stage3`.
      operator: in words, such as `MBConv6, k5x5, SE`.
      kernel: side of the (depthwise) kernel.
      stride: of the whole stage; None where all cells become one.
      channels: out of the stage.
      repeats: blocks or units.
      scopes: the first parts of its layers' names, such as `blocks_3` and `blocks_4`.
    """

    name: str
    operator: str
    kernel: int
    stride: int | None
    channels: int
    repeats: int = 1
    scopes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A backbone and its feature maps, before any graph exists.

    Attributes:
      name: as given to `catalog.get_backbone`.
      scope: the variable scope, that of its published checkpoints.
      phi: compound coefficient, by which a BiFPN sizes itself; 0 sizes it as for B0.
      resolution: side of the ImageNet crop that it was made for, in pixels.
      activation: what it was trained or proposed with.
      normalization: of the pixels that its published weights expect, a key of `options.NORMALIZATIONS`.
      layers: with parameters, in the order of the graph.
      features: the maps f1, f2, ..., finest first, strides doubling from 2.
      rows: the lines of the table that `report` prints; empty: one for each first part of the layers' names.
      network: the blocks of an EfficientNet; None for other families.
    """

    name: str
    scope: str
    phi: float
    resolution: int
    activation: str
    normalization: str
    layers: tuple[Layer, ...]
    features: tuple[Feature, ...]
    rows: tuple[StageRow, ...] = ()
    network: Network | None = None

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the feature maps, finest first."""
        return tuple(feature.channels for feature in self.features)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the feature maps. Images whose sides are multiples of the last one fit every head."""
        return tuple(feature.stride for feature in self.features)

    @property
    def parameters(self) -> int:
        """Trainable parameters up to the last feature map."""
        return costs.parameters(self.layers)

    def multiply_adds(self, height: int, width: int) -> int:
        """Count the multiply-adds of one image of so many pixels."""
        return costs.multiply_adds(self.layers, height, width)

    def activation_bytes(self, height: int, width: int, *, batch: int = 1, activation: str = "") -> int:
        """Estimate the bytes that a training step keeps, see `costs.activation_bytes`."""
        return costs.activation_bytes(self.layers, height, width, activation or self.activation, batch)

    def recomputed_bytes(self, height: int, width: int, *, batch: int = 1, activation: str = "") -> int:
        """Estimate the bytes that a step needs with `recompute`, see `costs.recomputed_bytes`."""
        read = {feature.end_point for feature in self.features}
        return costs.recomputed_bytes(
            self.layers, height, width, activation or self.activation, batch, read
        )  # fmt: skip


class Family(abc.ABC):
    """A family of backbones. Two methods and the names are enough; the rest has defaults.

    Attributes:
      activations: names of the activations that the graph can be built with.
      pre_strides: which readings of "right before the stride" it offers, see `scaling.features`.
      more_names: what it knows besides `names()`, in words for the user.
      part_names: what `frozen` may be, in words for the user.
    """

    activations: tuple[str, ...] = ("relu",)
    pre_strides: tuple[str, ...] = ("block",)
    more_names: str = ""
    part_names: str = ""

    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """List the names of its backbones."""

    @abc.abstractmethod
    def describe(self, name: str, *, pre_stride: str = "block", classes: int | None = None) -> Backbone:
        """Describe a backbone with its five maps f1 to f5, without loading TensorFlow.

        Args:
          name: one that the family knows.
          pre_stride: one of `pre_strides`.
          classes: None, or also the layers of a classifier of so many classes.
        """

    @abc.abstractmethod
    def build(self, images: Any, name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Build the graph. This method may load TensorFlow; the module of the family must not.

        Args:
          images: float32, float16 or bfloat16 (batch, height, width, 3), RGB, normalized.
          name: one that the family knows.
          **options: those of `efficientnets.efficientnet`, `scope` among them.

        Returns:
          The last map (or the logits), and the end points: each layer's or block's map by its name, the maps
          `f1`, `f2`, ... and the same as `pool1` to `pool5` (`feature_maps.named_maps`).
        """

    def knows(self, name: str) -> bool:
        """Tell whether a name is one of this family."""
        return name in self.names()

    def scope(self, name: str) -> str:
        """Give the variable scope of a backbone."""
        return name

    def parts(self, name: str) -> tuple[str, ...]:
        """List what depth is counted by: the stem, then each block. Names are scopes, first to last."""
        layers = self.describe(name).layers
        return tuple(dict.fromkeys(layer.part or layer.name for layer in layers))

    def count_frozen(self, name: str, frozen: str) -> int:
        """Count those of `parts` that "frozen up to and including PART" means.

        Args:
          name: of the backbone.
          frozen: by default one of `parts`.

        Raises:
          UserError: there is no such part.
        """
        parts = self.parts(name)
        if frozen not in parts:
            raise unknown_part(frozen, ", ".join(parts))
        return parts.index(frozen) + 1


def unknown_part(frozen: str, known: str) -> UserError:
    """Make the error for a part that a backbone does not have; `known` is what it has, in words."""
    return UserError("frozen", f"unknown part {frozen!r}", f"expected one of {known}")


def rows_of(layers: Iterable[Layer]) -> Iterator[StageRow]:
    """Yield a table row for each first part of the layers' names, the last layers included."""
    before = 1
    for name, group in itertools.groupby(layers, lambda layer: layer.name.partition("/")[0]):
        inside = list(group)
        last = inside[-1]
        if name in _TOP:
            yield top_row(last)
            continue
        after = (last.stride or 1) * (2 if last.pooled else 1)
        side = max(layer.kernel for layer in inside)
        stride = after // before
        yield StageRow(name, f"Conv, k{side}x{side}", side, stride, last.outputs, len(inside), (name,))
        before = after


def top_row(layer: Layer) -> StageRow:
    """Make the table row of a head convolution or a classifier."""
    operator, stride = _TOP[layer.name]
    return StageRow(layer.name, operator, 1, stride, layer.outputs, 1, (layer.name,))


_TOP: dict[str, tuple[str, int | None]] = {"head": ("Conv, k1x1", 1), "logits": ("Mean, dense", None)}
