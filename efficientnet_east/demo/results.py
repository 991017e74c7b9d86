"""What the page shows of an answer: a summary, a table, files to download, and code that gives the same."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from efficientnet_east.checkpoints import bundled
from efficientnet_east.demo.service import Answer

_LONGEST_STEM = 60
_ROWS = 200  # words listed on the page; the files hold all


def stem_of(upload: str) -> str:
    """Make a plain name for files of an upload, whatever the upload is called."""
    return re.sub(r"[^\w.-]", "_", Path(upload).stem, flags=re.ASCII).strip(".")[:_LONGEST_STEM] or "image"


def write_results(folder: Path, upload: str, answer: Answer) -> dict[str, Path]:
    """Write the files to download, in a folder with a name that cannot be guessed.

    Args:
      folder: for that folder.
      upload: the uploaded file, after which the results are named.
      answer: with both pictures.

    Returns:
      The files: `json`, `txt`, `jpg`, and `heat`.
    """
    place = folder / secrets.token_urlsafe(16)
    place.mkdir(mode=0o700)
    contents = {
        "json": ("words.json", answer.to_json().encode() + b"\n"),
        "txt": ("words.txt", answer.found.to_icdar(decimals=2, scores=True).encode()),
        "jpg": ("words.jpg", answer.pictures["boxes"]),
        "heat": ("score.jpg", answer.pictures["heat"]),
    }
    paths = {kind: place / f"{stem_of(upload)}_{ending}" for kind, (ending, _) in contents.items()}
    for kind, (_, data) in contents.items():
        paths[kind].write_bytes(data)
    return paths


def summary(answer: Answer) -> str:
    """Say in one line how many words there are, and how long it took."""
    count = len(answer.found)
    words = "No words" if not count else "1 word" if count == 1 else f"{count} words"
    maps, boxes = (answer.seconds[name] * 1000 for name in ("maps", "boxes"))
    network = f"Network {maps:.0f} ms" if answer.fresh else "Network: kept from before"
    return f"**{words}** in {answer.width} × {answer.height} pixels. {network}, boxes {boxes:.0f} ms."


def rows(answer: Answer) -> list[list[str]]:
    """List the best words: score and corners."""
    best = answer.found.as_dict()["words"][:_ROWS]
    return [
        [f"{word['score']:.3f}", "  ".join(f"{x:.0f},{y:.0f}" for x, y in word["corners"])] for word in best
    ]


def python_code(upload: str, model: str, changed: Mapping[str, float]) -> str:
    """Write the Python that gives the boxes on the page.

    Args:
      upload: the name of the image.
      model: its short name.
      changed: the thresholds that differ from the model's own.
    """
    given = [] if model == bundled.DEFAULT and not changed else [json.dumps(model)]
    if changed:
        given.append("{" + ", ".join(f'"{name}": {value:g}' for name, value in changed.items()) + "}")
    return (
        "from efficientnet_east import Detector\n\n"
        f"detector = Detector.load({', '.join(given)})\n"
        f"words = detector({json.dumps(_shown_name(upload))})\n"
        "for quad, score in zip(words.quads, words.scores):\n"
        "    print(round(float(score), 3), quad.round().tolist())\n"
    )


def command_line(upload: str, model: str, changed: Mapping[str, float]) -> str:
    """Write the command that gives the boxes on the page, see `python_code`."""
    words = ["efficientnet-east detect", shlex.quote(_shown_name(upload))]
    if model != bundled.DEFAULT:
        words.append(f"--checkpoint {shlex.quote(model)}")
    words += [f"--{name.replace('_', '-')} {value:g}" for name, value in changed.items()]
    return " ".join([*words, "--output results"])


def _shown_name(upload: str) -> str:
    return stem_of(upload) + re.sub(r"[^\w.]", "", Path(upload).suffix, flags=re.ASCII)
