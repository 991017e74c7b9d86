"""ResNet-50 v1 of `tf_slim.nets` as numbers, with the maps that the well-known ResNet-50 EAST merges.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

from efficientnet_east.backbones.costs import Layer
from efficientnet_east.backbones.families.family import Backbone, Family, StageRow, top_row, unknown_part
from efficientnet_east.scaling import Feature

NAME, SCOPE = "resnet50", "resnet_v1_50"
STEM = 64  # channels


@dataclasses.dataclass(frozen=True)
class Row:
    """A block of bottleneck units, of which the last takes the stride.

    The original strides the first unit of the next block; `tf_slim.nets` strides the last of this one.
    """

    name: str
    channels: int
    units: int
    stride: int

    @property
    def outputs(self) -> int:
        """Channels out of every unit."""
        return 4 * self.channels

    def unit_names(self) -> list[str]:
        """List the scopes of the units."""
        return [f"{self.name}/unit_{unit}" for unit in range(1, self.units + 1)]


ROWS = (
    Row("block1", 64, 3, 2),
    Row("block2", 128, 4, 2),
    Row("block3", 256, 6, 2),
    Row("block4", 512, 3, 1),
)


class ResNet50(Family):
    """One backbone, with ReLU and block outputs only."""

    part_names = "conv1, or block1 ... block4"

    def names(self) -> tuple[str, ...]:
        """List the one name."""
        return (NAME,)

    def scope(self, name: str) -> str:
        """Give the scope of slim's checkpoint."""
        return SCOPE

    def describe(self, name: str, *, pre_stride: str = "block", classes: int | None = None) -> Backbone:
        """Describe it."""
        layers = tuple(_layers(classes))
        rows = (
            StageRow("conv1", "Conv, k7x7", 7, 2, STEM, 1, ("conv1",)),
            StageRow("pool1", "Max pool, k3x3", 3, 2, STEM),
            *(StageRow(r.name, "Bottleneck, k3x3", 3, r.stride, r.outputs, r.units, (r.name,)) for r in ROWS),
            *(top_row(layer) for layer in layers if layer.name == "logits"),
        )
        return Backbone(name, SCOPE, 0, 224, "relu", "vgg", layers, _features(), rows)

    def build(self, images: Any, name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Build it, see `resnet.resnet50`."""
        return importlib.import_module("efficientnet_east.backbones.resnet").resnet50(images, **options)

    def count_frozen(self, name: str, frozen: str) -> int:
        """Count `conv1` and the units."""
        return 1 + sum(row.units for row in ROWS[: frozen_rows(frozen)])


def frozen_rows(frozen: str) -> int:
    """Count the blocks that "frozen up to and including PART" means; 0 for `conv1` alone.

    Raises:
      UserError: there is no such part.
    """
    parts = ["conv1", *(row.name for row in ROWS)]
    if frozen not in parts:
        raise unknown_part(frozen, ", ".join(parts))
    return parts.index(frozen)


def _features() -> tuple[Feature, ...]:
    """The maps behind each stride, as in the well-known EAST. f4 skips block3."""
    return (
        Feature("f1", "conv1", 2, STEM),
        Feature("f2", "pool1", 4, STEM),
        Feature("f3", "block1", 8, ROWS[0].outputs),
        Feature("f4", "block2", 16, ROWS[1].outputs),
        Feature("f5", "block4", 32, ROWS[3].outputs),
    )


def _layers(classes: int | None) -> Iterator[Layer]:
    yield Layer("conv1", 7, 3, STEM, stride=2, pooled=True)
    inputs, stride = STEM, 4
    for row in ROWS:
        for number, unit in enumerate(row.unit_names(), start=1):
            step = row.stride if number == row.units else 1
            yield from _unit_layers(row, unit, inputs, stride, step)
            inputs, stride = row.outputs, stride * step
    if classes is not None:
        yield Layer("logits", 1, inputs, classes, None, batch_norm=False, activated=False)


def _unit_layers(row: Row, unit: str, inputs: int, stride: int, step: int) -> Iterator[Layer]:
    """The layers of a unit that gets its input at a stride and takes one step of its own."""
    name, narrow, wide = f"{unit}/bottleneck_v1", row.channels, row.outputs
    if inputs != wide:
        yield Layer(f"{name}/shortcut", 1, inputs, wide, stride, activated=False, part=unit)
    yield Layer(f"{name}/conv1", 1, inputs, narrow, stride, part=unit)
    stride *= step
    yield Layer(f"{name}/conv2", 3, narrow, narrow, stride, part=unit)
    # The activation follows the residual sum.
    yield Layer(f"{name}/conv3", 1, narrow, wide, stride, part=unit)
