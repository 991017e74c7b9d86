"""EfficientNet as numbers: the block table, compound scaling, and every count that follows from them.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019. Nothing
here needs TensorFlow: `backbones/efficientnets.py` walks the rows that `resolve` returns, and a merge head
sizes itself from `features` before any graph exists.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

from efficientnet_east.backbones.costs import Layer
from efficientnet_east.errors import UserError


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row of the paper's Table 1: `repeats` MBConv blocks, of which the first takes the stride.

    `squeeze_excite` is the share of a block's input channels, before the expansion, that squeeze-and-excite
    squeezes to; 0 is a block without it.
    """

    expand: int
    kernel: int
    stride: int
    channels: int
    repeats: int
    squeeze_excite: float = 0.25


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
# EfficientNet-lite: the same rows without squeeze-and-excite (Google's TPU repository, 2020).
LITE_STAGES = tuple(dataclasses.replace(stage, squeeze_excite=0) for stage in B0_STAGES)
# MnasNet-A1, B0's ancestor (Tan et al., "MnasNet", CVPR 2019, figure 7a); its SepConv is an MBConv1.
MNASNET_A1_STAGES = (
    #     expand kernel stride channels repeats squeeze_excite
    Stage(1, 3, 1, 16, 1, 0),
    Stage(6, 3, 2, 24, 2, 0),
    Stage(3, 5, 2, 40, 3),
    Stage(6, 3, 2, 80, 4, 0),
    Stage(6, 3, 1, 112, 2),
    Stage(6, 5, 2, 160, 3),
    Stage(6, 3, 1, 320, 1, 0),
)
B0_STEM, B0_HEAD, B0_RESOLUTION = 32, 1280, 224
CHANNEL_DIVISOR = 8
# Depth, width and resolution per unit of phi; ALPHA * BETA**2 * GAMMA**2 ~ 2.
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
LEAST_PHI, MOST_PHI = -3, 12
ANY_PHI = f"phi=NUMBER from {LEAST_PHI} to {MOST_PHI}"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A table of stages, and how far it is scaled.

    Attributes:
      width: factor on every number of channels.
      depth: factor on every stage's repeats.
      resolution: side of the ImageNet crop that it was made for, in pixels.
      dropout: rate before the classifier.
      phi: the compound coefficient; what is scaled along with the backbone (a BiFPN) sizes itself by it.
      activation: what the variant was trained or proposed with.
      normalization: of the pixels that its published weights expect, a key of `options.NORMALIZATIONS`.
      stages: the rows before scaling.
      fixed_ends: stem and head keep their channels, first and last stage their repeats, as in lite.
    """

    width: float
    depth: float
    resolution: int
    dropout: float
    phi: float = 0
    activation: str = "swish"
    normalization: str = "imagenet"
    stages: tuple[Stage, ...] = B0_STAGES
    fixed_ends: bool = False


def compound(phi: float, activation: str = "swish") -> Variant:
    """Scale B0 by the paper's equations (2) and (3): depth 1.2**phi, width 1.1**phi, resolution 1.15**phi.

    Args:
      phi: the compound coefficient, 0 for B0; multiply-adds grow about 2**phi times.
      activation: recorded in the variant.

    Returns:
      The variant. Dropout grows from .2 by .05 per unit of phi up to .5, as the published ones do.
    """
    dropout = min(0.5, 0.2 + 0.05 * phi)
    return Variant(BETA**phi, ALPHA**phi, round(B0_RESOLUTION * GAMMA**phi), dropout, phi, activation)


_lite = functools.partial(
    Variant, activation="relu6", normalization="lite", stages=LITE_STAGES, fixed_ends=True
)

# The published ones have rounded coefficients of their own, not the powers that `compound` gives. L2 (Xie et
# al. 2020) lies off the compound scale: its phi is the one that its width would have.
VARIANTS = {
    #                width depth resolution dropout phi
    "b0": Variant(1.0, 1.0, 224, 0.2, 0),
    "b1": Variant(1.0, 1.1, 240, 0.2, 1),
    "b2": Variant(1.1, 1.2, 260, 0.3, 2),
    "b3": Variant(1.2, 1.4, 300, 0.3, 3),
    "b4": Variant(1.4, 1.8, 380, 0.4, 4),
    "b5": Variant(1.6, 2.2, 456, 0.4, 5),
    "b6": Variant(1.8, 2.6, 528, 0.5, 6),
    "b7": Variant(2.0, 3.1, 600, 0.5, 7),
    "b8": Variant(2.2, 3.6, 672, 0.5, 8),
    "l2": Variant(4.3, 5.3, 800, 0.5, 15),
    "b4-modified": compound(4, activation="relu"),
    "lite0": _lite(1.0, 1.0, 224, 0.2, 0),
    "lite1": _lite(1.0, 1.1, 240, 0.2, 1),
    "lite2": _lite(1.1, 1.2, 260, 0.3, 2),
    "lite3": _lite(1.2, 1.4, 280, 0.3, 3),
    "lite4": _lite(1.4, 1.8, 300, 0.3, 4),
    "mnasnet-a1": Variant(1.0, 1.0, 224, 0.2, 0, activation="relu", stages=MNASNET_A1_STAGES),
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
    phi = parse_phi(name)
    if phi is None:
        hint = f"expected one of {', '.join(VARIANTS)}, or {ANY_PHI}"
        raise UserError("backbone", f"unknown variant {name!r}", hint)
    return compound(phi)


def parse_phi(name: str) -> float | None:
    """Read the compound coefficient from a name such as `phi=1.5`; None if it is no such name."""
    # Plain decimals only: the name becomes a variable scope, in which TensorFlow takes no other characters.
    match = re.fullmatch(r"phi=(-?[0-9]+(?:\.[0-9]+)?)", name)
    phi = float(match[1]) if match else math.inf
    return phi if LEAST_PHI <= phi <= MOST_PHI else None


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
      stage: 1 for the first stage after the stem, as the Keras and PyTorch ports count.
      repeat: 0 for the first block of its stage.
      expand: factor of the 1x1 expansion; 1 means that there is none.
      kernel: side of the depthwise kernel.
      stride: of the depthwise convolution.
      inputs: channels in.
      outputs: channels out.
      squeeze: channels between the two squeeze-and-excite convolutions; 0 means that there are none.
    """

    name: str
    stage: int
    repeat: int
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
    """A feature map that a backbone offers: the last layer before the next down-sampling.

    Attributes:
      name: `f1`, `f2`, ...
      end_point: the end point that it is, such as `blocks_2` or `blocks_3/expand`.
      stride: pixels of the image per cell.
      channels: of the map.
    """

    name: str
    end_point: str
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
    ends_width = 1.0 if variant.fixed_ends else variant.width
    stem = inputs = round_channels(B0_STEM, ends_width)
    blocks: list[Block] = []
    for number, stage in enumerate(variant.stages, start=1):
        outputs = round_channels(stage.channels, variant.width)
        at_an_end = number in (1, len(variant.stages))
        depth = 1.0 if variant.fixed_ends and at_an_end else variant.depth
        for repeat in range(round_repeats(stage.repeats, depth)):
            blocks.append(_block(stage, number, repeat, len(blocks), inputs, outputs))
            inputs = outputs
    return Network(stem, tuple(blocks), round_channels(B0_HEAD, ends_width), variant)


