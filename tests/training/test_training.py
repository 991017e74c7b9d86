"""Training runs of the whole program on a tiny network: what they leave, and options of the network."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.project import SMALL, Runner, Trained, make_data, patch_stream, tensors

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.cli.main import main
from efficientnet_east.compat import tf
from efficientnet_east.config import load
from efficientnet_east.data.images import read_image
from efficientnet_east.data.loader import Batch
from efficientnet_east.geometry.label_maps import encode
from efficientnet_east.inference.detector import Detector
from efficientnet_east.training import session
from efficientnet_east.training.previews import maps_sheet
from efficientnet_east.training.schedule import learning_rate

# --- a whole run


def test_a_run_leaves_checkpoints_figures_and_events(trained: Trained) -> None:
    assert trained.code == 0
    assert "training on 1 images, validating on 1\n" in trained.printed
    assert "starting from random weights" in trained.printed
    assert "(best so far)" in trained.printed
    left = {str(path.relative_to(trained.workdir)) for path in trained.workdir.rglob("*") if path.is_file()}
    events = {name for name in left if name.startswith("events.out.tfevents")}
    saved = {f"model.ckpt-{step}.{part}" for step in (2, 4) for part in ("index", "data-00000-of-00001")}
    best = {name for name in left if name.startswith("best/")}
    written = {"checkpoint", "config.yaml", "versions.json", "results.csv", "results.png", "schedule.png"}
    written |= {f"train_batch{number}.jpg" for number in range(3)} | {"validation/worst_1.jpg"}
    assert left - events - best == saved | written
    assert len(events) == 1
    assert best >= {"best/checkpoint", "best/config.yaml", "best/hmean.json"} and len(best) == 5


def test_its_configuration_and_figures_can_be_read(trained: Trained, tiny: None) -> None:
    config = load(str(trained.workdir / "config.yaml"))
    assert config.model.backbone == "tiny" and config.train.steps == 4
    assert config == load(str(trained.workdir / "best" / "config.yaml"))
    rows = list(csv.DictReader((trained.workdir / "results.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"]
    seconds = [float(row["seconds"]) for row in rows]
    assert 0 < seconds[0] <= seconds[1]
    images = [(row["images"], row["epochs"]) for row in rows]
    assert images == [("4", "4"), ("8", "8")], "two crops a step, of one image"
    assert rows[0].keys() == rows[1].keys() >= {"loss/score", "loss/total", "data_wait", "images_per_second"}
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == pytest.approx([learning_rate(step, config.train) for step in (1, 3)])
    best = json.loads((trained.workdir / "best" / "hmean.json").read_text())
    assert best["hmean"] == pytest.approx(max(float(row["hmean"]) for row in rows), abs=1e-6)
    assert (trained.workdir / "best" / f"model.ckpt-{best['step']}.index").exists()


def test_its_events(trained: Trained, tiny: None) -> None:
    (path,) = trained.workdir.glob("events*")
    scalars: dict[str, dict[int, float]] = {}
    pictures = []
    for event in tf.train.summary_iterator(str(path)):
        for value in event.summary.value:
            if value.HasField("image"):
                pictures.append((event.step, value.tag))
                assert value.image.encoded_image_string.startswith(b"\xff\xd8\xff")
            else:
                scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    assert pictures == [(2, "crops, truth, prediction"), (4, "crops, truth, prediction")]
    train = load(str(trained.workdir / "config.yaml")).train
    expected = {step + 1: learning_rate(step, train) for step in range(4)}
    assert scalars["learning_rate"] == pytest.approx(expected)
    assert scalars.keys() >= {"loss/model", "loss/total", "gradient_norm", "images_per_second", "data_wait"}
    assert scalars["validation/hmean"].keys() == {2, 4}
    for step in range(1, 5):
        assert scalars["loss/total"][step] > scalars["loss/model"][step] > 0  # the difference is L2


# --- what stops a run


def test_non_finite_loss_names_the_images_and_spares_the_checkpoint(
    quick_run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []

    def spoil(number: int, batch: Batch) -> Batch:
        seen.append(batch)
        return dataclasses.replace(batch, score=batch.score * np.nan) if number == 2 else batch

    patch_stream(monkeypatch, spoil)
    code, out, err = quick_run("run", "--steps", "5", "--save-every", "2", "--no-color")
    assert code == 2 and "interrupted" not in out
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: step 3: the loss is not finite on {', '.join(seen[-1].names)}. Try")
    assert "Traceback" not in err
    assert tf_checkpoints.find(tmp_path / "run") == str(tmp_path / "run" / "model.ckpt-2")
    assert all(np.isfinite(value).all() for value in tensors(tmp_path / "run").values())


# --- options that change the graph


def test_bifpn_trains_detects_and_keeps_to_its_merge(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data")
    words = ["--merge=bifpn", "--fpn-width=8", "--fpn-repeats=2", "--learning-rate=0.01", "--warmup-steps=0"]
    where = ["--data", str(data), "--workdir", str(tmp_path / "run")]
    assert main(["train", *SMALL, *words, "--steps=3", *where]) == 0, capsys.readouterr().err
    values = tensors(tmp_path / "run")
    assert all(np.isfinite(value).all() for value in values.values())
    fusions = [name for name in values if name.endswith("/fusion")]
    assert len(fusions) == 6 + 3
    for name in fusions:
        assert (values[name] != 1).all(), f"{name} does not learn"
        assert (values[name + tf_checkpoints.AVERAGE_SUFFIX] != 1).all(), f"{name} has no average"
    score, _, _ = Detector.load(tmp_path / "run", {"threads": 1}).maps(np.full((50, 70, 3), 99, np.uint8))
    assert score.shape == (13, 18) and np.isfinite(score).all()
    capsys.readouterr()
    assert main(["train", *SMALL, *where]) == 2
    assert "was trained with merge 'bifpn', not 'u'" in capsys.readouterr().err


def test_options_of_the_network_train_together(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data")
    words = ["--output-stride=2", "--optimizer=adamw", "--ema-decay=0", "--batch-norm=frozen", "--steps=1"]
    words += ["--pre-stride=expand", "--activation=hard-swish", "--recompute", "--frozen=stage1"]
    words += ["--accumulate=2"]
    where = ["--data", str(data), "--workdir", str(tmp_path / "run")]
    assert main(["train", *SMALL, *words, *where]) == 0, capsys.readouterr().err
    values = tensors(tmp_path / "run")
    assert not [name for name in values if name.endswith(tf_checkpoints.AVERAGE_SUFFIX)]
    assert not [name for name in values if "accumulated" in name] and values["global_step"] == 1
    assert "feature_fusion/merge_f1_3x3/weights" in values and "efficientnet-tiny/head/weights" in values
    learned = {name.split("/")[1] for name in values if name.endswith("weights/Adam")}
    assert "stem" not in learned and "blocks_0" not in learned and {"blocks_1", "head"} <= learned
    for name, value in values.items():
        if name.startswith("efficientnet") and name.endswith("moving_mean"):
            assert not value.any(), "the backbone's statistics are frozen"
    assert values["feature_fusion/merge_final/BatchNorm/moving_mean"].any()


def test_statistics_are_estimated_before_the_first_step(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first checkpoint holds the estimate; a run that goes on does not estimate again."""
    seen: list[dict[str, np.ndarray]] = []
    estimate = session.recalibrated

    def remember(*arguments: Any) -> dict[str, np.ndarray]:
        seen.append(estimate(*arguments))
        return seen[-1]

    monkeypatch.setattr(session, "recalibrated", remember)
    words = ["--recalibrate=3", "--learning-rate=1e-9"]
    code, printed, _ = run("run", "--steps=1", *words)
    assert code == 0 and f"estimated {len(seen[0])} batch-norm statistics anew from 3 batches" in printed
    saved = tensors(tmp_path / "run")
    names = {name for name in saved if name.endswith(("/moving_mean", "/moving_variance"))}
    assert names == seen[0].keys()
    for name, value in seen[0].items():
        # One step with decay .99, and with blocks dropped, has moved the variable since.
        np.testing.assert_allclose(saved[name], value, atol=0.05 * (np.abs(value).max() + 1))
    variance = next(name for name in names if name.endswith("stem/BatchNorm/moving_variance"))
    assert np.abs(seen[0][variance] - 1).max() > 0.1
    run("run", "--steps=2", *words)
    assert len(seen) == 1


