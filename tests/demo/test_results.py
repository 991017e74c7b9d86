"""The code that the page shows gives what the page shows."""

import contextlib
import io
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from efficientnet_east.cli.main import main
from efficientnet_east.data.images import write_image
from efficientnet_east.demo import results
from efficientnet_east.demo.service import Question, Service
from efficientnet_east.inference.detector import Detector

CHANGED = {"box_threshold": 0.6, "min_box_side": 5}


def image_of(word: str) -> np.ndarray:
    """Dark letters on a light, uneven ground."""
    image = np.random.default_rng(1).integers(205, 225, (256, 512, 3), dtype=np.uint8)
    cv2.putText(image, word, (60, 160), cv2.FONT_HERSHEY_SIMPLEX, 2.2, (50, 40, 30), 6, cv2.LINE_AA)
    return image


def test_the_code_finds_the_words_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python and the command, both run in the folder of the image."""
    monkeypatch.chdir(tmp_path)
    write_image(Path("photo.png"), image_of("STATION"))
    service = Service({"default": Detector.load()})
    question = Question(Path("photo.png").read_bytes(), "default", CHANGED)
    answer = service.answer(question)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(results.python_code("/somewhere/photo.png", "default", CHANGED), {})
    assert len(printed.getvalue().splitlines()) == len(answer.found) >= 1
    for line, score in zip(printed.getvalue().splitlines(), answer.found.scores, strict=True):
        assert line.startswith(f"{round(float(score), 3)} [[")
    words = shlex.split(results.command_line("photo.png", "default", CHANGED))
    assert words[0] == "efficientnet-east" and main(words[1:]) == 0
    assert len(Path("results/photo_words.txt").read_text().splitlines()) == len(answer.found)


def test_only_what_was_changed_is_written() -> None:
    assert "Detector.load()" in results.python_code("a.png", "default", {})
    assert 'Detector.load("b0.onnx")' in results.python_code("a.png", "b0.onnx", {})
    assert 'load("default", {"nms_iou": 0.3})' in results.python_code("a.png", "default", {"nms_iou": 0.3})
    assert results.command_line("a.png", "default", {}).endswith(" detect a.png --output results")


@pytest.mark.parametrize("name", ['a"; import os; "b.png', "$(rm -rf x).png", "..", "'.png", "\n.png"])
def test_names_cannot_break_out(name: str) -> None:
    """Of the image or of the model, in code that people copy."""
    for upload, model in ((name, "default"), ("a.png", name)):
        code = results.python_code(upload, model, {})
        compile(code, "code", "exec")
        assert len(code.splitlines()) == 6
        assert len(shlex.split(results.command_line(upload, model, {}))) == 5 + 2 * (model != "default")


def test_maps_are_kept_for_some_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The network runs once for each image, until so many others came that its maps are forgotten."""
    monkeypatch.setattr("efficientnet_east.demo.service.KEPT_IMAGES", 2)
    service = Service({"default": Detector.load()})
    images = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        write_image(path, image_of(str(number)))
        images.append(path.read_bytes())
    fresh = [service.answer(Question(images[number])).fresh for number in (0, 1, 0, 1, 2, 1, 0)]
    assert fresh == [True, True, False, False, True, False, True]
