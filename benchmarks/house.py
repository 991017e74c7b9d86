"""Figures of a checkout's code and pages, to see whether it becomes simpler.

    python benchmarks/house.py OUT.json before=FOLDER after=. --readme detectron2=README.md

Each name=FOLDER is a checkout of this project, each --readme another project's page.
"""

from __future__ import annotations

import argparse
import ast
import collections
import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import prose

PACKAGE = "efficientnet_east"
BLOCK = 6  # lines that two places share, to count as duplicated
GENERATED = "reference"  # folder of pages that scripts write


def main() -> None:
    """Measure each checkout and page, write the figures, and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("checkouts", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--readme", action="append", default=[], metavar="NAME=FILE")
    options = parser.parse_args()
    pairs = [entry.partition("=")[::2] for entry in options.checkouts]
    found: dict[str, Any] = {name: measure(Path(folder)) for name, folder in pairs}
    found["readmes"] = {
        name: prose.measure([Path(file).read_text(encoding="utf-8")])
        for name, _, file in (entry.partition("=") for entry in options.readme)
    }
    options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table({name: found[name] for name, _ in pairs}), table(found["readmes"]), sep="\n\n")


def measure(root: Path) -> dict[str, float]:
    """All figures of one checkout."""
    package = {name_of(path, root): path for path in sorted((root / PACKAGE).rglob("*.py"))}
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in package.items()}
    lengths = sorted(length for tree in trees.values() for length in function_lengths(tree))
    arrows = list(imports(trees))
    pages = [path.read_text(encoding="utf-8") for path in written_pages(root)]
    readme = prose.measure([(root / "README.md").read_text(encoding="utf-8")])
    whole = prose.measure(pages)
    return {
        "modules_at_the_top": len(list((root / PACKAGE).glob("*.py"))),
        "folders": len({name.rpartition(".")[0] for name in trees if "." in name}),
        "lines_of_package": lines(package.values()),
        "lines_of_tests": lines((root / "tests").rglob("*.py")),
        "functions": len(lengths),
        "function_length_median": statistics.median(lengths),
        "function_length_90_percent": lengths[int(0.9 * len(lengths))],
        "functions_over_60_lines": sum(length > 60 for length in lengths),
        "names_defined_more_than_once": len(repeated_names(trees)),
        "import_cycles": cycles(arrows),
        "upward_imports": upward(arrows, floors(root)),
        "duplicated_blocks": duplicated_blocks(package.values()),
        "readme_words": readme["words"],
        "readme_code_spans": readme["code_spans"],
        "readme_links": readme["links"],
        "pages": len(pages),
        "words_of_pages": whole["words"],
        **{name: whole[name] for name in list(whole)[3:]},
    }


def name_of(path: Path, root: Path) -> str:
    """`data.images` of efficientnet_east/data/images.py; a folder's own module has the folder's name."""
    parts = path.relative_to(root / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def lines(paths: Any) -> int:
    """Lines of files."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def written_pages(root: Path) -> list[Path]:
    """README and pages that people wrote: those that scripts generate do not count."""
    top = [path for path in (root / "README.md", root / "CONTRIBUTING.md") if path.exists()]
    return top + [path for path in sorted((root / "docs").rglob("*.md")) if GENERATED not in path.parts]


def function_lengths(tree: ast.AST) -> Iterator[int]:
    """Lines of each function, its docstring and the functions within it included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def repeated_names(trees: Mapping[str, ast.Module]) -> list[str]:
    """Public functions and classes that several modules define under one name."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names = collections.Counter(
        node.name
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, kinds) and not node.name.startswith("_")
    )
    return [name for name, count in names.items() if count > 1]


def imports(trees: Mapping[str, ast.Module]) -> Iterator[tuple[str, str]]:
    """(module, module that it imports), those inside of functions included."""
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
                base = (node.module or "").removeprefix(PACKAGE).removeprefix(".")
                for alias in node.names:
                    inner = f"{base}.{alias.name}".lstrip(".")
                    target = inner if inner in trees else base
                    if target and target != module:
                        yield module, target


def cycles(arrows: list[tuple[str, str]]) -> int:
    """Modules that cannot be put in an order in which each imports earlier ones only."""
    wants: dict[str, set[str]] = collections.defaultdict(set)
    for module, other in arrows:
        wants[module].add(other)
        wants[other] |= set()
    while leaves := [module for module, others in wants.items() if not others & wants.keys()]:
        for module in leaves:
            del wants[module]
    return len(wants)


def floors(root: Path) -> dict[str, int]:
    """Room -> floor, as the checkout's own test of its imports has them."""
    for path in (root / "tests" / "house" / "test_imports.py", root / "tests" / "test_imports.py"):
        if path.exists():
            table = enumerate(read_floors(path))
            return {room.removesuffix(".__init__"): number for number, rooms in table for room in rooms}
    return {}


def read_floors(path: Path) -> list[set[str]]:
    """The table FLOORS of a test file, without running it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("FLOORS", "LAYERS"):
            return [set(rooms) for rooms in ast.literal_eval(node.value)]
    raise SystemExit(f"{path}: has no table FLOORS")


def room_of(module: str, rooms: Mapping[str, int]) -> str:
    """The longest room that a module lies in."""
    parts = module.split(".")
    names = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((name for name in names if name in rooms), parts[0])


def upward(arrows: list[tuple[str, str]], rooms: Mapping[str, int]) -> int:
    """Imports of a room on a higher floor."""
    pairs = {(room_of(module, rooms), room_of(other, rooms)) for module, other in arrows}
    return sum(rooms.get(a, 0) < rooms.get(b, 0) for a, b in pairs)


def duplicated_blocks(paths: Any) -> int:
    """Places that repeat six lines of code of another place, imports and blank lines apart."""
    seen: dict[tuple[str, ...], int] = {}
    found = 0
    for path in paths:
        code = code_lines(path.read_text(encoding="utf-8"))
        start = 0
        while start + BLOCK <= len(code):
            block = tuple(code[start : start + BLOCK])
            found += block in seen
            start += BLOCK if block in seen else 1
            seen[block] = 1
    return found


def code_lines(source: str) -> list[str]:
    """Lines of code without docstrings, comments, imports and lone brackets."""
    tree = ast.parse(source)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    stripped = [(number, line.strip()) for number, line in enumerate(source.splitlines(), 1)]
    return [line for number, line in stripped if number not in skipped and len(line) > 3 and line[0] != "#"]


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row for each figure, a column for each checkout."""
    names = list(found)
    figures = found[names[0]] if names else {}
    rows = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for figure in figures:
        rows.append(f"| {figure.replace('_', ' ')} | {' | '.join(f'{found[n][figure]:g}' for n in names)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
