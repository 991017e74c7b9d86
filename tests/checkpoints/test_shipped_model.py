"""The model that comes with the package: small enough, whole, and it finds words without further options."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from efficientnet_east import config
from efficientnet_east.checkpoints import model_file
from efficientnet_east.cli import main
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.intersections import iou_matrix
from efficientnet_east.inference import runtimes
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.runtimes import metadata
from efficientnet_east.system import installed

pytestmark = pytest.mark.rewritten
REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = {"STATION": (150, 160), "coffee": (620, 330), "Exit 24": (260, 560)}  # where their baselines begin


def placard() -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """Words in dark letters on a light, uneven ground, and the middle of each; BGR."""
    rng = np.random.default_rng(1)
    image = np.full((720, 1280, 3), 205, np.uint8) + rng.integers(0, 20, (720, 1280, 3), dtype=np.uint8)
    middles = {}
    for word, (x, y) in WORDS.items():
        cv2.putText(image, word, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 2.2, (50, 40, 30), 6, cv2.LINE_AA)
        (width, height), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, 2.2, 6)
        middles[word] = (x + width / 2, y - height / 2)
    return cv2.GaussianBlur(image, (5, 5), 1), middles


def test_size_and_contents() -> None:
    assert model_file.SHIPPED.stat().st_size <= 12e6
    arrays, text = model_file.read(model_file.SHIPPED)
    kernels = [array for array in arrays.values() if array.ndim > 1]
    assert len(kernels) > 80 and all(array.dtype == np.float16 for array in kernels)
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert text is not None and "/" not in text, "no path of the machine that it was trained on"
    assert config.load(str(model_file.SHIPPED)).model.backbone == "b0"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load()


def test_it_finds_words(detector: Detector) -> None:
    image, middles = placard()
    found = detector(image, bgr=True)
    for word, middle in middles.items():
        inside = [cv2.pointPolygonTest(quad, middle, False) >= 0 for quad in found.quads]
        assert sum(inside) == 1, word


def test_it_finds_nothing_in_nothing(detector: Detector) -> None:
    assert len(detector(np.full((384, 512, 3), 127, np.uint8))) == 0


def test_detect_needs_no_option_but_where_to(tmp_path: Path) -> None:
    image, _ = placard()
    cv2.imwrite(str(tmp_path / "photo.jpg"), image)
    assert main.main(["detect", str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "out")]) == 0
    lines = (tmp_path / "out" / "photo_words.txt").read_text().splitlines()
    assert len(lines) >= len(WORDS)
    assert (tmp_path / "out" / "photo_words.png").is_file()


def test_the_onnx_file_is_of_these_weights() -> None:
    described = metadata.read_file(model_file.shipped_onnx())[1]
    assert described.source.sha256 == hashlib.sha256(model_file.SHIPPED.read_bytes()).hexdigest()
    assert described.detect == config.load(str(model_file.SHIPPED)).detect.model_dump(mode="json")
    assert model_file.shipped_onnx().stat().st_size <= 12e6


def test_both_files_find_the_same(detector: Detector) -> None:
    image, _ = placard()
    weights = Detector.load(model_file.SHIPPED)
    ours, theirs = detector.maps(image, bgr=True), weights.maps(image, bgr=True)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-2)
    found, expected = detector(image, bgr=True), weights(image, bgr=True)
    assert len(found) == len(expected)
    assert iou_matrix(found.quads, expected.quads).max(axis=1).min() > 0.97


def test_detecting_loads_no_tensorflow_and_prints_its_results_only(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), placard()[0])
    program = (
        "import sys; from efficientnet_east.cli import main as cli; code = cli.main(sys.argv[1:]);"
        "print(code, any(name.partition('.')[0] in ('tensorflow', 'tf_slim') for name in sys.modules))"
    )
    words = ["detect", str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "out")]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    environment = clean | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
    said = [line for line in [*done.stdout.splitlines()[:-1], *done.stderr.splitlines()] if line.strip()]
    assert len(said) == 1 and "words -> " in said[0], said


def test_without_onnx_runtime_the_weights_run_in_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtimes.able(model_file.DEFAULT) == ("onnxruntime", "tensorflow")
    monkeypatch.setattr(installed, "find", lambda name: None)
    assert runtimes.able(model_file.DEFAULT) == ("tensorflow",)
    monkeypatch.undo()
    monkeypatch.setattr(model_file, "SHIPPED", model_file.SHIPPED.with_name("absent.npz"))
    assert runtimes.able(model_file.DEFAULT) == ("tensorflow",)
    with pytest.raises(UserError, match=r"bundled model is missing .*Install efficientnet_east again"):
        runtimes.open_runtime(model_file.DEFAULT)


@pytest.mark.parametrize("broken", [".onnx", ".npz"])
def test_a_broken_model_says_how_to_mend_it(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut off, as by a full disk while the package was installed."""
    shipped = tmp_path / "b0.npz"
    monkeypatch.setattr(model_file, "SHIPPED", shipped)
    shipped.with_suffix(broken).write_bytes(b"PK\x03\x04 cut off")
    cv2.imwrite(str(tmp_path / "photo.jpg"), placard()[0])
    assert main.main(["detect", str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: default: the bundled model cannot be used (")
    assert "Install efficientnet_east again" in line
