"""The model that comes with the package: small enough, whole, and it finds words without further options."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from efficientnet_east import cli, config, model_file
from efficientnet_east.inference.detector import Detector

REPOSITORY = Path(__file__).resolve().parents[1]
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
    assert cli.main(["detect", str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "out")]) == 0
    lines = (tmp_path / "out" / "photo_words.txt").read_text().splitlines()
    assert len(lines) >= len(WORDS)
    assert (tmp_path / "out" / "photo_words.png").is_file()
