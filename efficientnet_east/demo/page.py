"""The page: drop an image, move thresholds, see boxes and score, take the result along.

Gradio draws it. It keeps uploads in a folder of its own, and nothing is decoded here: the bytes go to the
worker.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import os
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from efficientnet_east.data.images import write_image
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.demo.request_guard import Limits
from efficientnet_east.demo.service import Answer, Question
from efficientnet_east.demo.worker import Busy, Failed, Worker
from efficientnet_east.errors import UserError

TITLE = "Find the words"
INSTALL = "expected `pip install efficientnet_east[demo]`"
BUSY = "Too many images at the moment. Try again in a few seconds."
_ABOUT = "EAST text detection on EfficientNet. Images are deleted after a quarter of an hour."
_HINT = "Drop an image, paste one, or take a photograph."
_GONE = "The image is no longer here. Please choose it once more."
_FILES = {"json": "JSON", "txt": "Text", "jpg": "Picture"}
_LONGEST_STEM = 60
PICTURES = ("boxes", "heat")
SCENES, _SEED, _SCENE_SHAPE = 6, 5, (600, 900)
_ROWS = 200  # words listed on the page; the files hold all
_CSS = """
.gradio-container, .gradio-container main { width: 100% !important; max-width: 1280px !important; }
.gradio-container { margin: 0 auto !important; }
#head h1 { margin-bottom: .1em; } #head p { margin-top: 0; opacity: .75; }
#said { min-height: 1.6em; }
#files { flex-wrap: nowrap; } #files button { min-width: 0; padding: .5em .3em; }
footer { display: none !important; }
@media (max-width: 640px) {
  .gradio-container { padding: 12px !important; }
  #upload { height: 220px !important; } #boxes, #heat { height: 340px !important; }
}
"""


def load_gradio(folder: Path) -> Any:
    """Import Gradio, told to keep to itself.

    Args:
      folder: for its files.

    Returns:
      The module.

    Raises:
      UserError: it is not installed.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        return importlib.import_module("gradio")  # by name: it has types or not, as it is installed or not
    except ImportError:
        raise UserError("gradio", "is not installed", INSTALL) from None


def mount(app: Any, worker: Worker, limits: Limits, max_pixels: int, folder: Path) -> None:
    """Put the page at the root of an application.

    Args:
      app: of FastAPI.
      worker: started.
      limits: what is accepted.
      max_pixels: above which an image is refused.
      folder: for uploads and results.

    Raises:
      UserError: Gradio is not installed.
    """
    gr = load_gradio(folder)
    page = _build(gr, worker, max_pixels, folder)
    page.queue(max_size=limits.uploads, default_concurrency_limit=limits.uploads, api_open=False)
    gr.mount_gradio_app(
        app, page, path="/", footer_links=[], show_error=False, max_file_size=limits.upload_bytes,
        ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=_theme(gr), css=_CSS,
    )  # fmt: skip


def _theme(gr: Any) -> Any:
    """Gradio's own look with the machine's fonts, so that none is fetched."""
    fonts, mono = ["ui-sans-serif", "system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Soft(primary_hue="emerald", font=fonts, font_mono=mono)


def _build(gr: Any, worker: Worker, max_pixels: int, folder: Path) -> Any:
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}\n{_ABOUT}", elem_id="head")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                upload = _upload(gr)
                scene = gr.Button("Try a generated scene", size="sm", elem_id="scene")
                model = gr.Dropdown(list(worker.names), value=worker.names[0], label="Model",
                                    visible=len(worker.names) > 1, elem_id="model")  # fmt: skip
                sliders = _sliders(gr, worker)
            with gr.Column(scale=3, min_width=300):
                results = _results(gr)

        def look(path: str | None, name: str, *values: float) -> list[Any]:
            if not path:
                return [_HINT, None, None, None, *[_file(gr, None)] * len(_FILES)]
            thresholds = dict(zip(sliders, values, strict=True))
            answer = _answer(gr, worker, path, Question(b"", name, thresholds, PICTURES, max_pixels))
            written = {kind: str(file) for kind, file in write_results(folder, path, answer).items()}
            files = [_file(gr, written[kind]) for kind in _FILES]
            return [summary(answer), written["jpg"], written["heat"], rows(answer), *files]

        scene.click(_scenes(folder), None, upload, api_visibility="private")
        triggers = [upload.change, model.change, *(slider.release for slider in sliders.values())]
        inputs = [upload, model, *sliders.values()]
        gr.on(triggers, look, inputs, results, trigger_mode="always_last", show_progress="minimal",
              api_visibility="private")  # fmt: skip
    return page


def _scenes(folder: Path) -> Callable[[], str]:
    """What the button for a scene does: each press gives the file of the next one; there are a few."""
    numbers, made = itertools.cycle(range(SCENES)), threading.Lock()
    source = SyntheticScenes(SCENES, _SEED, _SCENE_SHAPE)
    draw = functools.cache(lambda number: source[number].image)  # so that presses cost next to nothing

    def next_scene() -> str:
        with made:
            number = next(numbers)
            image = draw(number)
        path = folder / secrets.token_urlsafe(16) / f"scene_{number + 1}.png"
        write_image(path, image)
        return str(path)

    return next_scene


