"""Calibrated scores: what the line through logits is fitted to, where it is folded in, what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.programs import make_workdir, scale_variables
from helpers.project import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east import config, scaling
from efficientnet_east.checkpoints import bundled, model_file
from efficientnet_east.cli import main
from efficientnet_east.evaluation import icdar2015, mistakes, tune
from efficientnet_east.inference import calibration
from efficientnet_east.inference.detector import Detector
from efficientnet_east.structures import Detections, Truth


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def draw(n: int, scale: float, offset: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and whether each is right, where the chance of that is the calibrated score."""
    rng = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-rng.normal(3, 2, n)))
    return scores, rng.random(n) < calibration.apply(scores, scale, offset)


@settings(deadline=None, max_examples=30)
@given(scale=st.floats(0.3, 3), offset=st.floats(-6, 2), seed=st.integers(0, 100))
def test_fit_finds_the_line_that_made_the_truth(scale: float, offset: float, seed: int) -> None:
    scores, right = draw(20_000, scale, offset, seed)
    found = calibration.fit(scores, right)
    ends = np.quantile(scores, [0.1, 0.5, 0.9])
    expected = calibration.apply(ends, scale, offset)
    np.testing.assert_allclose(calibration.apply(ends, *found), expected, atol=0.04)
    error = calibration.expected_error(calibration.reliability(calibration.apply(scores, *found), right))
    assert error < 0.02


def test_a_fixed_score_becomes_one_half() -> None:
    scores, right = draw(500, 1.5, -4, 3)
    for fixed in (0.3, 0.9, 0.995):
        scale, offset = calibration.fit(scores, right, fixed)
        assert calibration.apply(np.array(fixed), scale, offset) == pytest.approx(0.5, abs=1e-5)
        assert scale > 0


@pytest.mark.parametrize(
    "right", [np.zeros(50, bool), np.ones(50, bool), np.arange(50) < 25, np.arange(50) >= 25]
)
def test_fit_stays_finite_and_rising(right: np.ndarray) -> None:
    """Nothing right, all right, and scores that part them without a mistake, in either direction."""
    for fixed in (None, 0.5):
        scale, offset = calibration.fit(np.linspace(0.01, 1, 50), right, fixed)
        assert 0 < scale < 1e3 and np.isfinite(offset)


def test_error_by_hand() -> None:
    right = np.array([False, True, False, True])
    bins = calibration.reliability(np.array([0.05, 0.95, 0.95, 1.0]), right)
    assert [part.count for part in bins] == [1, *[0] * 8, 3]
    assert bins[-1].score == pytest.approx(0.9667, abs=1e-4) and bins[-1].right == pytest.approx(2 / 3)
    assert calibration.expected_error(bins) == pytest.approx((1 * 0.05 + 3 * 0.3) / 4)
    assert calibration.expected_error(calibration.reliability(np.zeros(0), np.zeros(0, bool))) == 0