def _block(stage: Stage, number: int, repeat: int, index: int, inputs: int, outputs: int) -> Block:
    stride = stage.stride if repeat == 0 else 1
    squeeze = max(1, int(inputs * stage.squeeze_excite)) if stage.squeeze_excite else 0
    return Block(
        f"blocks_{index}", number, repeat, stage.expand, stage.kernel, stride, inputs, outputs, squeeze
    )


PRE_STRIDES = ("block", "expand")


def features(network: Network, pre_stride: str = "block") -> tuple[Feature, ...]:
    """List the pre-stride feature maps f1 to f5, finest first.

    "The last layer before the next down-sampling" can be read in two ways. In an MBConv block the stride sits
    in the depthwise convolution, behind the expansion:

    * `block`: the output of the block before (16, 24, 40, 112, 320 channels for B0), as in the official
      code; narrow and linear;
    * `expand`: the activated expansion, right before the strided depthwise convolution, and the activated
      head convolution at the end (96, 144, 240, 672, 1280 channels).

    Args:
      network: from `resolve`.
      pre_stride: `block` or `expand`.

    Returns:
      Five features at strides 2, 4, 8, 16, 32.
    """
    found: list[Feature] = []
    stride = 2  # the stem's
    followers: tuple[Block | None, ...] = (*network.blocks[1:], None)
    for block, follower in zip(network.blocks, followers, strict=True):
        stride *= block.stride
        if follower is None or follower.stride > 1:
            if pre_stride == "block":
                end_point, channels = block.name, block.outputs
            elif follower is None:
                end_point, channels = "head", network.head
            else:
                end_point, channels = f"{follower.name}/expand", follower.expanded
            found.append(Feature(f"f{len(found) + 1}", end_point, stride, channels))
    return tuple(found)


