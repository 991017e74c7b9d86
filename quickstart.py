"""Two commands for a fresh machine: they make a virtual environment, install the project into it, and run.

python3 quickstart.py demo    trains the bundled B0 further on generated scenes, evaluates it, leaves pictures
python3 quickstart.py test    passes the tests, with lint and type checks

The demo takes about five minutes on two CPU cores, after the installation.

Only the standard library is used here; Python 3.11 or later is needed.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
DEMO = HERE / "runs" / "demo"


def run(*words: str | Path) -> None:
    """Run one command of the environment's Python, shown first; a failure ends this script with its code."""
    print("\n$ python", *words, flush=True)
    code = subprocess.run([PYTHON, *words], cwd=HERE).returncode
    if code:
        sys.exit(code)


def install() -> None:
    """Make the environment and install the project with what its tests need."""
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[dev]")
    # Another program's merge, which tests compare with, is built from source.
    words = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--editable",
        ".[lanms]",
    ]
    if subprocess.run(words, cwd=HERE, stderr=subprocess.DEVNULL).returncode:
        print("lanms could not be built here (no C++ compiler?): tests go without comparing with it")


def demo() -> None:
    """The main job on generated scenes: train, evaluate, draw; and what to try next."""
    print("\nTraining for about three minutes on two cores, then evaluating on 20 scenes that are new to it.")
    run("train.py", "--config", "configs/demo.yaml", "--workdir", DEMO)
    run("eval.py", "--checkpoint", DEMO, "--json", DEMO / "hmean.json", "--pictures", DEMO / "pictures")
    print(f"\nDetections (green) and ground truth (blue) are in {DEMO / 'pictures'}\n\nTry next:")
    program = f"{PYTHON.relative_to(HERE)} -m efficientnet_east"
    print(f"  {program} detect photo.jpg --output out     # the words in your photograph")
    print(f"  {program} check-data --data DIR             # are your own images ready to train on?")
    print(f"  {program} train --data DIR --init default --workdir runs/mine")


def test() -> None:
    """Lint, types, tests."""
    run("-m", "ruff", "check")
    run("-m", "mypy")
    run("-m", "pytest")


if __name__ == "__main__":
    commands = {"demo": demo, "test": test}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    if sys.version_info < (3, 11):  # noqa: UP036  (this script is what an older Python meets first)
        sys.exit(f"error: this is Python {sys.version.split()[0]}; expected 3.11 or later")
    install()
    commands[sys.argv[1]]()
