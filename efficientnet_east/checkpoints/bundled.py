"""The models that come with the package, by name.

To add one, put its weights and its ONNX file into `models/`, and add a row to `MODELS`.
`python benchmarks/bundle.py NAME` writes the ONNX file.
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path

from efficientnet_east.errors import UserError


@dataclasses.dataclass(frozen=True)
class Bundled:
    """One model.

    Attributes:
      weights: a file of `export-weights`.
      precision: of the ONNX file, which detects without TensorFlow: `float16` or `int8`.
      purpose: what it is for, for people.
    """

    weights: Path
    precision: str
    purpose: str

    @property
    def onnx(self) -> Path:
        """The ONNX file beside the weights; it may be absent."""
        return self.weights.with_suffix(".onnx")


_FOLDER = Path(__file__).parents[1] / "models"
DEFAULT = "default"
MODELS = {
    DEFAULT: Bundled(_FOLDER / "b0.npz", "float16", "EfficientNet-B0, the most accurate"),
    "fast": Bundled(_FOLDER / "fast.npz", "int8", "EfficientNet-Lite0, the fastest"),
}
_MEND = "Install efficientnet_east again (pip install --force-reinstall --no-deps), or name another model."


def is_bundled(path: str | Path) -> bool:
    """Tell whether a user named one of `MODELS` (a folder of that name is `./default`)."""
    return str(path) in MODELS


def resolve(path: str | Path, as_onnx: bool = False) -> Path:
    """Give the path of the model that a user named.

    Args:
      path: of a model of any kind, or a name of `MODELS`.
      as_onnx: of a name, give the ONNX file and not the weights.

    Returns:
      The path.

    Raises:
      UserError: the file of a name is missing.
    """
    if not is_bundled(path):
        return Path(path)
    model = MODELS[str(path)]
    file = model.onnx if as_onnx else model.weights
    if not file.is_file():
        raise UserError(path, f"the bundled model is missing ({file})", _MEND)
    return file


def broken(name: str | Path, error: UserError) -> UserError:
    """Turn the error of a bundled model's file into one that says how to mend the installation."""
    problem = f"the bundled model cannot be used ({error.where}: {error.problem})"
    return UserError(name, problem, _MEND)


def did_you_mean(path: str | Path) -> str | None:
    """Give the hint for a model that was not found; None unless its name is like that of a bundled one."""
    near = difflib.get_close_matches(str(path), MODELS, n=1)
    return f"expected {near[0]} (did you mean that?)" if near else None
