"""Every published number of EfficientNet-B0 to B7, and the properties of rounding and scaling."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_east import scaling
from efficientnet_east.backbones import costs
from efficientnet_east.errors import UserError

# Published, or recounted from the official code: trainable parameters with 1000 classes, those of the trunk,
# the resolution, and the multiply-adds of one image of this size in 1e9, to the digits given.
PUBLISHED = {
    "b0": (5_288_548, 3_595_388, 224, "0.386"),
    "b1": (7_794_184, 6_101_024, 240, "0.687"),
    "b2": (9_109_994, 7_202_562, 260, "0.994"),
    "b3": (12_233_232, 10_103_336, 300, "1.827"),
    "b4": (19_341_616, 16_742_216, 380, "4.394"),
    "b5": (30_389_784, 27_288_112, 456, "10.27"),
    "b6": (43_040_704, 39_403_992, 528, "19.07"),
    "b7": (66_347_960, 62_143_440, 600, "37.75"),
}
BLOCKS = {"b0": 16, "b1": 23, "b2": 23, "b3": 26, "b4": 32, "b5": 39, "b6": 45, "b7": 55}
B0_FEATURES = [(2, 16, 0), (4, 24, 2), (8, 40, 4), (16, 112, 10), (32, 320, 15)]
B4_FEATURES = [(2, 24, 1), (4, 32, 5), (8, 56, 9), (16, 160, 21), (32, 448, 31)]

phis = st.floats(-3, 12)


def network(name: str) -> scaling.Network:
    return scaling.resolve(scaling.get_variant(name))


def parameters(net: scaling.Network, classes: int | None = None) -> int:
    return costs.parameters(scaling.layers(net, classes=classes))


def multiply_adds(net: scaling.Network, height: int, width: int, classes: int | None = None) -> int:
    return costs.multiply_adds(scaling.layers(net, classes=classes), height, width)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    total, trunk, resolution, giga = PUBLISHED[name]
    net = network(name)
    assert parameters(net, 1000) == total
    assert parameters(net) == trunk
    assert net.variant.resolution == resolution
    decimals = len(giga.partition(".")[2])
    assert f"{multiply_adds(net, resolution, resolution, 1000) / 1e9:.{decimals}f}" == giga
    assert len(net.blocks) == BLOCKS[name]


@pytest.mark.parametrize(
    ("phi", "width", "repeats"),
    [(0, 64, 3), (1, 88, 4), (2, 112, 5), (3, 160, 6), (4, 224, 7), (5, 288, 7), (6, 384, 8), (7, 384, 8),
     (4.0, 224, 7), (0.5, 80, 4), (1.25, 96, 4), (-1, 48, 2), (-3, 24, 1), (5.75, 360, 8), (8, 384, 8)],
)  # fmt: skip
def test_bifpn_size(phi: float, width: int, repeats: int) -> None:
    """EfficientDet-D0 to D7 as published, in proportion between them, by the equation below them."""
    assert scaling.bifpn_size(phi) == (width, repeats)


@given(phi=phis, more=st.floats(0, 3))
def test_bifpn_never_shrinks_as_the_backbone_grows(phi: float, more: float) -> None:
    (width, repeats), (wider, longer) = scaling.bifpn_size(phi), scaling.bifpn_size(phi + more)
    assert width % 8 == 0 and 8 <= width <= wider <= 384 and 1 <= repeats <= longer <= 8


@pytest.mark.parametrize(("name", "expected"), [("b0", B0_FEATURES), ("b4", B4_FEATURES)])
def test_features(name: str, expected: list[tuple[int, int, int]]) -> None:
    found = scaling.features(network(name))
    assert [f.name for f in found] == ["f1", "f2", "f3", "f4", "f5"]
    assert [(f.stride, f.channels, f.end_point) for f in found] == [
        (s, c, f"blocks_{b}") for s, c, b in expected
    ]


def test_b4_row_by_row() -> None:
    net = network("b4")
    assert (net.stem, net.head) == (48, 1792)
    assert [b.name for b in net.blocks] == [f"blocks_{i}" for i in range(32)]
    assert [i for i, b in enumerate(net.blocks) if b.expand == 1] == [0, 1]
    assert [i for i, b in enumerate(net.blocks) if b.stride == 2] == [2, 6, 10, 22]
    squeezes = [12, *[6] * 2, *[8] * 4, *[14] * 4, *[28] * 6, *[40] * 6, *[68] * 8, 112]
    assert [b.squeeze for b in net.blocks] == squeezes
    widths = [*[24] * 2, *[32] * 4, *[56] * 4, *[112] * 6, *[160] * 6, *[272] * 8, *[448] * 2]
    assert [b.outputs for b in net.blocks] == widths
    kernels = [*[3] * 6, *[5] * 4, *[3] * 6, *[5] * 14, *[3] * 2]
    assert [b.kernel for b in net.blocks] == kernels
    assert [i for i, b in enumerate(net.blocks) if not b.residual] == [0, 2, 6, 10, 16, 22, 30]


def test_published_dropout() -> None:
    assert [scaling.VARIANTS[f"b{i}"].dropout for i in range(8)] == [0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5]


@given(st.floats(1, 3000), st.floats(0.25, 5))
def test_rounded_channels(channels: float, width: float) -> None:
    rounded = scaling.round_channels(channels, width)
    scaled = channels * width
    assert rounded % 8 == 0 and rounded >= 8
    assert rounded >= 0.9 * scaled
    # To the nearest multiple; one more at most where rounding down would take more than a tenth.
    assert rounded - scaled <= (4 if scaled >= 40 else 8)
    assert scaled < 8 or abs(rounded - scaled) < 8


@given(st.floats(1, 3000), st.floats(0.25, 5), st.floats(0, 1))
def test_wider_is_never_narrower(channels: float, width: float, more: float) -> None:
    assert scaling.round_channels(channels, width + more) >= scaling.round_channels(channels, width)


@given(st.integers(1, 20), st.floats(0.1, 5))
def test_rounded_repeats(repeats: int, depth: float) -> None:
    rounded = scaling.round_repeats(repeats, depth)
    assert rounded >= 1 and 0 <= rounded - repeats * depth < 1


@given(phis)
def test_any_compound_coefficient_gives_a_backbone(phi: float) -> None:
    variant = scaling.compound(phi)
    net = scaling.resolve(variant)
    assert [f.stride for f in scaling.features(net)] == [2, 4, 8, 16, 32]
    assert all(a.outputs == b.inputs for a, b in zip(net.blocks, net.blocks[1:], strict=False))
    assert net.blocks[0].inputs == net.stem and 0 <= variant.dropout <= 0.5


@given(phis, phis)
def test_parameters_grow_with_the_coefficient(a: float, b: float) -> None:
    small, large = (parameters(scaling.resolve(scaling.compound(p)), 1000) for p in sorted((a, b)))
    assert small <= large


def test_compound_coefficients() -> None:
    assert scaling.compound(0) == scaling.VARIANTS["b0"]
    four = scaling.compound(4)
    assert (round(four.width, 4), round(four.depth, 4), four.resolution) == (1.4641, 2.0736, 392)
    assert scaling.get_variant("phi=4") == four
    assert scaling.get_variant("phi=-0.5") == scaling.compound(-0.5)
    # The paper's rule: about twice the work per unit (rounding makes single steps uneven).
    small, large = (
        multiply_adds(scaling.resolve(v), v.resolution, v.resolution)
        for v in (scaling.compound(0), scaling.compound(7))
    )
    assert 1.85 < (large / small) ** (1 / 7) < 2.05


def test_modified_b4_is_compound_and_relu() -> None:
    assert scaling.get_variant("b4-modified") == dataclasses.replace(scaling.compound(4), activation="relu")
    assert scaling.VARIANTS["b0"].activation == scaling.compound(1).activation == "swish"


NOT_PHI = ["phi", "phi=", "phi=x", "phi=nan", "phi=inf", "phi=13", "phi=-4", "phi=1=2", "phi=1e1", "phi= 1"]


@pytest.mark.parametrize("name", ["", "B0", "b9", "b4 ", *NOT_PHI])
def test_unknown_names_list_the_known(name: str) -> None:
    with pytest.raises(UserError) as caught:
        scaling.get_variant(name)
    message = str(caught.value)
    assert repr(name) in message and "\n" not in message
    assert all(f"{known}," in message for known in scaling.VARIANTS) and "phi=NUMBER" in message


@given(st.integers(1, 700), st.integers(1, 700))
def test_multiply_adds_of_odd_sizes(height: int, width: int) -> None:
    """`SAME` rounds up at each stride, so an odd size costs what the next even one does."""
    net = network("b0")
    even = multiply_adds(net, height + height % 2, width + width % 2)
    assert multiply_adds(net, height, width) == even


def test_multiply_adds_are_of_the_order_of_pixels() -> None:
    net = network("b0")
    convolutions = multiply_adds(net, 64, 96) - 2 * sum(b.expanded * b.squeeze for b in net.blocks)
    twice = multiply_adds(net, 128, 96) - 2 * sum(b.expanded * b.squeeze for b in net.blocks)
    assert twice == 2 * convolutions
