"""Other files in the place of a bundled model."""

from pathlib import Path

import pytest

from efficientnet_east.checkpoints import bundled


def bundle(monkeypatch: pytest.MonkeyPatch, weights: Path, name: str = bundled.DEFAULT) -> None:
    """Let a name stand for these weights, and for the ONNX file beside them if there is one."""
    monkeypatch.setitem(bundled.MODELS, name, bundled.Bundled(weights, "float16", "of a test"))
