"""A detector in one file: written by `export-weights`, taken wherever a checkpoint is, or shipped."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bundles import bundle
from helpers.project import Trained, make_data

from efficientnet_east import config
from efficientnet_east.checkpoints import bundled, model_file, tf_checkpoints
from efficientnet_east.cli import main
from efficientnet_east.data.images import read_image
from efficientnet_east.errors import UserError
from efficientnet_east.inference.detector import Detector

THRESHOLD = 0.02


@pytest.fixture
def written(trained: Trained, tiny: None, tmp_path: Path) -> Path:
    """The file of a run, kernels in half precision."""
    path = tmp_path / "tiny.npz"
    words = ["export-weights", f"--checkpoint={trained.workdir}", f"--output={path}", "--half"]
    assert main.main([*words, "--box-threshold=0.01"]) == 0
    return path


@pytest.fixture(params=[bundled.DEFAULT, "second"])
def shipped(request: pytest.FixtureRequest, written: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bundled model: the usual one, or one more."""
    bundle(monkeypatch, written, request.param)
    return request.param


def error_of(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    capsys.readouterr()
    assert main.main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def lost(kernel: np.ndarray, rounded: np.ndarray) -> float:
    """How far what a kernel's taps sum up to moves, on the mean of all pairs of channels."""
    return float(np.abs((rounded.astype(np.float64) - kernel).sum(axis=(0, 1))).mean())


def test_kernels_are_half_and_vectors_whole(written: Path, trained: Trained) -> None:
    whole = tf_checkpoints.weights_of(tf_checkpoints.read(tf_checkpoints.find(trained.workdir)))
    stored, text = model_file.read(written)
    assert stored.keys() == whole.keys() and text is not None
    for name, array in stored.items():
        assert array.dtype == (np.float16 if array.ndim > 1 else np.float32), name
        np.testing.assert_allclose(array, whole[name], rtol=2e-3, atol=1e-4, err_msg=name)
    wide = [name for name, kernel in whole.items() if kernel.ndim == 4 and len(kernel) > 1]
    kernels = [(stored[name], whole[name]) for name in wide]
    errors = [lost(kernel, array) for array, kernel in kernels]
    plain = [lost(kernel, kernel.astype(np.float16)) for _, kernel in kernels]
    assert len(kernels) > 10 and np.mean(errors) < np.mean(plain) / 4
    assert all(array.dtype == np.float32 for array in model_file.read_weights(written).values())
    assert "workdir" not in text and str(trained.data) not in text


def test_same_bytes_again(written: Path, trained: Trained) -> None:
    before = written.read_bytes()
    words = ["export-weights", f"--checkpoint={trained.workdir}", f"--output={written}", "--half"]
    assert main.main([*words, "--box-threshold=0.01"]) == 0
    assert written.read_bytes() == before


def test_detector_of_a_file_is_that_of_the_run(written: Path, trained: Trained, tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    assert main.main(["export-weights", f"--checkpoint={trained.workdir}", f"--output={whole}"]) == 0
    image = read_image(trained.data / "images" / "img_1.png")
    score, geometry, _ = Detector.load(trained.workdir).maps(image)
    for path, close in ((whole, 1e-6), (written, 5e-3)):
        detector = Detector.load(path)
        assert detector.detect.score_threshold == THRESHOLD
        assert detector.detect.box_threshold == (0.01 if path == written else config.Detect().box_threshold)
        maps = detector.maps(image)
        np.testing.assert_allclose(maps[0], score, atol=close)
        np.testing.assert_allclose(maps[1], geometry, atol=close * 512)


def test_every_verb_takes_the_name(
    shipped: str, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The usual model needs no name."""
    image, out = str(trained.data / "images" / "img_1.png"), tmp_path / "out"
    named = [] if shipped == bundled.DEFAULT else [f"--model={shipped}"]
    assert main.main(["detect", image, f"--output={out}", *named]) == 0
    assert (out / "img_1_words.png").is_file()
    assert main.main(["eval", f"--data={trained.data}", f"--json={tmp_path / 'figures.json'}", *named]) == 0
    assert json.loads((tmp_path / "figures.json").read_text())["care_truths"] == 1
    frozen, again = tmp_path / "tiny.pb", tmp_path / "again.npz"
    assert main.main(["export", "--format=frozen", f"--output={frozen}", "--no-verify", *named]) == 0
    expected, _, _ = Detector.load(shipped).maps(image)
    np.testing.assert_allclose(Detector.load(frozen).maps(image)[0], expected, atol=1e-5)
    assert main.main(["export-weights", f"--model={shipped}", f"--output={again}"]) == 0
    assert model_file.read_weights(again).keys() == expected_names(shipped)
    capsys.readouterr()
    words = ["benchmark", f"--images={image}", "--rounds=1", "--warm-up=0", *named]
    assert main.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == [shipped, "tensorflow"]


def expected_names(shipped: str) -> Any:
    return model_file.read_weights(bundled.MODELS[shipped].weights).keys()


def test_a_name_that_is_nearly_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hint = "expected default (did you mean that?)"
    said = error_of(capsys, ["detect", "a.png", f"--output={tmp_path}", "--model=defualt"])
    assert said == f"error: defualt: no such model; {hint}"
    said = error_of(capsys, ["train", "--init=defaults", f"--workdir={tmp_path / 'run'}"])
    assert said == f"error: defaults: no such file or checkpoint; {hint}"
    assert "did you mean" not in error_of(capsys, ["eval", "--model=runs/default/best"])


def test_training_starts_from_a_bundled_model(
    shipped: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its network needs no options; what is given all the same wins, and is said."""
    data, run = make_data(tmp_path / "data"), tmp_path / "run"
    words = ["train", f"--data={data}", f"--workdir={run}", f"--init={shipped}", "--steps=1"]
    words += ["--crop-size=64", "--batch-size=2", "--workers=0", "--activation=swish", "--learning-rate=1e-9"]
    assert main.main(words) == 0
    said = capsys.readouterr().out
    weights = bundled.MODELS[shipped].weights
    assert f"starting from the weights of {weights}" in said
    assert "note: they were trained with activation 'relu', not 'swish'" in said
    ran = config.load(str(run / "config.yaml"))
    assert (ran.model.backbone, ran.model.activation) == ("tiny", "swish")
    got, given = tf_checkpoints.read(tf_checkpoints.find(run)), model_file.read_weights(weights)
    for name in (name for name in given if name.endswith("weights")):
        np.testing.assert_allclose(got[name], given[name], atol=1e-7, err_msg=name)


def test_a_configuration_file_wins_over_the_model_that_training_starts_from(
    shipped: str, tmp_path: Path
) -> None:
    given = tmp_path / "given.yaml"
    given.write_text(f"model: {{activation: swish}}\ntrain: {{init: {shipped}}}\n")
    read = config.load_for_training(str(given))
    assert (read.model.backbone, read.model.activation) == ("tiny", "swish")
    read = config.load_for_training(str(given), {"activation": "relu6"})
    assert (read.model.backbone, read.model.activation) == ("tiny", "relu6")


def test_training_from_a_file_that_is_missing_is_left_to_the_reader_of_weights(tmp_path: Path) -> None:
    """It says what kinds of weights there are; here the file need not even exist."""
    missing = str(tmp_path / "missing.npz")
    assert config.load_for_training(None, {"init": missing}).train.init == missing


def test_no_model_came_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle(monkeypatch, tmp_path / "none.npz")
    with pytest.raises(UserError, match="the bundled model is missing"):
        Detector.load()
    said = error_of(capsys, ["eval", f"--data={make_data(tmp_path / 'data')}"])
    assert said.startswith("error: default: the bundled model is missing")


def test_weights_alone_are_no_detector(tmp_path: Path) -> None:
    path = tmp_path / "bare.npz"
    np.savez(path, stem=np.zeros(3, np.float32))
    with pytest.raises(UserError) as raised:
        Detector.load(path)
    assert str(raised.value).endswith("but no configuration of a detector; expected a file of export-weights")


@pytest.mark.parametrize("text", [np.zeros(4), np.zeros(2 << 20, np.uint8), np.frombuffer(b"a: [", np.uint8),
                                  np.frombuffer(b"model: {backbone: b99}", np.uint8),
                                  np.frombuffer(b"\xff\xfe\x00", np.uint8)])  # fmt: skip
def test_hostile_configurations(text: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, stem=np.zeros(3, np.float32), **{model_file.CONFIG: text})
    with pytest.raises(UserError):
        Detector.load(path)


def test_damaged_files(written: Path, tmp_path: Path) -> None:
    """Cut short, or with a byte changed: refused in one line, or as good as whole."""
    whole, path = written.read_bytes(), tmp_path / "damaged.npz"
    rng = np.random.default_rng(5)
    for _ in range(40):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data if rng.random() < 0.7 else whole[: rng.integers(len(whole))])
        try:
            arrays = model_file.read_weights(path)
        except UserError as error:
            assert str(error).startswith(f"{path}") and "\n" not in str(error)
        else:
            assert arrays.keys() == model_file.read_weights(written).keys()


def test_half_is_for_files(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export-weights", f"--checkpoint={trained.workdir}", f"--output={tmp_path / 'x.ckpt'}", "--half"]
    assert error_of(capsys, words).startswith("error: --half: is for a file, not for a checkpoint")


def test_checkpoint_with_its_configuration(trained: Trained, tiny: None, tmp_path: Path) -> None:
    prefix = tmp_path / "out" / "model.ckpt-1"
    assert main.main(["export-weights", f"--checkpoint={trained.workdir}", f"--output={prefix}"]) == 0
    image = read_image(trained.data / "images" / "img_1.png")
    expected, _, _ = Detector.load(trained.workdir).maps(image)
    np.testing.assert_array_equal(Detector.load(prefix).maps(image)[0], expected)
