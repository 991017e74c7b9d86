"""One list of dependencies: what else names packages agrees with pyproject.toml."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import efficientnet_east
from efficientnet_east.cli import main
from efficientnet_east.doctor import libraries

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIRED = {Requirement(line).name: line for line in PROJECT["dependencies"]}
EXTRAS = PROJECT["optional-dependencies"]


def packages(extra: str) -> set[str]:
    return {Requirement(line).name for line in EXTRAS[extra]}


def test_to_detect_is_a_part_of_everything() -> None:
    lines = (ROOT / "requirements-detect.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert len(wanted) > 5
    assert all(REQUIRED[Requirement(line).name] == line for line in wanted)
    assert not {"tensorflow", "tf-slim", "tf-keras", "grain"} & {Requirement(line).name for line in wanted}


def test_the_doctor_knows_what_is_required_and_what_each_extra_brings() -> None:
    for library in libraries.LIBRARIES:
        extra = re.search(r"\[(\w+)\]", library.install)
        if extra:
            assert library.package in packages(extra[1]), library.install
        else:
            assert library.package in REQUIRED, library.package


def test_missing_packages_are_named_as_they_are_installed() -> None:
    everything = REQUIRED.keys() | set().union(*map(packages, EXTRAS))
    assert everything >= set(main.PACKAGES.values())


def test_extras_name_each_version_once() -> None:
    """A package in two extras, or in one and among the dependencies, has the same lower bound."""
    lines = [line for group in (PROJECT["dependencies"], *EXTRAS.values()) for line in group]
    bounds: dict[str, str] = {}
    for asked in map(Requirement, lines):
        assert bounds.setdefault(asked.name, str(asked.specifier)) == str(asked.specifier), asked.name


def test_the_documents_name_extras_that_exist() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        name
        for page in pages
        for names in re.findall(r"(?:efficientnet[-_]east|\.)\[([\w,-]+)\]", page.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert named and named <= EXTRAS.keys()


def test_version_of_the_package() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", efficientnet_east.__version__)
