"""Who may import whom, what needs TensorFlow; and importing does no work."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import efficientnet_east

PACKAGE = Path(__file__).resolve().parents[2] / "efficientnet_east"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}

# Floors, the lowest first. A room is a folder, a module at the top, or a part of a folder that loads no
# TensorFlow and so stands lower than the rest. A room imports from its own floor and from lower ones.
FLOORS = (
    {"__init__", "errors"},
    {"files", "system"},
    {"backbones.costs", "checkpoints.float16"},
    {"scaling", "options", "checkpoints.bundled", "checkpoints.model_file"},
    {"backbones.families", "geometry", "drawing"},
    {"backbones.catalog"},
    {"backbones.report", "structures"},
    {"backbones.report_chart"},
    {"data"},
    {"config"},
    {"compat"},
    {"backbones"},
    {"bifpn", "east_head", "losses", "model", "checkpoints"},
    {"inference"},
    {"evaluation"},
    {"training"},
    {"pjrt", "demo", "doctor"},
    {"export"},
    {"cli"},
    {"__main__", "pjrt.__main__"},
)
TENSORFLOW_FROM = 10  # the floor of compat
RECIPES_FROM = 13  # from this floor on rooms may see the configuration
# Above compat: what is imported by users who have no TensorFlow. Only functions that run the network load it.
LIGHT = ("evaluation", "demo", "doctor", "cli", "__main__", "backbones", "export.formats",
         "inference.detector", "inference.runtimes", "training.loop", "pjrt.trainer",
         "pjrt.__main__")  # fmt: skip
TENSORFLOW = {"tensorflow", "tf_slim", "tf_keras", "keras"}


ROOMS = {room for rooms in FLOORS for room in rooms}


def room_of(module: str) -> str:
    """The longest room that a module lies in."""
    parts = module.split(".")
    room = next((name for end in (2, 1) if (name := ".".join(parts[:end])) in ROOMS), None)
    assert room, f"{module} lies in no room: give its folder a floor in {Path(__file__).name}"
    return room


def floor_of(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room_of(module) in rooms)


def imports(path: Path, everywhere: bool) -> Iterator[str]:
    """Full names of what a file imports, at its top level or everywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else top_level(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that importing runs, those within `try`, `if` and `with` included."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop(0)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = ast.iter_child_nodes(node)
            todo += [child for child in inside if isinstance(child, ast.stmt | ast.ExceptHandler)]


def internal(path: Path, everywhere: bool = True) -> set[str]:
    """The modules of this package that a file imports."""
    found = set()
    for name in imports(path, everywhere):
        if name.split(".")[0] != "efficientnet_east":
            continue
        parts = name.split(".")[1:]
        for end in (len(parts), len(parts) - 1):
            dotted = ".".join(parts[:end])
            if dotted in MODULES or f"{dotted}.__init__" in MODULES or not dotted:
                found.add(dotted if dotted in MODULES else f"{dotted}.__init__".lstrip("."))
                break
        else:
            raise AssertionError(f"{path}: {name} is no module of the package")
    return found


def test_every_room_exists() -> None:
    assert {room_of(module) for module in MODULES} == ROOMS


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_downwards(module: str) -> None:
    for other in internal(MODULES[module]):
        assert floor_of(other) <= floor_of(module), f"{module} imports {other}, which stands above it"


def test_no_cycle_between_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        room = rooms.setdefault(room_of(module), set())
        room |= {room_of(other) for other in internal(path)} - {room_of(module)}
    while leaves := [room for room, others in rooms.items() if not others & rooms.keys()]:
        for room in leaves:
            del rooms[room]
    assert not rooms, f"rooms that import each other: {rooms}"


def test_at_most_a_dozen_modules_at_the_top() -> None:
    assert len([module for module in MODULES if module.count(".") == 0]) <= 12


def test_configuration_is_for_recipes() -> None:
    """Whoever is not a recipe takes plain arguments, so that it can be used without this program."""
    users = {
        module
        for module in MODULES
        if room_of(module) != "config" and "config" in map(room_of, internal(MODULES[module]))
    }
    assert users and all(floor_of(module) >= RECIPES_FROM for module in users)


def loaded_by(module: str) -> set[str]:
    """What importing a module imports, of this package; functions import more when they run."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += internal(MODULES[name], everywhere=False)
    return seen


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_tensorflow_below_the_line(module: str) -> None:
    if floor_of(module) < TENSORFLOW_FROM:
        assert all(floor_of(other) < TENSORFLOW_FROM for other in internal(MODULES[module]))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_who_detects_or_scores_needs_no_tensorflow(module: str) -> None:
    if is_light(module):
        assert "compat" not in loaded_by(module)


def is_light(module: str) -> bool:
    """Whether a module must be importable without TensorFlow."""
    if floor_of(module) < TENSORFLOW_FROM:
        return True
    name = module.removesuffix(".__init__")
    return name in LIGHT or (name.count(".") > 0 and name.split(".")[0] in LIGHT[:4])


def test_tensorflow_has_one_door() -> None:
    """Whoever needs TensorFlow or slim takes them from `compat`, where they have been mended."""
    for module, path in MODULES.items():
        if module != "compat":
            assert not {name.split(".")[0] for name in imports(path, everywhere=True)} & TENSORFLOW, module


def test_only_definitions_at_module_level() -> None:
    """Bare statements are for the two modules that mend others as they are imported, and say why."""
    for module, path in MODULES.items():
        bare = [node for node in top_level(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)]  # fmt: skip
        assert not bare or module in {"compat", "data.__init__"}, f"{path}:{bare[0].lineno} runs at import"


IMPORT_ALL = """
import importlib, os, sys, threading
before = {**os.environ, "LD_LIBRARY_PATH": ""}  # the one that OpenCV sets
import efficientnet_east
assert not {"tensorflow", "cv2", "numpy"} & sys.modules.keys(), "the package itself"
for name in sys.argv[1].split():
    importlib.import_module(name)
    assert not {"tensorflow", "tf_slim", "tf_keras", "keras"} & sys.modules.keys(), name
assert threading.active_count() == 1
assert before == {**os.environ, "LD_LIBRARY_PATH": ""}
for name in sys.argv[2].split():
    importlib.import_module(name)
import tensorflow as tf
assert tf.executing_eagerly() and tf.compat.v1.resource_variables_enabled()
assert not tf.compat.v1.get_default_graph().get_operations()
assert not tf.config.get_visible_devices("GPU") or not tf.config.experimental.get_memory_growth(
    tf.config.get_visible_devices("GPU")[0])
"""


def test_imports_of_one_process(tmp_path: Path) -> None:
    """One module after the other: first those that do without TensorFlow, then all, eager mode untouched."""
    names = {module: f"efficientnet_east.{module}".removesuffix(".__init__") for module in MODULES}
    light = [module for module in names if is_light(module)]
    command = [sys.executable, "-c", IMPORT_ALL, " ".join(names[module] for module in light),
               " ".join(names.values())]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and not list(tmp_path.iterdir())


def test_public_names() -> None:
    """Every name that the package promises is there, and nothing else is."""
    assert set(dir(efficientnet_east)) == set(efficientnet_east.__all__)
    for name in efficientnet_east.__all__:
        assert getattr(efficientnet_east, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trainer'"):
        efficientnet_east.trainer  # noqa: B018
