"""Commands, links and snippets of the documents are those of the code."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from efficientnet_east import catalogue, cli

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(
    r"^ {4}(python (?:train\.py|eval\.py|-m efficientnet_east) .*?)(?: +#.*)?$", re.MULTILINE
)


def commands() -> list[str]:
    headers = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "configs").glob("*.yaml"))]
    in_configs = [line for text in headers for line in re.findall(r"^# +(python .*)$", text, re.MULTILINE)]
    in_documents = [line for path in DOCUMENTS for line in COMMAND.findall(path.read_text(encoding="utf-8"))]
    return in_documents + in_configs


def test_documents_show_the_three_main_commands() -> None:
    text = " ".join(commands())
    assert all(word in text for word in ("train.py", "eval.py", "efficientnet_east detect"))


@pytest.mark.parametrize("command", commands())
def test_command_is_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    words = words[2:] if words[0] == "-m" else [Path(words[0]).stem, *words[1:]]
    assert cli.parser().parse_args(words).command is not None
    for word in words:
        if word.startswith("configs/"):
            assert (ROOT / word).is_file()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_snippets_parse(path: Path) -> None:
    for snippet in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        assert ast.parse(snippet).body


def test_readme_table_of_backbones_is_what_the_catalogue_computes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in catalogue.names():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        trunk, whole = catalogue.get_backbone(name), catalogue.get_backbone(name, classes=1000)
        giga = whole.multiply_adds(whole.resolution, whole.resolution) / 1e9
        assert row == (
            f"| {name} | {trunk.parameters:,} | {whole.parameters:,} | {giga:.4g} G @{whole.resolution} "
            f"| {', '.join(map(str, trunk.channels))} |"
        )
