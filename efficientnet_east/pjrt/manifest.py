"""The description of an exported train step: its arguments, state, results, and configuration.

A folder made by `export --format stablehlo-train` holds:
* `manifest.json`, written last: this description; without it the folder is no export;
* `step.mlir`: the program, StableHLO text;
* `state-STEP.npz`: the state that the run begins from;
* `config.yaml`: the configuration, to be read by people and edited where the program does not depend on it.

The program's arguments are those of the manifest, then its state in the manifest's order. Its results are
those of the manifest, then the new value of every state tensor that is `updated`, in the same order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east import config as configuration
from efficientnet_east.config import Config
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files
from efficientnet_east.files.atomic import write_file
from efficientnet_east.inference.detector import CONFIG_FILE

MANIFEST_FILE, PROGRAM_FILE = "manifest.json", "step.mlir"
FORMAT, VERSION = "efficientnet_east train step", 1
STEP_NAME = "global_step"
AVERAGE, MOMENTS = "/ExponentialMovingAverage", ("/Adam", "/Adam_1")
_EXPECTED = "a folder made by `export --format stablehlo-train`"

# What a run may change, because the program does not depend on it. All other fields are built into it.
RUN_FIELDS = {
    "data": {
        "data", "mix", "list", "limit", "val_data", "val_list", "val_limit", "skip_bad", "skip_share",
        "synthetic_scenes", "synthetic_size", "scale_min", "scale_max", "rotation", "quarter_turns",
        "text_crops", "aspect", "color", "color_strength", "motion_blur", "jpeg", "mosaic", "paste",
        "workers", "cache_megabytes",
    },
    "train": {
        "workdir", "init", "recalibrate", "steps", "learning_rate", "schedule", "warmup_steps", "decay_steps",
        "decay_factor", "final_rate", "rise", "milestones", "step_factor", "staircase", "threads",
        "log_every", "save_every", "validate_every", "picture_every", "keep_checkpoints",
    },
    "detect": set(configuration.Detect.model_fields),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One argument or result.

    Attributes:
      name: of the variable, as in a checkpoint, or of the field of a batch.
      dtype: as NumPy calls it.
      shape: of the array.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def differs_from(self, array: np.ndarray) -> str:
        """Describe what is wrong with an array that should be this tensor; empty if it fits."""
        if array.dtype != self.dtype or array.shape != self.shape:
            return f"{self.name} is {array.dtype} {array.shape}, not {self.dtype} {self.shape}"
        return ""


@dataclasses.dataclass(frozen=True)
class StateSpec(TensorSpec):
    """One tensor of the state.

    Attributes:
      kind: `weight`, `statistic` (of a batch norm), `average`, `moment` (of the optimizer) or `counter`.
      updated: whether a step changes it. Its buffer is then donated to the new value.
    """

    kind: str
    updated: bool


@dataclasses.dataclass(frozen=True)
class Manifest:
    """See the module.

    Attributes:
      arguments: a batch's fields and the learning rate.
      state: in the program's order.
      results: the step's scalars.
      config: the configuration that the program was built for.
      versions: of what made it, name -> version.
      sha256: of the program's file.
    """

    arguments: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...]
    results: tuple[TensorSpec, ...]
    config: Config
    versions: Mapping[str, str]
    sha256: str

    @property
    def texts(self) -> int:
        """The largest number of texts that a crop may have."""
        return next(argument.shape[1] for argument in self.arguments if argument.name == "ignore")


def kind_of(name: str) -> str:
    """Return the kind of a state tensor, by its variable's name."""
    if name.endswith(AVERAGE):
        return "average"
    if name.endswith(MOMENTS):
        return "moment"
    if name.rpartition("/")[2] in ("moving_mean", "moving_variance"):
        return "statistic"
    return "weight" if "/" in name else "counter"