def test_folded_weights_give_calibrated_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same scores from a file with the line in its configuration and from one with it in its weights."""
    monkeypatch.setitem(scaling.VARIANTS, "tiny", TINY)
    workdir, small = make_workdir(tmp_path / "run", backbone="tiny"), tmp_path / "small.npz"
    scale_variables(workdir, {"Conv_7/weights": 3.0, "Conv_7/biases": 0.0})  # clear scores
    assert main.main(["export-weights", "--model", str(workdir), "--output", str(small)]) == 0
    arrays, _ = model_file.read(small)
    line = {"score_scale": "0.7", "score_offset": "-0.4"}
    plain = config.load(str(small), {"scales": "0.5"} | line)
    model_file.write(tmp_path / "line.npz", arrays, config.dump(plain, ("model", "detect")))
    words = ["export-weights", "--checkpoint", str(tmp_path / "line.npz")]
    assert main.main([*words, "--output", str(tmp_path / "folded.npz")]) == 0
    folded = config.load(str(tmp_path / "folded.npz")).detect
    assert (folded.score_scale, folded.score_offset) == (1.0, 0.0)
    image = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    before = Detector.load(small).maps(image)[0]
    assert before.std() > 0.02, "scores that can differ"
    for name in ("line.npz", "folded.npz"):
        score = Detector.load(tmp_path / name).maps(image)[0]
        np.testing.assert_allclose(score, calibration.apply(before, 0.7, -0.4), atol=2e-3)
    asked = Detector.load(small, {"score_scale": 0.7, "score_offset": -0.4}).maps(image)[0]
    np.testing.assert_allclose(asked, calibration.apply(before, 0.7, -0.4), atol=1e-6)


@pytest.mark.parametrize(
    "wrong", ["score_scale: 0", "score_scale: -1", "score_scale: .nan", "score_offset: .inf"]
)
def test_a_calibration_that_does_not_rise_is_refused(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, text = model_file.read(bundled.MODELS[bundled.DEFAULT].weights)
    assert text is not None
    name = wrong.partition(":")[0]
    lines = [f"  {wrong}" if line.strip().startswith(name) else line for line in text.splitlines()]
    model_file.write(tmp_path / "bad.npz", arrays, "\n".join(lines))
    assert f"  {wrong}" in lines
    words = ["detect", str(tmp_path / "x.jpg"), "--checkpoint", str(tmp_path / "bad.npz")]
    words += ["--output", str(tmp_path)]
    cv2.imwrite(str(tmp_path / "x.jpg"), np.zeros((64, 64, 3), np.uint8))
    assert main.main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "bad.npz" in error and name in error


def scene(scores: list[float], wrong: list[float]) -> tuple[Detections, Truth]:
    """Texts in a row, each found with a score; and as many boxes on background."""
    texts = np.array([box(0, 50 * i, 100, 50 * i + 30) for i in range(len(scores))], np.float32)
    others = np.array([box(200, 50 * i, 300, 50 * i + 30) for i in range(len(wrong))], np.float32)
    quads = np.concatenate([texts.reshape(-1, 4, 2), others.reshape(-1, 4, 2)])
    truth = Truth(texts, np.zeros(len(texts), bool), ("word",) * len(texts))
    return Detections(quads, np.array([*scores, *wrong], np.float32)), truth


def test_tune_puts_the_best_threshold_at_one_half() -> None:
    found, truth = scene([0.99, 0.97, 0.96, 0.95], [0.94, 0.9, 0.8, 0.3])
    tuned = tune.tune({0.2: {"a": found}, 0.85: {"a": found}}, {"a": truth})
    assert tuned.best.hmean == 1 and tuned.box_threshold == 0.5
    moved = calibration.apply(found.scores, tuned.scale, tuned.offset)
    assert (moved[:4] >= 0.4999).all() and (moved[4:] < 0.5).all()
    assert 0 < tuned.score_threshold < 0.5 and tuned.error_after < tuned.error_before


def test_tune_without_any_detection_says_so_in_numbers() -> None:
    nothing = Detections(np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32))
    truth = scene([0.9], [])[1]
    tuned = tune.tune({0.5: {"a": nothing}}, {"a": truth})
    assert tuned.best.hmean == 0 and tuned.scale > 0 and np.isfinite(tuned.offset)


def test_mistakes_have_kinds() -> None:
    texts = np.array([box(0, 0, 100, 30), box(110, 0, 200, 30), box(0, 100, 200, 140), box(0, 200, 100, 230),
                      box(300, 300, 400, 330)], np.float32)  # fmt: skip
    truth = Truth(texts, np.array([False] * 4 + [True]), ("word",) * 5)
    quads = {"joined": box(0, 0, 200, 30), "cut": box(0, 100, 80, 140), "loose": box(0, 214, 110, 244),
             "background": box(500, 0, 600, 30), "right": box(0, 202, 100, 232),
             "ignored": box(300, 300, 390, 330)}  # fmt: skip
    found = {"a": np.array([*quads.values()], np.float32)}
    # The text that "right" found is the same that "loose" lies near to.
    result = icdar2015.score(found, {"a": truth})
    kinds = mistakes.kinds_of(result, found, {"a": truth})
    assert kinds == {"a": {i: name for i, name in enumerate(quads) if name in mistakes.KINDS}}
    assert mistakes.counts(kinds) == dict.fromkeys(mistakes.KINDS, 1)


@pytest.mark.slow
def test_the_command_writes_a_model_whose_scores_mean_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from efficientnet_east.data.images import write_image
    from efficientnet_east.data.synthetic.scenes import SyntheticScenes

    folder = tmp_path / "data"
    folder.mkdir()
    for i, sample in enumerate(SyntheticScenes(6, 3, (384, 384))[i] for i in range(6)):
        write_image(folder / f"img_{i}.png", sample.image)
        lines = [
            ",".join(f"{value:.0f}" for value in quad.ravel()) + (",###" if skip else ",word")
            for quad, skip in zip(sample.truth.quads, sample.truth.ignore, strict=True)
        ]
        (folder / f"gt_img_{i}.txt").write_text("\n".join(lines))
    output = tmp_path / "out.npz"
    words = ["calibrate", "--checkpoint", "default", "--data", str(folder), "--output", str(output)]
    assert main.main([*words, "--half", "--scales", "1"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["error_after"] <= said["error_before"] + 0.02 and said["hmean"] > 0.2
    written = config.load(str(output)).detect
    assert written.box_threshold == 0.5 and written.score_threshold == said["score_threshold"]
    assert main.main(["eval", "--checkpoint", str(output), "--data", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["hmean"] == pytest.approx(said["hmean"], abs=0.06)
