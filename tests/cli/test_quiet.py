"""What libraries print when they start stays off the terminal, and shows with --verbose or if they fail."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.disks import REPOSITORY
from helpers.project import Trained, make_data

from efficientnet_east.cli.main import COMMANDS
from efficientnet_east.system import quiet

NOTES = re.compile(
    r"XNNPACK|cuda|cuInit|absl|InitializeLog|oneDNN|cpu_feature|MLIR|onnxruntime|^[IWEF]\d{4} |\[ WARN", re.M
)
RUN_ALL = """
import json, sys
from helpers.project import TINY
from efficientnet_east import scaling
from efficientnet_east.cli import main
scaling.VARIANTS["tiny"] = TINY
for words in json.loads(sys.argv[1]):
    print(">", words[0], main.main(words), flush=True)
"""


def run(*words: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment | {"PYTHONPATH": paths} | variables,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_every_command(trained: Trained, tmp_path: Path) -> None:
    """In one process, which loads TensorFlow for the first of them. Other tests run doctor and demo."""
    data = str(make_data(tmp_path / "data"))
    shutil.copytree(trained.workdir, tmp_path / "run")
    image, model = f"{data}/images/img_1.png", ["--model", "run"]
    commands = [
        ["train", "--config", "run/config.yaml", "--workdir", "run"],  # which is finished
        ["eval", *model, "--data", data],
        ["detect", *model, image, "--output", "words"],
        ["detect", image, "--output", "words"],
        ["benchmark", "--limit", "1", "--rounds", "1", "--warm-up", "1"],
        ["export", *model, "--format", "frozen", "--output", "model.pb", "--no-verify"],
        ["export", *model, "--format", "tflite", "--output", "model.tflite"],
        ["export-weights", *model, "--output", "weights.npz"],
        ["import-weights", "--source", "weights.npz", "--backbone", "tiny", "--output", "ours.npz"],
        ["calibrate", *model, "--data", data, "--output", "calibrated.npz"],
        ["mine", *model, "--data", data, "--output", "mined.json"],
        ["check-data", "--data", data],
        ["convert", "--data", data, "--output", "converted"],
        ["folds", "--data", data, "--folds", "2", "--output", "lists"],
        ["scaling", "b0"],
    ]
    assert {words[0] for words in commands} == COMMANDS.keys() - {"doctor", "demo"}
    done = run("-c", RUN_ALL, json.dumps(commands), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ends = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("> ")]
    assert ends == [[words[0], "0"] for words in commands], done.stderr
    assert not NOTES.search(done.stderr) and "Warning" not in done.stderr, done.stderr


NOISY = """
import os
os.write(2, b"I0000 could not find anything\\n")
if "FAIL" in os.environ:
    raise ImportError("no such library")
"""
IMPORT = """
import os, sys
from efficientnet_east.system import quiet
quiet.hush()
quiet.hush()
try:
    import onnxruntime
except ImportError:
    print("failed")
else:
    assert type(onnxruntime.__loader__).__module__ != quiet.__name__
os.write(2, b"after\\n")
"""


@pytest.mark.parametrize(
    ("variables", "out", "err"),
    [({}, "", "after\n"), ({"FAIL": "1"}, "failed\n", "I0000 could not find anything\nafter\n")],
)
def test_what_an_import_prints_shows_if_it_fails(
    variables: dict[str, str], out: str, err: str, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime.py").write_text(NOISY)
    done = run("-c", IMPORT, folder=tmp_path, **variables)
    assert (done.stdout, done.stderr) == (out, err)


def test_other_modules_are_left_alone() -> None:
    assert quiet._Finder().find_spec("json", None) is None


def test_two_threads_leave_stderr_as_it_was() -> None:
    """The second begins to catch while the first does, and ends after it."""
    before, begun = os.fstat(2), threading.Event()

    def first() -> None:
        with quiet.caught_stderr():
            begun.set()
            time.sleep(0.1)

    def second() -> None:
        begun.wait()
        with quiet.caught_stderr():
            time.sleep(0.3)

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = os.fstat(2)
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
