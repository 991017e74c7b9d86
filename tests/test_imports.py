"""The arrow between the rooms: who imports whom, what needs TensorFlow; and importing does no work."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import efficientnet_east

PACKAGE = Path(__file__).resolve().parents[1] / "efficientnet_east"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}

# From the bottom to the top. A module imports from its own layer and from those below it.
LAYERS = (
    {"__init__", "errors"},
    {
        "archives",
        "costs",
        "environment",
        "half",
        "installed",
        "interruption",
        "model_file",
        "plain_paths",
        "progress",
        "safe_files",
        "text_files",
    },
    {"scaling"},
    {"catalogue"},
    {
        "calibration",
        "data",
        "geometry",
        "draw",
        "structures",
        "chart",
        "calculator",
        "evaluation.icdar",
        "evaluation.__init__",
        "evaluation.deteval",
        "evaluation.curve",
        "evaluation.breakdown",
        "evaluation.pictures",
        "evaluation.report",
        "evaluation.gallery",
        "evaluation.mistakes",
        "evaluation.tune",
    },
    {"config"},  # the recipes' own: see `test_configuration_is_for_recipes`
    {"compat"},
    {
        "backbones",
        "bifpn",
        "east_head",
        "labels",
        "losses",
        "model",
        "checkpoints",
        "object_checkpoints",
        "replicas",
    },
    {"evaluation.evaluate", "evaluation.speed", "inference", "training"},
    {"pjrt", "export", "serving", "doctor"},
    {
        "cli",
        "cli_benchmark",
        "cli_calibrate",
        "cli_check",
        "cli_data",
        "cli_demo",
        "cli_detect",
        "cli_doctor",
        "cli_eval",
        "cli_export",
        "cli_scaling",
        "cli_slim",
        "__main__",
    },
)
WITHOUT_TENSORFLOW = LAYERS[:6]
RECIPES_AND_ABOVE = LAYERS[8:]
# Those that a user without TensorFlow may want: only functions that run the network import it.
LAZY = {"cli", "cli_calibrate", "cli_check", "cli_slim",
        "cli_data", "cli_demo", "cli_detect", "cli_eval", "cli_export", "cli_scaling",
        "serving.__init__", "serving.app", "serving.gate", "serving.look", "serving.page",
        "serving.page_rules", "serving.server", "serving.worker",
        "cli_benchmark", "evaluation.speed",
        "cli_doctor", "doctor.__init__", "doctor.libraries", "doctor.machine", "doctor.probe",
        "evaluation.evaluate",
        "inference.__init__", "inference.boxes", "inference.detector", "inference.fitting",
        "inference.threads",
        "inference.runtimes.__init__", "inference.runtimes.feed", "inference.runtimes.litert",
        "inference.runtimes.metadata", "inference.runtimes.onnx_runtime", "inference.runtimes.opencv",
        "inference.runtimes.protobuf", "inference.runtimes.runtime",
        "pjrt.__init__", "pjrt.__main__", "pjrt.device",
        "pjrt.engine", "pjrt.manifest", "pjrt.state", "pjrt.stablehlo",
        "training.__init__", "training.cluster", "training.curves",
        "training.engine", "training.events", "training.log", "training.loop", "training.pictures",
        "training.results", "training.schedule", "training.sources", "training.versions", "training.workdir",
        "__main__"}  # fmt: skip
TENSORFLOW = {"tensorflow", "tf_slim", "tf_keras", "keras"}


def layer(module: str) -> int:
    room = module.split(".")[0]
    found = [number for number, names in enumerate(LAYERS) if module in names or room in names]
    assert len(found) == 1, f"{module} stands in {len(found)} layers: give it one in tests/test_imports.py"
    return found[0]


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


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrow(module: str) -> None:
    for other in internal(MODULES[module]):
        assert layer(other) <= layer(module), f"{module} imports {other}, which stands above it"


def test_configuration_is_for_recipes() -> None:
    """Whoever is not a recipe takes plain arguments, so that it can be used without this program."""
    allowed = {module for module in MODULES if layer(module) >= len(LAYERS) - len(RECIPES_AND_ABOVE)}
    assert {module for module in MODULES if "config" in internal(MODULES[module])} <= allowed
    assert internal(MODULES["config"]) == {"catalogue", "errors", "model_file", "text_files"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_tensorflow_below_the_line(module: str) -> None:
    below = layer(module) < len(WITHOUT_TENSORFLOW)
    if below or module in LAZY:
        found = {name.split(".")[0] for name in imports(MODULES[module], everywhere=below)}
        assert not found & TENSORFLOW
        for other in internal(MODULES[module], everywhere=below):
            assert layer(other) < len(WITHOUT_TENSORFLOW) or other in LAZY, f"{module} imports {other}"


def test_tensorflow_has_one_door() -> None:
    """Whoever needs TensorFlow or slim takes them from `compat`, where they have been mended."""
    for module, path in MODULES.items():
        if module != "compat":
            assert not {name.split(".")[0] for name in imports(path, everywhere=True)} & TENSORFLOW, module


def test_no_cycle_between_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        room = rooms.setdefault(module.split(".")[0], set())
        room |= {other.split(".")[0] for other in internal(path)} - {module.split(".")[0]}
    while leaves := [room for room, others in rooms.items() if not others & rooms.keys()]:
        for room in leaves:
            del rooms[room]
    assert not rooms, f"rooms that import each other: {rooms}"


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
    light = [module for module in names if layer(module) < len(WITHOUT_TENSORFLOW) or module in LAZY]
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
