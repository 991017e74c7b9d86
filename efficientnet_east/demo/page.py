"""The web page: drop an image, see boxes and the score map, move thresholds, download the results.

Gradio draws it. Nothing is decoded here: uploads go to the worker as they are.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import importlib
import io
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from efficientnet_east.data.images import write_image
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.demo import results
from efficientnet_east.demo.limits import Limits
from efficientnet_east.demo.service import Answer, Question
from efficientnet_east.demo.worker import Busy, Failed, Worker
from efficientnet_east.errors import UserError

TITLE = "Find the words"
INSTALL = "Run `pip install efficientnet_east[demo]`."
BUSY = "The server is busy. Try again in a few seconds."
_ABOUT = "Text detection with EAST on EfficientNet. Your images are deleted after 15 minutes."
_DROP = "Drop an image, paste one, or use the camera"
_HINT = "Choose an image, or click an example."
_GONE = "Your image has been deleted. Please choose it again."
_FILES = {"json": "JSON", "txt": "Text", "jpg": "Picture"}
PICTURES = ("boxes", "heat")
EXAMPLES, _SEED, _SCENE_SHAPE = (13, 2, 12), 5, (600, 900)  # generated scenes that show signs of many kinds
_THUMBNAIL = (240, 160)  # width and height
_CSS = """
.gradio-container, .gradio-container main { width: 100% !important; max-width: 1280px !important; }
.gradio-container { margin: 0 auto !important; }
#head h1 { margin-bottom: .1em; } #head p { margin-top: 0; opacity: .75; }
#said { min-height: 1.6em; }
#files, #examples { flex-wrap: nowrap; } #files button { min-width: 0; padding: .5em .3em; }
#examples button { min-width: 0; aspect-ratio: 3 / 2; height: auto; font-size: 0; background-size: cover;
  background-position: center; border: 1px solid #0002; }
#examples button:hover { outline: 2px solid #10b981; }
#code-shell { max-height: 180px !important; }
footer { display: none !important; }
@media (max-width: 700px) {
  .gradio-container { padding: 12px !important; }
  #upload { height: 200px !important; } #boxes, #heat { height: 260px !important; }
  #main > .column { display: contents; }
  #main > .column > *, #settings { order: 1; } #main #settings { order: 3; } #main #output { order: 2; }
}
"""


def load_gradio(folder: Path) -> Any:
    """Import Gradio, and switch off everything that asks another machine.

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
        ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=_theme(gr),
        css=_CSS + examples_css(),
    )  # fmt: skip


def _theme(gr: Any) -> Any:
    """Gradio's own theme with the fonts of the machine, so that none is fetched."""
    fonts, mono = ["ui-sans-serif", "system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Soft(primary_hue="emerald", font=fonts, font_mono=mono)


def _build(gr: Any, worker: Worker, max_pixels: int, folder: Path) -> Any:
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}\n{_ABOUT}", elem_id="head")
        with gr.Row(elem_id="main"):
            with gr.Column(scale=2, min_width=300):
                upload, examples = _upload(gr), _examples(gr)
                with gr.Column(elem_id="settings"):
                    model = gr.Dropdown(list(worker.names), value=worker.names[0], label="Model",
                                        visible=len(worker.names) > 1, elem_id="model")  # fmt: skip
                    sliders = _sliders(gr, worker.thresholds[worker.names[0]])
            with gr.Column(scale=3, min_width=300), gr.Column(elem_id="output"):
                shown = _results(gr)

        show = _show(gr, worker, list(sliders), max_pixels, folder)
        inputs = [upload, model, *sliders.values()]
        common = {"trigger_mode": "always_last", "show_progress": "minimal", "api_visibility": "private"}
        for number, button in zip(EXAMPLES, examples, strict=True):
            button.click(_example_writer(folder, number), None, upload, api_visibility="private")
        gr.on(
            [upload.change, *(slider.release for slider in sliders.values())], show, inputs, shown, **common
        )

        def own_thresholds(name: str) -> list[float]:
            return [worker.thresholds[name][field] for field in sliders]

        changed = model.change(own_thresholds, model, list(sliders.values()), api_visibility="private")
        changed.then(show, inputs, shown, show_progress="minimal", api_visibility="private")
    return page


