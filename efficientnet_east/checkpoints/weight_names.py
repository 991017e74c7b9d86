"""How others name the weights of these backbones: tables that lead from this project's layers to their names.

A name is put together from a layer's role and its block's place in the network, never from the order in which
a file lists its arrays. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

from efficientnet_east.backbones import catalog
from efficientnet_east.backbones.costs import Layer
from efficientnet_east.backbones.families.family import Backbone

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
TOP = ("head", "logits")  # what stands behind the trunk

# A layer, and what a file calls it and its batch norm.
LayerNames = tuple[Layer, str, str]
Table = Mapping[str, tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Variable:
    """A variable of a backbone, and what a file calls it.

    Attributes:
      layer: the layer's name below the backbone's scope.
      leaf: the variable's name below the layer.
      source: the name in the file, below the root of its names.
      shape: of the variable; None stands for a number of classes.
      axes: the transposition that brings the file's layout to this project's.
    """

    layer: str
    leaf: str
    source: str
    shape: tuple[int | None, ...]
    axes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name below the backbone's scope."""
        return f"{self.layer}/{self.leaf}"

    @property
    def source_shape(self) -> tuple[int | None, ...]:
        """The shape in the file's layout."""
        return tuple(self.shape[self.axes.index(axis)] for axis in range(len(self.shape)))


@dataclasses.dataclass(frozen=True)
class Naming:
    """The names that one kind of file uses.

    Attributes:
      title: whose names they are, for the user.
      layer_names: backbone -> its layers and their names; none if there are no names for the architecture.
      leaves: leaf of this project -> leaf in the file, for those that differ.
      separator: between the parts of a name.
      axes: the transposition of a convolution's, a depthwise and a dense kernel; by default none.
    """

    title: str
    layer_names: Callable[[Backbone], Iterator[LayerNames]]
    leaves: Mapping[str, str]
    separator: str = "/"
    axes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)


def variables(backbone: str, naming: Naming) -> tuple[Variable, ...]:
    """List a backbone's variables with their names in a file, head convolution and classifier included.

    Args:
      backbone: a name that `catalog.get_backbone` knows.
      naming: of the file.

    Returns:
      The variables in the order of the graph; none if there are no names for the architecture.
    """
    described = catalog.get_backbone(backbone, classes=1)
    return tuple(
        variable for names in naming.layer_names(described) for variable in _layer_variables(names, naming)
    )


def _layer_variables(names: LayerNames, naming: Naming) -> Iterator[Variable]:
    layer, named, norm = names
    kind, shape = _kernel(layer)
    leaf = "depthwise_weights" if layer.depthwise else "weights"
    axes = naming.axes.get(kind, tuple(range(len(shape))))
    yield Variable(layer.name, leaf, _join(naming, named, leaf), shape, axes)
    outputs = None if layer.name == "logits" else layer.outputs
    if not layer.batch_norm:
        yield Variable(layer.name, "biases", _join(naming, named, "biases"), (outputs,), (0,))
        return
    for leaf in BATCH_NORM:
        yield Variable(layer.name, f"BatchNorm/{leaf}", _join(naming, norm, leaf), (outputs,), (0,))


def _kernel(layer: Layer) -> tuple[str, tuple[int | None, ...]]:
    """Kind and shape of a kernel; that of a classifier has any number of outputs."""
    outputs = None if layer.name == "logits" else layer.outputs
    if layer.dense:
        return "dense", (layer.inputs, outputs)
    if layer.depthwise:
        return "depthwise", (layer.kernel, layer.kernel, layer.inputs, 1)
    return "convolution", (layer.kernel, layer.kernel, layer.inputs, outputs)


def _join(naming: Naming, names: str, leaf: str) -> str:
    return f"{names}{naming.separator}{naming.leaves.get(leaf, leaf)}"


def _own_names(backbone: Backbone) -> Iterator[LayerNames]:
    for layer in backbone.layers:
        yield layer, layer.name, f"{layer.name}/BatchNorm"


