"""The example fork trains, goes on, and finds words."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.graphs import quick_hashes
from helpers.programs import load_example
from helpers.project import make_data, snapshot

from efficientnet_east import backbones, model
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import slim, tf
from efficientnet_east.data.loader import Batch
from efficientnet_east.errors import UserError

fork_model, fork_train, fork_eval = load_example("fork", "model", "train", "eval")

QUICK = ["--input_size=64", "--batch_size_per_gpu=2", "--num_readers=0"]
NAMES = ["feature_fusion/Conv_7/Sigmoid", "feature_fusion/concat_3"]


def flags(folder: Path, *words: str) -> Any:
    return fork_train.parser().parse_args(["--checkpoint_path", str(folder), *QUICK, *words])


# --- the fork's network


def test_fork_has_the_well_known_outputs(tiny: None) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, None, None, 3])
        outputs = fork_model.model(images, "tiny", is_training=False, text_scale=100.0)
        assert [tensor.op.name for tensor in outputs] == NAMES
        session.run(tf.global_variables_initializer())
        score, geometry = session.run(outputs, {images: np.full((2, 64, 96, 3), 90.0)})
        assert score.shape == (2, 16, 24, 1) and geometry.shape == (2, 16, 24, 5)
        assert score.min() > 0 and score.max() < 1
        assert geometry[..., :4].min() > 0 and geometry[..., :4].max() < 100
        assert np.abs(geometry[..., 4]).max() < np.pi / 4
        decayed = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        kernels = [v for v in tf.trainable_variables() if v.op.name.endswith("weights")]
        assert len(decayed) == len(kernels), "backbone and head"


def test_fork_normalizes_as_the_weights_expect() -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        ours, theirs = session.run([model.normalise(pixels), fork_model.normalize(pixels)])
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def fork_loss(*maps: np.ndarray) -> float:
    with tf.Graph().as_default(), tf.Session() as session:
        return float(session.run(fork_model.loss(*(tf.constant(map_, tf.float32) for map_ in maps))))


def test_fork_loss_by_hand() -> None:
    """Two cells: one on a text, one beside it, then the text is one to be ignored."""
    truth, score = np.array([1.0, 0]).reshape(1, 1, 2, 1), np.array([0.75, 0.25]).reshape(1, 1, 2, 1)
    box, found = np.zeros((1, 1, 2, 5)), np.full((1, 1, 2, 5), 9.0)
    box[0, 0, 0], found[0, 0, 0] = (2, 3, 2, 3, 0.1), (1, 4, 2, 2, 0.4)
    mask = np.ones((1, 1, 2, 1))
    dice = 1 - (2 * 0.75 + 1) / (1 + 1 + 1)
    overlap, union = (1 + 2) * (3 + 2), 4 * 6 + 3 * 6 - 15
    expected = dice + np.log((union + 1) / (overlap + 1)) + 10 * (1 - np.cos(0.3))
    assert fork_loss(truth, score, box, found, mask) == pytest.approx(expected, rel=1e-5)
    mask[0, 0, 0] = 0
    assert fork_loss(truth, score, box, found, mask) == pytest.approx(1 - 1 / 1.25, rel=1e-5)
    assert fork_loss(truth, truth, box, box, np.ones((1, 1, 2, 1))) == pytest.approx(0, abs=1e-6)


# --- its training


def test_fork_learns_a_batch(tmp_path: Path) -> None:
    """Of generated scenes, over and over, without its stochastic depth so that the losses compare."""
    chosen = flags(tmp_path, "--backbone=b0", "--learning_rate=3e-3")
    with fork_train.open_batches(fork_train.open_source(None), chosen, 0) as stream:
        batch = next(batch for batch in stream if (batch.score * batch.mask).sum() > 20)
    with quick_hashes(), tf.Graph().as_default(), tf.Session(config=one_thread()) as session:
        feeds, update, loss = fork_train.build(chosen)
        session.run(tf.global_variables_initializer())
        fed = {feeds[name]: getattr(batch, name) for name in fork_train.FIELDS}
        losses = [session.run([loss, update], fed)[0] for _ in range(12)]
        assert session.run(tf.train.get_global_step()) == 12
    assert np.isfinite(losses).all()
    assert max(losses[-3:]) < 0.7 * losses[0], losses


@pytest.mark.slow
def test_every_weight_of_a_large_fork_learns() -> None:
    """B0 by the paper's equations with the coefficient of B4: its maps, and the head, have other channels.

    Without stochastic depth, which may drop a block for both images, and with seeded weights, of which some
    have no positive value after a squeeze.
    """
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3))
    with quick_hashes(), tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        images = tf.placeholder(tf.float32, pixels.shape)
        outputs = fork_model.model(images, "b4-modified", drop_connect=0.0)
        kernels = [v for v in tf.trainable_variables() if v.op.name.endswith("weights")]
        gradients = tf.gradients(tf.add_n([tf.reduce_mean(map_**2) for map_ in outputs]), kernels)
        largest = [tf.reduce_max(tf.abs(gradient)) for gradient in gradients]
        session.run(tf.global_variables_initializer())
        found = np.array(session.run(largest, {images: pixels}))
    (first,) = [kernel for kernel in kernels if kernel.op.name == "feature_fusion/Conv/weights"]
    assert len(kernels) > 150 and first.shape[2] == 472 + 160
    assert np.isfinite(found).all() and (found > 0).all()


def one_thread() -> Any:
    """It adds up in one order."""
    return tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


def test_fork_goes_on_where_it_stopped(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bit: weights, averages, statistics, Adam, step, data. Then it finds words in a moved folder."""
    monkeypatch.setattr(fork_train, "session_config", lambda gpu_list: one_thread())
    data, whole, parts = make_data(tmp_path / "data"), tmp_path / "whole", tmp_path / "parts"
    words = [*QUICK, "--backbone=tiny", "--max_steps=4", "--save_checkpoint_steps=2"]
    words += ["--training_data_path", str(data)]
    assert fork_train.main([*words, "--checkpoint_path", str(whole)]) == 0
    assert capsys.readouterr().out.startswith("starting at step 0\nstep 1: loss ")
    parts.mkdir()
    (parts / "notes.txt").write_text("mine")
    for path in whole.glob("model.ckpt-2.*"):
        shutil.copy(path, parts)
    assert fork_train.main([*words, "--checkpoint_path", str(parts), "--restore"]) == 0
    assert capsys.readouterr().out.startswith("starting at step 2\nstep 3: loss ")
    expected, found = (tf_checkpoints.read(tf_checkpoints.find(folder)) for folder in (whole, parts))
    assert expected["global_step"] == 4 and expected.keys() == found.keys()
    for kind in ("Adam", "Adam_1", "moving_variance", "moving_variance/ExponentialMovingAverage"):
        assert any(name.endswith(kind) for name in expected), kind
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert (parts / "notes.txt").read_text() == "mine"

    parts.rename(tmp_path / "moved")
    words = ["--checkpoint_path", str(tmp_path / "moved"), "--backbone=tiny", "--score_threshold=0.2"]
    words += ["--test_data_path", str(data / "images"), "--output_dir", str(tmp_path / "out")]
    assert fork_eval.main(words) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"res_img_1.txt", "res_img_2.txt"}
    (first, *_) = (tmp_path / "out" / "res_img_1.txt").read_bytes().split(b"\r\n")
    assert len([int(number) for number in first.split(b",")]) == 8


