"""The command `demo`: what it serves, what it refuses, and the whole program."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import error_of
from helpers.networks import write_dark_network
from helpers.serving import ask, image_file

from efficientnet_east.checkpoints import model_file
from efficientnet_east.cli import demo
from efficientnet_east.files.atomic import PARTIAL

pytest.importorskip("fastapi", reason="the endpoint needs FastAPI")


def test_names_of_models() -> None:
    assert model_file.short_names(["runs/a/best", "b.onnx"]) == {"best": "runs/a/best", "b.onnx": "b.onnx"}
    names = model_file.short_names(["runs/a/best", "runs/b/best", "runs/a/best"])
    assert names == {"a/best": "runs/a/best", "b/best": "runs/b/best"}
    names = model_file.short_names(["default", "./default", "runs/b0"])
    folder = Path.cwd().name
    assert names == {"default": "default", f"{folder}/default": "./default", "runs/b0": "runs/b0"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--host", "0.0.0.0"], "--host: 0.0.0.0 lets anybody on the network use this machine"),
        (["--host", "::"], "--host: :: lets"),
        (["--host", "example.org"], "--host: example.org lets"),
        (["--password-file", "none"], "--password-file: none cannot be read (No such file"),
        (["--password-file", "empty"], "--password-file: empty is empty"),
        (["--port", "65536"], "--port: is 65536"),
        (["--max-upload", "0"], "--max-upload: is 0; expected a number above 0"),
        (["--max-pixels", "400000000"], "--max-pixels: is 400000000"),
        (["--image-seconds", "nan"], "--image-seconds: is nan"),
        (["--no-page"], "none.onnx: no such file"),
    ],
)
def test_what_cannot_be_served(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    Path("empty").write_text("\n")
    assert error_of(capsys, ["demo", "--model", "none.onnx", "--port", "0", *words]).startswith(line)


def test_a_port_that_is_taken(tmp_path: Path, capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["demo", "--model", "none.onnx", "--no-page", "--port", str(port)]
        assert "cannot listen at 127.0.0.1" in error_of(capsys, words)


def test_without_gradio(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    line = error_of(capsys, ["demo", "--model", "none.onnx", "--port", "0"])
    assert line == "gradio: is not installed. Run `pip install efficientnet_east[demo]`."
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "efficientnet_east.demo.app", raising=False)
    monkeypatch.delattr("efficientnet_east.demo.app", raising=False)
    line = error_of(capsys, ["demo", "--model", "none.onnx", "--no-page", "--port", "0"])
    assert line == "fastapi: is not installed. Run `pip install efficientnet_east[demo]`."


def test_the_whole_program(tmp_path: Path) -> None:
    """From the command to SIGTERM, and what a killed one leaves is removed by the next."""
    pytest.importorskip("onnx")
    model, password = write_dark_network(tmp_path / "dark.onnx"), tmp_path / "password"
    password.write_text("sesame\n")
    words = [
        sys.executable,
        "-m",
        "efficientnet_east",
        "demo",
        "--model",
        str(model),
        "--no-page",
        "--port",
        "0",
    ]
    words += ["--password-file", str(password), "--host", "0.0.0.0"]
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    folder = tmp_path / f"efficientnet_east-{os.getuid()}"

    def start() -> tuple[Any, int]:
        program = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert program.stdout.readline() == "models: dark.onnx\n"
        line = program.stdout.readline()
        return program, int(line.rpartition(":")[2].partition("/")[0])

    program, port = start()
    assert folder.stat().st_mode & 0o777 == 0o700
    (left,) = folder.iterdir()
    assert left.name.startswith(PARTIAL) and left.stat().st_mode & 0o777 == 0o700
    program.kill()
    program.communicate()
    program, port = start()
    assert left not in list(folder.iterdir()) and len(list(folder.iterdir())) == 1
    right = "Basic " + base64.b64encode(b":sesame").decode()
    status, _, body = ask(port, body=image_file((0, 0, 0)), Authorization=right)
    assert status == 200 and json.loads(body)["words"]
    program.send_signal(signal.SIGTERM)
    said = program.communicate(timeout=30)
    assert program.returncode == 143 and not list(folder.iterdir())
    assert said[1].splitlines() == [
        "warning: 0.0.0.0 can be reached by everybody who knows the password on the network"
    ]


def test_folders_of_others_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may make the folder first, so as to read what is uploaded, or link it elsewhere."""
    from efficientnet_east.errors import UserError

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = demo._own_folder()
    folder.chmod(0o755)
    with pytest.raises(UserError, match="or others can read it"):
        demo._own_folder()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="belongs to another user"):
        demo._own_folder()
