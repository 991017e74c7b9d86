"""The tables of names: by hand for two blocks, against this project's graphs for all."""

import dataclasses
import math

import numpy as np
import pytest
from helpers.graphs import classifier

from efficientnet_east import scaling
from efficientnet_east.backbones import catalog
from efficientnet_east.checkpoints import weight_names
from efficientnet_east.checkpoints.weight_names import (
    KERAS,
    KERAS_ADDRESSES,
    LUKEMELAS,
    NAMINGS,
    OFFICIAL,
    OWN,
    TIMM,
    TORCHVISION,
    Naming,
)

ALL = [OFFICIAL, KERAS, KERAS_ADDRESSES, LUKEMELAS, TIMM, TORCHVISION, OWN]

# Of blocks_0 (stage 1, no expansion) and blocks_2 (stage 2, its second block) of B0.
BY_HAND: dict[str, tuple[str, ...]] = {
    #                            official, Keras, lukemelas, timm
    "stem/weights": ("stem/conv2d/kernel", "stem_conv/kernel", "_conv_stem.weight", "conv_stem.weight"),
    "stem/BatchNorm/beta": ("stem/tpu_batch_normalization/beta", "stem_bn/beta", "_bn0.bias", "bn1.bias"),
    "blocks_0/depthwise/depthwise_weights": (
        "blocks_0/depthwise_conv2d/depthwise_kernel", "block1a_dwconv/depthwise_kernel",
        "_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
    "blocks_0/depthwise/BatchNorm/gamma": (
        "blocks_0/tpu_batch_normalization/gamma", "block1a_bn/gamma", "_blocks.0._bn1.weight",
        "blocks.0.0.bn1.weight"),
    "blocks_0/se/reduce/weights": (
        "blocks_0/se/conv2d/kernel", "block1a_se_reduce/kernel", "_blocks.0._se_reduce.weight",
        "blocks.0.0.se.conv_reduce.weight"),
    "blocks_0/project/weights": (
        "blocks_0/conv2d/kernel", "block1a_project_conv/kernel", "_blocks.0._project_conv.weight",
        "blocks.0.0.conv_pw.weight"),
    "blocks_0/project/BatchNorm/moving_mean": (
        "blocks_0/tpu_batch_normalization_1/moving_mean", "block1a_project_bn/moving_mean",
        "_blocks.0._bn2.running_mean", "blocks.0.0.bn2.running_mean"),
    "blocks_2/expand/weights": (
        "blocks_2/conv2d/kernel", "block2b_expand_conv/kernel", "_blocks.2._expand_conv.weight",
        "blocks.1.1.conv_pw.weight"),
    "blocks_2/expand/BatchNorm/gamma": (
        "blocks_2/tpu_batch_normalization/gamma", "block2b_expand_bn/gamma", "_blocks.2._bn0.weight",
        "blocks.1.1.bn1.weight"),
    "blocks_2/depthwise/BatchNorm/beta": (
        "blocks_2/tpu_batch_normalization_1/beta", "block2b_bn/beta", "_blocks.2._bn1.bias",
        "blocks.1.1.bn2.bias"),
    "blocks_2/se/expand/biases": (
        "blocks_2/se/conv2d_1/bias", "block2b_se_expand/bias", "_blocks.2._se_expand.bias",
        "blocks.1.1.se.conv_expand.bias"),
    "blocks_2/project/weights": (
        "blocks_2/conv2d_1/kernel", "block2b_project_conv/kernel", "_blocks.2._project_conv.weight",
        "blocks.1.1.conv_pwl.weight"),
    "blocks_2/project/BatchNorm/moving_variance": (
        "blocks_2/tpu_batch_normalization_2/moving_variance", "block2b_project_bn/moving_variance",
        "_blocks.2._bn2.running_var", "blocks.1.1.bn3.running_var"),
    "head/weights": ("head/conv2d/kernel", "top_conv/kernel", "_conv_head.weight", "conv_head.weight"),
    "head/BatchNorm/gamma": (
        "head/tpu_batch_normalization/gamma", "top_bn/gamma", "_bn1.weight", "bn2.weight"),
    "logits/weights": ("head/dense/kernel", "predictions/kernel", "_fc.weight", "classifier.weight"),
    "logits/biases": ("head/dense/bias", "predictions/bias", "_fc.bias", "classifier.bias"),
}  # fmt: skip


IN_TORCHVISION = {
    "stem/weights": "features.0.0.weight",
    "stem/BatchNorm/beta": "features.0.1.bias",
    "blocks_0/depthwise/depthwise_weights": "features.1.0.block.0.0.weight",
    "blocks_0/depthwise/BatchNorm/gamma": "features.1.0.block.0.1.weight",
    "blocks_0/se/reduce/weights": "features.1.0.block.1.fc1.weight",
    "blocks_0/project/weights": "features.1.0.block.2.0.weight",
    "blocks_0/project/BatchNorm/moving_mean": "features.1.0.block.2.1.running_mean",
    "blocks_2/expand/weights": "features.2.1.block.0.0.weight",
    "blocks_2/expand/BatchNorm/gamma": "features.2.1.block.0.1.weight",
    "blocks_2/depthwise/BatchNorm/beta": "features.2.1.block.1.1.bias",
    "blocks_2/se/expand/biases": "features.2.1.block.2.fc2.bias",
    "blocks_2/project/weights": "features.2.1.block.3.0.weight",
    "blocks_2/project/BatchNorm/moving_variance": "features.2.1.block.3.1.running_var",
    "head/weights": "features.8.0.weight",
    "head/BatchNorm/gamma": "features.8.1.weight",
    "logits/weights": "classifier.1.weight",
    "logits/biases": "classifier.1.bias",
}


def test_names_of_torchvision_by_hand() -> None:
    found = {v.name: v.source for v in weight_names.variables("b0", TORCHVISION)}
    assert IN_TORCHVISION.keys() == BY_HAND.keys()
    assert {name: found[name] for name in IN_TORCHVISION} == IN_TORCHVISION


@pytest.mark.parametrize(("column", "naming"), [(0, OFFICIAL), (1, KERAS), (2, LUKEMELAS), (3, TIMM)])
def test_names_by_hand(column: int, naming: Naming) -> None:
    found = {v.name: v.source for v in weight_names.variables("b0", naming)}
    assert {name: found[name] for name in BY_HAND} == {n: row[column] for n, row in BY_HAND.items()}


def test_class_and_number_by_hand() -> None:
    """Each class is counted for itself; the gate's convolutions stand before the projection."""
    found = {v.name: v.source for v in weight_names.variables("b0", KERAS_ADDRESSES)}
    expected = {
        "stem/weights": "layers/conv2d/vars/0",
        "stem/BatchNorm/moving_variance": "layers/batch_normalization/vars/3",
        "blocks_0/depthwise/depthwise_weights": "layers/depthwise_conv2d/vars/0",
        "blocks_0/se/expand/biases": "layers/conv2d_2/vars/1",
        "blocks_0/project/weights": "layers/conv2d_3/vars/0",
        "blocks_1/expand/weights": "layers/conv2d_4/vars/0",
        "blocks_1/depthwise/BatchNorm/beta": "layers/batch_normalization_4/vars/1",
        "logits/weights": "layers/dense/vars/0",
    }
    assert {name: found[name] for name in expected} == expected


def test_blocks_without_expansion_are_found_one_by_one() -> None:
    """B4's first stage has two of them."""
    found = {v.name: v.source for v in weight_names.variables("b4", OFFICIAL)}
    numbers = {block: found[f"{block}/project/weights"] for block in ("blocks_1", "blocks_2")}
    assert numbers == {"blocks_1": "blocks_1/conv2d/kernel", "blocks_2": "blocks_2/conv2d_1/kernel"}


@pytest.mark.parametrize("naming", ALL, ids=lambda naming: naming.title)
@pytest.mark.parametrize("name", catalog.names())
def test_every_variable_has_one_name_of_its_own(name: str, naming: Naming) -> None:
    variables = weight_names.variables(name, naming)
    backbone = catalog.get_backbone(name, classes=1)
    gated = backbone.network and all(block.squeeze for block in backbone.network.blocks)
    if (name == "resnet50" and naming is not OWN) or (naming is TORCHVISION and not gated):
        assert variables == ()
        return
    assert len({v.name for v in variables}) == len({v.source for v in variables}) == len(variables)
    trained = [v for v in variables if "moving" not in v.leaf]
    assert sum(math.prod(side or 1 for side in v.shape) for v in trained) == backbone.parameters
    batch_norms = sum(layer.batch_norm for layer in backbone.layers)
    assert len(variables) - len(trained) == 2 * batch_norms


@pytest.mark.parametrize("name", ["b0", "b4"])
def test_own_names_and_shapes_are_those_of_the_graph(name: str) -> None:
    scope = catalog.scope_of(name)
    mine = {f"{scope}/{v.source}": v.shape for v in weight_names.variables(name, OWN)}
    graph = classifier(name).shapes("variables")
    assert {n: tuple(1000 if side is None else side for side in shape) for n, shape in mine.items()} == graph
    assert all(v.source == v.name for v in weight_names.variables(name, OWN))


def test_lite_has_no_squeeze_and_excite() -> None:
    assert not any("_se_" in v.source for v in weight_names.variables("lite0", KERAS))
    assert any("_se_" in v.source for v in weight_names.variables("b0", KERAS))


def test_layouts() -> None:
    """PyTorch's axes, brought to this project's."""
    found = {v.name: v for v in weight_names.variables("b0", LUKEMELAS)}
    depthwise = found["blocks_2/depthwise/depthwise_weights"]
    assert depthwise.shape == (3, 3, 144, 1) and depthwise.source_shape == (144, 1, 3, 3)
    project = found["blocks_2/project/weights"]
    assert project.shape == (1, 1, 144, 24) and project.source_shape == (24, 144, 1, 1)
    stem = dataclasses.replace(found["stem/weights"], shape=(5, 7, 3, 32))
    assert stem.source_shape == (32, 3, 5, 7), "height before width in both"
    for variable, ours, theirs in (
        (stem, (4, 6, 2, 31), (31, 2, 4, 6)),
        (depthwise, (2, 1, 99, 0), (99, 0, 2, 1)),
    ):
        numbers = np.arange(math.prod(variable.shape)).reshape(variable.source_shape)  # type: ignore[arg-type]
        assert numbers.transpose(variable.axes)[ours] == numbers[theirs]
    logits = found["logits/weights"]
    assert logits.shape == (1280, None) and logits.source_shape == (None, 1280)


def test_families_of_the_formats() -> None:
    listed = {naming.title for namings in NAMINGS.values() for naming in namings}
    assert listed == {naming.title for naming in ALL}


def test_letters_suffice() -> None:
    assert max(b.repeat for v in scaling.VARIANTS.values() for b in scaling.resolve(v).blocks) < 26
