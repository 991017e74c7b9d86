"""Checkpoints of this project on disk: finding them, reading their weights, laying them onto variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.checkpoints import bundled, model_file, object_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError
from efficientnet_east.files import atomic, plain_paths

PREFIX = "model.ckpt"
STATE_FILE = "checkpoint"  # names a folder's checkpoints; TensorFlow's own file, in text
PARTS = (".data-00000-of-00001", ".index")  # in their order; without the last nothing counts
AVERAGE_SUFFIX = "/ExponentialMovingAverage"
_CHECKPOINT = "a workdir of train.py, or the prefix of a checkpoint such as runs/b0/model.ckpt-1000"
_MODEL = (
    "a workdir of train.py, a file of export or export-weights, or a prefix such as runs/b0/model.ckpt-1000"
)


def find(path: str | Path) -> str:
    """Find a checkpoint.

    Args:
      path: a workdir (its newest checkpoint), or a checkpoint's prefix, with or without `.index`; or a
        file of `export-weights`, or the name of a bundled model.

    Returns:
      The prefix, or the path of the file.

    Raises:
      UserError: there is none.
    """
    path = bundled.resolve(path)
    if model_file.is_model_file(path) and path.is_file():
        return str(path)
    if path.is_dir():
        newest = newest_in(path)
        if newest is None:
            raise UserError(path, "holds no checkpoint", f"expected {_CHECKPOINT}")
        return newest
    prefix = str(path).removesuffix(".index")
    if not Path(prefix + ".index").exists():
        raise UserError(path, "no such model", bundled.did_you_mean(path) or f"expected {_MODEL}")
    return prefix


def newest_in(workdir: Path) -> str | None:
    """Find the prefix of a workdir's newest checkpoint, None if it has none."""
    return next(iter(all_in(workdir)), None)


def all_in(workdir: Path) -> list[str]:
    """List the prefixes of a workdir's checkpoints, newest first.

    Newest is what the state file says; those that it does not name follow by the number in their names.
    """
    # The state file may be lost; a run that took its workdir for a new one would write over its checkpoints.
    found = sorted(workdir.glob(f"{PREFIX}-*.index"), key=_step, reverse=True)
    candidates = [*listed_in(workdir), *(str(path.with_suffix("")) for path in found)]
    return [prefix for prefix in dict.fromkeys(candidates) if Path(f"{prefix}.index").exists()]


def listed_in(folder: Path) -> list[str]:
    """Read the prefixes that a folder's state file lists, newest first; none if it is lost or damaged."""
    try:
        with plain_paths.readable(folder / STATE_FILE, STATE_FILE) as file:
            state = tf.train.get_checkpoint_state(str(file.parent))
    except ValueError:
        return []
    names = [state.model_checkpoint_path, *state.all_model_checkpoint_paths[::-1]] if state else []
    # The file may name the folder that its own was moved away from: the name within it counts.
    return list(dict.fromkeys(str(folder / Path(name).name) for name in names))


def _step(index: Path) -> int:
    digits = index.stem.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else -1


def read(prefix: str) -> dict[str, np.ndarray]:
    """Read every tensor of a checkpoint.

    Args:
      prefix: from `find`.

    Returns:
      Name -> array; of an object checkpoint of TensorFlow 2 the weights, see `object_checkpoints.read`.

    Raises:
      UserError: the checkpoint is damaged, or holds values that are not finite.
    """
    tensors = model_file.read_weights(Path(prefix)) if model_file.is_model_file(prefix) else _read(prefix)
    expect_finite(prefix, tensors)
    return tensors


def _read(prefix: str) -> dict[str, np.ndarray]:
    with plain_paths.readable(Path(prefix), PREFIX) as path:
        try:
            reader = tf.train.load_checkpoint(str(path))
            names = reader.get_variable_to_shape_map()
            if object_checkpoints.TREE in names:
                return object_checkpoints.read(prefix, reader)
            return {name: np.asarray(reader.get_tensor(name)) for name in names}
        except UserError:
            raise
        except Exception as error:  # on a damaged file the reader raises almost anything
            said = str(error).partition("\n")[0].replace(str(path), prefix)
            raise UserError(prefix, f"cannot be read ({said})", "expected an undamaged checkpoint") from None


