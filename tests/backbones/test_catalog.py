"""Backbones as numbers: what is published about each, and that heads can size themselves by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_east import scaling
from efficientnet_east.backbones import catalog, costs
from efficientnet_east.backbones.costs import KEPT_MAPS, Layer
from efficientnet_east.errors import UserError

# Parameters with 1000 classes and of the trunk, multiply-adds with 1000 classes in 1e9 at the resolution:
# published, or recounted from the official code. MnasNet-A1: 3.9 M and 312 M in its paper.
PUBLISHED = {
    "b8": (87_413_142, 82_608_046, 672, "62.6"),
    "l2": (480_309_308, 467_219_796, 800, "475.7"),
    "lite0": (4_652_008, 2_958_848, 224, "0.385"),
    "lite1": (5_416_680, 3_723_520, 240, "0.600"),
    "lite2": (6_092_072, 4_357_952, 260, "0.860"),
    "lite3": (8_197_096, 6_422_016, 280, "1.383"),
    "lite4": (13_006_568, 11_149_568, 300, "2.553"),
    "mnasnet-a1": (3_887_038, 2_193_878, 224, "0.312"),
    "resnet50": (25_557_032, 23_508_032, 224, "3.482"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    total, trunk, resolution, giga = PUBLISHED[name]
    whole = catalog.get_backbone(name, classes=1000)
    assert (whole.parameters, catalog.get_backbone(name).parameters) == (total, trunk)
    assert whole.resolution == resolution
    counted = whole.multiply_adds(resolution, resolution) / 1e9
    assert f"{counted:.{len(giga.partition('.')[2])}f}" == giga


@pytest.mark.parametrize("pre_stride", scaling.PRE_STRIDES)
@pytest.mark.parametrize("name", [*catalog.names(), "phi=1.5"])
def test_every_backbone_offers_maps_that_halve(name: str, pre_stride: str) -> None:
    if name == "resnet50" and pre_stride == "expand":
        return
    backbone = catalog.get_backbone(name, pre_stride=pre_stride, levels=7)
    assert backbone.strides == (2, 4, 8, 16, 32, 64, 128)
    assert [feature.name for feature in backbone.features] == [f"f{level}" for level in range(1, 8)]
    assert backbone.channels[4:] == (backbone.channels[4],) * 3
    assert backbone.name == name and backbone.activation in KEPT_MAPS
    names = [layer.name for layer in backbone.layers]
    assert len(set(names)) == len(names)


def test_what_a_variant_was_made_with() -> None:
    found = {name: catalog.get_backbone(name) for name in catalog.names()}
    for name, backbone in found.items():
        lite = name.startswith("lite")
        expected = {"b4-modified": "relu", "mnasnet-a1": "relu", "resnet50": "relu"}.get(name, "swish")
        assert backbone.activation == ("relu6" if lite else expected)
        assert backbone.normalization == ("lite" if lite else "vgg" if name == "resnet50" else "imagenet")
    phis = [found[f"b{i}"].phi for i in range(9)] + [found[f"lite{i}"].phi for i in range(5)]
    assert phis == [*range(9), *range(5)] and found["b4-modified"].phi == 4
    assert catalog.get_backbone("phi=2.5").phi == 2.5


def test_the_expanding_reading_counts_the_head_convolution() -> None:
    plain, expanding = (catalog.get_backbone("b0", pre_stride=kind) for kind in scaling.PRE_STRIDES)
    assert expanding.parameters - plain.parameters == 320 * 1280 + 2 * 1280
    assert expanding.features[0].end_point == "blocks_1/expand"
    assert expanding.features[4].end_point == expanding.layers[-1].name == "head"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "resnet51"}, "unknown variant 'resnet51'; expected one of b0, .*, resnet50, or phi=NUMBER"),
        ({"name": "b0", "pre_stride": "expansion"}, "expected one of block, expand"),
        ({"name": "b0", "levels": 4}, "levels: is 4; expected 5, 6 or 7"),
    ],
)
def test_what_is_not_known(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        catalog.get_backbone(**options)


def test_counts_by_hand() -> None:
    layers = [Layer("a", 3, 3, 8, 2), Layer("b", 5, 8, 8, 4, depthwise=True, products=True),
              Layer("c", 1, 8, 2, None, batch_norm=False, activated=False)]  # fmt: skip
    assert costs.parameters(layers) == (216 + 16) + (200 + 16) + (16 + 2)
    # 5 x 7 pixels: 3 x 4 cells at stride 2, 2 x 2 at stride 4, and one.
    assert costs.multiply_adds(layers, 5, 7) == 12 * 216 + 4 * 200 + 16
    relu = 2 * 8 * 12 + 3 * 8 * 4 + 2 * 2
    assert costs.activation_bytes(layers, 5, 7, "relu", batch=3) == 4 * 3 * relu
    swish = 4 * 8 * 12 + 5 * 8 * 4 + 2 * 2
    assert costs.activation_bytes(layers, 5, 7, "swish") == 4 * swish


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8))
def test_costs_grow_with_the_image(rows: int, columns: int, batch: int) -> None:
    b0 = catalog.get_backbone("b0")
    height, width = 32 * rows, 32 * columns
    one = b0.activation_bytes(height, width)
    assert b0.activation_bytes(height, width, batch=batch) == batch * one
    assert b0.activation_bytes(height, width, activation="relu") < one
    assert b0.multiply_adds(height, width) < b0.multiply_adds(height + 1, width)
