"""Every backbone by name, as numbers: what a merge head or a report needs before any graph exists.

`FAMILIES` is the table of what there is. A family answers for itself, in its own file.
"""

from __future__ import annotations

import dataclasses

from efficientnet_east import scaling
from efficientnet_east.backbones import costs
from efficientnet_east.backbones.families.efficientnets import EfficientNets
from efficientnet_east.backbones.families.family import Backbone, Family
from efficientnet_east.backbones.families.resnet50 import ResNet50
from efficientnet_east.errors import UserError
from efficientnet_east.scaling import Feature

FAMILIES: list[Family] = [EfficientNets(), ResNet50()]
FINEST_LEVELS = 5  # f1 to f5; f6 and f7 are pooled from f5


def register(family: Family) -> None:
    """Add a family, so that its names work wherever a backbone is named.

    Args:
      family: see `families.family.Family` and `docs/extending.md`.

    Raises:
      ValueError: one of its names is taken.
    """
    taken = [name for name in family.names() if any(other.knows(name) for other in FAMILIES)]
    if taken:
        raise ValueError(f"these backbones exist already: {', '.join(taken)}")
    FAMILIES.append(family)


def names() -> tuple[str, ...]:
    """List the names that `get_backbone` knows. Some families know more, see `Family.more_names`."""
    return tuple(name for family in FAMILIES for name in family.names())


def family_of(name: str) -> Family:
    """Find the family of a backbone.

    Raises:
      UserError: no family knows the name; the message lists the known ones.
    """
    for family in FAMILIES:
        if family.knows(name):
            return family
    raise UserError("backbone", f"unknown variant {name!r}", f"expected one of {names_in_words()}")


def names_in_words() -> str:
    """List all names for a message, such as `b0, b1, or phi=NUMBER from -3 to 12`."""
    more = [family.more_names for family in FAMILIES if family.more_names]
    return ", or ".join([", ".join(names()), *more])


def parts_in_words() -> str:
    """List what can be frozen, family by family, for a message."""
    first, *others = FAMILIES
    named = (f"of {family.names()[0]} {family.part_names}" for family in others if family.part_names)
    return "; ".join([first.part_names, *named])


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
    _check_feature_options(name, pre_stride, levels)
    described = family_of(name).describe(name, pre_stride=pre_stride, classes=classes)
    return dataclasses.replace(described, features=_pooled(described.features, levels))


def offers(name: str, activation: str | None, pre_stride: str) -> bool:
    """Tell whether a backbone can have an activation (None: its own) and a reading of `pre_stride`."""
    family = family_of(name)
    return activation in (None, *family.activations) and pre_stride in family.pre_strides


def _check_feature_options(name: str, pre_stride: str, levels: int) -> None:
    if pre_stride not in scaling.PRE_STRIDES:
        raise UserError(
            "pre_stride", f"unknown {pre_stride!r}", f"expected one of {', '.join(scaling.PRE_STRIDES)}"
        )
    known = family_of(name).pre_strides
    if pre_stride not in known:
        raise UserError("pre_stride", f"{pre_stride!r} with {name}", f"expected {' or '.join(known)}")
    if levels not in (5, 6, 7):
        raise UserError("levels", f"is {levels}", "expected 5, 6 or 7")


def check_activation(name: str, activation: str) -> None:
    """Refuse an activation that does not exist, or that a backbone cannot have.

    Args:
      name: of the backbone.
      activation: its name, such as `swish`.

    Raises:
      UserError: it cannot be had.
    """
    if activation not in costs.KEPT_MAPS:
        raise UserError(
            "activation", f"unknown {activation!r}", f"expected one of {', '.join(costs.KEPT_MAPS)}"
        )
    known = family_of(name).activations
    if activation not in known:
        raise UserError("activation", f"{activation!r} with {name}", f"expected {' or '.join(known)}")


def parts(name: str) -> tuple[str, ...]:
    """List the parts that a backbone's depth is counted by: its stem, then each block (ResNet-50: unit).

    Args:
      name: of the backbone.

    Returns:
      Their variable scopes within the backbone's own, in the order of the graph.

    Raises:
      UserError: the backbone is unknown.
    """
    return family_of(name).parts(name)


def frozen_parts(name: str, frozen: str) -> tuple[str, ...]:
    """List those of `parts` that are frozen "up to and including PART".

    Args:
      name: of the backbone.
      frozen: such as `stem`, `stage3` or `blocks_5` of an EfficientNet, see `Family.part_names`.

    Raises:
      UserError: the backbone or the part is unknown; the message lists the known ones.
    """
    return parts(name)[: family_of(name).count_frozen(name, frozen)]


def scope_of(name: str) -> str:
    """Give the variable scope of a backbone, that of its published checkpoints.

    `efficientnet-b0` for `b0`, `efficientnet-phi1.5` for `phi=1.5`, `resnet_v1_50` for `resnet50`.
    """
    return family_of(name).scope(name)


def _pooled(found: tuple[Feature, ...], levels: int) -> tuple[Feature, ...]:
    """The maps with those that are pooled from the coarsest."""
    last = found[-1]
    more = (Feature(f"f{n}", f"f{n}", 2**n, last.channels) for n in range(FINEST_LEVELS + 1, levels + 1))
    return (*found, *more)
