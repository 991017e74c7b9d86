"""Commands for a fresh machine. All install the project into a virtual environment first (.venv).

python3 quickstart.py demo    train the bundled B0 a little further on synthetic images, and evaluate it
python3 quickstart.py test    run the linter, the type checker and the tests
python3 quickstart.py install do no more than that

The demo takes two to five minutes on two CPU cores, after the installation. You need Python 3.11 or later.
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
    """Print and run one command with the environment's Python. Exit with its code if it fails."""
    print("\n$ python", *words, flush=True)
    process = subprocess.Popen([PYTHON, *words], cwd=HERE)
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the command gets Ctrl-C, too, and says itself how it ends
        code = process.wait() or 130
    if code:
        sys.exit(code)


def install() -> None:
    """Make the environment and install the project with what its tests need, unless that has been done."""
    project, installed = (HERE / "pyproject.toml").read_text(encoding="utf-8"), ENVIRONMENT / "installed"
    if installed.exists() and installed.read_text(encoding="utf-8") == project:
        return
    print("Installing into .venv, which takes one to five minutes the first time.", flush=True)
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[dev]")
    # Some tests compare with lanms, which pip builds from source.
    words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[lanms]"]
    if subprocess.run([PYTHON, *words], cwd=HERE, stderr=subprocess.DEVNULL).returncode:
        print("lanms could not be built (no C++ compiler?). The tests that compare with it are skipped.")
    installed.write_text(project, encoding="utf-8")


def demo() -> None:
    """Train on synthetic images, evaluate, draw, and say what to try next."""
    print("\nTraining takes one to three minutes on two cores. Then the model is evaluated on 20 new images.")
    run("train.py", "--config", "configs/demo.yaml", "--workdir", DEMO)
    run("eval.py", "--model", DEMO, "--json", DEMO / "hmean.json", "--pictures", DEMO / "pictures")
    print(
        "\nPictures of the detections (green), the ground truth (blue) and texts that do not count (gray):\n"
        f"{DEMO / 'pictures'}\n\nTry next:"
    )
    program = f"{PYTHON.relative_to(HERE)} -m efficientnet_east"
    print(f"  {program} detect photo.jpg --output out                        # find words in your photograph")
    print(f"  {program} check-data --data DIR                                # check your own training data")
    print(f"  {program} train --data DIR --init default --workdir runs/mine  # train on it")


def test(*words: str) -> None:
    """Check the style and the types, and run the tests, with more options of pytest if there are any."""
    run("-m", "ruff", "check")
    run("-m", "ruff", "format", "--check")
    run("-m", "mypy")
    run("-m", "pytest", *words)


if __name__ == "__main__":
    command, *options = sys.argv[1:] or [""]
    if command not in ("demo", "install", "test") or (command != "test" and options):
        sys.exit(__doc__)
    if sys.version_info < (3, 11):  # noqa: UP036  (an older Python meets this script first)
        sys.exit(f"error: this is Python {sys.version.split()[0]}; you need 3.11 or later")
    install()
    if command == "demo":
        demo()
    elif command == "test":
        test(*options)
