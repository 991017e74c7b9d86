"""Libraries that may be missing, looked for where they are installed and not in the working folder.

Python looks into the working folder first. A folder `lanms` in somebody's EAST checkout would be imported
instead of the package, and what it does on import, such as to call a compiler, would be done.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType


def find(name: str) -> importlib.machinery.ModuleSpec | None:
    """Find where a top-level module is installed, None if it is not. Nothing is imported."""
    places = [place for place in sys.path if not _is_here(place)]
    return importlib.machinery.PathFinder.find_spec(name, places)


@functools.cache
def load(name: str, package: str) -> ModuleType:
    """Import a top-level module from where it is installed.

    Args:
      name: of the module.
      package: that pip installs, for the error.

    Returns:
      The module.

    Raises:
      ImportError: it is not installed, or cannot be imported.
    """
    spec = find(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is not installed: pip install {package}", name=name)
    known = sys.modules.get(name)
    if known is not None and getattr(known.__spec__, "origin", None) == spec.origin:
        return known
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        if known is not None:  # the program's own module of that name, which stays
            sys.modules[name] = known
    return module


def ignore_working_folder() -> None:
    """Import nothing from the working folder, where `python -m` would look first.

    The exception is a checkout that is not installed: this package itself lies there.
    """
    first = sys.path[0] if sys.path else None
    if first is not None and _is_here(first) and not _is_here(Path(__file__).parents[2]):
        del sys.path[0]


def _is_here(place: str | os.PathLike[str]) -> bool:
    try:
        return os.path.realpath(place or os.curdir) == os.path.realpath(os.curdir)
    except OSError:  # the working folder was removed
        return not place
