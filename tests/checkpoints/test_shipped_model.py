"""The models that come with the package: small enough, whole, and they find words without options."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.bundles import bundle

from efficientnet_east import config
from efficientnet_east.checkpoints import bundled, model_file
from efficientnet_east.cli import main
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.intersections import iou_matrix
from efficientnet_east.inference import runtimes
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.runtimes import metadata
from efficientnet_east.system import installed

pytestmark = pytest.mark.rewritten
REPOSITORY = Path(__file__).resolve().parents[2]
BACKBONES = {"default": "b0", "fast": "lite0"}
# Precision of the ONNX file -> how far its scores may be from the weights', the least overlap of its boxes.
CLOSE = {"float16": (1e-2, 0.97), "int8": (1.0, 0.7)}
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


@pytest.fixture(scope="module", params=bundled.MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def detector(name: str) -> Detector:
    return Detector.load(name)


def test_size_and_contents(name: str) -> None:
    weights = bundled.MODELS[name].weights
    assert weights.stat().st_size <= 12e6
    arrays, text = model_file.read(weights)
    kernels = [array for array in arrays.values() if array.ndim > 1]
    assert len(kernels) > 50 and all(array.dtype == np.float16 for array in kernels)
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert text is not None and "/" not in text, "no path of the machine that it was trained on"
    assert config.load(str(weights)).model.backbone == BACKBONES[name]


def test_the_usual_model_needs_no_name() -> None:
    image, _ = placard()
    np.testing.assert_array_equal(Detector.load()(image).quads, Detector.load(bundled.DEFAULT)(image).quads)


def test_a_page_lists_them() -> None:
    """One row for each model, and no other."""
    text = (REPOSITORY / "docs" / "model.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\S+\.npz)` \| `(\S+\.onnx)`, (\w+) \| (.*) \|$", text, re.MULTILINE)
    assert rows == [
        (name, model.weights.name, model.onnx.name, model.precision, model.purpose)
        for name, model in bundled.MODELS.items()
    ]


def test_it_finds_words(detector: Detector) -> None:
    image, middles = placard()
    found = detector(image, bgr=True)
    for word, middle in middles.items():
        inside = [cv2.pointPolygonTest(quad, middle, False) >= 0 for quad in found.quads]
        assert sum(inside) == 1, word


def test_it_finds_nothing_in_nothing(detector: Detector) -> None:
    assert len(detector(np.full((384, 512, 3), 127, np.uint8))) == 0


def test_detect_needs_no_option_but_where_to(name: str, tmp_path: Path) -> None:
    image, _ = placard()
    cv2.imwrite(str(tmp_path / "photo.jpg"), image)
    words = ["detect", str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "out")]
    assert main.main([*words, *([] if name == bundled.DEFAULT else ["--model", name])]) == 0
    lines = (tmp_path / "out" / "photo_words.txt").read_text().splitlines()
    assert len(lines) >= len(WORDS)
    assert (tmp_path / "out" / "photo_words.png").is_file()


def test_the_onnx_file_is_of_these_weights(name: str) -> None:
    model = bundled.MODELS[name]
    described = metadata.read_file(model.onnx)[1]
    assert described.precision == model.precision
    assert described.source.sha256 == hashlib.sha256(model.weights.read_bytes()).hexdigest()
    assert described.detect == config.load(str(model.weights)).detect.model_dump(mode="json")
    assert model.onnx.stat().st_size <= 12e6


def test_both_files_find_the_same(name: str, detector: Detector) -> None:
    image, _ = placard()
    weights = Detector.load(bundled.MODELS[name].weights)
    difference, overlap = CLOSE[bundled.MODELS[name].precision]
    ours, theirs = detector.maps(image, bgr=True), weights.maps(image, bgr=True)
    np.testing.assert_allclose(ours[0], theirs[0], atol=difference)
    found, expected = detector(image, bgr=True), weights(image, bgr=True)
    assert len(found) == len(expected)
    assert iou_matrix(found.quads, expected.quads).max(axis=1).min() > overlap


def test_detecting_loads_no_tensorflow_and_prints_its_results_only(name: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), placard()[0])
    program = (
        "import sys; from efficientnet_east.cli import main as cli; code = cli.main(sys.argv[1:]);"
        "print(code, any(name.partition('.')[0] in ('tensorflow', 'tf_slim') for name in sys.modules))"
    )
    words = ["detect", str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "out"), "--model", name]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    environment = clean | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
    said = [line for line in [*done.stdout.splitlines()[:-1], *done.stderr.splitlines()] if line.strip()]
    assert len(said) == 1 and "words -> " in said[0], said


def test_without_onnx_runtime_the_weights_run_in_tensorflow(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in (("openvino",), ("onnxruntime",), ("onnxruntime", "openvino")):
        there = [name for name in ("onnxruntime", "openvino") if name not in missing]
        monkeypatch.setattr(installed, "find", lambda name, there=there: name if name in there else None)
        assert runtimes.able(name) == (*there, "tensorflow")
    monkeypatch.undo()
    bundle(monkeypatch, tmp_path / "absent.npz", name)
    assert runtimes.able(name) == ("tensorflow",)
    with pytest.raises(UserError, match=rf"^{name}: the bundled model is missing .*Install .* again"):
        runtimes.open_runtime(name)


@pytest.mark.parametrize("broken", [".onnx", ".npz"])
def test_a_broken_model_says_how_to_mend_it(
    broken: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Cut off, as by a full disk while the package was installed."""
    shipped = tmp_path / "model.npz"
    bundle(monkeypatch, shipped, name)
    shipped.with_suffix(broken).write_bytes(b"PK\x03\x04 cut off")
    cv2.imwrite(str(tmp_path / "photo.jpg"), placard()[0])
    words = ["detect", str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "out"), "--model", name]
    assert main.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {name}: the bundled model cannot be used (")
    assert "Install efficientnet_east again" in line
