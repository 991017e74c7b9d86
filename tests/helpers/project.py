"""A tiny network, small data sets, and what several tests ask of a run."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from efficientnet_east import scaling
from efficientnet_east.data.loader import Batch

Runner = Callable[..., tuple[int, str, str]]
TINY = scaling.Variant(width=0.3, depth=0.3, resolution=64, dropout=0.2)
SMALL = ["--backbone=tiny", "--crop-size=64", "--batch-size=2", "--workers=0", "--threads=1"]


def make_data(folder: Path, numbers: range = range(1, 3), text: str = "word") -> Path:
    """A data set in the layout images + gts: dark words on light ground, 128 x 96 pixels."""
    for part in ("images", "gts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image = np.random.default_rng(number).integers(170, 230, (96, 128, 3), dtype=np.uint8)
        cv2.putText(image, f"WORD{number}", (20, 52), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20), 2)
        cv2.imwrite(str(folder / "images" / f"img_{number}.png"), image)
        line = f"18,28,112,28,112,56,18,56,{text}\r\n"
        (folder / "gts" / f"gt_img_{number}.txt").write_text(line, encoding="utf-8")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file, to see what a run touched."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run, and the graph that it built."""

    workdir: Path
    data: Path
    code: int
    printed: str
    graph: Any
    parts: Any  # the placeholders, and the step


def tensors(workdir: Path) -> dict[str, np.ndarray]:
    """Everything in a workdir's newest checkpoint."""
    from efficientnet_east.checkpoints import tf_checkpoints

    return tf_checkpoints.read(tf_checkpoints.find(workdir))


class Patched:
    """A stream of batches that passes each batch, with its number from 0, through a function."""

    def __init__(self, stream: Any, change: Callable[[int, Batch], Batch]) -> None:
        self.stream, self.change = stream, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __enter__(self) -> "Patched":
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        number = self.stream.position
        return self.change(number, next(self.stream))


def patch_stream(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, Batch], Batch]) -> None:
    """Has the next runs' batches passed through a function, see `Patched`."""
    from efficientnet_east.training import loop

    batches = loop.batches
    monkeypatch.setattr(loop, "batches", lambda *a, **options: Patched(batches(*a, **options), change))
