"""Commands, links and snippets of the documents are those of the code."""

import argparse
import ast
import re
import shlex
from pathlib import Path

import pytest
from helpers.programs import load_example

from efficientnet_east.backbones import catalog
from efficientnet_east.cli import main
from efficientnet_east.config import Detect
from efficientnet_east.pjrt import __main__ as pjrt

ROOT = Path(__file__).resolve().parents[2]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md")]
DOCUMENTS = [*TOP, *sorted((ROOT / "docs").rglob("*.md"))]
IDS = {"ids": lambda path: path.relative_to(ROOT).as_posix()}
PROGRAMS = r"efficientnet-east|python (?:train\.py|eval\.py|-m efficientnet_east(?:\.pjrt)?|examples/\S+)"
COMMAND = re.compile(rf"^(?: {{4}})*((?:{PROGRAMS}) .*?)(?: +#.*)?$", re.MULTILINE)


def commands() -> list[str]:
    headers = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "configs").glob("*.yaml"))]
    in_configs = [line for text in headers for line in re.findall(r"^# +(python .*)$", text, re.MULTILINE)]
    in_documents = [line for path in DOCUMENTS for line in COMMAND.findall(path.read_text(encoding="utf-8"))]
    return in_documents + in_configs


def test_documents_show_the_three_main_commands() -> None:
    text = " ".join(commands())
    assert all(f"efficientnet-east {name}" in text for name in ("train", "eval", "detect", "export"))


@pytest.mark.parametrize("command", commands())
def test_command_is_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    if command.startswith("efficientnet-east "):
        words = ["-m", "efficientnet_east", *words]
    if words[0].startswith("examples/"):
        assert example(Path(words[0])).parse_args(words[1:])
        return
    if words[:2] == ["-m", "efficientnet_east.pjrt"]:
        assert pjrt.parser().parse_args(words[2:]).export
        return
    words = words[2:] if words[0] == "-m" else [Path(words[0]).stem, *words[1:]]
    assert main.parser().parse_args(words).command is not None
    for word in words:
        if word.startswith("configs/"):
            assert (ROOT / word).is_file()


def example(script: Path) -> argparse.ArgumentParser:
    """The parser of one of the programs in `examples/`."""
    (module,) = load_example(str(script.parent.relative_to("examples")), script.stem)
    return module.parser()


@pytest.mark.parametrize("path", DOCUMENTS, **IDS)
def test_options_exist(path: Path) -> None:
    """Every `--option` that a document names, in a command or not, is one of a program here."""
    known = options_of(main.parser()) | options_of(pjrt.parser())
    for script in sorted((ROOT / "examples").rglob("*.py")):
        if "def parser()" in script.read_text(encoding="utf-8"):
            known |= options_of(example(script.relative_to(ROOT)))
    text = OTHER_PROGRAMS.sub("", BENCHMARK.sub("", path.read_text(encoding="utf-8")))
    named = re.findall(r"(?<![\w-])--[a-z][\w-]*", text)
    assert not set(named) - known


OTHER_PROGRAMS = re.compile(r"\b(?:pip3? (?:install|wheel)|mkdocs build|ruff format|pytest|git \w+) [^`\n]*")
BENCHMARK = re.compile(r"python benchmarks/(\w+)\.py([^`\n]*)")


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "benchmarks" / "README.md"], **IDS)
def test_options_of_benchmarks_exist(path: Path) -> None:
    """Each is an option of that very program, or of the common ones if it takes them."""
    for name, rest in BENCHMARK.findall(path.read_text(encoding="utf-8")):
        source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        if "trials.add_options" in source:
            source += (ROOT / "benchmarks" / "trials.py").read_text(encoding="utf-8")
        known = set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', source))
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", rest)) <= known, (name, rest)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a parser and of its subcommands; also old names, which --help does not show."""
    subcommands = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    inside = {name for choices in subcommands for sub in choices.values() for name in options_of(sub)}
    return inside | set(parser._option_string_actions)


@pytest.mark.parametrize("path", DOCUMENTS, **IDS)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        if not target.startswith("http"):
            page = path.parent / file if file else path
            assert page.exists(), target
            assert not anchor or anchor in anchors(page.read_text(encoding="utf-8")), target


def anchors(page: str) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page, flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, **IDS)
def test_python_snippets_parse(path: Path) -> None:
    for snippet in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        assert ast.parse(snippet).body


def test_table_of_backbones_is_what_the_catalogue_computes() -> None:
    text = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    for name in catalog.names():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        trunk, whole = catalog.get_backbone(name), catalog.get_backbone(name, classes=1000)
        giga = whole.multiply_adds(whole.resolution, whole.resolution) / 1e9
        assert row == (
            f"| {name} | {trunk.parameters:,} | {whole.parameters:,} | {giga:.4g} G @{whole.resolution} "
            f"| {', '.join(map(str, trunk.channels))} |"
        )


def test_channels_for_forks_are_those_of_the_catalogue() -> None:
    text = (ROOT / "docs" / "forks.md").read_text(encoding="utf-8")
    described = [catalog.get_backbone(name) for name in ("resnet50", "b0", "b4", "b4-modified")]
    for level in range(1, 6):
        numbers = [described[0].strides[level - 1], *(b.channels[level - 1] for b in described)]
        assert f"| `pool{level}` = `f{level}` | {' | '.join(map(str, numbers))} |" in text


def test_what_a_fork_adds_parses() -> None:
    text = (ROOT / "docs" / "forks.md").read_text(encoding="utf-8")
    (diff,) = re.findall(r"```diff\n(.*?)```", text, re.DOTALL)
    assert ast.parse("\n".join(line[1:] for line in diff.splitlines() if not line.startswith("-"))).body


@pytest.mark.parametrize("page", ["docs/security.md", "tests/README.md"])
def test_tests_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) >= 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_every_row_of_the_security_page_names_a_test() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| somebody")]
    assert len(rows) > 30 and all("`tests/" in row for row in rows), "every row names its tests"


def test_limits_of_detection_are_those_of_the_configuration() -> None:
    """Names and defaults in the page's table."""
    text = (ROOT / "docs" / "detection.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` (\S+) \|", text, re.MULTILINE))
    assert len(rows) == 8
    for name, said in rows.items():
        default = str(Detect.model_fields[name].default).lower()
        assert said.replace(",", "") in (default, default.removesuffix(".0")), name


def test_moved_modules_are_where_the_change_log_says() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    moves = re.findall(r"^\| `([\w.]+)` \| ((?:`[\w.]+`(?:, )?)+) \|$", text, re.MULTILINE)
    assert len(moves) > 60
    for _, new in moves:
        for module in re.findall(r"[\w.]+", new):
            place = ROOT / "efficientnet_east" / module.replace(".", "/")
            assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), module
