"""The report of an evaluation: what its files say, and that foreign names and texts do nothing in them."""

import csv
import html.parser
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.project import make_data, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.cli import main
from efficientnet_east.config import Detect
from efficientnet_east.data.images import read_image
from efficientnet_east.data.submissions import read_scored
from efficientnet_east.evaluation import gallery, icdar2015
from efficientnet_east.evaluation.curve import precision_recall
from efficientnet_east.evaluation.predictions import detect_at
from efficientnet_east.evaluation.report import Boxes, Scored, as_csv, figures, image_details, image_rows
from efficientnet_east.inference.detector import Detector
from efficientnet_east.structures import Sample, Truth

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY.parent / "shared" / "fixtures"


class CountedNetwork:
    """Sees the word of `make_data` with .95, and with .6 another one below it; counts how often it runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.runs += 1
        shape = len(batch), batch.shape[1] // 4, batch.shape[2] // 4
        score, geometry = np.zeros((*shape, 1), np.float32), np.zeros((*shape, 5), np.float32)
        score[:, 10, 16], geometry[:, 10, 16] = 0.95, (12, 48, 16, 46, 0)
        score[:, 20, 16], geometry[:, 20, 16] = 0.6, (6, 20, 6, 20, 0)
        return score, geometry


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> CountedNetwork:
    """What every file of a network opens as."""
    network = CountedNetwork()
    monkeypatch.setattr(
        Detector, "load", lambda path, overrides=None: Detector(network, Detect(**(overrides or {})))
    )
    return network


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that stands for an exported network."""
    (tmp_path / "b0.onnx").write_bytes(b"a network")
    return str(tmp_path / "b0.onnx")


