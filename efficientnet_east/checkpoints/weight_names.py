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
from efficientnet_east.backbones.catalog import Backbone
from efficientnet_east.backbones.costs import Layer

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
TOP = ("head", "logits")  # what stands behind the trunk

# A layer, the name of its kernel's place in a file, and that of its batch norm.
Place = tuple[Layer, str, str]
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
class Family:
    """The names that one kind of file uses.

    Attributes:
      title: whose names they are, for the user.
      places: backbone -> its layers with their places; none if the family does not know the architecture.
      leaves: leaf of this project -> leaf in the file, for those that differ.
      separator: between the parts of a name.
      axes: the transposition of a convolution's, a depthwise and a dense kernel; by default none.
    """

    title: str
    places: Callable[[Backbone], Iterator[Place]]
    leaves: Mapping[str, str]
    separator: str = "/"
    axes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)


def variables(backbone: str, family: Family) -> tuple[Variable, ...]:
    """List a backbone's variables with their names in a file, head convolution and classifier included.

    Args:
      backbone: a name that `catalogue.get_backbone` knows.
      family: of the file's names.

    Returns:
      The variables in the order of the graph; none if the family does not know the architecture.
    """
    described = catalog.get_backbone(backbone, classes=1)
    return tuple(
        variable
        for place in family.places(described)
        for variable in _layer_variables(place, family, dense=described.network is not None)
    )


def _layer_variables(place: Place, family: Family, dense: bool) -> Iterator[Variable]:
    layer, named, norm = place
    kind, shape = _kernel(layer, dense)
    leaf = "depthwise_weights" if layer.depthwise else "weights"
    axes = family.axes.get(kind, tuple(range(len(shape))))
    yield Variable(layer.name, leaf, _join(family, named, leaf), shape, axes)
    outputs = None if layer.name == "logits" else layer.outputs
    if not layer.batch_norm:
        yield Variable(layer.name, "biases", _join(family, named, "biases"), (outputs,), (0,))
        return
    for leaf in BATCH_NORM:
        yield Variable(layer.name, f"BatchNorm/{leaf}", _join(family, norm, leaf), (outputs,), (0,))


def _kernel(layer: Layer, dense: bool) -> tuple[str, tuple[int | None, ...]]:
    """Kind and shape of a kernel; the classifier is `dense`, or a convolution of one cell."""
    outputs = None if layer.name == "logits" else layer.outputs
    if layer.name == "logits" and dense:
        return "dense", (layer.inputs, outputs)
    if layer.depthwise:
        return "depthwise", (layer.kernel, layer.kernel, layer.inputs, 1)
    return "convolution", (layer.kernel, layer.kernel, layer.inputs, outputs)


def _join(family: Family, place: str, leaf: str) -> str:
    return f"{place}{family.separator}{family.leaves.get(leaf, leaf)}"


def _own_places(backbone: Backbone) -> Iterator[Place]:
    for layer in backbone.layers:
        yield layer, layer.name, f"{layer.name}/BatchNorm"


def _places_by_table(
    backbone: Backbone, table: Table, unexpanded: Table, needs_gates: bool = False
) -> Iterator[Place]:
    """Places by role.

    Args:
      backbone: an EfficientNet; another has no places here.
      table: role -> name of the layer, name of its batch norm. `{block}` stands for the official name of the
        block and `{index}` for its number among all blocks; `{stage}` and `{letter}` count from 1 and a,
        `{stage0}` and `{repeat}` from 0.
      unexpanded: what differs in blocks without expansion, where some families' numbers move up.
      needs_gates: whether the family has squeeze-and-excite in every block, and numbers its parts so.
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


def _places_by_counter(backbone: Backbone) -> Iterator[Place]:
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
) -> Family:
    places = functools.partial(
        _places_by_table, table=table, unexpanded=unexpanded or {}, needs_gates=needs_gates
    )
    return Family(title, places, **more)  # type: ignore[arg-type]


OWN = Family("this project", _own_places, {leaf: leaf for leaf in BATCH_NORM})

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

KERAS_ADDRESSES = Family(
    "Keras 3, by class and number",
    _places_by_counter,
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
FAMILIES = {
    "tpu": (OFFICIAL, OWN, KERAS),
    "keras": (KERAS, KERAS_ADDRESSES),
    "torch": (LUKEMELAS, TIMM, TORCHVISION),
    "npz": (OFFICIAL, OWN),
}
