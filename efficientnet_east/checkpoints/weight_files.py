"""Weight files of every kind, read into arrays by name. What the names mean stands in `weight_names`."""

from __future__ import annotations

import collections
import dataclasses
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.checkpoints import bundled, model_file, tf_checkpoints
from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import write_file

FORMATS = {
    "tpu": "a TensorFlow checkpoint: its prefix, one of its files, its folder or a SavedModel's",
    "keras": "a .h5, .weights.h5 or .keras file of Keras",
    "torch": "a state dict saved by PyTorch (.pth, .pt, .bin) or a .safetensors file",
    "npz": "an .npz of arrays",
}
_SUFFIXES = {
    ".npz": "npz", ".h5": "keras", ".hdf5": "keras", ".keras": "keras", ".pth": "torch", ".pt": "torch",
    ".bin": "torch", ".safetensors": "torch", ".ckpt": "tpu", ".index": "tpu",
}  # fmt: skip
# Beside the weights: PyTorch's counters, dropout's seeds, and the normalization of pixels before the network.
_NO_WEIGHTS = re.compile(r"(^|/)(normalization|seed_generator)(_\d+)?/|(^|\.)num_batches_tracked$|/mean_rgb$")
_MOST_NAMES = 6  # in a message
_MOST_NUMBERS = 2**28  # in an array; damaged and hostile headers claim more


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """What was read from a weight file.

    Attributes:
      path: of the file, or the prefix of the checkpoint that was found.
      format: a key of `FORMATS`.
      arrays: name in the file -> float32 array, as the file lays it out.
      notes: what the reader decided, for the user.
    """

    path: str
    format: str
    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


def read(path: str | Path, format: str | None = None) -> WeightFile:
    """Read a weight file.

    Args:
      path: of the file; of a TensorFlow checkpoint its prefix, one of its files or its folder; or the name
        of a bundled model.
      format: a key of `FORMATS`; None takes what the contents, or else the ending, tell.

    Returns:
      The arrays, all finite. What is no weight, such as an optimizer's slots, has been left out.

    Raises:
      UserError: there is no such file, it is damaged or of another kind, it holds something else than finite
        numbers, or a package is missing that reads it.
    """
    path = bundled.resolve(path)
    path = path.parent if path.name == "saved_model.pb" else path  # the weights lie beside this graph
    format = format or format_of(path)
    path = _checkpoint_of(Path(path)) if format == "tpu" else path
    tensors, notes = _READERS[format](Path(path))
    arrays = {name: np.asarray(value) for name, value in tensors.items() if not _NO_WEIGHTS.search(name)}
    _refuse(path, arrays, lambda array: array.dtype.kind not in "fiu", "holds no real numbers", "numbers")
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    infinite = "holds NaN or infinity"
    _refuse(path, arrays, lambda array: not np.isfinite(array).all(), infinite, "finite numbers")
    return WeightFile(str(path), format, arrays, notes)


def expect_there(path: str | Path) -> None:
    """Check, before anything slow begins, that there is something to read.

    Args:
      path: see `read`.

    Raises:
      UserError: there is no such file.
    """
    path = bundled.resolve(path)
    if not (path.exists() or Path(f"{_prefix(path)}.index").exists()):
        raise _nothing_there(path)


def format_of(path: str | Path) -> str:
    """Tell a file's format from its contents, or where these are damaged from its ending.

    Args:
      path: see `read`.

    Returns:
      A key of `FORMATS`.

    Raises:
      UserError: there is no such file, or it is of no known kind.
    """
    path = Path(path)
    if path.is_dir() or Path(f"{_prefix(path)}.index").exists():
        return "tpu"
    if path.is_file():
        by_contents = _format_by_contents(path)
    elif path.suffix in _SUFFIXES:  # its reader says what is missing
        by_contents = None
    else:
        raise _nothing_there(path)
    format = by_contents or _SUFFIXES.get(path.suffix)
    if format is None:
        raise UserError(path, "is no weight file of a known kind", f"expected {'; '.join(FORMATS.values())}")
    return format


def _nothing_there(path: Path) -> UserError:
    expected = "expected a weight file, a checkpoint or a workdir"
    return UserError(path, "no such file or checkpoint", bundled.did_you_mean(path) or expected)