def _results(gr: Any) -> list[Any]:
    """What an image is answered with, in the order in which `look` gives it."""
    said = gr.Markdown(_HINT, elem_id="said")
    with gr.Tabs():
        with gr.Tab("Boxes"):
            boxes = _picture(gr, "boxes")
        with gr.Tab("Score map"):
            heat = _picture(gr, "heat")
        with gr.Tab("Words"):
            words = gr.Dataframe(headers=["score", "corners (x, y), clockwise"], label="Words",
                                 interactive=False, wrap=True, elem_id="words")  # fmt: skip
    with gr.Row(elem_id="files"):
        files = [gr.DownloadButton(f"⤓ {label}", interactive=False, size="md", elem_id=f"take-{kind}")
                 for kind, label in _FILES.items()]  # fmt: skip
    return [said, boxes, heat, words, *files]


def _file(gr: Any, path: str | None) -> Any:
    """What a button for downloading becomes."""
    return gr.DownloadButton(value=path, interactive=path is not None)


def _sliders(gr: Any, worker: Worker) -> dict[str, Any]:
    """What moves a threshold: field -> slider."""
    return {
        "score_threshold": gr.Slider(0.05, 0.99, worker.thresholds["score_threshold"], step=0.01,
            label="Score threshold", info="Lower finds more, and more that is no text."),
        "nms_iou": gr.Slider(0.05, 0.9, worker.thresholds["nms_iou"], step=0.05,
            label="Overlap", info="Boxes that overlap more are one."),
        "min_box_side": gr.Slider(0, 50, worker.thresholds["min_box_side"], step=1,
            label="Least height", info="Thinner boxes are left out; pixels."),
    }  # fmt: skip


def _upload(gr: Any) -> Any:
    """Where an image is given. What comes out of it is the name of the file, which nobody opens here."""
    upload = gr.Image(label="Image", sources=["upload", "clipboard", "webcam"], type="filepath",
                      height=300, placeholder=_HINT, elem_id="upload")  # fmt: skip
    upload.preprocess = lambda payload: payload.path if payload else None
    return upload


def _picture(gr: Any, name: str) -> Any:
    return gr.Image(label="", show_label=False, interactive=False, type="filepath", height=460,
                    buttons=["fullscreen"], elem_id=name)  # fmt: skip


def _answer(gr: Any, worker: Worker, path: str, question: Question) -> Answer:
    """Ask about a file, and have the page say in its own way why there is no answer."""
    try:
        question = dataclasses.replace(question, data=Path(path).read_bytes())
    except OSError:
        raise gr.Error(_GONE, print_exception=False) from None
    try:
        with worker.place():
            return worker.ask(question)
    except Busy:
        raise gr.Error(BUSY, print_exception=False) from None
    except (Failed, UserError) as error:
        raise gr.Error(html_safe(str(error)), print_exception=False) from None


def html_safe(text: str) -> str:
    """Text for a place that would take it for HTML.

    Args:
      text: with whatever names in it.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write_results(folder: Path, upload: str, answer: Answer) -> dict[str, Path]:
    """Write what may be downloaded, under a name that cannot be guessed.

    Args:
      folder: for it.
      upload: the uploaded file, after which the results are named.
      answer: with both pictures.

    Returns:
      The files: `json`, `txt`, `jpg`, and `heat`.
    """
    stem = re.sub(r"[^\w.-]", "_", Path(upload).stem, flags=re.ASCII).strip(".")[:_LONGEST_STEM] or "image"
    place = folder / secrets.token_urlsafe(16)
    place.mkdir(mode=0o700)
    contents = {
        "json": ("words.json", answer.to_json().encode() + b"\n"),
        "txt": ("words.txt", answer.found.to_icdar(decimals=2, scores=True).encode()),
        "jpg": ("words.jpg", answer.pictures["boxes"]),
        "heat": ("score.jpg", answer.pictures["heat"]),
    }
    for ending, data in contents.values():
        (place / f"{stem}_{ending}").write_bytes(data)
    return {kind: place / f"{stem}_{ending}" for kind, (ending, _) in contents.items()}


def summary(answer: Answer) -> str:
    """One line: how many words, in which time.

    Args:
      answer: of the worker.
    """
    count = len(answer.found)
    words = "No words" if not count else "1 word" if count == 1 else f"{count} words"
    maps, boxes = (answer.seconds[name] * 1000 for name in ("maps", "boxes"))
    network = f"network {maps:.0f} ms" if answer.fresh else "network not run again"
    return f"**{words}** in {answer.width} × {answer.height} pixels; {network}, boxes {boxes:.0f} ms"


def rows(answer: Answer) -> list[list[str]]:
    """The table of the best words.

    Args:
      answer: of the worker.
    """
    best = answer.found.as_dict()["words"][:_ROWS]
    return [
        [f"{word['score']:.3f}", "  ".join(f"{x:.0f},{y:.0f}" for x, y in word["corners"])] for word in best
    ]
