"""Pages and pictures that scripts write are up to date, and the architecture page names what exists."""

import importlib
import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> types.ModuleType:
    """One of benchmarks/, imported beside its neighbors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module(name)


@pytest.mark.parametrize("page", ["configuration.md", "commands.md", "python.md"])
def test_reference_is_up_to_date(page: str) -> None:
    written = script("reference").pages()[page]
    there = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    assert there == written, "run: python benchmarks/reference.py docs/reference"


def test_the_picture_shows_the_rooms() -> None:
    """Names of the rooms alone: every new import would change the lines."""
    picture = (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8")
    shown = set(re.findall(r'text-anchor="middle">([\w.]+)<', picture))
    rooms = {name for name in script("house").floors(ROOT) if not name.startswith("__")}
    assert shown == rooms, "run: python benchmarks/architecture.py docs/images/architecture.svg"


def test_no_line_runs_upwards() -> None:
    architecture = script("architecture")
    floors, wants = architecture.rooms_and_imports()
    assert all(floors[other] <= floors[room] for room, others in wants.items() for other in others)
    levels = architecture.levels(wants)
    assert all(levels[other] < levels[room] for room, other in architecture.direct(wants))


def steps() -> list[str]:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^\| \d+ \| .* \| `([\w.]+)` \|$", text, re.MULTILINE)


def test_the_way_of_an_image_has_all_its_steps() -> None:
    assert len(steps()) == 20


@pytest.mark.parametrize("name", steps())
def test_functions_of_the_way_of_an_image_exist(name: str) -> None:
    module, _, function = name.rpartition(".")
    assert callable(getattr(importlib.import_module(f"efficientnet_east.{module}"), function))


# --- how pages are measured


def test_prose_by_hand() -> None:
    page = (
        "# Title\n\nYou read this page; it is short. It ends `here` now.\n\n```sh\nls; a\n```\n\n| a | b |\n"
    )
    found = script("prose").measure([page])
    assert found["code_spans"] == 1 and found["links"] == 0
    assert found["words_per_sentence"] == 5.5  # 7 words and 4: "code" stands for the span
    assert 80 < found["reading_ease"] < 120


@pytest.mark.parametrize(
    ("word", "count"), [("you", 1), ("table", 2), ("make", 1), ("detector", 3), ("see", 1)]
)
def test_syllables(word: str, count: int) -> None:
    assert script("prose").syllables(word) == count


def test_repeated_blocks_and_cycles_are_counted(tmp_path: Path) -> None:
    house = script("house")
    block = "\n".join(f"value_{number} = {number}" for number in range(6))
    (tmp_path / "a.py").write_text(block + "\n")
    (tmp_path / "b.py").write_text("other = 1\n" + block + "\n")
    paths = sorted(tmp_path.glob("*.py"))
    assert house.duplicated_blocks(paths) == 1 and house.duplicated_blocks(paths[:1]) == 0
    assert house.cycles([("a", "b"), ("b", "a"), ("c", "a")]) == 3 and house.cycles([("a", "b")]) == 0


def test_scripts_leave_no_trace() -> None:
    assert str(ROOT / "benchmarks") not in sys.path
