"""Weights of other projects, laid onto this project's variables.

Names map to names, shapes are checked, and everything that does not meet is reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from efficientnet_east.backbones import catalog
from efficientnet_east.checkpoints import weight_names
from efficientnet_east.checkpoints.weight_files import FORMATS, WeightFile, listed
from efficientnet_east.checkpoints.weight_names import NAMINGS, OWN, TOP, Naming, Variable
from efficientnet_east.errors import UserError


@dataclasses.dataclass(frozen=True)
class Restored:
    """What became of a weight file.

    Attributes:
      values: variable name -> array, for the variables that were asked for and take the file's value, or a
        zero that switches a block off whose kernel is absent.
      more: the same for what was not asked for: a whole head convolution or classifier, and of this project's
        own files the other parts of the model.
      initialized: variables that were asked for and keep their initial value.
      missing: the names that these would have in the file.
      orphans: batch norms unused because the kernel before them is absent.
      unused: arrays that the backbone has no place for.
      top: arrays of head and classifier that were not asked for.
      elsewhere: arrays of other parts of the file's model.
      identities: blocks that begin as the identity because their last kernel is absent.
      notes: what the file was taken for.
    """

    values: dict[str, np.ndarray]
    more: dict[str, np.ndarray]
    initialized: tuple[str, ...]
    missing: tuple[str, ...]
    orphans: tuple[str, ...]
    unused: tuple[str, ...]
    top: tuple[str, ...]
    elsewhere: tuple[str, ...]
    identities: tuple[str, ...]
    notes: tuple[str, ...]

    def report(self) -> str:
        """Tell in a few lines what was restored, what starts anew and what went unused."""
        zeroed = sum(
            name.split("/")[1] in self.identities
            for name in self.values
            if name.endswith("project/BatchNorm/gamma")
        )
        lines = [*self.notes, f"restored {len(self.values) - zeroed} variables of the backbone"]
        for title, names in (
            ("not in the file, start from their initial values", self.initialized),
            ("blocks without a projection in the file, start as the identity", self.identities),
            ("unused batch norms, whose kernels are not in the file", self.orphans),
            ("unused arrays", self.unused),
        ):
            if names:
                lines.append(f"{title}: {', '.join(names)}")
        if self.top:
            lines.append(f"head and classifier, which the trunk does not use: {listed(self.top)}")
        if self.elsewhere:
            parts = dict.fromkeys(name.replace(".", "/").split("/")[0] for name in self.elsewhere)
            lines.append(f"{_count(self.elsewhere)} of other parts: {listed(parts)}")
        return "\n".join(lines)


def restore(file: WeightFile, backbone: str, names: Collection[str] | None = None) -> Restored:
    """Decide which variable takes which array.

    A batch norm belongs to the kernel before it: where the kernel is absent its batch norm starts afresh.
    A block with a residual whose projection is absent starts as the identity (its last gamma is 0), so that
    the trained blocks around it see what they were trained on.

    Args:
      file: from `weight_files.read`.
      backbone: its name, see `catalog.get_backbone`.
      names: of the backbone's variables in the graph, scope included; None for the trunk.

    Returns:
      The values to assign, and the report. That arrays are absent or unused is no error here, see
      `expect_complete`.

    Raises:
      UserError: the file is of another backbone, or an array has another shape.
    """
    match = _expect_match(file, backbone)
    if names is None:
        variables = weight_names.variables(backbone, match.naming)
        names = [match.name_of(variable) for variable in variables if variable.layer not in TOP]
    bare = {variable.layer for variable in match.missing if variable.leaf.endswith("weights")}
    asked = set(names)
    values, more, orphans, top = _assigned(match, file, asked, bare)
    elsewhere = [name for name in file.arrays if not name.startswith(match.root)]
    if match.naming is OWN:
        more |= {name: file.arrays[name] for name in elsewhere}
    identities = _identities(match, bare)
    values |= identities
    return Restored(
        values={name: values[name] for name in names if name in values},
        more=more,
        initialized=tuple(name for name in names if name not in values),
        missing=tuple(match.root + v.source for v in match.missing if match.name_of(v) in asked),
        orphans=tuple(orphans),
        unused=match.unused,
        top=tuple(top),
        elsewhere=tuple(elsewhere),
        identities=tuple(name.split("/")[1] for name in identities),
        notes=(f"{file.path}: {file.format}, by the names of {match.naming.title}", *file.notes),
    )


def _assigned(
    match: _Match, file: WeightFile, asked: Collection[str], bare: Collection[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str], list[str]]:
    """Sort the arrays that have a variable: values asked for, values not asked for, orphans, and the top."""
    incomplete = {variable.layer for variable in match.missing}
    values: dict[str, np.ndarray] = {}
    more: dict[str, np.ndarray] = {}
    orphans, top = [], []
    for variable, in_file in match.found.items():
        name, array = match.name_of(variable), file.arrays[in_file].transpose(variable.axes)
        if name not in asked:
            top.append(in_file)
            more |= {} if variable.layer in incomplete else {name: array}
        elif variable.layer in bare and "BatchNorm" in variable.leaf:
            orphans.append(in_file)
        else:
            values[name] = array
    return values, more, orphans, top


def expect_complete(restored: Restored, file: WeightFile, allow_missing: bool, allow_unused: bool) -> None:
    """Refuse a file that does not fill the backbone, or holds more than it.

    Args:
      restored: from `restore`.
      file: named in the error.
      allow_missing: let variables without an array keep their initial value.
      allow_unused: let arrays go unused.

    Raises:
      UserError: with the names.
    """
    if restored.missing and not allow_missing:
        problem = f"lacks {_count(restored.missing)}: {listed(restored.missing)}"
        raise UserError(file.path, problem, "expected all of them; allow_missing goes on without")
    if restored.unused and not allow_unused:
        problem = f"holds {_count(restored.unused)} without a place: {listed(restored.unused)}"
        raise UserError(file.path, problem, "expected none; allow_unused leaves them out")


def _count(names: Sequence[str]) -> str:
    return "1 array" if len(names) == 1 else f"{len(names)} arrays"


@dataclasses.dataclass(frozen=True)
class _Match:
    """How the arrays of a file lie on a backbone by one naming."""

    backbone: str
    naming: Naming
    root: str  # what stands before the names of the table
    found: Mapping[Variable, str]  # the name in the file
    missing: tuple[Variable, ...]
    mismatched: tuple[str, ...]  # in words
    unused: tuple[str, ...]

    @property
    def scope(self) -> str:
        return catalog.scope_of(self.backbone)

    def name_of(self, variable: Variable) -> str:
        """The variable's name in the graph."""
        return f"{self.scope}/{variable.name}"

    @property
    def misfits(self) -> int:
        """How many tensors do not meet; those behind the trunk may be absent."""
        missing = [variable for variable in self.missing if variable.layer not in TOP]
        return len(missing) + len(self.mismatched) + len(self.unused)