def expect_finite(where: object, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse weights with which nothing can be detected or trained.

    Args:
      where: for the error.
      tensors: name -> array.

    Raises:
      UserError: some values are infinite or not a number.
    """
    floats = {name: array for name, array in tensors.items() if array.dtype.kind == "f"}
    bad = sorted(name for name, array in floats.items() if not np.isfinite(array).all())
    if bad:
        names = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        raise UserError(where, f"holds values that are not finite in {names}", "expected finite ones")


def averaged(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pick from a checkpoint the weights to detect with: each variable's moving average where it has one.

    Args:
      tensors: from `read`.

    Returns:
      Plain variable name -> array.
    """
    plain = {name: value for name, value in tensors.items() if not name.endswith(AVERAGE_SUFFIX)}
    averages = {
        name.removesuffix(AVERAGE_SUFFIX): value
        for name, value in tensors.items()
        if name.endswith(AVERAGE_SUFFIX)
    }
    return plain | averages


def weights_of(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pick the weights of the model: `averaged`, without counters and an optimizer's slots.

    Args:
      tensors: from `read`.

    Returns:
      Variable name -> array.
    """
    # A slot's name is its variable's with one part more; a counter's has a single part.
    return {
        name: value
        for name, value in averaged(tensors).items()
        if "/" in name and name.rpartition("/")[0] not in tensors
    }


def write(prefix: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint. Until it is whole nothing stands under its name, or what stood there before.

    Args:
      prefix: of the checkpoint; missing folders are made.
      tensors: name -> array.

    Raises:
      WriteError: the folder cannot be written.
    """
    write_by(prefix, lambda partial: _save(partial, tensors))


def write_by(prefix: str | Path, save: Callable[[str], object]) -> None:
    """Write a checkpoint through any of TensorFlow's ways to save one; see `write`.

    Args:
      prefix: of the checkpoint; missing folders are made.
      save: writes the checkpoint's two files under another prefix, which it is given.

    Raises:
      WriteError: the folder cannot be written.
    """
    prefix = Path(prefix)
    try:
        with atomic.partial_folder(prefix.parent) as folder:
            with plain_paths.writable(folder) as path:
                save(str(path / PREFIX))
            parts = [(folder / f"{PREFIX}{part}").rename(folder / f"{prefix.name}{part}") for part in PARTS]
            Path(f"{prefix}.index").unlink(missing_ok=True)  # without its index a checkpoint is not there
            atomic.move_into_place(parts, prefix.parent)
    except (OSError, tf.errors.OpError) as error:
        raise atomic.cannot_be_written(prefix, _why(error)) from None


def _why(error: Exception) -> str:
    """The system's words; TensorFlow has them behind the name of the file, somewhere in its report."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    found = re.search(rf"{re.escape(atomic.PARTIAL)}.*?; ([^\n\[]+)", str(error))
    return found[1].strip() if found else str(error).partition("\n")[0]


def _save(prefix: str, tensors: Mapping[str, np.ndarray]) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = {tf.placeholder(array.dtype, array.shape): array for array in tensors.values()}
        slices = [""] * len(feeds)
        session.run(tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=list(tensors), shape_and_slices=slices, tensors=list(feeds)
        ), feeds)  # fmt: skip


def check_fit(prefix: str, tensors: Mapping[str, np.ndarray], variables: Sequence[Any]) -> None:
    """Refuse a checkpoint that is not of this architecture.

    Args:
      prefix: for the error.
      tensors: from `read` or `averaged`.
      variables: of the graph, all of which must be there with their shapes.

    Raises:
      UserError: the first variable that is missing or has another shape.
    """
    for variable in variables:
        name, shape = variable.op.name, tuple(variable.shape.as_list())
        if name not in tensors:
            raise UserError(
                prefix,
                f"is a checkpoint of another architecture: it lacks {name}",
                "expected one of this model",
            )
        if tensors[name].shape != shape:
            problem = f"is a checkpoint of another architecture: {name} has shape {tensors[name].shape}"
            raise UserError(prefix, problem, f"expected {shape}")


def assign(session: Any, values: Mapping[str, np.ndarray], variables: Sequence[Any]) -> None:
    """Set variables in one run.

    Args:
      session: a session of the variables' graph.
      values: variable name -> array.
      variables: of the graph; those that `values` does not name are left as they are.
    """
    named = [variable for variable in variables if variable.op.name in values]
    feeds = {variable.initializer.inputs[1]: values[variable.op.name] for variable in named}
    session.run([variable.initializer for variable in named], feeds)