def evaluate(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main.main(["eval", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_report_of_a_network(
    network: CountedNetwork, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data", range(1, 4))
    (data / "gts" / "gt_img_3.txt").write_text("1,1,9,1,9,9,1,9,=1+1\r\n1,50,9,50,9,59,1,59,###\r\n")
    before, report = snapshot(data), tmp_path / "report"
    words = ["--checkpoint", model, "--data", str(data), "--report", str(report), "--gallery", "1"]
    printed = evaluate(capsys, *words, "--sweep", "0.5,0.9")
    assert network.runs == 3, "once for each image, whatever the number of thresholds"
    assert printed["hmean"] == pytest.approx(2 / 3) and printed["average_precision"] == pytest.approx(2 / 3)
    values = json.loads((report / "report.json").read_text())
    assert {name: values[name] for name in printed} == printed
    assert [part["score_threshold"] for part in values["by_score_threshold"]] == [0.5, 0.9]
    low, high = (part["curve"][-1] for part in values["by_score_threshold"])
    assert (low["precision"], low["recall"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (high["precision"], high["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert values["best"]["hmean"] == pytest.approx(2 / 3) and values["detect"]["score_threshold"] == 0.9
    assert sum(part["texts"] for part in values["by_size"]) == 3

    rows = list(csv.DictReader((report / "images.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["img_3", "img_1", "img_2"]
    assert rows[0] == {
        "image": "img_3", "hmean": "0.0", "precision": "0.0", "recall": "0.0", "texts": "1", "missed": "1",
        "detections": "1", "wrong": "1", "ignored": "0", "picture": "pictures/worst_1.jpg",
    }  # fmt: skip
    images = json.loads((report / "images.json").read_text())
    assert [text["state"] for text in images["img_3"]["texts"]] == ["missed", "ignored"]
    (found,) = images["img_1"]["detections"]
    assert found["state"] == "right" and found["score"] == pytest.approx(0.95)

    page = (report / "report.html").read_text()
    assert {path.name for path in (report / "pictures").iterdir()} == {"worst_1.jpg", "best_1.jpg"}
    assert read_image(report / "pictures" / "worst_1.jpg").shape[1] > 2 * 128
    for source in pictures_of(page):
        assert (report / source).is_file(), source
    assert {"curve.png", "thresholds.png", "kinds.png"} < set(pictures_of(page))
    again = read_scored(report / "detections.zip")
    assert {name: scores.tolist() for name, (_, scores) in again.items()} == {
        name: [pytest.approx(0.95)] for name in ("img_1", "img_2", "img_3")
    }
    assert snapshot(data) == before

    files = ["--submission", str(report / "detections.zip"), "--data", str(data)]
    assert evaluate(capsys, *files, "--report", str(tmp_path / "second"), "--gallery", "1") == printed
    assert (tmp_path / "second" / "pictures" / "worst_1.jpg").is_file()


def pictures_of(page: str) -> list[str]:
    return Tags(page).values("img", "src")


class Tags(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, tag: str, name: str) -> list[str]:
        return [str(attributes.get(name)) for found, attributes in self.tags if found == tag]


def test_the_network_runs_once_at_several_scales(network: CountedNetwork) -> None:
    """Each scale is another input; each is asked for once, and what is found is what one by one finds."""
    data = [Sample(f"{i}.png", np.full((192, 256, 3), 40 * i, np.uint8), Truth(
        np.zeros((0, 4, 2), np.float32), np.zeros(0, np.bool_), ())) for i in range(2)]  # fmt: skip
    detect = Detect(scales=(0.5, 1.0), min_box_side=1.0)
    found, _ = detect_at(Detector(network, detect), data, [0.5, 0.7, 0.9], progress=False)
    assert network.runs == 2 * 2
    for threshold in (0.5, 0.7, 0.9):
        alone = Detector(network, detect.model_copy(update={"score_threshold": threshold}))(data[1].image)
        np.testing.assert_array_equal(found[threshold]["1"].quads, alone.quads)
    assert len(found[0.5]["0"]) > len(found[0.9]["0"]) > 0


def test_report_of_a_submission_without_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not FIXTURES.is_dir():
        pytest.skip("needs the public submissions beside the repository")
    files = ["--submission", str(FIXTURES / "EAST_icdar2015_result.zip")]
    files += ["--gt", str(FIXTURES / "icdar2015_test_gt.zip"), "--report", str(tmp_path / "report")]
    printed = evaluate(capsys, *files)
    assert round(printed["hmean"], 6) == 0.808254 and "average_precision" not in printed
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.html", "report.json", "images.csv", "images.json", "kinds.png"}
    values = json.loads((tmp_path / "report" / "report.json").read_text())
    assert values["images"] == 500 and sum(part["found"] for part in values["by_angle"]) == 1606
    assert len(list(csv.DictReader((tmp_path / "report" / "images.csv").open()))) == 500


def test_icdar_2013(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own lines and its own protocol; by IoU a text found in two halves is not found."""
    truths, found = tmp_path / "gt.zip", tmp_path / "res.zip"
    with zipfile.ZipFile(truths, "w") as file:
        file.writestr("gt_img_1.txt", '0, 0, 99, 9, "two words"\r\n0, 50, 99, 59, "###"\r\n')
    with zipfile.ZipFile(found, "w") as file:
        file.writestr("res_img_1.txt", "0,0,49,9\r\n50,0,99,9\r\n0,50,99,59\r\n")
    files = ["--submission", str(found), "--gt", str(truths)]
    assert evaluate(capsys, *files)["hmean"] == 0
    printed = evaluate(capsys, *files, "--protocol", "deteval", "--report", str(tmp_path / "report"))
    assert printed["hmean"] == pytest.approx(0.8) and printed["care_detections"] == 2
    assert "DetEval" in (tmp_path / "report" / "report.html").read_text()


def test_mlt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quad = "0,0,99,0,99,9,0,9"
    with zipfile.ZipFile(tmp_path / "gt.zip", "w") as file:
        file.writestr("gt_img_1.txt", f"{quad},Latin,word\n0,50,99,50,99,59,0,59,Korean,말\n")
    with zipfile.ZipFile(tmp_path / "res.zip", "w") as file:
        file.writestr("res_img_1.txt", f"{quad},0.7\n500,0,599,0,599,9,500,9,0.9\n")
    files = ["--submission", str(tmp_path / "res.zip"), "--gt", str(tmp_path / "gt.zip")]
    printed = evaluate(capsys, *files, "--report", str(tmp_path / "report"))
    assert printed["average_precision"] == 0.25  # right at rank 2 of 2: 1/2, over two texts
    scripts = json.loads((tmp_path / "report" / "report.json").read_text())["by_script"]
    assert {part["label"]: part["recall"] for part in scripts} == {"Korean": 0, "Latin": 1}


def test_rectangles_of_a_network_for_icdar_2013(
    network: CountedNetwork, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data", range(1, 2))
    words = ["--checkpoint", model, "--data", str(data), "--protocol", "deteval"]
    printed = evaluate(capsys, *words, "--json", str(tmp_path / "out.json"), "--report", str(tmp_path / "r"))
    assert printed["hmean"] == 1 and "average_precision" not in printed
    assert zipfile.ZipFile(tmp_path / "out.zip").read("res_img_1.txt") == b"18,28,112,56\r\n"
    assert json.loads((tmp_path / "r" / "report.json").read_text())["best"]["hmean"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sweep", "0.5,2"], "--sweep: '0.5,2' cannot be used; expected numbers between 0 and 1"),
        (["--sweep", "high"], "--sweep: 'high' cannot be used"),
        (["--gallery", "-1"], "--gallery: is -1; expected 0 or more"),
        (["--report", "{tmp}/file"], "--report: {tmp}/file cannot be made"),
        ([], "--data: is missing: an exported network has no validation images of its own"),
    ],
)
def test_options_that_cannot_be_used(
    words: list[str], said: str, network: CountedNetwork, model: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = make_data(tmp_path / "data", range(1, 2))
    (tmp_path / "file").write_text("mine")
    given = [word.format(tmp=tmp_path) for word in words]
    report = [] if "--report" in given else ["--report", str(tmp_path / "report")]
    folder = ["--data", str(data)] if words else []
    assert main.main(["eval", "--checkpoint", model, *folder, *given, *report]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: " + said.format(tmp=tmp_path))
    assert network.runs == 0, "said before the work is done"


# --- foreign names and texts


def scored(names: list[str], text: str = "word") -> Scored:
    quad = np.array([[[0, 0], [30, 0], [30, 9], [0, 9]]], np.float32)
    truths = {name: Truth(quad, np.zeros(1, np.bool_), (text,)) for name in names}
    found = {name: Boxes(quad, np.array([0.5])) for name in names}
    quads = {name: part.quads for name, part in found.items()}
    curve = precision_recall(quads, {name: np.array([0.5]) for name in names}, truths)
    return Scored(names[0], "IoU", found, truths, icdar2015.score(quads, truths), curve)


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "'\"><script>alert(1)</script>",
    "&lt;b&gt;",
    "a\nb\r\x00\x1b[2J",
    "\ud800 alone",
    "=cmd|' /C calc'!A0",
    "javascript:alert(1)",
    "$\\frac{1}{0}$",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_page_shows_names_as_they_are(name: str) -> None:
    parts = scored([name, "plain"])
    rows = image_rows(parts, {name: "pictures/worst_1.jpg"})
    page = gallery.page(parts, figures(parts), rows, ["curve.png"], {"worst_1": name}).decode()
    tags = Tags(page)
    plain = scored(["plain", "other"])
    usual = image_rows(plain, {"plain": "pictures/worst_1.jpg"})
    other = Tags(gallery.page(plain, figures(plain), usual, ["curve.png"], {"worst_1": "plain"}).decode())
    assert [tag for tag, _ in tags.tags] == [tag for tag, _ in other.tags], "no tag more"
    assert not any(key.startswith("on") for _, attributes in tags.tags for key in attributes)
    assert all(not str(link).lower().startswith("javascript") for link in tags.values("a", "href"))
    assert "\x1b" not in page and "\x00" not in page
    if name.isprintable():
        assert name in tags.text


def test_page_forbids_scripts_and_fetching() -> None:
    parts = scored(["a"])
    page = gallery.page(parts, figures(parts), image_rows(parts, {}), [], {}).decode()
    policies = [attributes["content"] for tag, attributes in Tags(page).tags if "http-equiv" in attributes]
    assert len(policies) == 1 and str(policies[0]).startswith("default-src 'none'; img-src 'self'")
    assert "http://" not in page and "https://" not in page and "<script" not in page


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "＝1",
    "\ufeff=1",
    '=HYPERLINK("http://x","y")',
]


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_holds_no_formula(text: str) -> None:
    table = as_csv([{"image": text, "hmean": -1.0}], ("image", "hmean")).decode()
    (row,) = csv.DictReader(io.StringIO(table))
    assert row["image"].startswith("'") and row["hmean"] == "-1.0"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=20))
def test_csv_and_json_hold_any_name(name: str) -> None:
    rows = list(csv.reader(io.StringIO(as_csv([{"image": name, "b": 1}], ("image", "b")).decode())))
    assert len(rows) == 2 and rows[1][1] == "1", "a line for each image"
    assert not rows[1][0].lstrip().startswith(("=", "+", "-", "@"))
    details = image_details(scored([name], text=name))
    assert json.loads(json.dumps(details))[name]["texts"][0]["text"] == name


def test_names_choose_no_file(
    network: CountedNetwork, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Odd but possible file names: the report's own files have other names."""
    data = make_data(tmp_path / "data", range(1, 2))
    image = cv2.imencode(".png", np.zeros((96, 128, 3), np.uint8))[1].tobytes()
    for stem in ("a..b", "=1+1", "<b>x", "CON", "a%2f..%2fb"):
        (data / "images" / f"{stem}.png").write_bytes(image)
        (data / "gts" / f"gt_{stem}.txt").write_text("18,28,112,28,112,56,18,56,word\n")
    report = tmp_path / "out" / "report"
    words = ["--checkpoint", model, "--data", str(data), "--report", str(report), "--sweep", "none"]
    assert main.main(["eval", *words]) == 0
    said = capsys.readouterr().err
    runs = network.runs
    assert main.main(["eval", *words, "--json", str(tmp_path / "out.json")]) == 2
    assert "error: <b>x: cannot be the name of an image in a submission" in capsys.readouterr().err
    assert network.runs == runs, "said before the work is done"
    assert "detections.zip is left out: <b>x: cannot be the name of an image in a submission" in said
    written = {path.relative_to(report) for path in report.rglob("*") if path.is_file()}
    assert all(path.parts[0] == "pictures" or len(path.parts) == 1 for path in written)
    assert {path.name for path in report.glob("pictures/*")} <= {
        f"{kind}_{rank}.jpg" for kind in ("worst", "best") for rank in range(1, 13)
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report"]
    assert {path.name for path in report.iterdir()} == {
        "report.html", "report.json", "images.csv", "images.json", "pictures", "curve.png", "thresholds.png",
        "kinds.png", "reliability.png",
    }  # fmt: skip


WITHOUT_TENSORFLOW = """
import sys
for name in ("tensorflow", "tf_slim", "tf_keras", "keras"):
    sys.modules[name] = None  # to import it is an ImportError, as where it is not installed
from efficientnet_east.cli import main as cli
raise SystemExit(cli.main(sys.argv[1:]))
"""


def test_submissions_and_data_sets_need_no_tensorflow(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", range(1, 3))
    with zipfile.ZipFile(tmp_path / "res.zip", "w") as file:
        file.writestr("res_img_1.txt", "18,28,112,28,112,56,18,56,0.9\n")
    for words in (
        ["eval", "--submission", "res.zip", "--data", "data", "--report", "report"],
        ["check-data", "--data", "data", "--report", "checked"],
    ):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW, *words], cwd=tmp_path,
                              env=environment, capture_output=True, text=True, timeout=120)  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report" / "report.json").read_text())["recall"] == 0.5
    assert (tmp_path / "checked" / "mosaic.jpg").is_file() and data.is_dir()
