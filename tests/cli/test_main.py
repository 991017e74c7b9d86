"""The command line: what it writes, and that bad input is one line that names the place, with exit code 2."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.commands import error_of
from helpers.networks import one_box
from helpers.project import SMALL, Trained, make_data, snapshot

from efficientnet_east.cli.main import main
from efficientnet_east.config import Detect
from efficientnet_east.data.images import read_image
from efficientnet_east.inference.detector import Detector
from efficientnet_east.training.results import read as read_results

REPOSITORY = Path(__file__).resolve().parents[2]
DETECT = ("--model=no", "--output=out")
FIXTURES = REPOSITORY.parent / "shared" / "fixtures"


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch, tiny: None) -> None:
    """Any checkpoint loads as a detector of that one word."""
    monkeypatch.setattr(Detector, "load", lambda checkpoint, overrides=None: Detector(one_box, Detect()))


# --- data sets that cannot be used: what to break in a good one, what the message says


def truncate(data: Path) -> None:
    path = data / "images" / "img_2.png"
    path.write_bytes(path.read_bytes()[:2000])


def add_line(line: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        with (data / "gts" / "gt_img_2.txt").open("a") as file:
            file.write(line + "\n")

    return change


IMAGE, TRUTH = "{data}/images/img_2.png", "{data}/gts/gt_img_2.txt"
LINE = "x1,y1,x2,y2,x3,y3,x4,y4,transcription"
BROKEN: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "missing folder": (shutil.rmtree, "{data}", "Check the path."),
    "empty folder": (lambda data: (shutil.rmtree(data), data.mkdir()), "{data}", "images + gts"),
    "no ground truth": (lambda data: (data / "gts/gt_img_2.txt").unlink(), IMAGE, "gt_img_2.txt"),
    "no folder of it": (lambda data: shutil.rmtree(data / "gts"), "{data}/images", "a folder {data}/gts"),
    "no image": (lambda data: (data / "images/img_2.png").unlink(), TRUTH, "img_2.jpg"),
    "truncated image": (truncate, IMAGE, "a whole JPEG, PNG"),
    "no image inside": (lambda data: (data / "images/img_2.png").write_text("hello"), IMAGE, "a whole JPEG"),
    "short line": (add_line("1,2,3"), f"{TRUTH}:2", LINE),
    "letters": (add_line("a,b,c,d,e,f,g,h,word"), f"{TRUTH}:2", LINE),
    "not a number": (add_line("nan,2,3,4,5,6,7,8,word"), f"{TRUTH}:2", "finite numbers"),
    "zero area": (add_line("1,1,9,9,5,5,3,3,word"), f"{TRUTH}:2", "at least 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_data_that_cannot_be_used(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data")
    change, where, expected = BROKEN[case]
    change(data)
    line = error_of(capsys, ["train", "--data", str(data), "--workdir", str(tmp_path / "run")])
    assert line.startswith(where.format(data=data) + ": ")
    hint = re.search(r"(?:; expected |\. )(.*)$", line)
    assert hint and expected.format(data=data) in hint[1]
    assert not (tmp_path / "run").exists(), "nothing is begun"


def test_evaluation_says_the_same(
    trained: Trained, tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data")
    add_line("1,2,3")(data)
    line = error_of(capsys, ["eval", "--model", str(trained.workdir), "--data", str(data)])
    assert line.startswith(f"{data}/gts/gt_img_2.txt:2: ")


def test_nothing_to_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data", text="###")
    line = error_of(capsys, ["train", "--data", str(data), "--workdir", str(tmp_path / "run")])
    assert line.startswith(f"{data}: no trainable text in 2 images (2 texts, all marked ###); expected")


def spoil_four(data: Path) -> list[str]:
    """Breaks images 2 to 5 of a data set in four ways; what the list of skipped files must name."""
    (data / "images" / "img_2.png").write_bytes(b"")
    (data / "gts" / "gt_img_3.txt").unlink()
    (data / "images" / "img_4.png").unlink()
    (data / "gts" / "gt_img_5.txt").write_text("18,28,112,28,112,56,18,56,word\n1,1,1,1,1,1,1,1,dot\n")
    return ["images/img_2.png", "images/img_3.png", "gts/gt_img_4.txt", "gts/gt_img_5.txt:2"]


def test_skip_bad_goes_on_and_lists(
    one_graph: Any, seeing: None, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data", range(1, 6))
    named = spoil_four(data)
    words = ["train", *SMALL, "--data", str(data), "--workdir", str(tmp_path / "run"), "--steps", "1"]
    assert main([*words, "--skip-bad"]) == 0
    out, err = capsys.readouterr()
    skipped = [line for line in err.splitlines() if line.startswith("warning: skipped: ")]
    assert len(skipped) == 4 and "training on 2 images" in out
    for name in named:
        where = f"warning: skipped: {data}/{name}: "
        assert any(line.startswith(where) and "; expected " in line for line in skipped)

    code = main(["eval", "--model", str(trained.workdir), "--data", str(data), "--skip-bad"])
    out, err = capsys.readouterr()
    assert code == 0 and json.loads(out)["hmean"] == 1.0  # the words of images 1 and 5
    assert [line for line in err.splitlines() if "skipped: " in line] == skipped


@pytest.mark.parametrize(("share", "code"), [("0.6", 0), ("0.59", 2), ("0", 2)])
def test_skip_bad_has_a_limit(
    share: str, code: int, one_graph: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of five images three cannot be used; the bad line and the ground truth of no image are no images."""
    data = make_data(tmp_path / "data", range(1, 7))
    spoil_four(data)
    (data / "images" / "img_6.png").write_bytes(b"\xff\xd8\xff no JPEG either")
    words = ["train", *SMALL, "--data", str(data), "--workdir", str(tmp_path / "run"), "--steps", "1"]
    assert main([*words, "--skip-bad", "--skip-share", share]) == code
    if code:
        problem = f"{data}: 3 of 5 images cannot be used (the first: {data}/images/img_2.png)"
        assert problem in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_skip_bad_cannot_make_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data")
    for path in (data / "images").iterdir():
        path.write_text("no image")
    line = error_of(capsys, ["train", "--skip-bad", "--data", str(data), "--workdir", str(tmp_path / "run")])
    assert "none of the images can be read; expected at least one" in line
    assert f"(first problem: {data / 'images' / 'img_1.png'}: " in line