def listed(names: Iterable[str]) -> str:
    """List the first few names, and how many more there are."""
    names = list(names)
    more = len(names) - _MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_MOST_NAMES])} and {more} more"


def _format_by_contents(path: Path) -> str | None:
    head = _head(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    if zipfile.is_zipfile(path):
        return _format_of_archive(path)
    # A pickle; a safetensors header behind its length. Neither is certain enough to overrule the ending.
    if head[:1] == b"\x80" or head[8:] == b"{":
        return _SUFFIXES.get(path.suffix, "torch")
    return None


def _format_of_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [Path(name).name for name in archive.namelist()]
    except Exception:  # zipfile raises several kinds for a damaged archive; its reader says what is wrong
        return None
    kinds = {"model.weights.h5": "keras", "data.pkl": "torch"}
    other = next((kinds[name] for name in names if name in kinds), None)
    return other or ("npz" if any(name.endswith(".npy") for name in names) else None)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(9)


def _refuse(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    is_bad: Callable[[np.ndarray], bool],
    problem: str,
    expected: str,
) -> None:
    bad = [name for name, array in arrays.items() if is_bad(array)]
    if bad:
        raise UserError(f"{path}: {listed(bad)}", problem, f"expected {expected}")


def _unreadable(path: Path, format: str, error: Exception) -> UserError:
    """For a damaged file, of which its library raises almost anything."""
    if isinstance(error, FileNotFoundError) and not path.exists():
        return UserError(path, "no such file", f"expected {FORMATS[format]}")
    said = str(error).strip().partition("\n")[0] or type(error).__name__
    return UserError(path, f"cannot be read ({said})", f"expected {FORMATS[format]}")


def write(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name; until the file is whole nothing stands under its name.

    Args:
      path: ends in `.npz`, or is the prefix of a TensorFlow checkpoint.
      arrays: name -> array.

    Raises:
      UserError: it cannot be written.
    """
    if Path(path).suffix != ".npz":
        tf_checkpoints.write(path, arrays)
        return
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_file(path, buffer.getvalue())


Read = tuple[Mapping[str, Any], tuple[str, ...]]


def _read_npz(path: Path) -> Read:
    if path.is_file() and not zipfile.is_zipfile(path):
        raise UserError(path, "cannot be read (it is no zip archive)", f"expected {FORMATS['npz']}")
    try:
        return model_file.read(path)[0], ()
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(path, "npz", error) from None


def _prefix(path: Path) -> str:
    return re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(path))


def _checkpoint_of(path: Path) -> str:
    """The prefix of the checkpoint that a user named in one of many ways."""
    if model_file.is_model_file(path):
        raise UserError(path, "no such checkpoint", f"expected {FORMATS['tpu']}")
    if path.is_dir() and tf_checkpoints.newest_in(path) is None:
        # The state file is often lost on the way; a SavedModel has its variables in a folder of its own.
        found = sorted(path.glob("*.index")) or sorted(path.glob("variables/variables.index"))
        if len(found) != 1:
            raise UserError(path, f"holds {len(found)} checkpoints", "expected one, or a checkpoint's prefix")
        path = found[0]
    return tf_checkpoints.find(path if path.is_dir() else _prefix(path))


def _read_checkpoint(path: Path) -> Read:
    tensors = tf_checkpoints.read(str(path))
    averages = sum(name.endswith(tf_checkpoints.AVERAGE_SUFFIX) for name in tensors)
    note = f"took the moving averages of {averages} variables" if averages else "holds no moving averages"
    # Keras 3 calls this kernel as it does every other one.
    named = {re.sub(r"dwconv/kernel$", "dwconv/depthwise_kernel", name): v for name, v in tensors.items()}
    return tf_checkpoints.weights_of(named), (note,)


# The leaves of a Keras 3 layer in their order.
_KERAS_LEAVES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}


def _read_keras(path: Path) -> Read:
    import h5py

    found: list[Any] = []

    def collect(name: str, item: Any) -> None:  # links to other files are not followed
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            found.append(item)

    try:
        with h5py.File(_hdf5_of(path), "r") as file:
            file.visititems(collect)
            named = [(_keras_name(item), _keras_array(item)) for item in found]
    except Exception as error:
        raise _unreadable(path, "keras", error) from None
    twice = [name for name, count in collections.Counter(name for name, _ in named).items() if count > 1]
    if twice:
        raise UserError(path, f"holds several layers with the names {listed(twice)}", "expected one network")
    return dict(named), ()


def _hdf5_of(path: Path) -> Path | io.BytesIO:
    """A whole model of Keras 3 is a zip archive with the weights in it."""
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


def _keras_name(dataset: Any) -> str:
    """`stem_conv/kernel` where the file tells the layer's name, `layers/conv2d/vars/0` where it does not."""
    kind, layer, leaf = ["", "", *dataset.name.strip("/").split("/")][-3:]
    if layer != "vars":  # the older form: layers by name, and the weight's own name once more below
        leaf = leaf.removesuffix(":0")
        leaf = "depthwise_kernel" if layer.endswith("dwconv") and leaf == "kernel" else leaf
        return f"{layer if layer != 'probs' else 'predictions'}/{leaf}"
    leaves = _KERAS_LEAVES.get(re.sub(r"_\d+$", "", kind), ())
    name = dataset.parent.attrs.get("name")
    if name is None or not leaf.isdecimal() or int(leaf) >= len(leaves):
        return dataset.name.strip("/")
    return f"{name}/{leaves[int(leaf)]}"


def _keras_array(dataset: Any) -> np.ndarray:
    if dataset.external or dataset.is_virtual or dataset.size > _MOST_NUMBERS:
        raise ValueError(f"{dataset.name} has {dataset.size} numbers, or keeps them in other files")
    return np.asarray(dataset[()])


# Where training scripts put the state dict; the averaged weights count first.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema",
             "state_dict", "model_state_dict", "model")  # fmt: skip


def _read_torch(path: Path) -> Read:
    if path.suffix == ".safetensors" or (path.is_file() and _head(path)[8:] == b"{"):
        return _read_safetensors(path), ()
    try:
        import torch
    except ImportError:
        raise UserError(
            path, "is read by PyTorch, which is not installed", "Install it with `pip install torch`."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that are refused below
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unloaded(path, error) from None
    state, wrappers = _unwrapped(loaded)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    try:
        arrays = {name: _numpy(tensor, torch) for name, tensor in tensors.items()}
    except Exception as error:
        raise _unreadable(path, "torch", error) from None
    return arrays, (f"took {'/'.join(wrappers)} of the file",) if wrappers else ()


def _unloaded(path: Path, error: Exception) -> UserError:
    """PyTorch explains at length; what counts is which object it met that is no tensor."""
    blocked = re.search(r"GLOBAL ([\w.]+\w)", str(error))
    if blocked:
        problem = f"holds {blocked[1]}, which may run code and is not loaded"
        return UserError(path, problem, "expected what torch.save(model.state_dict(), FILE) writes")
    if "weights_only" in str(error):
        return UserError(path, "cannot be read (it is no file of PyTorch)", f"expected {FORMATS['torch']}")
    return _unreadable(path, "torch", error)


def _unwrapped(loaded: Any) -> tuple[Mapping[Any, Any], list[str]]:
    """The state dict, and the keys that lead to it."""
    keys: list[str] = []
    while isinstance(loaded, Mapping):
        key = next((key for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if key is None:
            return loaded, keys
        keys.append(key)
        loaded = loaded[key]
    return {}, keys


def _numpy(tensor: Any, torch: Any) -> np.ndarray:
    dense = tensor.detach()
    return (dense.to(torch.float32) if dense.is_floating_point() else dense).numpy()


def _read_safetensors(path: Path) -> Mapping[str, np.ndarray]:
    try:
        from safetensors.numpy import load_file
    except ImportError:
        problem = "is read by safetensors, which is not installed"
        raise UserError(path, problem, "Install it with `pip install safetensors`.") from None
    try:
        # NumPy knows bfloat16 since TensorFlow was imported; only its conversion is missing from `read`.
        return {name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array
                for name, array in load_file(path).items()}  # fmt: skip
    except Exception as error:
        raise _unreadable(path, "torch", error) from None


_READERS: dict[str, Callable[[Path], Read]] = {
    "tpu": _read_checkpoint,
    "keras": _read_keras,
    "torch": _read_torch,
    "npz": _read_npz,
}
