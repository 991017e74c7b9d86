"""Every backbone by name, as numbers: what a merge head or a calculator needs before any graph exists."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from efficientnet_east import scaling
from efficientnet_east.backbones import costs
from efficientnet_east.backbones.costs import Layer
from efficientnet_east.errors import UserError
from efficientnet_east.scaling import Feature, Network

RESNET50 = "resnet50"
FINEST_LEVELS = 5  # f1 to f5; f6 and f7 are pooled from f5


@dataclasses.dataclass(frozen=True)
class ResnetBlock:
    """A row of ResNet-50 (He et al., CVPR 2016, table 1): bottleneck units; the last takes the stride.

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


RESNET50_BLOCKS = (
    ResnetBlock("block1", 64, 3, 2),
    ResnetBlock("block2", 128, 4, 2),
    ResnetBlock("block3", 256, 6, 2),
    ResnetBlock("block4", 512, 3, 1),
)
RESNET50_STEM = 64


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A backbone and the feature maps that it was asked for.

    Attributes:
      name: as given to `get_backbone`.
      scope: the variable scope.
      phi: compound coefficient, by which a BiFPN sizes itself.
      resolution: side of the ImageNet crop that it was made for, in pixels.
      activation: what it was trained or proposed with.
      normalisation: of the pixels that its published weights expect, see `model.NORMALISATIONS`.
      layers: with parameters, in the order of the graph.
      features: finest first, strides doubling.
      network: the rows of an EfficientNet; None for another architecture.
    """

    name: str
    scope: str
    phi: float
    resolution: int
    activation: str
    normalisation: str
    layers: tuple[Layer, ...]
    features: tuple[Feature, ...]
    network: Network | None

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the feature maps, finest first."""
        return tuple(feature.channels for feature in self.features)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the feature maps; images whose sides are multiples of the last one fit every head."""
        return tuple(feature.stride for feature in self.features)

    @property
    def parameters(self) -> int:
        """Trainable parameters up to the last feature map."""
        return costs.parameters(self.layers)

    def multiply_adds(self, height: int, width: int) -> int:
        """Multiply-adds of one image of so many pixels."""
        return costs.multiply_adds(self.layers, height, width)

    def activation_bytes(self, height: int, width: int, *, batch: int = 1, activation: str = "") -> int:
        """Estimated bytes that a training step keeps, see `costs.activation_bytes`."""
        return costs.activation_bytes(self.layers, height, width, activation or self.activation, batch)

    def recomputed_bytes(self, height: int, width: int, *, batch: int = 1, activation: str = "") -> int:
        """Estimated bytes that it needs with `recompute`, see `costs.recomputed_bytes`."""
        wanted = {feature.end_point for feature in self.features}
        return costs.recomputed_bytes(
            self.layers, height, width, activation or self.activation, batch, wanted
        )


def names() -> tuple[str, ...]:
    """The names that `get_backbone` knows, besides `phi=NUMBER`."""
    return (*scaling.VARIANTS, RESNET50)


def get_backbone(
    name: str, *, pre_stride: str = "block", levels: int = FINEST_LEVELS, classes: int | None = None
) -> Backbone:
    """Describe a backbone without building it.

    Args:
      name: one of `names()`, or `phi=NUMBER`.
      pre_stride: which maps count as "right before the stride", see `scaling.features`.
      levels: 5, or 6 or 7 for maps at strides 64 and 128 as well.
      classes: count head and classifier of so many classes, too.

    Returns:
      The description.

    Raises:
      UserError: an unknown name, another `pre_stride` or number of levels.
    """
    check_feature_options(name, pre_stride, levels)
    if name == RESNET50:
        return Backbone(name, scope_of(name), 0, 224, "relu", "vgg", _resnet_layers(classes),
                        _pooled(_RESNET_FEATURES, levels), None)  # fmt: skip
    variant = get_variant(name)
    network = scaling.resolve(variant)
    layers = scaling.layers(network, head=pre_stride == "expand", classes=classes)
    found = _pooled(scaling.features(network, pre_stride), levels)
    return Backbone(name, scope_of(name), variant.phi, variant.resolution, variant.activation,
                    variant.normalisation, layers, found, network)  # fmt: skip


def get_variant(name: str) -> scaling.Variant:
    """`scaling.get_variant`, whose error also names the backbones that are no EfficientNet."""
    try:
        return scaling.get_variant(name)
    except UserError as error:
        expected = error.hint.replace(", or phi=", f", {RESNET50}, or phi=")
        raise UserError(error.where, error.problem, expected) from None


def check_feature_options(name: str, pre_stride: str, levels: int) -> None:
    """Refuse what no backbone offers.

    Args:
      name: of the backbone.
      pre_stride: see `get_backbone`.
      levels: see `get_backbone`.

    Raises:
      UserError: the first option that cannot be had.
    """
    if pre_stride not in scaling.PRE_STRIDES:
        raise UserError(
            "pre_stride", f"unknown {pre_stride!r}", f"expected one of {', '.join(scaling.PRE_STRIDES)}"
        )
    if name == RESNET50 and pre_stride != "block":
        raise UserError(
            "pre_stride", f"{pre_stride!r} with {RESNET50}", "expected block: it has no expansions"
        )
    if levels not in (5, 6, 7):
        raise UserError("levels", f"is {levels}", "expected 5, 6 or 7")


def check_activation(name: str, activation: str) -> None:
    """Refuse an activation that a backbone cannot have.

    Args:
      name: of the backbone.
      activation: its name; an EfficientNet can have each that there is.

    Raises:
      UserError: it is ResNet-50, whose units are ReLU's.
    """
    if name == RESNET50 and activation != "relu":
        raise UserError("activation", f"{activation!r} with {RESNET50}", "expected relu")


def frozen_blocks(name: str, frozen: str) -> int:
    """How many blocks "frozen up to and including PART" means, see `scaling.frozen_blocks`.

    Args:
      name: of the backbone.
      frozen: of an EfficientNet `stem`, a stage or a block; of ResNet-50 `conv1`, or `block1` to `block4`.

    Returns:
      The number of blocks, 0 for the stem alone.

    Raises:
      UserError: the backbone or the part is unknown; the message lists the known ones.
    """
    if name != RESNET50:
        return scaling.frozen_blocks(scaling.resolve(get_variant(name)), frozen)
    parts = ["conv1", *(row.name for row in RESNET50_BLOCKS)]
    if frozen not in parts:
        raise UserError("frozen", f"unknown part {frozen!r}", f"expected one of {', '.join(parts)}")
    return parts.index(frozen)


def parts(name: str) -> tuple[str, ...]:
    """The parts that a backbone's depth is counted by: its stem, then each block (each unit of ResNet-50).

    Args:
      name: of the backbone.

    Returns:
      Their variable scopes within the backbone's own, in the order of the graph.

    Raises:
      UserError: the backbone is unknown.
    """
    if name == RESNET50:
        units = [f"{row.name}/unit_{unit}" for row in RESNET50_BLOCKS for unit in range(1, row.units + 1)]
        return ("conv1", *units)
    return ("stem", *(block.name for block in scaling.resolve(get_variant(name)).blocks))


def frozen_parts(name: str, frozen: str) -> tuple[str, ...]:
    """Those of `parts` that are frozen "up to and including PART", see `frozen_blocks`."""
    count = frozen_blocks(name, frozen)
    if name == RESNET50:
        count = sum(row.units for row in RESNET50_BLOCKS[:count])
    return parts(name)[: count + 1]


def scope_of(name: str) -> str:
    """The variable scope of a backbone: that of its published checkpoints.

    `efficientnet-b0` for `b0`, `efficientnet-phi1.5` for `phi=1.5`, `resnet_v1_50` for `resnet50`.
    """
    return "resnet_v1_50" if name == RESNET50 else "efficientnet-" + name.replace("=", "")


def _pooled(found: tuple[Feature, ...], levels: int) -> tuple[Feature, ...]:
    """The maps with those that are pooled from the coarsest."""
    last = found[-1]
    more = (Feature(f"f{n}", f"f{n}", 2**n, last.channels) for n in range(FINEST_LEVELS + 1, levels + 1))
    return (*found, *more)


# The maps that the well-known ResNet-50 EAST merges: of `tf_slim.nets`, behind each stride. f4 skips block3.
_RESNET_FEATURES = (
    Feature("f1", "conv1", 2, RESNET50_STEM),
    Feature("f2", "pool1", 4, RESNET50_STEM),
    Feature("f3", "block1", 8, RESNET50_BLOCKS[0].outputs),
    Feature("f4", "block2", 16, RESNET50_BLOCKS[1].outputs),
    Feature("f5", "block4", 32, RESNET50_BLOCKS[3].outputs),
)


def _resnet_layers(classes: int | None) -> tuple[Layer, ...]:
    found = [Layer("conv1", 7, 3, RESNET50_STEM, stride=2, pooled=True)]
    inputs, stride = RESNET50_STEM, 4
    for block in RESNET50_BLOCKS:
        for unit in range(1, block.units + 1):
            step = block.stride if unit == block.units else 1
            found.extend(_unit_layers(block, f"{block.name}/unit_{unit}", inputs, stride, step))
            inputs, stride = block.outputs, stride * step
    if classes is not None:
        found.append(Layer("logits", 1, inputs, classes, None, batch_norm=False, activated=False))
    return tuple(found)


def _unit_layers(block: ResnetBlock, unit: str, inputs: int, stride: int, step: int) -> Iterator[Layer]:
    """The layers of a bottleneck unit that gets its input at a stride and takes one step of its own."""
    name, narrow, wide = f"{unit}/bottleneck_v1", block.channels, block.outputs
    if inputs != wide:
        yield Layer(f"{name}/shortcut", 1, inputs, wide, stride, activated=False, part=unit)
    yield Layer(f"{name}/conv1", 1, inputs, narrow, stride, part=unit)
    stride *= step
    yield Layer(f"{name}/conv2", 3, narrow, narrow, stride, part=unit)
    # The activation follows the residual sum.
    yield Layer(f"{name}/conv3", 1, narrow, wide, stride, part=unit)
