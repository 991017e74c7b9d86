"""What a shell offers when you press Tab: asked as argcomplete's script for bash asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

argcomplete = pytest.importorskip("argcomplete")


def offered(line: str, folder: Path) -> set[str]:
    """What may follow the line, in a shell whose working folder this is."""
    answer = folder / "answer"
    environment = os.environ | {
        "_ARGCOMPLETE": "3", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash", "COMP_TYPE": "9",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    command = [sys.executable, "-m", "efficientnet_east"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
    return {word.strip() for word in answer.read_text().splitlines()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("de", {"detect", "demo"}),
        ("detect --score", {"--score-threshold", "--score-scale", "--score-offset"}),
        ("detect photo", {"photo.jpg", "photos/"}),
        ("eval --data ph", {"photo.jpg", "photos/"}),
        ("train --schedule co", {"cosine", "constant"}),
        ("train --backbone b4", {"b4", "b4-modified"}),
        ("scaling lite0 mn", {"mnasnet-a1"}),
        ("detect --formats json,c", {"json,crops"}),
    ],
)
def test_words_and_files(tmp_path: Path, words: str, expected: set[str]) -> None:
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "photos").mkdir()
    assert offered(f"python -m efficientnet_east {words}", tmp_path) == expected


def test_options_of_other_commands_are_not_offered(tmp_path: Path) -> None:
    assert "--learning-rate" in offered("python -m efficientnet_east train --", tmp_path)
    assert "--learning-rate" not in offered("python -m efficientnet_east detect --", tmp_path)