def test_fork_restores_statistics_too(tiny: None, tmp_path: Path) -> None:
    """What is in the file, and says how much that was."""
    with tf.Graph().as_default(), tf.Session() as session:
        backbones.build(tf.zeros([1, 64, 64, 3]), "tiny", is_training=False)
        scope, variables = backbones.scope_of("tiny"), slim.get_model_variables()
        values = {v.op.name: np.random.default_rng(1).uniform(0.5, 2, v.shape.as_list()) for v in variables}
        kept = [v for v in variables if "blocks_6/project/" not in v.op.name]
        tf_checkpoints.assign(session, values, variables)
        tf.train.Saver(kept).save(session, str(tmp_path / "imagenet.ckpt"), write_meta_graph=False)

        session.run(tf.global_variables_initializer())
        said = fork_train.restore_backbone(session, str(tmp_path / "imagenet.ckpt"), scope)
        assert said == f"restored {len(kept)} of {len(variables)} variables of {scope}"
        assert len(variables) - len(kept) == 5
        for variable in variables:
            same = np.allclose(session.run(variable), values[variable.op.name])
            assert same == (variable in kept), variable.op.name
        with pytest.raises(UserError, match="contains no variable of efficientnet-b4"):
            fork_train.restore_backbone(session, str(tmp_path / "imagenet.ckpt"), "efficientnet-b4")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu_list=0,1"], "--gpu_list: is '0,1'; this example trains on one device"),
        (["--input_size=100"], "--input_size: is 100; expected a multiple of 32"),
        (["--backbone=b99"], "b99"),
        ([], "full: contains checkpoints; use --restore"),
        (["--checkpoint_path=empty", "--restore"], "empty: holds no checkpoint"),
        (["--training_data_path=empty", "--checkpoint_path=new"], "empty: "),
    ],
)
def test_fork_says_what_it_cannot_use(
    words: list[str],
    said: str,
    tiny: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one line, with every file where it was: the folder is nobody's to empty."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.ckpt-9.index").write_bytes(b"somebody's")
    before = snapshot(tmp_path)
    folder = [] if any("checkpoint_path" in word for word in words) else ["--checkpoint_path=full"]
    if words and folder:
        folder = ["--checkpoint_path=new"]
    assert fork_train.main([*QUICK, "--backbone=tiny", *folder, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert snapshot(tmp_path) == before and not (tmp_path / "new").exists()


def test_fork_stops_at_a_loss_that_is_not_finite() -> None:
    class Session:
        @staticmethod
        def run(*_: Any) -> tuple[None, float]:
            return None, float("nan")

    batch = Batch(*[np.zeros(1)] * 4, names=("img_7.jpg", "img_8.jpg"))
    with pytest.raises(UserError, match=r"step 5: the loss is nan on img_7\.jpg, img_8\.jpg"):
        fork_train.advance(Session, dict.fromkeys(fork_train.FIELDS), None, None, batch, 5)


def test_fork_eval_says_what_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--checkpoint_path", str(tmp_path), "--test_data_path", str(tmp_path), "--output_dir", "out"]
    assert fork_eval.main(words) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    with pytest.raises(UserError, match="contains no images"):
        fork_eval.find_images(str(tmp_path))