def write(folder: Path, manifest: Manifest, program: str) -> None:
    """Write a manifest, its program and its configuration.

    Args:
      folder: made if it is not there.
      manifest: its `sha256` is that of the program.
      program: StableHLO text.

    Raises:
      UserError: the folder cannot be written.
    """
    tree = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(manifest)}
    tree["config"] = manifest.config.model_dump()
    write_file(folder / PROGRAM_FILE, program.encode())
    write_file(folder / CONFIG_FILE, configuration.dump(manifest.config).encode())
    write_file(folder / MANIFEST_FILE, _as_json(tree).encode())


def _as_json(tree: Mapping[str, Any]) -> str:
    """Write JSON with a line for each tensor."""
    lines = []
    for name, value in tree.items():
        if isinstance(value, tuple):
            rows = ",\n".join(f"  {json.dumps(row)}" for row in value)
            lines.append(f"{json.dumps(name)}: [\n{rows}\n]")
        else:
            lines.append(f"{json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read(folder: Path) -> Manifest:
    """Read a manifest.

    Args:
      folder: of an export, or a workdir of a run of one.

    Returns:
      The manifest.

    Raises:
      UserError: there is none, or one that this version cannot read.
    """
    path = folder / MANIFEST_FILE
    try:
        tree = json.loads(text_files.decode(path.read_bytes(), str(path)))
        found = (tree["format"], tree["version"])
        if found == (FORMAT, VERSION):
            return _parse(tree)
    except FileNotFoundError:
        raise UserError(path, "no such file", f"expected {_EXPECTED}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            path, f"cannot be read ({type(error).__name__}: {error})", f"expected {_EXPECTED}"
        ) from None
    raise UserError(
        path, f"is of format {found[0]!r}, version {found[1]!r}", f"expected {FORMAT!r}, {VERSION}"
    )


def _parse(tree: Mapping[str, Any]) -> Manifest:
    def rows(name: str, kind: Any) -> tuple[Any, ...]:
        return tuple(kind(**row | {"shape": tuple(row["shape"])}) for row in tree[name])

    return Manifest(
        rows("arguments", TensorSpec),
        rows("state", StateSpec),
        rows("results", TensorSpec),
        Config.model_validate(tree["config"]),
        tree["versions"],
        tree["sha256"],
    )


def read_program(folder: Path, manifest: Manifest) -> str:
    """Read the program that a manifest belongs to.

    Args:
      folder: of the export.
      manifest: of the same folder.

    Returns:
      StableHLO text.

    Raises:
      UserError: there is none, or another one.
    """
    path = folder / PROGRAM_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", f"expected {_EXPECTED}") from None
    if digest(data) != manifest.sha256:
        hint = "Keep the files of an export together."
        raise UserError(path, "is not the program that the manifest describes", hint)
    return data.decode()


def digest(data: bytes) -> str:
    """Compute the SHA-256 of a program, as the manifest records it."""
    return hashlib.sha256(data).hexdigest()


def check_config(manifest: Manifest, config: Config, where: object) -> None:
    """Refuse a configuration that the program was not built for.

    Args:
      manifest: of the program.
      config: of the run.
      where: for the error.

    Raises:
      UserError: the first field that differs and is built into the program.
    """
    built, given = manifest.config.model_dump(), config.model_dump()
    for section, name, _ in configuration.fields():
        before, now = built[section][name], given[section][name]
        if before != now and name not in RUN_FIELDS.get(section, ()):
            problem = f"{section}.{name} is {now!r}, but the program was built with {before!r}"
            raise UserError(where, problem, "Use the same value, or export again with the new one.")


def check_arrays(where: object, tensors: Sequence[TensorSpec], arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that are not these tensors, all of them and no others.

    Args:
      where: the file that they came from.
      tensors: from the manifest.
      arrays: name -> array.

    Raises:
      UserError: the first one at fault.
    """
    expected = "a state of this program"
    for tensor in tensors:
        if tensor.name not in arrays:
            raise UserError(where, f"lacks {tensor.name}", f"expected {expected}")
        if difference := tensor.differs_from(arrays[tensor.name]):
            raise UserError(where, difference, f"expected {expected}")
    if unknown := arrays.keys() - {tensor.name for tensor in tensors}:
        raise UserError(
            where, f"holds {min(unknown)}, which the program does not have", f"expected {expected}"
        )
