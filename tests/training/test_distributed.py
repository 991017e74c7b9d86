"""Several devices and several processes against one of each; processes that disappear. All of them real."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.project import make_data

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.cli import main

TESTS = Path(__file__).resolve().parents[1]
WORDS = [
    "--crop-size=64",
    "--batch-size=4",
    "--workers=0",
    "--threads=1",
    "--warmup-steps=0",
    "--log-every=1",
]
WORDS += ["--batch-norm=sync", "--drop-connect=0.9", "--weight-decay=0.01", "--save-every=1", "--steps=3"]


class Processes:
    """Runs of `replicated.py`, which leave their output in files; all are gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, dict[str, subprocess.Popen[bytes]]()
        make_data(folder / "data", range(1, 5))

    def start(self, name: str, workdir: str, *words: str, config: str = "") -> subprocess.Popen[bytes]:
        paths = os.pathsep.join((str(TESTS.parent), str(TESTS)))
        environment = os.environ | {"PYTHONPATH": paths, "TF_CONFIG": config, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, str(TESTS / "helpers" / "replicated.py"), *WORDS, *words]
        command += ["--data", str(self.folder / "data"), "--workdir", str(self.folder / workdir)]
        with (self.folder / f"{name}.out").open("w") as output:
            self.started[name] = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        return self.started[name]

    def start_two(self, workdir: str, *words: str) -> list[subprocess.Popen[bytes]]:
        """Two processes of one run; the second is named `other`, the first as the workdir."""
        configs = configs_of_two()
        # The second process's workdir is not the first one's: it writes nothing, and needs no shared folder.
        return [self.start(workdir, workdir, *words, config=configs[0]),
                self.start("other", "unused", *words, config=configs[1])]  # fmt: skip

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text(errors="replace")

    def wait(self, name: str, seconds: float = 300) -> int:
        return self.started[name].wait(seconds)


def configs_of_two() -> list[str]:
    """TF_CONFIG of the two processes of a run on this machine."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    return [json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
            for index in (0, 1)]  # fmt: skip


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    for process in found.started.values():
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def assert_same(found: Path, expected: Path, step: int) -> None:
    """Weights, averages, statistics and moments, with the tolerance that the documents state."""
    a, b = (tf_checkpoints.read(str(folder / f"model.ckpt-{step}")) for folder in (found, expected))
    assert a.keys() == b.keys() and a["global_step"] == b["global_step"] == step
    for name, value in b.items():
        # Adam divides by the root of the second moment: where a gradient is next to nothing, its rounding
        # shows in the weight, so gradients (in the moments) are compared more closely.
        loose = 1e-5 if not name.endswith(("/Adam", "/Adam_1")) else 1e-6
        np.testing.assert_allclose(a[name], value, rtol=1e-4, atol=loose, err_msg=f"{name} at {step}")


@pytest.mark.slow
def test_two_devices_and_two_processes_train_as_one(processes: Processes) -> None:
    """From one device to two, to two processes, and back: half of the batch each, the same weights."""
    folder = processes.folder
    processes.start("one", "one", "--devices=cpu")
    assert processes.wait("one") == 0, processes.output("one")
    for workdir in ("devices", "one_process_of_two"):
        (folder / workdir).mkdir()
        for path in [*(folder / "one").glob("model.ckpt-1.*"), folder / "one" / "config.yaml"]:
            shutil.copy(path, folder / workdir)
    processes.start("devices", "devices", "--devices=cpu:2")
    processes.start_two("one_process_of_two")
    for name in ("devices", "one_process_of_two", "other"):
        assert processes.wait(name) == 0, processes.output(name)
        assert "training on 2 devices with 2 crops each" in processes.output(name)
    for workdir in ("devices", "one_process_of_two"):
        assert "resuming from step 1" in processes.output(workdir)
        for step in (2, 3):
            assert_same(folder / workdir, folder / "one", step)
    assert not (folder / "unused").exists(), "the chief alone writes"
    first, last = (tf_checkpoints.read(str(folder / "one" / f"model.ckpt-{step}")) for step in (1, 3))
    kernel = "small/stem/weights"
    assert np.abs(first[kernel] - last[kernel]).max() > 1e-4, "there was something to compare"

    for name, workdir in (("one_more", "one"), ("back", "devices")):
        processes.start(name, workdir, "--devices=cpu", "--steps=4", "--schedule=constant")
    for name, workdir in (("one_more", "one"), ("back", "devices")):
        assert processes.wait(name) == 0, processes.output(name)
        assert_same(folder / workdir, folder / "one", 4)


@pytest.mark.slow
def test_who_is_killed_is_missed_and_who_is_asked_stops_all(processes: Processes) -> None:
    folder = processes.folder / "run"
    _, other = processes.start_two("run", "--steps=1000000", "--keep-checkpoints=2")
    wait_until(lambda: (folder / "model.ckpt-3.index").exists() or other.poll() is not None)
    other.send_signal(signal.SIGKILL)
    assert processes.wait("run", 60) == 2
    said = re.findall(r"\berror: 127\S*: is lost. Start all processes again", processes.output("run"))
    assert len(said) == 1, processes.output("run")
    assert "Traceback" not in processes.output("run")
    saved = int(tf_checkpoints.find(folder).rpartition("-")[2])
    assert saved >= 3 and tf_checkpoints.read(tf_checkpoints.find(folder))["global_step"] == saved

    _, other = processes.start_two("run", "--steps=1000000", "--keep-checkpoints=2")
    wait_until(lambda: (folder / f"model.ckpt-{saved + 2}.index").exists())
    assert f"resuming from step {saved} " in processes.output("run")
    other.send_signal(signal.SIGTERM)
    assert (processes.wait("other"), processes.wait("run")) == (143, 130), processes.output("other")
    steps = [re.findall(r"saved at step (\d+)", processes.output(name)) for name in ("run", "other")]
    assert steps[0] == steps[1] and len(steps[0]) == 1
    assert tf_checkpoints.find(folder).endswith(f"model.ckpt-{steps[0][0]}")


@pytest.mark.slow
def test_a_batch_that_the_devices_cannot_share_is_refused(processes: Processes) -> None:
    processes.start("odd", "odd", "--devices=cpu:2", "--batch-size=3")
    line = "error: --batch-size: is 3 on 2 devices; expected a multiple of 2"
    assert processes.wait("odd") == 2 and line in processes.output("odd"), processes.output("odd")


@pytest.mark.parametrize("index", [0, 1])
def test_patience_is_refused_by_every_process(
    index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it waits for the others."""
    monkeypatch.setenv("TF_CONFIG", configs_of_two()[index])
    data = str(make_data(tmp_path / "data"))
    words = [*WORDS, "--patience=2", "--data", data, "--val-data", data, "--workdir", str(tmp_path / "run")]
    assert main.main(["train", *words]) == 2
    line = "error: --patience: cannot be used in a cluster. Only the chief validates. Set it to 0."
    assert line in capsys.readouterr().err