def _show(
    gr: Any, worker: Worker, fields: list[str], max_pixels: int, folder: Path
) -> Callable[..., list[Any]]:
    """Make the function that fills the page for an image, a model and the values of the sliders."""

    def show(path: str | None, name: str, *values: float) -> list[Any]:
        if not path:
            return [_HINT, None, None, None, "", "", *[_file(gr, None)] * len(_FILES)]
        thresholds = dict(zip(fields, values, strict=True))
        answer = _answer(gr, worker, path, Question(b"", name, thresholds, PICTURES, max_pixels))
        written = {kind: str(file) for kind, file in results.write_results(folder, path, answer).items()}
        own = worker.thresholds[name]
        changed = {field: value for field, value in thresholds.items() if abs(value - own[field]) > 1e-9}
        code = [results.python_code(path, name, changed), results.command_line(path, name, changed)]
        files = [_file(gr, written[kind]) for kind in _FILES]
        table = results.rows(answer)
        return [results.summary(answer), written["jpg"], written["heat"], table, *code, *files]

    return show


@functools.cache
def scene(number: int) -> Any:
    """Draw a generated scene, uint8 RGB; each one is drawn once."""
    return SyntheticScenes(number + 1, _SEED, _SCENE_SHAPE)[number].image


def examples_css() -> str:
    """Write the style that shows the examples on their buttons. They are part of the page, not files."""
    rules = []
    for position, number in enumerate(EXAMPLES, 1):
        buffer = io.BytesIO()
        Image.fromarray(scene(number)).resize(_THUMBNAIL).save(buffer, "JPEG", quality=80)
        data = base64.b64encode(buffer.getvalue()).decode()
        rules.append(f"#example-{position} {{ background-image: url(data:image/jpeg;base64,{data}); }}")
    return "\n".join(rules)


def _example_writer(folder: Path, number: int) -> Callable[[], str]:
    """Make the function of an example's button: it writes the scene as if it were an upload."""

    def write() -> str:
        path = folder / secrets.token_urlsafe(16) / "example.png"
        write_image(path, scene(number))
        return str(path)

    return write


def _results(gr: Any) -> list[Any]:
    """Make what shows an answer, in the order in which `_show` fills it."""
    said = gr.Markdown(_HINT, elem_id="said")
    with gr.Tabs():
        with gr.Tab("Boxes"):
            boxes = _picture(gr, "boxes")
        with gr.Tab("Score map"):
            heat = _picture(gr, "heat")
        with gr.Tab("Words"):
            words = gr.Dataframe(headers=["score", "corners (x, y), clockwise"], label="Words",
                                 interactive=False, wrap=True, elem_id="words")  # fmt: skip
        with gr.Tab("Code"):
            code = [gr.Code(language=language, label=label, interactive=False, wrap_lines=True,
                            elem_id=f"code-{language}")
                    for language, label in (("python", "Python"), ("shell", "Command line"))]  # fmt: skip
    with gr.Row(elem_id="files"):
        files = [gr.DownloadButton(f"⤓ {label}", interactive=False, size="md", elem_id=f"take-{kind}")
                 for kind, label in _FILES.items()]  # fmt: skip
    return [said, boxes, heat, words, *code, *files]


def _file(gr: Any, path: str | None) -> Any:
    """Update a download button."""
    return gr.DownloadButton(value=path, interactive=path is not None)


def _sliders(gr: Any, own: dict[str, float]) -> dict[str, Any]:
    """Make the sliders: field of the section `detect` -> slider, which begins at the model's own value."""
    rows = (
        ("box_threshold", 0.0, 0.99, 0.01, "Box threshold", "Show boxes with this score or more."),
        ("score_threshold", 0.05, 0.99, 0.01, "Score threshold", "Pixels with this score count as text."),
        ("nms_iou", 0.05, 0.9, 0.05, "Overlap", "Merge boxes that overlap more than this."),
        ("min_box_side", 0, 50, 1, "Minimum height", "Hide boxes thinner than this, in pixels."),
    )
    return {
        field: gr.Slider(
            min(least, own[field]), max(most, own[field]), own[field], step=step, label=label, info=info
        )
        for field, least, most, step, label, info in rows
    }


def _upload(gr: Any) -> Any:
    """Make the place for an image. Its value is the path of the file, which is not opened here."""
    upload = gr.Image(label="Image", sources=["upload", "clipboard", "webcam"], type="filepath",
                      height=300, placeholder=_DROP, elem_id="upload")  # fmt: skip
    upload.preprocess = lambda payload: payload.path if payload else None
    return upload


def _examples(gr: Any) -> list[Any]:
    with gr.Row(elem_id="examples"):
        return [gr.Button(f"Example {n}", elem_id=f"example-{n}") for n in range(1, len(EXAMPLES) + 1)]


def _picture(gr: Any, name: str) -> Any:
    return gr.Image(label="", show_label=False, interactive=False, type="filepath", height=460,
                    buttons=["fullscreen"], elem_id=name)  # fmt: skip


def _answer(gr: Any, worker: Worker, path: str, question: Question) -> Answer:
    """Ask the worker about a file, and show an error on the page if there is no answer."""
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
    """Escape text for a place that takes it for HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
