"""Which variables learn at which share of the learning rate, and which begin late: by their names alone."""

from __future__ import annotations

from collections.abc import Callable

from efficientnet_east.backbones import catalog


def factors(backbone: str, backbone_rate: float, layer_decay: float) -> Callable[[str], float]:
    """Set learning rates by depth, as in Howard and Ruder (2018), "Universal language model fine-tuning".

    Args:
      backbone: its name.
      backbone_rate: factor for the backbone's variables.
      layer_decay: factor once more for each step away from the backbone's last block (ResNet-50's last unit);
        the stem comes after the first block.

    Returns:
      A function from a variable's name to its factor of the learning rate; 1 outside of the backbone.
    """
    scope, parts = catalog.scope_of(backbone), catalog.parts(backbone)
    known = {
        f"{scope}/{part}/": backbone_rate * layer_decay**depth for depth, part in enumerate(reversed(parts))
    }

    def factor(name: str) -> float:
        if not name.startswith(f"{scope}/"):
            return 1.0
        # The head convolution, which some merges read, stands behind the last block.
        return next((value for prefix, value in known.items() if name.startswith(prefix)), backbone_rate)

    return factor


def in_parts(backbone: str, frozen: str | None) -> Callable[[str], bool]:
    """Select the variables of the part that is or was frozen.

    Args:
      backbone: its name.
      frozen: the last frozen part, see `backbones.catalog.frozen_blocks`; None for no part.

    Returns:
      A function from a variable's name to whether it is one of them.
    """
    scope = catalog.scope_of(backbone)
    parts = () if frozen is None else catalog.frozen_parts(backbone, frozen)
    prefixes = tuple(f"{scope}/{part}/" for part in parts)
    return lambda name: name.startswith(prefixes)
