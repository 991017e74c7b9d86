"""Weights of other projects, laid onto this project's variables.

Names map to names, shapes are checked, and everything that does not meet is reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from efficientnet_east.backbones import catalog
from efficientnet_east.checkpoints import weight_names
from efficientnet_east.checkpoints.weight_files import FORMATS, Source, listed
from efficientnet_east.checkpoints.weight_names import FAMILIES, OWN, TOP, Family, Variable
from efficientnet_east.errors import UserError


@dataclasses.dataclass(frozen=True)
class Restored:
    """What became of a weight file.

    Attributes:
      values: variable name -> array, for the wanted variables that take the file's value, or a zero that
        switches a block off whose kernel is absent.
      more: the same for what nobody asked for: a whole head convolution or classifier, and of this project's
        own files the other parts of the model.
      initialised: wanted variables that keep their initial value.
      lacking: the names in the file of what was wanted and is not there.
      orphans: batch norms unused because the kernel before them is absent.
      unused: arrays that the backbone has no place for.
      idle: arrays of head and classifier, which nobody asked for.
      elsewhere: arrays of other parts of the file's model.
      identities: blocks that begin as the identity because their last kernel is absent.
      notes: what the file was taken for.
    """

    values: dict[str, np.ndarray]
    more: dict[str, np.ndarray]
    initialised: tuple[str, ...]
    lacking: tuple[str, ...]
    orphans: tuple[str, ...]
    unused: tuple[str, ...]
    idle: tuple[str, ...]
    elsewhere: tuple[str, ...]
    identities: tuple[str, ...]
    notes: tuple[str, ...]

    def report(self) -> str:
        """Say in a few lines what was restored, what was initialised and what went unused."""
        zeroed = sum(
            name.split("/")[1] in self.identities
            for name in self.values
            if name.endswith("project/BatchNorm/gamma")
        )
        lines = [*self.notes, f"restored {len(self.values) - zeroed} variables of the backbone"]
        for title, names in (
            ("initialised, for lack of an array", self.initialised),
            ("blocks begun as the identity, their projection being absent", self.identities),
            ("batch norms unused, their kernels being absent", self.orphans),
            ("arrays unused", self.unused),
        ):
            if names:
                lines.append(f"{title}: {', '.join(names)}")
        if self.idle:
            lines.append(f"head and classifier, which the trunk does not use: {listed(self.idle)}")
        if self.elsewhere:
            parts = dict.fromkeys(name.replace(".", "/").split("/")[0] for name in self.elsewhere)
            lines.append(f"{_count(self.elsewhere)} of other parts: {listed(parts)}")
        return "\n".join(lines)


def restore(source: Source, backbone: str, wanted: Collection[str] | None = None) -> Restored:
    """Decide which variable takes which array.

    A batch norm belongs to the kernel before it: where the kernel is absent its batch norm starts afresh.
    A block with a residual whose projection is absent starts as the identity (its last gamma is 0), so that
    the trained blocks around it see what they were trained on.

    Args:
      source: from `weight_files.read`.
      backbone: its name, see `catalogue.get_backbone`.
      wanted: names of the backbone's variables in the graph, scope included; None for the trunk.

    Returns:
      The values to assign, and the report. That arrays are absent or unused is no error here, see
      `expect_complete`.

    Raises:
      UserError: the file is of another backbone, or an array has another shape.
    """
    match = _expect_match(source, backbone)
    variables = weight_names.variables(backbone, match.family)
    mine = {variable: f"{match.scope}/{variable.name}" for variable in variables}
    if wanted is None:
        wanted = [name for variable, name in mine.items() if variable.layer not in TOP]
    asked, torn = set(wanted), {variable.layer for variable in match.missing}
    bare = {variable.layer for variable in match.missing if variable.leaf.endswith("weights")}
    values: dict[str, np.ndarray] = {}
    more: dict[str, np.ndarray] = {}
    orphans, idle = [], []
    for variable, in_file in match.found.items():
        array = source.arrays[in_file].transpose(variable.axes)
        if mine[variable] not in asked:
            idle.append(in_file)
            more |= {} if variable.layer in torn else {mine[variable]: array}
        elif variable.layer in bare and "BatchNorm" in variable.leaf:
            orphans.append(in_file)
        else:
            values[mine[variable]] = array
    elsewhere = [name for name in source.arrays if not name.startswith(match.root)]
    if match.family is OWN:
        more |= {name: source.arrays[name] for name in elsewhere}
    identities = _identities(match, bare)
    values |= identities
    return Restored(
        values={name: values[name] for name in wanted if name in values},
        more=more,
        initialised=tuple(name for name in wanted if name not in values),
        lacking=tuple(match.root + v.source for v in match.missing if mine[v] in asked),
        orphans=tuple(orphans),
        unused=match.unused,
        idle=tuple(idle),
        elsewhere=tuple(elsewhere),
        identities=tuple(name.split("/")[1] for name in identities),
        notes=(f"{source.path}: {source.format}, by the names of {match.family.title}", *source.notes),
    )


def expect_complete(restored: Restored, source: Source, allow_missing: bool, allow_unused: bool) -> None:
    """Refuse a file that does not fill the backbone, or holds more than it.

    Args:
      restored: from `restore`.
      source: the file, for the error.
      allow_missing: let variables without an array keep their initial value.
      allow_unused: let arrays go unused.

    Raises:
      UserError: with the names.
    """
    if restored.lacking and not allow_missing:
        problem = f"lacks {_count(restored.lacking)}: {listed(restored.lacking)}"
        raise UserError(source.path, problem, "expected all, or --allow-missing")
    if restored.unused and not allow_unused:
        problem = f"holds {_count(restored.unused)} without a place: {listed(restored.unused)}"
        raise UserError(source.path, problem, "expected none, or --allow-unused")


def _count(names: Sequence[str]) -> str:
    return "1 array" if len(names) == 1 else f"{len(names)} arrays"


@dataclasses.dataclass(frozen=True)
class _Match:
    """How the arrays of a file lie on a backbone by the names of one family."""

    backbone: str
    family: Family
    root: str  # what stands before the names of the table
    found: Mapping[Variable, str]  # the name in the file
    missing: tuple[Variable, ...]
    mismatched: tuple[str, ...]  # in words
    unused: tuple[str, ...]

    @property
    def scope(self) -> str:
        return catalog.scope_of(self.backbone)

    @property
    def misfits(self) -> int:
        """How many tensors do not meet; those behind the trunk may be absent."""
        lacking = [variable for variable in self.missing if variable.layer not in TOP]
        return len(lacking) + len(self.mismatched) + len(self.unused)


def _expect_match(source: Source, backbone: str) -> _Match:
    """The match with the fewest misfits, refused if shapes differ or another backbone fits better."""
    families = [family for family in FAMILIES[source.format] if weight_names.variables(backbone, family)]
    if not families:
        problem = f"no names are known for {backbone} in {FORMATS[source.format]}"
        raise UserError(source.path, problem, "expected a file of format tpu or npz")
    match = _best(source, [backbone], families)
    if match and not match.misfits:
        return match
    other = _best(source, catalog.names(), FAMILIES[source.format])
    if not match and not other:
        titles = " or ".join(family.title for family in families)
        problem = f"holds {listed(source.arrays) or 'nothing'}, which are not the names of {titles}"
        raise UserError(source.path, problem, f"expected weights of {backbone}")
    fits_better = other is not None and (not match or other.misfits < match.misfits)
    if not match or match.mismatched or fits_better:
        problem = _misfits(match) if match else "has no name of it"
        looks = f"; looks like {other.backbone}" if other and fits_better else ""
        raise UserError(source.path, problem + looks, f"expected weights of {backbone}")
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


def _best(source: Source, backbones: Iterable[str], families: Iterable[Family]) -> _Match | None:
    """The match with the fewest misfits, None if not a name is known."""
    tried = [_match(source, backbone, family) for backbone in backbones for family in families]
    return min((match for match in tried if match), key=lambda match: match.misfits, default=None)


def _match(source: Source, backbone: str, family: Family) -> _Match | None:
    """None if not a single name is one of the family's."""
    variables = weight_names.variables(backbone, family)
    if not variables:
        return None
    root = _root(source, family.separator, variables, catalog.scope_of(backbone))
    arrays = {name: array for name, array in source.arrays.items() if name.startswith(root)}
    there = {variable: root + variable.source for variable in variables if root + variable.source in arrays}
    if not there:
        return None
    taken = set(there.values())
    wrong = {v: name for v, name in there.items() if not _fits(arrays[name].shape, v.source_shape)}
    return _Match(
        backbone,
        family,
        root,
        found={variable: name for variable, name in there.items() if variable not in wrong},
        missing=tuple(variable for variable in variables if variable not in there),
        mismatched=tuple(
            f"{name} has shape {arrays[name].shape}, not {_shape(v)}" for v, name in wrong.items()
        ),
        unused=tuple(name for name in arrays if name not in taken),
    )


def _root(source: Source, separator: str, variables: tuple[Variable, ...], scope: str) -> str:
    """What stands before the first layer's name: `efficientnet-b0/`, `module.`, nothing."""
    stem = variables[0].source
    ending = separator + stem
    roots = {name.removesuffix(stem) for name in source.arrays if (separator + name).endswith(ending)}
    if not roots:
        return f"{scope}/" if any(name.startswith(f"{scope}/") for name in source.arrays) else ""
    root = min(sorted(roots), key=len)
    others = sorted(other for other in roots if not other.startswith(root))
    if others:
        raise UserError(source.path, f"holds several networks: {listed([root, *others])}", "expected one")
    return root


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        wanted in (side, None) for side, wanted in zip(shape, expected, strict=True)
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
