"""ImageNet weights of the official checkpoints' naming, laid onto this project's variables.

Names map to names, shapes are checked, and everything that does not meet is reported. Layouts are the same on
both sides (kernels [height, width, in, out], depthwise [height, width, channels, 1]): nothing is transposed.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from efficientnet_east import scaling
from efficientnet_east.errors import UserError

_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


@dataclasses.dataclass(frozen=True)
class Restored:
    """What became of a weight file.

    Attributes:
      values: variable name -> array, for the variables that take the file's value, or a zero that switches a
        block off whose kernel is absent.
      initialised: variables of the backbone that keep their initial value.
      unused: arrays of the file that went nowhere.
      identities: blocks that begin as the identity because their last kernel is absent.
    """

    values: dict[str, np.ndarray]
    initialised: tuple[str, ...]
    unused: tuple[str, ...]
    identities: tuple[str, ...]

    def report(self) -> str:
        """Say in a few lines what was restored, what was initialised and what went unused."""
        zeroed = sum(
            name.split("/")[1] in self.identities
            for name in self.values
            if name.endswith("project/BatchNorm/gamma")
        )
        lines = [f"restored {len(self.values) - zeroed} variables of the backbone from ImageNet weights"]
        for title, names in (
            ("initialised, for lack of an array", self.initialised),
            ("blocks begun as the identity, their projection being absent", self.identities),
            ("arrays unused", self.unused),
        ):
            if names:
                lines.append(f"{title}: {', '.join(names)}")
        return "\n".join(lines)


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Read a weight file.

    Args:
      path: an `.npz` of numeric arrays; nothing pickled is accepted.

    Returns:
      Name -> float32 array.

    Raises:
      UserError: the file cannot be read, or holds something else than finite numbers.
    """
    if Path(path).is_file() and not zipfile.is_zipfile(path):
        raise UserError(path, "cannot be read (it is no zip archive)", "an .npz of ImageNet weights")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except FileNotFoundError:
        raise UserError(path, "no such file", "an .npz of ImageNet weights") from None
    except Exception as error:  # a damaged file gets a dozen kinds out of zipfile, zlib, tokenize and NumPy
        raise UserError(path, f"cannot be read ({error})", "an .npz of ImageNet weights") from None
    return {name: _finite(array, f"{path}: {name}") for name, array in arrays.items()}


def _finite(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise UserError(where, f"holds no real numbers but {array.dtype}", "an .npz of ImageNet weights")
    if not np.isfinite(array).all():
        raise UserError(where, "holds NaN or infinity", "finite numbers")
    return array.astype(np.float32)


def official_names(network: scaling.Network, scope: str) -> Iterator[tuple[str, str]]:
    """Pair every variable of the trunk with its name in the official checkpoints.

    Args:
      network: from `scaling.resolve`.
      scope: the backbone's variable scope, which is also the official prefix.

    Yields:
      (variable name, official name), both under the scope.
    """
    yield from _convolution(f"{scope}/stem", f"{scope}/stem", 0)
    for block in network.blocks:
        here = f"{scope}/{block.name}"
        shift = 0 if block.expand == 1 else 1  # without an expansion the official numbering starts earlier
        if shift:
            yield from _convolution(f"{here}/expand", here, 0)
        yield f"{here}/depthwise/depthwise_weights", f"{here}/depthwise_conv2d/depthwise_kernel"
        yield from _batch_norm(f"{here}/depthwise", here, shift)
        for ours, theirs in (("reduce", "conv2d"), ("expand", "conv2d_1")):
            yield f"{here}/se/{ours}/weights", f"{here}/se/{theirs}/kernel"
            yield f"{here}/se/{ours}/biases", f"{here}/se/{theirs}/bias"
        yield f"{here}/project/weights", f"{here}/{_numbered('conv2d', shift)}/kernel"
        yield from _batch_norm(f"{here}/project", here, shift + 1)


def restore(
    arrays: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    backbone: str,
    scope: str,
    path: str,
) -> Restored:
    """Decide which variable takes which array.

    A batch norm belongs to the kernel before it: where the kernel is absent its batch norm starts afresh.
    A block with a residual whose projection is absent starts as the identity (its last gamma is 0), so that
    the trained blocks around it see what they were trained on.

    Args:
      arrays: from `read_npz`.
      shapes: name -> shape of the backbone's variables in the graph.
      backbone: the variant's name.
      scope: the backbone's variable scope.
      path: of the file, for errors.

    Returns:
      The values to assign, and the report.

    Raises:
      UserError: the file is of another variant, or an array has another shape.
    """
    prefixes = sorted({name.split("/")[0] for name in arrays})
    if prefixes != [scope]:
        raise UserError(path, f"holds weights of {', '.join(prefixes) or 'nothing'}", f"weights of {scope}")
    network = scaling.resolve(scaling.get_variant(backbone))
    pairs = dict(official_names(network, scope))
    absent = {ours for ours, theirs in pairs.items() if theirs not in arrays}
    orphans = {ours for ours in pairs if "/BatchNorm/" in ours and _kernel_of(ours) & absent}
    values = {}
    for ours in pairs.keys() - absent - orphans:
        array = arrays[pairs[ours]]
        if array.shape != shapes[ours]:
            raise UserError(f"{path}: {pairs[ours]}", f"has shape {array.shape}", f"{shapes[ours]} of {ours}")
        values[ours] = array
    identities = tuple(
        b.name for b in network.blocks if b.residual and f"{scope}/{b.name}/project/weights" in absent
    )
    for name in identities:
        gamma = f"{scope}/{name}/project/BatchNorm/gamma"
        values[gamma] = np.zeros(shapes[gamma], np.float32)
    used = {pairs[ours] for ours in values if ours not in orphans}
    return Restored(
        {name: values[name] for name in pairs if name in values},
        tuple(name for name in pairs if name not in values),
        tuple(name for name in arrays if name not in used),
        identities,
    )


def _kernel_of(batch_norm_variable: str) -> set[str]:
    layer = batch_norm_variable.split("/BatchNorm/")[0]
    return {f"{layer}/weights", f"{layer}/depthwise_weights"}


def _convolution(ours: str, theirs: str, number: int) -> Iterator[tuple[str, str]]:
    yield f"{ours}/weights", f"{theirs}/{_numbered('conv2d', number)}/kernel"
    yield from _batch_norm(ours, theirs, number)


def _batch_norm(ours: str, theirs: str, number: int) -> Iterator[tuple[str, str]]:
    for leaf in _BATCH_NORM:
        yield f"{ours}/BatchNorm/{leaf}", f"{theirs}/{_numbered('tpu_batch_normalization', number)}/{leaf}"


def _numbered(name: str, number: int) -> str:
    return name if number == 0 else f"{name}_{number}"