def test_quad_trains_evaluates_and_detects(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data, workdir = make_data(tmp_path / "data"), tmp_path / "run"
    words = ["--geometry=quad", "--quad-weight=0.5", "--steps=3", "--log-every=1"]
    words += ["--picture-every=3", "--validate-every=3", "--score-threshold=0.02"]
    words += ["--data", str(data), "--val-data", str(data)]
    assert main(["train", *SMALL, *words, "--workdir", str(workdir)]) == 0, capsys.readouterr().err
    assert tensors(workdir)["feature_fusion/Conv_8/weights"].shape == (1, 1, 32, 8)
    (events,) = workdir.glob("events*")
    values = [value for event in tf.train.summary_iterator(str(events)) for value in event.summary.value]
    logged = {value.tag: [] for value in values if value.tag.startswith("loss/")}
    for value in values:
        logged.get(value.tag, []).append(value.simple_value)
    assert logged.keys() == {"loss/score", "loss/quad", "loss/model", "loss/total"}
    assert np.isfinite(list(logged.values())).all() and max(logged["loss/quad"]) > 0
    weighted = np.array(logged["loss/score"]) + 0.5 * np.array(logged["loss/quad"])
    np.testing.assert_allclose(logged["loss/model"], weighted, rtol=1e-5)
    assert any(value.HasField("image") for value in values)

    detector = Detector.load(workdir, {"threads": 1})
    image = read_image(data / "images" / "img_1.png")
    assert detector.maps(image)[1].shape == (24, 32, 8)
    assert len(detector(image)) > 0
    capsys.readouterr()
    assert main(["eval", "--checkpoint", str(workdir), "--data", str(data)]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["hmean"] <= 1

    assert main(["train", *SMALL, "--data", str(data), "--workdir", str(workdir)]) == 2
    assert "was trained with geometry 'quad', not 'rbox'" in capsys.readouterr().err


def test_pictures_of_both_geometries_are_the_same() -> None:
    """For texts that are rectangles: quad shows the angle of its box where rbox shows its channel."""
    quads = np.array([[[20, 30], [100, 20], [104, 52], [24, 62]]], np.float32)
    sheets = []
    for form in ("rbox", "quad"):
        maps = encode(quads, np.array([False]), (128, 128), geometry=form)
        score, mask = maps.score[None, ..., None], maps.mask[None, ..., None]
        batch = Batch(np.full((1, 128, 128, 3), 90, np.uint8), score, maps.geometry[None], mask, ("a",))
        sheets.append(maps_sheet(batch, batch.score, batch.geometry).astype(int))
    assert np.ptp(sheets[0]) > 100
    assert np.abs(sheets[0] - sheets[1]).max() <= 8, "a level of the colours at most"


def test_a_run_may_be_thawed_and_frozen_again(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was frozen begins to learn with moments from zero; everything else goes on."""
    words = [*SMALL, "--data", str(make_data(tmp_path / "data")), "--workdir", str(tmp_path / "run")]
    stem, head = "efficientnet-tiny/stem/weights", "feature_fusion/Conv_7/weights"
    seen = []
    for steps, part in ((1, "stage7"), (2, "none"), (3, "stem")):
        assert main(["train", *words, f"--steps={steps}", f"--frozen={part}"]) == 0, capsys.readouterr().err
        seen.append(tensors(tmp_path / "run"))
    first, thawed, again = seen
    assert f"{stem}/Adam" not in first and thawed[f"{stem}/Adam"].any() and f"{stem}/Adam" not in again
    assert (first[stem] != thawed[stem]).any() and (thawed[stem] == again[stem]).all()
    for before, after in ((first, thawed), (thawed, again)):
        assert (before[f"{head}/Adam"] != after[f"{head}/Adam"]).any()
    assert [values["global_step"] for values in seen] == [1, 2, 3]


def test_what_is_frozen_is_trained_from_a_step_on(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights, moments and batch norm's statistics: still before the step, moving after it, in one command.

    Two commands, of which the second begins after that step, are the same run.
    """
    words = [*SMALL, "--data", str(make_data(tmp_path / "data")), "--frozen=stage7", "--unfreeze-at=2"]
    words += ["--warmup-steps=0", "--learning-rate=0.01", "--save-every=1", "--keep-checkpoints=9"]
    words += ["--schedule=constant"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["train", *words, "--steps=4", "--workdir", str(whole)]) == 0
    assert "training what was frozen up to stage7, too" in capsys.readouterr().out
    stem, mean = "efficientnet-tiny/stem/weights", "efficientnet-tiny/stem/BatchNorm/moving_mean"
    first, second, third = (tf_checkpoints.read(str(whole / f"model.ckpt-{step}")) for step in (1, 2, 3))
    assert (first[stem] == second[stem]).all() and not second[mean].any() and f"{stem}/Adam" not in second
    moved = np.abs(third[stem] - second[stem])
    assert moved.max() == pytest.approx(0.01, rel=0.2), "a first step of Adam has the rate's size"
    assert third[mean].any() and third[f"{stem}/Adam"].any()
    for steps in ("3", "4"):
        assert main(["train", *words, f"--steps={steps}", "--workdir", str(parts)]) == 0
    assert "resuming from step 3" in capsys.readouterr().out
    found = tensors(parts)
    for name, value in tensors(whole).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
