"""The page, as a browser shows it: an image goes in, boxes and files come out.

Needs Gradio and Playwright (`pip install efficientnet_east[demo] playwright`) and a Chromium: one of the
system's (`apt-get install chromium-headless-shell`) or Playwright's own.
"""

import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.networks import write_dark_network
from helpers.project import make_data

from efficientnet_east.data.images import read_image
from efficientnet_east.inference.detector import Detector

pytest.importorskip("gradio", reason="the page needs Gradio")
pytest.importorskip("onnx")
playwright = pytest.importorskip("playwright.sync_api", reason="the page is looked at with Playwright")

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
LIMIT = 0.2  # megabytes
IMAGES = "#boxes img"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium; the system's where there is one."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as started:
        try:
            opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser can be started: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images, and the server's temporary folder `tmp`."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("dark", "again"):
        write_dark_network(folder / f"{name}.onnx")
    make_data(folder)
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The running program; in the end it must stop at once and leave no file."""
    words = [sys.executable, "-m", "efficientnet_east", "demo", "--port", "0", "--max-upload", str(LIMIT)]
    words += ["--model", str(folder / "dark.onnx"), "--model", str(folder / "again.onnx")]
    environment = os.environ | {
        "PYTHONPATH": f"{Path(__file__).resolve().parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "TMPDIR": str(folder / "tmp"),
    }
    program = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = list(itertools.takewhile(lambda line: not line.startswith("HTTP:"), program.stdout))
    assert lines[0] == "models: dark.onnx, again.onnx\n"
    yield lines[1].split()[1].rstrip("/")
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=30)
    assert program.returncode == 130 and "Traceback" not in said
    assert not [path for path in (folder / "tmp").rglob("*") if path.is_file()]


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, opened; nothing may be asked of any other machine, nor go wrong in its scripts."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened, wrong = context.new_page(), []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: wrong.append("a dialog"))
    own = (address, "data:", "blob:")
    opened.on("request", lambda request: request.url.startswith(own) or wrong.append(request.url))
    opened.goto(address)
    opened.wait_for_selector("#upload input[type=file]", state="attached")
    yield opened
    context.close()
    assert not wrong


def shown(page: Any) -> str:
    """Wait for boxes; what is said above them."""
    page.wait_for_selector(IMAGES)
    playwright.expect(page.locator("#said")).to_contain_text("pixels")
    return page.inner_text("#said")


def give(page: Any, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", str(path))


def taken(page: Any, kind: str, folder: Path) -> Path:
    """Press a button and keep the file."""
    with page.expect_download() as download:
        page.click(f"#take-{kind}")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_an_image_is_uploaded_and_boxes_are_seen(page: Any, folder: Path, tmp_path: Path) -> None:
    photo = folder / "images" / "img_1.png"
    give(page, photo)
    expected = Detector.load(folder / "dark.onnx")(photo)
    assert len(expected) > 3 and shown(page).startswith(f"{len(expected)} words in 128 × 96 pixels")
    words = taken(page, "json", tmp_path)
    assert words.name == "img_1_words.json"
    assert json.loads(words.read_text()) == expected.as_dict(width=128, height=96)
    assert taken(page, "txt", tmp_path).read_text() == expected.to_icdar(decimals=2, scores=True)
    picture, plain = read_image(taken(page, "jpg", tmp_path)).astype(int), read_image(photo).astype(int)
    green = (picture[..., 1] - picture[..., 0] > 60) & (abs(picture - plain).max(axis=2) > 60)
    assert green.sum() > 100, "boxes are drawn"
    assert page.locator(IMAGES).evaluate("image => image.naturalWidth") == 128
    page.get_by_role("tab", name="Score map").click()
    page.wait_for_selector("#heat img")
    page.get_by_role("tab", name="Words").click()
    playwright.expect(page.locator("#words")).to_contain_text(f"{expected.scores[0]:.3f}")


def test_a_threshold_is_moved(page: Any, folder: Path) -> None:
    """The network does not run again; another model is another matter."""
    give(page, folder / "images" / "img_2.png")
    before = shown(page)
    slider = page.get_by_label("number input for Score threshold")
    slider.fill("0.99")
    slider.press("Tab")
    playwright.expect(page.locator("#said")).to_contain_text("kept from before")
    after = page.inner_text("#said")
    assert int(before.split()[0]) > int(after.split()[0])
    page.get_by_role("tab", name="Code").click()
    load = 'Detector.load("dark.onnx", {"score_threshold": 0.99})'
    playwright.expect(page.locator("#code-python")).to_contain_text(load)
    command = "detect img_2.png --checkpoint dark.onnx --score-threshold 0.99 --output results"
    playwright.expect(page.locator("#code-shell")).to_contain_text(command)
    page.locator("#model input").click()
    page.get_by_role("option", name="again.onnx").click()
    playwright.expect(page.locator("#said")).not_to_contain_text("kept from before")
    playwright.expect(slider).to_have_value("0.8")  # the model's own


def test_an_example(page: Any, folder: Path, tmp_path: Path) -> None:
    """A click on a picture; the same one can be clicked again after the image was taken away."""
    page.click("#example-1")
    first = shown(page)
    assert "in 900 × 600 pixels" in first
    assert json.loads(taken(page, "json", tmp_path).read_text())["width"] == 900
    page.get_by_label("Remove Image").click()
    playwright.expect(page.locator("#said")).to_contain_text("Choose an image")
    page.click("#example-1")
    playwright.expect(page.locator("#said")).to_contain_text("kept from before")
    page.click("#example-2")
    playwright.expect(page.locator("#said")).not_to_have_text(first)
    playwright.expect(page.locator("#said")).to_contain_text("pixels")


def test_the_image_is_taken_away(page: Any, folder: Path) -> None:
    give(page, folder / "images" / "img_1.png")
    shown(page)
    page.get_by_label("Remove Image").click()
    playwright.expect(page.locator("#said")).to_contain_text("Choose an image")
    playwright.expect(page.locator(IMAGES)).to_have_count(0)
    playwright.expect(page.locator("#take-json")).to_be_disabled()


def test_an_upload_over_the_limit_is_refused(page: Any, address: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    assert (tmp_path / "noise.png").stat().st_size > LIMIT * 1e6
    give(page, tmp_path / "noise.png")
    assert "exceed the maximum" in page.wait_for_selector(".toast-body").inner_text()
    assert not page.locator(IMAGES).count()
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    connection.request("POST", "/gradio_api/upload", bytes(int(LIMIT * 1e6) + 1))  # by hand
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0 broken", b"%!PS-Adobe-3.0 EPSF-3.0\n", b""])
def test_what_is_no_image(data: bytes, page: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    give(page, tmp_path / "a.jpg")
    toast = page.wait_for_selector(".toast-body").inner_text()
    assert "image" in toast and str(folder) not in toast and "Traceback" not in toast
    page.reload()
    give(page, folder / "images" / "img_1.png")
    assert shown(page)


def test_names_with_html(page: Any, folder: Path, tmp_path: Path) -> None:
    """It would open a dialog, or ask another machine for a picture, if it were not text."""
    name = '<img src="https:evil.example" onerror="alert(1)">.png'
    shutil.copy(folder / "images" / "img_1.png", tmp_path / name)
    give(page, tmp_path / name)
    shown(page)
    page.wait_for_timeout(300)


def test_a_phone(browser: Any, address: str, folder: Path) -> None:
    """Nothing is wider than the screen."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.goto(address)
    give(page, folder / "images" / "img_1.png")
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_files_of_the_machine_are_not_served(address: str, folder: Path) -> None:
    """Nor are those of other people's sessions listed, nor is anything fetched for anybody."""
    host = address.removeprefix("http://")
    body = json.dumps({
        "data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "dark.onnx", 0.8, 0.2, 3],
        "fn_index": 0, "session_hash": "a",
    })  # fmt: skip
    remote = body.replace("/etc/passwd", "http://169.254.169.254/latest")
    for method, path, sent, status in (
        ("GET", "/gradio_api/file=/etc/passwd", None, 404),
        ("GET", f"/gradio_api/file={folder}/dark.onnx", None, 404),
        ("GET", "/gradio_api/file=http://169.254.169.254/", None, 404),
        ("GET", "/gradio_api/info", None, 404),
        ("POST", "/gradio_api/queue/join", body, 403),
        ("POST", "/gradio_api/queue/join", remote, 403),
        ("POST", "/gradio_api/run/predict", body, 404),
        ("GET", "/config", None, 200),
    ):
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request(method, path, sent, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == status, path
        assert str(folder).encode() not in answer.read()
        assert not any(name.lower().startswith("access-control") for name, _ in answer.getheaders())
        connection.close()
