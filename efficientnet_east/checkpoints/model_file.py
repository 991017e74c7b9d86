"""A detector in one file, as `export-weights` writes it: weights by name, and their configuration."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from efficientnet_east.checkpoints import bundled
from efficientnet_east.checkpoints.float16 import round_kernel
from efficientnet_east.errors import UserError
from efficientnet_east.files.archives import read_arrays
from efficientnet_east.files.atomic import write_file

SUFFIX = ".npz"
CONFIG = "config.yaml"  # its member, beside the arrays
_EXPECTED = "a file of export-weights"
_MOST_CONFIG = 1 << 20  # bytes


def is_model_file(path: str | Path) -> bool:
    """Tell whether a name is that of such a file, and not of a checkpoint of TensorFlow's."""
    return Path(path).suffix == SUFFIX


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Shorten the paths of models, so that a client learns nothing of the server's folders.

    Args:
      paths: of the models, or names of bundled ones.

    Returns:
      Name -> path: the path's last part, as much of it as is needed to tell them apart.
    """
    different = dict.fromkeys(paths)
    parts = [(path,) if bundled.is_bundled(path) else Path(os.path.abspath(path)).parts for path in different]
    for length in range(1, 1 + max(map(len, parts))):
        names = ["/".join(part[-length:]).lstrip("/") for part in parts]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, different, strict=True))


def write(path: str | Path, arrays: Mapping[str, np.ndarray], config: str, half: bool = False) -> None:
    """Write a model; until the file is whole nothing stands under its name.

    Args:
      path: of the file, which ends in `.npz`.
      arrays: name -> array.
      config: YAML, as `config.load` reads it.
      half: kernels become float16, see `float16.round_kernel`. Vectors, such as statistics and scales of
        batch norm, keep their digits.

    Raises:
      WriteError: it cannot be written.
    """
    stored = {name: _half(array) if half else array for name, array in arrays.items()}
    text = np.frombuffer(config.encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **stored, **{CONFIG: text})  # type: ignore[arg-type]
    write_file(path, buffer.getvalue())


def read(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """Read a model, or any other arrays by name.

    Args:
      path: of the file.

    Returns:
      Name -> array, as stored; and the configuration's YAML, None if there is none.

    Raises:
      UserError: it would unpack to far more than its own size, or the configuration is no text.
      Exception: of a damaged file almost any other, see `archives.read_arrays`.
    """
    arrays = read_arrays(path)
    text = arrays.pop(CONFIG, None)
    if text is None:
        return arrays, None
    if text.dtype != np.uint8 or text.nbytes > _MOST_CONFIG:
        raise UserError(f"{path}: {CONFIG}", "is no text", f"expected {_EXPECTED}")
    return arrays, text.tobytes().decode("utf-8", "replace")


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read a model's weights.

    Args:
      path: of the file.

    Returns:
      Name -> array; those in half precision become float32.

    Raises:
      UserError: the file is damaged or of another kind.
    """
    arrays, _ = _expected(path)
    return {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }


def config_in(path: Path) -> str | None:
    """Read a file's configuration, YAML; None if it holds weights only. See `read_config`."""
    return _expected(path)[1]


def read_config(path: Path) -> str:
    """Read a model's configuration.

    Args:
      path: of the file.

    Returns:
      YAML.

    Raises:
      UserError: the file is damaged or of another kind, or holds weights only.
    """
    config = config_in(path)
    if config is None:
        raise UserError(path, "holds weights, but no configuration of a detector", f"expected {_EXPECTED}")
    return config


def _expected(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    try:
        return read(path)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(path, "no such file", f"expected {_EXPECTED}") from None
    except Exception as error:  # zipfile, zlib and NumPy raise several kinds for a damaged archive
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(path, f"cannot be read ({said})", f"expected {_EXPECTED}") from None


def _half(array: np.ndarray) -> np.ndarray:
    kernel = array.ndim > 1 and array.dtype == np.float32
    return round_kernel(array).astype(np.float16) if kernel else array