def _names_by_table(
    backbone: Backbone, table: Table, unexpanded: Table, needs_gates: bool = False
) -> Iterator[LayerNames]:
    """Name layers by their roles.

    Args:
      backbone: an EfficientNet; others have no names here.
      table: role -> name of the layer, name of its batch norm. `{block}` stands for the official name of the
        block and `{index}` for its number among all blocks; `{stage}` and `{letter}` count from 1 and a,
        `{stage0}` and `{repeat}` from 0.
      unexpanded: what differs in blocks without expansion, where some families' numbers move up.
      needs_gates: whether the names are of networks with squeeze-and-excite in every block.
    """
    blocks = _block_fields(backbone)
    if needs_gates and backbone.network and not all(block.squeeze for block in backbone.network.blocks):
        return
    for layer in backbone.layers if blocks else ():
        block, _, role = layer.name.partition("/")
        fields = blocks.get(block, {})
        rows = {**table, **unexpanded} if fields.get("expand") == 1 else table
        named, norm = rows[role or block]
        yield layer, named.format(**fields), norm.format(**fields)


def _block_fields(backbone: Backbone) -> dict[str, dict[str, object]]:
    """What the tables may say of a block."""
    blocks = backbone.network.blocks if backbone.network else ()
    return {
        block.name: {
            "block": block.name,
            "index": index,
            "stage": block.stage,
            "stage0": block.stage - 1,
            "repeat": block.repeat,
            "letter": chr(ord("a") + block.repeat),
            "expand": block.expand,
        }
        for index, block in enumerate(blocks)
    }


def _names_by_counter(backbone: Backbone) -> Iterator[LayerNames]:
    """Keras 3 addresses a layer by class and number, counted for each class in the order of the graph."""
    counted: collections.Counter[str] = collections.Counter()

    def address(kind: str) -> str:
        number, counted[kind] = counted[kind], counted[kind] + 1
        return f"layers/{kind}_{number}" if number else f"layers/{kind}"

    for layer in backbone.layers if backbone.network else ():
        kind = "depthwise_conv2d" if layer.depthwise else "dense" if layer.name == "logits" else "conv2d"
        yield layer, address(kind), address("batch_normalization") if layer.batch_norm else ""


def _by_table(
    title: str,
    table: Table,
    unexpanded: Table | None = None,
    needs_gates: bool = False,
    **more: Mapping[str, object] | str,
) -> Naming:
    layer_names = functools.partial(
        _names_by_table, table=table, unexpanded=unexpanded or {}, needs_gates=needs_gates
    )
    return Naming(title, layer_names, **more)  # type: ignore[arg-type]


OWN = Naming("this project", _own_names, {leaf: leaf for leaf in BATCH_NORM})

_KERAS_LEAVES = {"weights": "kernel", "depthwise_weights": "depthwise_kernel", "biases": "bias"}

OFFICIAL = _by_table(
    "the official checkpoints",
    {
        "stem": ("stem/conv2d", "stem/tpu_batch_normalization"),
        "expand": ("{block}/conv2d", "{block}/tpu_batch_normalization"),
        "depthwise": ("{block}/depthwise_conv2d", "{block}/tpu_batch_normalization_1"),
        "se/reduce": ("{block}/se/conv2d", ""),
        "se/expand": ("{block}/se/conv2d_1", ""),
        "project": ("{block}/conv2d_1", "{block}/tpu_batch_normalization_2"),
        "head": ("head/conv2d", "head/tpu_batch_normalization"),
        "logits": ("head/dense", ""),
    },
    unexpanded={
        "depthwise": ("{block}/depthwise_conv2d", "{block}/tpu_batch_normalization"),
        "project": ("{block}/conv2d", "{block}/tpu_batch_normalization_1"),
    },
    leaves=_KERAS_LEAVES,
)

KERAS = _by_table(
    "Keras applications",
    {
        "stem": ("stem_conv", "stem_bn"),
        "expand": ("block{stage}{letter}_expand_conv", "block{stage}{letter}_expand_bn"),
        "depthwise": ("block{stage}{letter}_dwconv", "block{stage}{letter}_bn"),
        "se/reduce": ("block{stage}{letter}_se_reduce", ""),
        "se/expand": ("block{stage}{letter}_se_expand", ""),
        "project": ("block{stage}{letter}_project_conv", "block{stage}{letter}_project_bn"),
        "head": ("top_conv", "top_bn"),
        "logits": ("predictions", ""),
    },
    leaves=_KERAS_LEAVES,
)