def _expect_match(file: WeightFile, backbone: str) -> _Match:
    """The match with the fewest misfits, refused if shapes differ or another backbone fits better."""
    namings = [naming for naming in NAMINGS[file.format] if weight_names.variables(backbone, naming)]
    if not namings:
        problem = f"no names are known for {backbone} in {FORMATS[file.format]}"
        raise UserError(file.path, problem, "expected a file of format tpu or npz")
    match = _best(file, [backbone], namings)
    if match and not match.misfits:
        return match
    other = _best(file, catalog.names(), NAMINGS[file.format])
    if not match and not other:
        titles = " or ".join(naming.title for naming in namings)
        problem = f"holds {listed(file.arrays) or 'nothing'}, which are not the names of {titles}"
        raise UserError(file.path, problem, f"expected weights of {backbone}")
    fits_better = other is not None and (not match or other.misfits < match.misfits)
    if not match or match.mismatched or fits_better:
        problem = _misfits(match) if match else "has none of its names"
        looks = f"; looks like {other.backbone}" if other and fits_better else ""
        raise UserError(file.path, problem + looks, f"expected weights of {backbone}")
    return match


def _misfits(match: _Match) -> str:
    """What does not meet, in words, the shapes first."""
    first = match.mismatched[:1]
    if len(match.mismatched) > 1:
        first = (f"{first[0]} (and {len(match.mismatched) - 1} more)",)
    missing = [match.root + variable.source for variable in match.missing if variable.layer not in TOP]
    lacks = (f"lacks {listed(missing)}",) if missing else ()
    unused = (f"has no place for {listed(match.unused)}",) if match.unused else ()
    return "; ".join((*first, *lacks, *unused))


def _best(file: WeightFile, backbones: Iterable[str], namings: Iterable[Naming]) -> _Match | None:
    """The match with the fewest misfits, None if not a name is known."""
    tried = [_match(file, backbone, naming) for backbone in backbones for naming in namings]
    return min((match for match in tried if match), key=lambda match: match.misfits, default=None)


def _match(file: WeightFile, backbone: str, naming: Naming) -> _Match | None:
    """None if not a single name is one of the naming's."""
    variables = weight_names.variables(backbone, naming)
    if not variables:
        return None
    root = _root(file, naming.separator, variables, catalog.scope_of(backbone))
    arrays = {name: array for name, array in file.arrays.items() if name.startswith(root)}
    there = {variable: root + variable.source for variable in variables if root + variable.source in arrays}
    if not there:
        return None
    taken = set(there.values())
    wrong = {v: name for v, name in there.items() if not _fits(arrays[name].shape, v.source_shape)}
    return _Match(
        backbone,
        naming,
        root,
        found={variable: name for variable, name in there.items() if variable not in wrong},
        missing=tuple(variable for variable in variables if variable not in there),
        mismatched=tuple(
            f"{name} has shape {arrays[name].shape}, not {_shape(v)}" for v, name in wrong.items()
        ),
        unused=tuple(name for name in arrays if name not in taken),
    )


def _root(file: WeightFile, separator: str, variables: tuple[Variable, ...], scope: str) -> str:
    """What stands before the first layer's name: `efficientnet-b0/`, `module.`, nothing."""
    stem = variables[0].source
    ending = separator + stem
    roots = {name.removesuffix(stem) for name in file.arrays if (separator + name).endswith(ending)}
    if not roots:
        return f"{scope}/" if any(name.startswith(f"{scope}/") for name in file.arrays) else ""
    root = min(sorted(roots), key=len)
    others = sorted(other for other in roots if not other.startswith(root))
    if others:
        raise UserError(file.path, f"holds several networks: {listed([root, *others])}", "expected one")
    return root


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        side_in_table in (side, None) for side, side_in_table in zip(shape, expected, strict=True)
    )


def _shape(variable: Variable) -> str:
    return str(variable.source_shape).replace("None", "classes")


def _identities(match: _Match, bare: set[str]) -> dict[str, np.ndarray]:
    """The gammas that switch off the blocks with a residual whose projection is absent."""
    network = catalog.get_backbone(match.backbone).network
    blocks = [block for block in network.blocks if block.residual] if network else []
    return {
        f"{match.scope}/{block.name}/project/BatchNorm/gamma": np.zeros(block.outputs, np.float32)
        for block in blocks
        if f"{block.name}/project" in bare
    }
