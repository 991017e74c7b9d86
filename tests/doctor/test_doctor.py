"""`doctor` with libraries that are missing, broken, or crash whoever imports them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from efficientnet_east.cli import doctor as cli_doctor
from efficientnet_east.doctor import libraries, machine
from efficientnet_east.doctor.libraries import ALL, BAD, LIBRARIES, MISSING, NOTE, OK, TRAIN, CheckResult

ROOT = Path(__file__).resolve().parents[2]
# What stands in the place of a library.
ABSENT = "raise ModuleNotFoundError(f\"No module named '{__name__}'\", name=__name__)"
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
WELL = "__version__ = '1.2.3'"


@pytest.fixture
def hide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a module in the place of a library, for processes that are started."""

    def put(**sources: str) -> None:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source + "\n")

    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    return put


def library(module: str) -> libraries.Library:
    return next(one for one in LIBRARIES if one.module == module)


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "efficientnet_east", "doctor", *words],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("module", "source", "state", "detail", "fix"),
    [
        ("lanms", ABSENT, MISSING, "not installed", "pip install 'efficientnet_east[lanms]'"),
        ("lanms", WELL, OK, "1.2.3", ""),
        ("lanms", CRASH, BAD, "SIGILL (this processor does not know an instruction)", "another runtime"),
        ("lanms", "import os; os._exit(7)", BAD, "exit code 7", "--force-reinstall"),
        ("lanms", "raise SystemError('a\\nb')", BAD, "SystemError: a", "--force-reinstall"),
        ("cv2", "raise ImportError('libGL.so.1: cannot open shared object file')", BAD, "libGL.so.1",
         "pip install opencv-python-headless"),
        ("tensorflow", "import not_there_at_all", BAD, "No module named 'not_there_at_all'",
         "pip install 'tensorflow' --force-reinstall"),
        ("gradio", "raise ImportError('no name x')", BAD, "no name x", "efficientnet_east[demo]"),
    ],
)  # fmt: skip
def test_one_library(module: str, source: str, state: str, detail: str, fix: str, hide: Any) -> None:
    hide(**{module: source})
    found = libraries.probe(library(module))
    assert found.state == state and detail in found.detail and fix in found.fix and "\n" not in found.detail


def test_a_library_that_hangs(hide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "PATIENCE", 0.5)
    hide(lanms="import time; time.sleep(60)")
    assert libraries.probe(library("lanms")).detail == "the import takes longer than 0.5 seconds"


def test_a_library_that_is_too_old(hide: Any) -> None:
    hide(h5py="__version__ = '2.0'")
    found = libraries.probe(library("h5py"))
    assert found.state == NOTE and "2.0; tested with >=3.11" in found.detail
    assert found.fix == "pip install 'h5py>=3.11'"


def test_without_everything(hide: Any) -> None:
    """The doctor itself needs nothing; the other commands are one line that names it."""
    names = {one.module.partition(".")[0] for one in LIBRARIES}
    hide(**dict.fromkeys(names, ABSENT))
    done = doctor("--json")
    assert done.returncode == 1 and done.stderr == ""
    told = json.loads(done.stdout)
    assert told["detect"] == [] and told["train"] is False
    missing = [one for one in told["findings"] if one["state"] == MISSING]
    assert {one["name"] for one in missing} == {one.package for one in LIBRARIES}
    assert all(one["fix"].startswith("pip install ") for one in missing)
    other = subprocess.run(
        [sys.executable, "-m", "efficientnet_east", "detect"], capture_output=True, text=True, timeout=60
    )
    assert other.returncode == 2 and len(other.stderr.splitlines()) == 1
    assert "run `efficientnet-east doctor`" in other.stderr


def test_tensorflow_crashes_and_the_rest_is_well(hide: Any) -> None:
    """As on a processor without AVX: an .onnx file is the way out."""
    slow = {one.module.partition(".")[0] for one in LIBRARIES if one.use not in (ALL, TRAIN)} - {
        "onnxruntime"
    }
    hide(tensorflow=CRASH, **dict.fromkeys(slow, ABSENT))
    done = doctor()
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[-2:] == ["detect: works with opencv, onnxruntime", "train:  does NOT work"]
    assert any(line.startswith(" BAD  tensorflow") and "SIGILL" in line for line in lines)
    assert all(len(line) <= 130 for line in lines)