# --- options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "efficientnet-east: the following arguments are required: COMMAND; see `"),
        (["trian"], "COMMAND: invalid choice: 'trian'; expected train, eval, detect"),
        (["train", "--lerning-rate", "1"], "--lerning-rate: unknown argument; expected --learning-rate (did"),
        (["train", "--lerning-rate=1"], "--lerning-rate: unknown argument; expected --learning-rate (did"),
        (["train", "--learning", "1"], "--learning: unknown argument; expected --learning-rate (did"),
        (["train", "runs/b0"], "runs/b0: unknown argument; expected what --help lists"),
        (["detect", "a", *DETECT, "--format=json"], "expected --formats (did you"),
        (["detect", "a", *DETECT, "--steps=5"], "--steps: unknown argument; expected"),
        (["train", "--steps"], "--steps: expected one argument; see `efficientnet-east train --help`"),
        (["train", "--steps", "many"], "--steps: 'many' cannot be used; expected a valid integer"),
        (["train", "--crop-size", "500"], "--crop-size: '500' cannot be used; expected a multiple of 32"),
        (["train", "--backbone", "b9"], "--backbone: unknown variant 'b9'; expected one of b0, b1"),
        (["train", "--activation", "gelu"], "--activation: invalid choice: 'gelu'; expected relu, relu6"),
        (["train", "--scale-min", "3"], "expected --scale-min must not be larger than --scale-max"),
        (["train", "--config", "no.yaml"], "no.yaml: no such file; expected a YAML configuration"),
        (["train", "--list", "names.txt"], "--list: names images, but there is no folder. Give --data, too"),
        (["train", "--val-list", "names.txt"], "--val-list: names images, but there is no folder. Give"),
        (["train", "--init", "defualt"], "defualt: no such file or checkpoint; expected default (did"),
        (["train", "--init", "w.npz", "--data", "."], "w.npz: no such file or checkpoint; expected a"),
        (["eval", "--gt", "gt.zip"], "eval: what to score is not clear. Give --model, or --sub"),
        (["eval", "--submission", "a.zip", "--model", "b"], "eval: what to score is not clear"),
        (["eval", "--submission", "a.zip"], "--gt: is missing. Give the ground truth of the sub"),
        (["eval", "--submission", "no.zip", "--gt", "gt.zip"], "no.zip: cannot be read"),
        (["eval", "--model", "no", "--json", "o.zip"], "--json: o.zip is a folder or a .zip; expected"),
        (["eval", "--model", "no", "--json", "."], "--json: . is a folder or a .zip; expected"),
        (["eval", "--model", "no"], "no: no such model; expected a workdir of train.py"),
        (["eval", "--model", "no", "--limit", "3"], "--limit: needs --data. Give both"),
        (["eval", "--gallery", "-1"], "--gallery: is -1; expected 0 or more"),
        (["eval", "--sweep", "0.5,2"], "--sweep: '0.5,2' cannot be used; expected numbers between 0 and 1"),
        (["detect", "a.jpg"], "the following arguments are required: --output; see `"),
        (["detect", "a.jpg", "--ouput", "out"], "--ouput: unknown argument; expected --output (did"),
        (["detect", "--", "--ouput"], "the following arguments are required: --output; see `"),
        (["detect", "a.jpg", *DETECT], "no: no such model; expected a"),
        (["detect", "a/a.jpg", "b/a.jpg", *DETECT], "b/a.jpg: would write the same"),
        (["detect", *DETECT], "detect: what to read is not clear. Give images"),
        (["detect", "a.jpg", "--camera=0", *DETECT], "what to read is not clear"),
        (["detect", "*.jpg", *DETECT], "*.jpg: matches no file; expected image files"),
        (["detect", "http://a/b.jpg", *DETECT], "is an address. Download it first"),
        (["detect", ".", *DETECT], ".: holds no image; expected files"),
        (["detect", "a.jpg", "--list=no.txt", *DETECT], "no.txt: cannot be read"),
        (["detect", "a", "--formats=xml", *DETECT], "--formats: 'xml' is unknown"),
        (["detect", "README.md", "--formats=film", *DETECT], "--formats: is film alone, but no video"),
        (["detect", "a", "--every=0", *DETECT], "--every: is 0; expected 1 or more"),
        (["detect", "a", "--max-pixels=999999999", *DETECT], "--max-pixels: is 9999"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in error_of(capsys, words)
    assert not list(tmp_path.iterdir())


def test_keys_of_a_file_and_names_of_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("train:\n  batchsize: 5\n")
    line = error_of(capsys, ["train", "--config", str(tmp_path / "run.yaml")])
    expected = "train.batchsize: unknown key; expected 'batch_size' (did you mean that?)"
    assert line == f"{tmp_path}/run.yaml: {expected}"
    (tmp_path / "names.txt").write_text("img_1.png\nimg_9.png\n")
    data = make_data(tmp_path / "data")
    line = error_of(capsys, ["train", "--data", str(data), "--list", str(tmp_path / "names.txt")])
    assert line.startswith(f"img_9.png: is not in {data}/images; expected")


def test_a_workdir_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data")
    (tmp_path / "run").write_text("mine")
    assert main(["train", "--data", str(data), "--workdir", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    problem = f"--workdir: {tmp_path / 'run'} cannot be made (File exists)"
    assert line == f"error: {problem}. Name a folder that you can write to."
    assert (tmp_path / "run").read_text() == "mine"


def test_pictures_that_are_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    line = error_of(capsys, ["eval", "--model", "no", "--pictures", str(tmp_path / "mine")])
    assert line.startswith(f"--pictures: {tmp_path / 'mine'} cannot be made")
    assert (tmp_path / "mine").read_text() == "mine"


def test_scripts_and_module(tmp_path: Path) -> None:
    """The scripts are the subcommands, and a whole process ends as `main` says, without a traceback."""
    for words, said in (
        ([str(REPOSITORY / "train.py"), "--backbone", "b9"], "error: --backbone: unknown variant 'b9'"),
        ([str(REPOSITORY / "eval.py"), "--submission", "no.zip"], "error: --gt: is missing"),
        (["-m", "efficientnet_east", "detect"], "error: efficientnet-east detect: the following arguments"),
    ):
        command, environment = [sys.executable, *words], os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 2 and done.stdout == ""
        assert [line.startswith(said) for line in done.stderr.splitlines()] == [True], done.stderr


# --- eval


@pytest.mark.parametrize(
    ("name", "precision", "recall", "hmean"),
    [
        ("EAST_icdar2015_result", 0.846600, 0.773231, 0.808254),
        ("chenjun2hao_GIOU_EAST", 0.846591, 0.789119, 0.816845),
        ("PixelLink_icdar_result", 0.855197, 0.816081, 0.835181),
    ],
)
def test_published_submissions(
    name: str,
    precision: float,
    recall: float,
    hmean: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not FIXTURES.is_dir():
        pytest.skip(f"the public submissions are not in {FIXTURES}")
    files = ["--submission", str(FIXTURES / f"{name}.zip"), "--gt", str(FIXTURES / "icdar2015_test_gt.zip")]
    assert main(["eval", *files, "--json", str(tmp_path / "new" / "out.json")]) == 0
    figures = json.loads((tmp_path / "new" / "out.json").read_text())
    assert figures == json.loads(capsys.readouterr().out)
    expected = {"precision": precision, "recall": recall, "hmean": hmean}
    assert {key: round(figures[key], 6) for key in expected} == expected
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.json"]


def test_a_run_is_scored_on_what_it_validated_on(
    trained: Trained, tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(trained.workdir)
    written = ["--json", str(tmp_path / "out.json"), "--pictures", str(tmp_path / "pictures")]
    assert main(["eval", "--model", str(trained.workdir), "--threads", "1", *written]) == 0
    out, err = capsys.readouterr()
    assert f"scoring {trained.workdir / 'model.ckpt-4'} on 1 images" in err
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures == json.loads(out) and figures.keys() >= {"precision", "recall", "hmean"}
    last = read_results(trained.workdir)[-1]
    for key in ("precision", "recall", "hmean"):
        assert figures[key] == pytest.approx(last[key], abs=1e-6)
    assert zipfile.ZipFile(tmp_path / "out.zip").namelist() == ["res_img_1.txt"]
    assert read_image(tmp_path / "pictures" / "img_1.png").shape == (96, 128, 3)
    assert snapshot(trained.workdir) == before


def test_a_submission_scores_like_the_checkpoint_it_is_of(
    trained: Trained, seeing: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data", range(1, 4))
    (data / "gts" / "gt_img_3.txt").write_text("1,1,9,1,9,9,1,9,elsewhere\r\n")
    out = tmp_path / "out.json"
    assert main(["eval", "--model", str(trained.workdir), "--data", str(data), "--json", str(out)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [round(figures[key], 6) for key in ("precision", "recall", "hmean")] == [0.666667] * 3
    with zipfile.ZipFile(tmp_path / "gt.zip", "w") as archive:
        for path in (data / "gts").iterdir():
            archive.write(path, path.name)
    assert main(["eval", "--submission", str(tmp_path / "out.zip"), "--gt", str(tmp_path / "gt.zip")]) == 0
    assert figures.pop("average_precision") == pytest.approx(2 / 3)  # which needs scores
    assert json.loads(capsys.readouterr().out) == figures


@pytest.mark.parametrize("layout", [("train_images", "train_gts"), ("test_images", "test_gts")])
def test_test_images_are_scored_where_there_are_some(
    layout: tuple[str, str],
    trained: Trained,
    seeing: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder with training and test images, and one with test images alone: both name the test images."""
    made = make_data(tmp_path / "made", range(1, 4))
    (tmp_path / "data").mkdir()
    if layout[0] == "train_images":  # beside the test images
        theirs = make_data(tmp_path / "theirs", range(7, 8))
        (theirs / "images").rename(tmp_path / "data" / "train_images")
        (theirs / "gts").rename(tmp_path / "data" / "train_gts")
    (made / "images").rename(tmp_path / "data" / "test_images")
    (made / "gts").rename(tmp_path / "data" / "test_gts")
    data = str(tmp_path / "data")
    assert main(["eval", "--model", str(trained.workdir), "--data", data, "--limit", "2"]) == 0
    assert "on 2 images" in capsys.readouterr().err
    assert main(["eval", "--model", str(trained.workdir), "--data", data]) == 0
    assert "on 3 images" in capsys.readouterr().err


def test_interruption(
    trained: Trained, tiny: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> Detector:
        raise KeyboardInterrupt

    monkeypatch.setattr(Detector, "load", interrupted)
    assert main(["eval", "--model", str(trained.workdir)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


# --- detect


def test_detect_writes_boxes_and_a_picture(
    trained: Trained, seeing: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For any file name, and without a trace in the folder of the images."""
    source = make_data(tmp_path / "data", range(1, 2)) / "images" / "img_1.png"
    names = ["plain.png", "ünï 日本.png", "two\nlines.png", "a.b.png"]
    names.append(os.fsdecode(b"caf\xe9.png"))  # not UTF-8
    paths = [tmp_path / "images" / name for name in names]
    paths[0].parent.mkdir()
    for path in paths:
        shutil.copy(source, path)
    before = snapshot(tmp_path / "images")
    output = tmp_path / "new" / "folder"
    words = ["detect", "--model", str(trained.workdir), "--output", str(output)]
    assert main([*words, *map(str, paths)]) == 0
    assert capsys.readouterr().out.count(": 1 word -> ") == len(names)
    assert {path.name for path in output.iterdir()} == {
        f"{path.stem}_words.{kind}" for path in paths for kind in ("txt", "png")
    }
    for path in paths:
        assert (output / f"{path.stem}_words.txt").read_text() == (
            "18.00,28.00,112.00,28.00,112.00,56.00,18.00,56.00,0.9500\n"
        )
    drawn, plain = read_image(output / "plain_words.png"), read_image(paths[0])
    assert drawn.shape == plain.shape
    differs = (drawn != plain).any(axis=2)
    assert differs[28, 30:110].mean() > 0.9 and not differs[75:].any(), "drawn around the word"
    assert snapshot(tmp_path / "images") == before


def test_detect_with_nothing_to_see(
    trained: Trained, seeing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty file says that nothing was found, and the picture is the image."""
    image = np.full((40, 200, 3), 200, np.uint8)
    cv2.imwrite(str(tmp_path / "blank.png"), image)
    nothing = Detector(lambda batch: (np.zeros((1, 16, 56, 1)), np.zeros((1, 16, 56, 5))), Detect())
    monkeypatch.setattr(Detector, "load", lambda checkpoint, overrides=None: nothing)
    words = ["--model", str(trained.workdir), "--output", str(tmp_path / "out")]
    assert main(["detect", str(tmp_path / "blank.png"), *words]) == 0
    assert (tmp_path / "out" / "blank_words.txt").read_bytes() == b""
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "blank_words.png"), image)
