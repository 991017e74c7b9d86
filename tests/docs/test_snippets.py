"""The Python of the documents runs, in order, and does what the text around it says.

`b0` is a tiny network here, for speed; names of variables, files and outputs stay as they are written.
"""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.programs import make_workdir, scale_variables
from helpers.project import TINY

from efficientnet_east import backbones, scaling
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.cli import main
from efficientnet_east.compat import slim, tf
from efficientnet_east.data.images import read_image
from efficientnet_east.inference.detector import Detector

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the documents name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(scaling.VARIANTS, "b0", TINY)
    photo = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    (tmp_path / "photo.jpg").write_bytes(cv2.imencode(".png", photo)[1].tobytes())  # without JPEG's losses
    return tmp_path


def run(document: str, **names: Any) -> dict[str, Any]:
    """Run all snippets of a document after each other; gives the names that they leave."""
    text = (ROOT / document).read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, document, "exec"), names)
    return names


def test_readme(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With the bundled model, on the image that the page names; what is printed is what the page shows."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(scaling.VARIANTS, "b0", TINY)  # for the fork's graph; the detector reads a file
    with tf.Graph().as_default():
        left = run("README.md", images=tf.zeros([1, 64, 64, 3]))
    assert left["net"] is left["end_points"]["f5"] is left["end_points"]["pool5"]
    printed = capsys.readouterr().out
    command, python = re.findall(
        r"```text\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    numbers, shown = (np.array(re.findall(r"[\d.]+", text), float) for text in (printed, python))
    np.testing.assert_allclose(numbers, shown, atol=1.01)
    assert main.main(["detect", "docs/images/street.jpg", "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == command.replace("out/", f"{tmp_path}/out/")


def test_what_a_detection_is(here: Path) -> None:
    make_workdir(here / "runs" / "b0", backbone="b0")
    left = run("docs/detection.md")
    assert left["detector"].detect.max_side == 1600
    np.testing.assert_array_equal(left["found"].quads, left["same"].quads)
    np.testing.assert_array_equal(left["found"].scores, left["first"].scores)
    assert len(left["words"]) == len(left["found"]) == len(left["lines"].splitlines())
    assert json.loads(left["text"])["width"] == 128
    assert left["picture"].shape == left["image"].shape
    assert left["score_map"].shape == (24, 32) and left["factors"].tolist() == [1, 1]


def test_fork_guide(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        backbones.efficientnet_b0(tf.zeros([1, 64, 64, 3]), is_training=False)
        variables = slim.get_model_variables()
        values = {v.op.name: np.full(v.shape.as_list(), 0.25, np.float32) for v in variables}
        tf_checkpoints.assign(session, values, variables)
        tf.train.Saver(variables).save(session, "efficientnet-b0.ckpt", write_meta_graph=False)
    with tf.Graph().as_default():
        net, _ = backbones.efficientnet_b0(tf.zeros([1, 64, 64, 3]), recompute=True)
        tf.identity(net, name="net")
        tf.train.Saver().export_meta_graph("model.ckpt-1.meta")
    with tf.Graph().as_default():
        left = run("docs/forks.md")
        assert len(left["gradients"]) > 50 and None not in left["gradients"]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            left["weights"].restore(session, "efficientnet-b0.ckpt")
            trained = {v.op.name: v for v in slim.get_model_variables()}
            for name, value in session.run(trained).items():
                np.testing.assert_array_equal(value, values[name], err_msg=name)
            session.run(left["train_op"], {left["images"]: np.full((2, 64, 64, 3), 200.0)})
            after = session.run(trained)
            moved = {name for name, value in after.items() if not np.array_equal(value, values[name])}
            assert moved >= {name for name in values if "moving_" in name or "stem/weights" in name}
            assert session.run(left["global_step"]) == 1
    assert capsys.readouterr().out == "(24, 32, 56, 160, 448) (2, 4, 8, 16, 32)\n0\n"


def test_from_opencv(here: Path) -> None:
    """By hand and with the class of this project, the boxes are the same."""
    workdir = make_workdir(here / "runs" / "b0", backbone="b0", score_threshold=0.9)
    # Clear scores, and angles away from 45 degrees, where the least rounding turns a box.
    spread = {"Conv_7/weights": 60.0, "Conv_7/biases": 0.0, "Conv_9/weights": 0.2}
    scale_variables(workdir, spread)
    for kind, name in (("frozen", "b0.pb"), ("onnx", "b0.onnx")):
        words = ["--format", kind, "--output", name, "--no-verify", "--opencv-mean"]
        assert main.main(["export", "--checkpoint", "runs/b0", *words, "--size", "128x96"]) == 0
    left = run("docs/from-opencv.md")
    found = Detector.load("runs/b0", {"min_box_side": 0})(read_image("photo.jpg"))
    assert len(found) >= 3
    assert left["both"].shape == (2, 1, 24, 32) and np.array_equal(*left["both"])
    assert left["quads"].shape == found.quads.shape
    np.testing.assert_allclose(left["scores"], found.scores, atol=1e-3)
    np.testing.assert_allclose(left["quads"], found.quads, atol=0.3)


def test_exports(here: Path) -> None:
    """An .onnx file, fed by hand, gives maps of the form that the page says."""
    make_workdir(here / "runs" / "b0", backbone="b0")
    words = ["--format", "onnx", "--output", "b0.onnx", "--no-verify"]
    assert main.main(["export", "--checkpoint", "runs/b0", *words]) == 0
    left = run("docs/exports.md")
    assert left["score"].shape == (1, 1, 24, 32) and left["geometry"].shape == (1, 5, 24, 32)
