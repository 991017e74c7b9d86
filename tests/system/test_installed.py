"""Optional libraries are those that are installed; what lies in the working folder is left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientnet_east.system import installed

PACKAGE = Path(installed.__file__).parents[1]
TRAP = "import pathlib\npathlib.Path(__file__).with_name('IMPORTED').touch()\nraise RuntimeError('make')\n"
NAMES = ("lanms", "matplotlib", "tf_keras", "jax_plugins", "gradio", "onnx", "torch", "psutil")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a package of every such name, each of which raises when it is imported."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(TRAP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/IMPORTED"))


@pytest.mark.parametrize("first", ["", ".", "absolute"])
def test_the_working_folder_is_not_looked_into(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.syspath_prepend(str(checkout) if first == "absolute" else first)
    for name in NAMES:
        spec = installed.find(name)
        assert spec is None or str(checkout) not in str(spec.origin)
    assert imported(checkout) == []


def test_what_is_installed_is_loaded_beside_the_programs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "__init__.py").write_text("from .part import VALUE\n")
    (tmp_path / "library" / "part.py").write_text("VALUE = 'installed'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = type(sys)("library")
    monkeypatch.setitem(sys.modules, "library", own)
    installed.load.cache_clear()
    assert installed.load("library", "the-library").VALUE == "installed"
    assert sys.modules["library"] is own
    with pytest.raises(ImportError, match="pip install no-library"):
        installed.load("no_such_library", "no-library")


COMMANDS = {
    "the class": ["-c", "from efficientnet_east import Detector; print(Detector.__name__)"],
    "a merge": [
        "-c",
        "import numpy as np; from efficientnet_east.geometry.nms import locality_aware as merge\n"
        "print(len(merge(np.zeros((0, 4, 2)), np.zeros(0))[0]))",
    ],
    "the program": ["-m", "efficientnet_east", "check-data", "--data", "."],
    "the doctor's probe": ["-m", "efficientnet_east.doctor.probe", "psutil"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_checkout_of_another_project_is_left_alone(checkout: Path, command: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    done = subprocess.run(
        [sys.executable, *COMMANDS[command]], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert imported(checkout) == [], done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if command == "the program" else 0), done.stderr


def test_the_compiled_merge_is_the_installed_one(checkout: Path) -> None:
    """Or none: the folder beside is no substitute."""
    program = (
        "from efficientnet_east.geometry import nms\n"
        "try: print(nms.lanms().__file__)\n"
        "except ImportError as error: print(error)"
    )
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and str(checkout) not in done.stdout and done.stdout.strip()
    assert imported(checkout) == []