KERAS_ADDRESSES = Naming(
    "Keras 3, by class and number",
    _names_by_counter,
    {"weights": "vars/0", "depthwise_weights": "vars/0", "biases": "vars/1"}
    | {leaf: f"vars/{number}" for number, leaf in enumerate(BATCH_NORM)},
)

_TORCH_LEAVES = {
    "weights": "weight", "depthwise_weights": "weight", "biases": "bias",
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip
# PyTorch keeps [out, in, height, width], of a depthwise kernel [channels, 1, height, width], and [out, in].
_TORCH_AXES = {"convolution": (2, 3, 1, 0), "depthwise": (2, 3, 0, 1), "dense": (1, 0)}

LUKEMELAS = _by_table(
    "lukemelas/EfficientNet-PyTorch",
    {
        "stem": ("_conv_stem", "_bn0"),
        "expand": ("_blocks.{index}._expand_conv", "_blocks.{index}._bn0"),
        "depthwise": ("_blocks.{index}._depthwise_conv", "_blocks.{index}._bn1"),
        "se/reduce": ("_blocks.{index}._se_reduce", ""),
        "se/expand": ("_blocks.{index}._se_expand", ""),
        "project": ("_blocks.{index}._project_conv", "_blocks.{index}._bn2"),
        "head": ("_conv_head", "_bn1"),
        "logits": ("_fc", ""),
    },
    leaves=_TORCH_LEAVES,
    separator=".",
    axes=_TORCH_AXES,
)

TIMM = _by_table(
    "timm",
    {
        "stem": ("conv_stem", "bn1"),
        "expand": ("blocks.{stage0}.{repeat}.conv_pw", "blocks.{stage0}.{repeat}.bn1"),
        "depthwise": ("blocks.{stage0}.{repeat}.conv_dw", "blocks.{stage0}.{repeat}.bn2"),
        "se/reduce": ("blocks.{stage0}.{repeat}.se.conv_reduce", ""),
        "se/expand": ("blocks.{stage0}.{repeat}.se.conv_expand", ""),
        "project": ("blocks.{stage0}.{repeat}.conv_pwl", "blocks.{stage0}.{repeat}.bn3"),
        "head": ("conv_head", "bn2"),
        "logits": ("classifier", ""),
    },
    unexpanded={
        "depthwise": ("blocks.{stage0}.{repeat}.conv_dw", "blocks.{stage0}.{repeat}.bn1"),
        "project": ("blocks.{stage0}.{repeat}.conv_pw", "blocks.{stage0}.{repeat}.bn2"),
    },
    leaves=_TORCH_LEAVES,
    separator=".",
    axes=_TORCH_AXES,
)

_IN_TORCHVISION = "features.{stage}.{repeat}.block"

TORCHVISION = _by_table(
    "torchvision",
    {
        "stem": ("features.0.0", "features.0.1"),
        "expand": (f"{_IN_TORCHVISION}.0.0", f"{_IN_TORCHVISION}.0.1"),
        "depthwise": (f"{_IN_TORCHVISION}.1.0", f"{_IN_TORCHVISION}.1.1"),
        "se/reduce": (f"{_IN_TORCHVISION}.2.fc1", ""),
        "se/expand": (f"{_IN_TORCHVISION}.2.fc2", ""),
        "project": (f"{_IN_TORCHVISION}.3.0", f"{_IN_TORCHVISION}.3.1"),
        "head": ("features.8.0", "features.8.1"),  # behind the stem and seven stages
        "logits": ("classifier.1", ""),
    },
    unexpanded={
        "depthwise": (f"{_IN_TORCHVISION}.0.0", f"{_IN_TORCHVISION}.0.1"),
        "se/reduce": (f"{_IN_TORCHVISION}.1.fc1", ""),
        "se/expand": (f"{_IN_TORCHVISION}.1.fc2", ""),
        "project": (f"{_IN_TORCHVISION}.2.0", f"{_IN_TORCHVISION}.2.1"),
    },
    needs_gates=True,
    leaves=_TORCH_LEAVES,
    separator=".",
    axes=_TORCH_AXES,
)

# What a file of each format may hold.
NAMINGS = {
    "tpu": (OFFICIAL, OWN, KERAS),
    "keras": (KERAS, KERAS_ADDRESSES),
    "torch": (LUKEMELAS, TIMM, TORCHVISION),
    "npz": (OFFICIAL, OWN),
}