def test_what_can_be_done() -> None:
    of_libraries = {one.module: CheckResult(one.package, OK, "1") for one in LIBRARIES}
    every = ["opencv", "tensorflow", "onnxruntime", "openvino", "litert"]
    assert cli_doctor.abilities([], of_libraries) == {"detect": every, "train": True}
    for one in LIBRARIES:
        able = cli_doctor.abilities([], of_libraries | {one.module: CheckResult(one.package, BAD, "no")})
        rest = [name for name in every if name != one.runtime]
        assert able == {"detect": [] if one.use == ALL else rest, "train": one.use not in (ALL, TRAIN)}
    no_folder = [CheckResult("temporary files", BAD, "full", use=ALL)]
    assert cli_doctor.abilities(no_folder, of_libraries) == {"detect": [], "train": False}


def test_an_unknown_option() -> None:
    done = doctor("--jason")
    assert done.returncode == 2
    assert done.stderr == "error: --jason: unknown argument; expected --json\n"


def test_folders(tmp_path: Path) -> None:
    assert machine._folder("temporary files", lambda: str(tmp_path / "new"), "TMPDIR").state == OK
    (tmp_path / "file").write_text("")
    found = machine._folder("temporary files", lambda: str(tmp_path / "file"), "TMPDIR")
    assert (found.state, found.use) == (BAD, ALL) and "export TMPDIR=" in found.fix


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a container, whose limit counts, not the machine's memory."""
    monkeypatch.setattr(machine.limits, "available_memory", lambda: float(1 << 29))
    found = machine._memory()
    assert found.state == NOTE and found.detail.startswith("0.5 GiB free")


@pytest.mark.parametrize("driver", ["lists it", "is broken"])
def test_a_gpu_that_tensorflow_does_not_see(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver names the GPU; without its program the device file shows that there is one."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1-2)'\n")
    program.chmod(0o755 if driver == "lists it" else 0o644)
    (tmp_path / "nvidia0").write_text("")
    (tmp_path / "nvidiactl").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    gpus = machine.nvidia_gpus()
    assert gpus == (["NVIDIA H200"] if driver == "lists it" else [f"the NVIDIA GPU {tmp_path}/nvidia0"])
    seen = CheckResult("tensorflow", OK, "2.20; devices CPU:0, GPU:0")
    unseen = CheckResult("tensorflow", OK, "2.20; devices CPU:0")
    assert libraries.hidden_gpu(gpus, seen) is None and libraries.hidden_gpu([], unseen) is None
    assert libraries.hidden_gpu(gpus, CheckResult("tensorflow", MISSING, "not installed")) is None
    found = libraries.hidden_gpu(gpus, unseen)
    assert found is not None and found.state == NOTE and gpus[0] in found.detail
    assert found.fix == "pip install 'efficientnet_east[gpu]'"


def test_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    assert machine.nvidia_gpus() == []


def test_processor_without_avx(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "model name\t: Old\nflags\t\t: sse2\n"
    monkeypatch.setattr(machine, "_read", lambda path: text)
    found = machine._processor()
    assert found.state == NOTE and found.detail == "Old; no AVX; TensorFlow needs AVX"


def test_opencv_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries.importlib.metadata, "version", lambda name: "5.0")
    found = libraries.several_opencvs()
    assert found is not None and found.state == NOTE and "pip uninstall -y" in found.fix


@pytest.mark.slow
def test_here() -> None:
    """On a machine that runs these tests, all is well."""
    done = doctor("--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["train"] is True and "tensorflow" in told["detect"]


def test_a_reader_that_has_seen_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `doctor | head -1` is."""

    def broken(given: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(cli_doctor, "run", broken)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back after the test
    assert cli_doctor.main([]) == 0