def layers(network: Network, *, head: bool = False, classes: int | None = None) -> tuple[Layer, ...]:
    """List every layer with parameters, in the order of the graph, for `costs`.

    Args:
      network: from `resolve`.
      head: also the head convolution; without it the list is the trunk, which ends with the last block and is
        what EAST uses.
      classes: None, or also head and classifier of so many classes.

    Returns:
      The layers. B0: 3,595,388 parameters for the trunk, 5,288,548 with 1000 classes.
    """
    found = [Layer("stem", 3, 3, network.stem, stride=2)]
    stride = 2
    for block in network.blocks:
        found.extend(dataclasses.replace(layer, part=block.name) for layer in _block_layers(block, stride))
        stride *= block.stride
    if head or classes is not None:
        found.append(Layer("head", 1, network.blocks[-1].outputs, network.head, stride))
    if classes is not None:
        found.append(
            Layer("logits", 1, network.head, classes, None, dense=True, batch_norm=False, activated=False)
        )
    return tuple(found)


def _block_layers(block: Block, stride: int) -> Iterator[Layer]:
    """The layers of a block that gets its input at a stride."""
    name, wide = block.name, block.expanded
    if block.expand != 1:
        yield Layer(f"{name}/expand", 1, block.inputs, wide, stride)
    stride *= block.stride
    gated = bool(block.squeeze)
    yield Layer(f"{name}/depthwise", block.kernel, wide, wide, stride, depthwise=True, products=gated)
    if gated:
        yield Layer(f"{name}/se/reduce", 1, wide, block.squeeze, None, batch_norm=False)
        yield Layer(f"{name}/se/expand", 1, block.squeeze, wide, None, batch_norm=False)
    yield Layer(f"{name}/project", 1, wide, block.outputs, stride, activated=False)


def frozen_blocks(network: Network, frozen: str) -> int:
    """Count the blocks that "frozen up to and including NAME" means.

    Args:
      network: from `resolve`.
      frozen: `stem`; `stage1` to `stage7`, the stages after the stem; or a block such as `blocks_5`.

    Returns:
      The number of blocks, 0 for the stem alone.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    last: dict[str, int] = {"stem": 0}
    for index, block in enumerate(network.blocks, start=1):
        last[f"stage{block.stage}"] = last[block.name] = index
    if frozen not in last:
        stages = ", ".join(f"stage{number}" for number in sorted({b.stage for b in network.blocks}))
        known = f"one of stem, {stages}, blocks_0 to {network.blocks[-1].name}"
        raise UserError("frozen", f"unknown part {frozen!r}", f"expected {known}")
    return last[frozen]


# BiFPN's channels and repeats in EfficientDet-D0 to D7 (Tan, Pang and Le, CVPR 2020, table 1), which are not
# in every row what `bifpn_size`'s rule gives.
BIFPN_SIZES = ((64, 3), (88, 4), (112, 5), (160, 6), (224, 7), (288, 7), (384, 8), (384, 8))


def bifpn_size(phi: float) -> tuple[int, int]:
    """Look up how wide a BiFPN is, and how many cells it has, beside a backbone of this size.

    Args:
      phi: the compound coefficient; 0 for B0.

    Returns:
      Channels and repeats: for 0, 1, ... 7 the published ones, between them in proportion, beyond 7 D7's.
      Below 0 the paper's equation (1), 64 * 1.35**phi and 3 + phi. To the nearest multiple of 8, and to the
      nearest number from 1.
    """
    if phi < 0:
        channels, repeats = 64 * 1.35**phi, 3 + phi
    else:
        last = len(BIFPN_SIZES) - 1
        below = min(int(phi), last)
        pairs = zip(BIFPN_SIZES[below], BIFPN_SIZES[min(below + 1, last)], strict=True)
        channels, repeats = (low + (phi - below) * (high - low) for low, high in pairs)
    return round(channels / CHANNEL_DIVISOR) * CHANNEL_DIVISOR, max(1, round(repeats))
