"""EfficientNet as numbers: the block table, compound scaling, and every count that follows from them.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019. Nothing
here needs TensorFlow: `backbones/efficientnet.py` walks the rows that `resolve` returns, and a merge head
sizes itself from `features` before any graph exists.
"""

from __future__ import annotations

import dataclasses
import math
import re

from efficientnet_east.errors import UserError


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row of the paper's Table 1: `repeats` MBConv blocks, of which the first takes the stride."""

    expand: int
    kernel: int
    stride: int
    channels: int
    repeats: int


# Table 1 of the paper, stages 2 to 8. Stage 1 is the stem (3x3, stride 2, 32 channels), stage 9 the head.
B0_STAGES = (
    #     expand kernel stride channels repeats
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
B0_STEM, B0_HEAD, B0_RESOLUTION = 32, 1280, 224
SE_RATIO = 0.25  # of a block's input channels, before the expansion
CHANNEL_DIVISOR = 8
ALPHA, BETA, GAMMA = (
    1.2,
    1.1,
    1.15,
)  # depth, width, resolution per unit of phi; ALPHA * BETA**2 * GAMMA**2 ~ 2


@dataclasses.dataclass(frozen=True)
class Variant:
    """How far B0 is scaled.

    Attributes:
      width: factor on every number of channels.
      depth: factor on every stage's repeats.
      resolution: side of the ImageNet crop that it was made for, in pixels.
      dropout: rate before the classifier.
      activation: what the variant was trained or proposed with.
    """

    width: float
    depth: float
    resolution: int
    dropout: float
    activation: str = "swish"


def compound(phi: float, activation: str = "swish") -> Variant:
    """Scale B0 by the paper's equations (2) and (3): depth 1.2**phi, width 1.1**phi, resolution 1.15**phi.

    Args:
      phi: the compound coefficient, 0 for B0; multiply-adds grow about 2**phi times.
      activation: recorded in the variant.

    Returns:
      The variant. Dropout grows from .2 by .05 per unit of phi up to .5, as the published ones do.
    """
    dropout = min(0.5, 0.2 + 0.05 * phi)
    return Variant(BETA**phi, ALPHA**phi, round(B0_RESOLUTION * GAMMA**phi), dropout, activation)


# B0 to B7 are published with rounded coefficients of their own, not with the powers that `compound` gives.
VARIANTS = {
    #                width depth resolution dropout
    "b0": Variant(1.0, 1.0, 224, 0.2),
    "b1": Variant(1.0, 1.1, 240, 0.2),
    "b2": Variant(1.1, 1.2, 260, 0.3),
    "b3": Variant(1.2, 1.4, 300, 0.3),
    "b4": Variant(1.4, 1.8, 380, 0.4),
    "b5": Variant(1.6, 2.2, 456, 0.4),
    "b6": Variant(1.8, 2.6, 528, 0.5),
    "b7": Variant(2.0, 3.1, 600, 0.5),
    "b4-modified": compound(4, activation="relu"),
}


def get_variant(name: str) -> Variant:
    """Look a variant up by name, or by compound coefficient.

    Args:
      name: a key of `VARIANTS`, or `phi=NUMBER`, such as `phi=1.5`.

    Returns:
      The variant.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    known = f"one of {', '.join(VARIANTS)}, or phi=NUMBER from -3 to 12"
    # Plain decimals only: the name becomes a variable scope, in which TensorFlow takes no other characters.
    match = re.fullmatch(r"phi=(-?[0-9]+(?:\.[0-9]+)?)", name)
    if match and -3 <= float(match[1]) <= 12:
        return compound(float(match[1]))
    raise UserError("backbone", f"unknown variant {name!r}", known)


def round_channels(channels: float, width: float) -> int:
    """Scale a number of channels and round it to a multiple of 8, never down by more than a tenth."""
    scaled = channels * width
    rounded = max(CHANNEL_DIVISOR, int(scaled + CHANNEL_DIVISOR / 2) // CHANNEL_DIVISOR * CHANNEL_DIVISOR)
    return rounded + CHANNEL_DIVISOR if rounded < 0.9 * scaled else rounded


def round_repeats(repeats: int, depth: float) -> int:
    """Scale a number of repeats and round it up."""
    return math.ceil(repeats * depth)


@dataclasses.dataclass(frozen=True)
class Block:
    """One MBConv block with its final sizes.

    Attributes:
      name: `blocks_0`, `blocks_1`, ...: the scope, the same as in the official checkpoints.
      expand: factor of the 1x1 expansion; 1 means that there is none.
      kernel: side of the depthwise kernel.
      stride: of the depthwise convolution.
      inputs: channels in.
      outputs: channels out.
      squeeze: channels between the two squeeze-and-excite convolutions.
    """

    name: str
    expand: int
    kernel: int
    stride: int
    inputs: int
    outputs: int
    squeeze: int

    @property
    def expanded(self) -> int:
        """Channels of the depthwise convolution."""
        return self.inputs * self.expand

    @property
    def residual(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.inputs == self.outputs


@dataclasses.dataclass(frozen=True)
class Feature:
    """A feature map that the backbone offers: the last layer before the next down-sampling."""

    name: str
    block: str
    stride: int
    channels: int


@dataclasses.dataclass(frozen=True)
class Network:
    """A variant resolved to rows: everything that a graph builder or a calculator has to know."""

    stem: int
    blocks: tuple[Block, ...]
    head: int
    variant: Variant


def resolve(variant: Variant) -> Network:
    """Turn a variant into the rows of its network: channels and repeats scaled, rounded and chained.

    Args:
      variant: see `VARIANTS` and `compound`.

    Returns:
      The network, blocks in order.
    """
    stem = inputs = round_channels(B0_STEM, variant.width)
    blocks: list[Block] = []
    for stage in B0_STAGES:
        outputs = round_channels(stage.channels, variant.width)
        for repeat in range(round_repeats(stage.repeats, variant.depth)):
            stride = stage.stride if repeat == 0 else 1
            squeeze = max(1, int(inputs * SE_RATIO))
            blocks.append(
                Block(f"blocks_{len(blocks)}", stage.expand, stage.kernel, stride, inputs, outputs, squeeze)
            )
            inputs = outputs
    return Network(stem, tuple(blocks), round_channels(B0_HEAD, variant.width), variant)


def features(network: Network) -> tuple[Feature, ...]:
    """List the pre-stride feature maps f1 to f5, finest first.

    A map is the output of a block that the next block halves, or of the last block: strides 2, 4, 8, 16, 32.

    Args:
      network: from `resolve`.

    Returns:
      Five features with the block they leave, their stride and their channels.
    """
    found: list[Feature] = []
    stride = 2  # the stem's
    followers = (*network.blocks[1:], None)
    for block, follower in zip(network.blocks, followers, strict=True):
        stride *= block.stride
        if follower is None or follower.stride > 1:
            found.append(Feature(f"f{len(found) + 1}", block.name, stride, block.outputs))
    return tuple(found)


def parameters(network: Network, classes: int | None = None) -> int:
    """Count trainable parameters (batch-norm gamma and beta included, moving statistics not).

    Args:
      network: from `resolve`.
      classes: None counts the trunk alone, which ends with the last block and is what EAST uses;
        a number adds the head convolution and a classifier of so many classes.

    Returns:
      The count. B0: 3,595,388 for the trunk, 5,288,548 with 1000 classes.
    """
    total = 9 * 3 * network.stem + 2 * network.stem + sum(map(_block_parameters, network.blocks))
    if classes is None:
        return total
    last = network.blocks[-1].outputs
    return total + last * network.head + 2 * network.head + network.head * classes + classes


def _block_parameters(block: Block) -> int:
    wide, squeeze = block.expanded, block.squeeze
    expansion = block.inputs * wide + 2 * wide if block.expand != 1 else 0
    depthwise = block.kernel**2 * wide + 2 * wide
    squeeze_excite = wide * squeeze + squeeze + squeeze * wide + wide
    return expansion + depthwise + squeeze_excite + wide * block.outputs + 2 * block.outputs


def multiply_adds(network: Network, height: int, width: int, classes: int | None = None) -> int:
    """Count the multiply-adds of one image's convolutions and dense layers (`SAME` padding).

    Args:
      network: from `resolve`.
      height: of the input, in pixels.
      width: of the input, in pixels.
      classes: as in `parameters`.

    Returns:
      The count; B0 at 224x224 with 1000 classes: 0.386e9 (the paper rounds to 0.39e9).
    """
    rows, columns = math.ceil(height / 2), math.ceil(width / 2)
    total = rows * columns * 9 * 3 * network.stem
    for block in network.blocks:
        wide = block.expanded
        expansion = rows * columns * block.inputs * wide if block.expand != 1 else 0
        rows, columns = math.ceil(rows / block.stride), math.ceil(columns / block.stride)
        per_cell = block.kernel**2 * wide + wide * block.outputs
        total += expansion + rows * columns * per_cell + 2 * wide * block.squeeze
    if classes is None:
        return total
    return total + rows * columns * network.blocks[-1].outputs * network.head + network.head * classes
