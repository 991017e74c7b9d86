"""The EfficientNets, lite, MnasNet-A1 and every compound coefficient. The numbers stand in `scaling`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from efficientnet_east import scaling
from efficientnet_east.backbones import costs
from efficientnet_east.backbones.costs import Layer
from efficientnet_east.backbones.families.family import Backbone, Family, StageRow, top_row


class EfficientNets(Family):
    """The variants of `scaling.VARIANTS`, and `phi=NUMBER`."""

    activations = tuple(costs.KEPT_MAPS)
    pre_strides = scaling.PRE_STRIDES
    more_names = scaling.ANY_PHI
    part_names = "stem, stage1 ... stage7, or blocks_0 ..."

    def names(self) -> tuple[str, ...]:
        """List the variants."""
        return tuple(scaling.VARIANTS)

    def knows(self, name: str) -> bool:
        """Tell whether a name is a variant, or `phi=NUMBER` in its range."""
        return name in scaling.VARIANTS or scaling.parse_phi(name) is not None

    def scope(self, name: str) -> str:
        """Give the scope of the official checkpoints: `efficientnet-b0`, and `efficientnet-phi1.5`."""
        return "efficientnet-" + name.replace("=", "")

    def describe(self, name: str, *, pre_stride: str = "block", classes: int | None = None) -> Backbone:
        """Describe a variant; with `expand` the head convolution belongs to it."""
        variant = scaling.get_variant(name)
        network = scaling.resolve(variant)
        layers = scaling.layers(network, head=pre_stride == "expand", classes=classes)
        return Backbone(
            name,
            self.scope(name),
            variant.phi,
            variant.resolution,
            variant.activation,
            variant.normalization,
            layers,
            scaling.features(network, pre_stride),
            _rows(network, layers),
            network,
        )

    def build(self, images: Any, name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Build a variant, see `efficientnets.efficientnet`."""
        graphs = importlib.import_module("efficientnet_east.backbones.efficientnets")
        return graphs.efficientnet(images, scaling.resolve(scaling.get_variant(name)), **options)

    def count_frozen(self, name: str, frozen: str) -> int:
        """Count the stem and the blocks, see `scaling.frozen_blocks`."""
        return 1 + scaling.frozen_blocks(scaling.resolve(scaling.get_variant(name)), frozen)


def _rows(network: scaling.Network, layers: Iterable[Layer]) -> tuple[StageRow, ...]:
    """The stem, the paper's stages, and what stands behind them."""
    rows = [StageRow("stem", "Conv, k3x3", 3, 2, network.stem, 1, ("stem",))]
    for number in dict.fromkeys(block.stage for block in network.blocks):
        blocks = [block for block in network.blocks if block.stage == number]
        first, names = blocks[0], tuple(block.name for block in blocks)
        squeezed = ", SE" if first.squeeze else ""
        operator = f"MBConv{first.expand}, k{first.kernel}x{first.kernel}{squeezed}"
        row = f"stage{number}", operator, first.kernel, first.stride, first.outputs, len(blocks), names
        rows.append(StageRow(*row))
    return (*rows, *(top_row(layer) for layer in layers if layer.name in ("head", "logits")))
