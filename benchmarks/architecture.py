"""Draw the folders of the package and who imports whom, from the imports themselves.

    python benchmarks/architecture.py docs/images/architecture.svg

A line runs from a folder down to what it imports. Lines that follow from others are left out.
"""

from __future__ import annotations

import ast
import collections
import html
import sys
from collections.abc import Mapping
from pathlib import Path

import house

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "house" / "test_imports.py"
WIDTH, ROW, BOX, GAP, LETTER = 900, 58, 26, 14, 7.2  # pixels
PLAIN, HEAVY = "#d9f0dd", "#d6e4f7"  # without TensorFlow, and with


def main() -> None:
    """Write the picture."""
    Path(sys.argv[1]).write_text(draw(*rooms_and_imports()), encoding="utf-8")


def rooms_and_imports() -> tuple[dict[str, int], dict[str, set[str]]]:
    """Room -> floor, and room -> rooms that it imports."""
    floors = house.floors(ROOT)
    paths = sorted((ROOT / house.PACKAGE).rglob("*.py"))
    trees = {house.name_of(path, ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    wants: dict[str, set[str]] = {room: set() for room in floors if not room.startswith("__")}
    for module, other in house.imports(trees):
        pair = house.room_of(module, floors), house.room_of(other, floors)
        if pair[0] != pair[1] and set(pair) <= wants.keys():
            wants[pair[0]].add(pair[1])
    return {room: floors[room] for room in wants}, wants


def levels(wants: Mapping[str, set[str]]) -> dict[str, int]:
    """Each room as low as its imports allow."""
    found: dict[str, int] = {}
    while len(found) < len(wants):
        ready = [room for room, others in wants.items() if room not in found and others <= found.keys()]
        found |= {room: 1 + max((found[other] for other in wants[room]), default=-1) for room in ready}
    return found


def direct(wants: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others."""
    below: dict[str, set[str]] = {}
    for room in sorted(wants, key=levels(wants).__getitem__):
        below[room] = wants[room].union(*(below[other] for other in wants[room]))
    return [
        (room, other)
        for room, others in sorted(wants.items())
        for other in sorted(others)
        if not any(other in below[third] for third in others - {other})
    ]


def draw(floors: Mapping[str, int], wants: Mapping[str, set[str]]) -> str:
    """The picture as SVG."""
    level, first_heavy = levels(wants), floors["compat"]
    rows: dict[int, list[str]] = collections.defaultdict(list)
    for room in sorted(wants):
        rows[level[room]].append(room)
    height = (len(rows) + 1) * ROW
    centers = {}
    for number, rooms in rows.items():
        widths = [LETTER * len(room) + 18 for room in rooms]
        x = (WIDTH - sum(widths) - GAP * (len(rooms) - 1)) / 2
        for room, width in zip(rooms, widths, strict=True):
            centers[room] = x + width / 2, height - (number + 1) * ROW
            x += width + GAP
    lines = [line(centers[room], centers[other]) for room, other in direct(wants)]
    boxes = [box(room, centers[room], floors[room] >= first_heavy) for room in sorted(wants)]
    style = "font-family: monospace; font-size: 12px"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" style="{style}">'
    white = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    legend = "imports run downwards; blue: may load TensorFlow"
    return "\n".join([head, white, *lines, *boxes, f'<text x="12" y="20">{legend}</text>', "</svg>", ""])


def line(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    """A curve from the bottom of one box to the top of another."""
    (x0, y0), (x1, y1) = (upper[0], upper[1] + BOX / 2), (lower[0], lower[1] - BOX / 2)
    middle = (y0 + y1) / 2
    path = f"M{x0:.0f},{y0:.0f} C{x0:.0f},{middle:.0f} {x1:.0f},{middle:.0f} {x1:.0f},{y1:.0f}"
    return f'<path d="{path}" fill="none" stroke="#999999"/>'


def box(room: str, center: tuple[float, float], heavy: bool) -> str:
    """A room's name in a box."""
    width, (x, y) = LETTER * len(room) + 18, center
    shape = f'<rect x="{x - width / 2:.0f}" y="{y - BOX / 2:.0f}" width="{width:.0f}" height="{BOX}" rx="4"'
    text = f'<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle">{html.escape(room)}</text>'
    return f'{shape} fill="{HEAVY if heavy else PLAIN}" stroke="#666666"/>{text}'


if __name__ == "__main__":
    main()
