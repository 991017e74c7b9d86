"""Where a run begins: from weights of others, from another run, or in its own workdir."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.project import Trained, snapshot

from efficientnet_east.checkpoints import tf_checkpoints, weight_files, weight_names
from efficientnet_east.cli.main import main
from efficientnet_east.compat import tf
from efficientnet_east.config import Config, dump, load
from efficientnet_east.errors import UserError
from efficientnet_east.training.checkpointing import Checkpoints, changed_fields, start_from


def begun(one_graph: Any, folder: Path, init: str) -> tuple[str, dict[str, np.ndarray]]:
    """The report of a run that begins from `init`, and its variables before the first step."""
    config = load(None, {"init": init, "backbone": "tiny"})
    with one_graph.as_default(), tf.Session(graph=one_graph) as session:
        kept = Checkpoints(folder, config)
        report = kept.begin(session)
        return report, session.run({variable.op.name: variable for variable in tf.global_variables()})


def fake_weights(values: dict[str, np.ndarray], naming: weight_names.Naming) -> dict[str, tuple[str, Any]]:
    """Random weights of the trunk: the project's name -> the naming's name, and the array."""
    rng = np.random.default_rng(0)
    pairs = {f"efficientnet-tiny/{v.name}": f"efficientnet-tiny/{v.source}"
             for v in weight_names.variables("tiny", naming) if v.layer not in weight_names.TOP}  # fmt: skip
    return {
        mine: (theirs, rng.normal(size=values[mine].shape).astype(np.float32))
        for mine, theirs in pairs.items()
    }


def test_begin_from_imagenet_weights(one_graph: Any, trained: Trained, tmp_path: Path) -> None:
    fake = fake_weights(tf_checkpoints.read(tf_checkpoints.find(trained.workdir)), weight_names.OFFICIAL)
    absent = "efficientnet-tiny/blocks_3/expand/weights"
    head = {"efficientnet-tiny/head/conv2d/kernel": np.zeros((1, 1, 96, 384), np.float32)}
    arrays = {theirs: array for mine, (theirs, array) in fake.items() if mine != absent} | head
    np.savez(tmp_path / "fake.npz", **arrays)  # type: ignore[arg-type]
    report, values = begun(one_graph, tmp_path / "new", str(tmp_path / "fake.npz"))
    assert absent in report and "efficientnet-tiny/head/conv2d/kernel" in report
    assert "trained with swish, and your activation is relu" in report
    for name, (_, array) in fake.items():
        if "blocks_3/expand" not in name:
            np.testing.assert_array_equal(values[name], array, err_msg=name)
            np.testing.assert_array_equal(values[name + tf_checkpoints.AVERAGE_SUFFIX], array, err_msg=name)
    assert values["global_step"] == 0
    for name in (absent, "feature_fusion/merge_final/weights"):
        np.testing.assert_array_equal(values[name], values[name + tf_checkpoints.AVERAGE_SUFFIX])
        assert values[name].std() > 0


@pytest.mark.parametrize("name", ["backbone.npz", "backbone.ckpt"])
def test_begin_from_a_backbone_of_this_project(
    one_graph: Any, trained: Trained, tmp_path: Path, name: str
) -> None:
    """As `import-weights` leaves it: the head keeps its random weights."""
    fake = fake_weights(tf_checkpoints.read(tf_checkpoints.find(trained.workdir)), weight_names.OWN)
    weight_files.write(tmp_path / name, {mine: array for mine, (_, array) in fake.items()})
    report, values = begun(one_graph, tmp_path / "new", str(tmp_path / name))
    assert f"restored {len(fake)} variables of the backbone\n" in report and "initial values" not in report
    for name, (_, array) in fake.items():
        np.testing.assert_array_equal(values[name], array, err_msg=name)
    assert values["feature_fusion/merge_final/weights"].std() > 0


def test_begin_from_another_run(one_graph: Any, trained: Trained, tmp_path: Path) -> None:
    theirs = tf_checkpoints.read(tf_checkpoints.find(trained.workdir))
    report, values = begun(one_graph, tmp_path / "new", str(trained.workdir))
    prefix, averages = trained.workdir / "model.ckpt-4", sum(name.endswith("Average") for name in theirs)
    took = f"took the moving averages of {averages} variables"
    assert report == f"starting from the weights of {prefix}; {took}" and averages > 100
    for name, average in theirs.items():
        if name.endswith(tf_checkpoints.AVERAGE_SUFFIX):
            plain = name.removesuffix(tf_checkpoints.AVERAGE_SUFFIX)
            np.testing.assert_array_equal(values[plain], average, err_msg=name)
            np.testing.assert_array_equal(values[name], average, err_msg=name)
        elif name.endswith(("Adam", "Adam_1")):
            assert not values[name].any(), "the optimiser starts afresh"
    assert values["global_step"] == 0 and theirs["global_step"] == 4


def test_begin_from_files_that_do_not_fit(tmp_path: Path) -> None:
    config = load(None, {"backbone": "b0"})
    np.savez(tmp_path / "bad.npz", **{"efficientnet-b1/stem/conv2d/kernel": np.zeros(3)})  # type: ignore[arg-type]
    with tf.Graph().as_default():
        for name, said in (
            ("no", "no: no such file or checkpoint; expected a weight file, a checkpoint or a workdir"),
            ("no.npz", r"no\.npz: no such file; expected an \.npz"),
            ("bad.npz", r"stem/conv2d/kernel has shape \(3,\), not \(3, 3, 3, 32\); .*expected weights"),
        ):
            with pytest.raises(UserError, match=said):
                start_from(None, str(tmp_path / name), config)


# --- another run in the same workdir


def checkpoint_of(workdir: Path, config: Config) -> None:
    """What `compare` looks at: the configuration, and that there is a checkpoint."""
    workdir.mkdir(parents=True)
    (workdir / "config.yaml").write_text(dump(config))
    (workdir / "model.ckpt-1.index").write_bytes(b"")


def test_changes_since_the_last_run(tmp_path: Path) -> None:
    before = load(None, {"steps": 10, "workdir": "elsewhere", "init": "some.npz"})
    checkpoint_of(tmp_path / "run", before)
    now = load(None, {"steps": 20, "seed": 3, "score_threshold": 0.5})
    assert changed_fields(tmp_path / "run", now) == [
        "train.init: 'some.npz' -> None", "train.steps: 10 -> 20", "train.seed: 1 -> 3",
        "detect.score_threshold: 0.9 -> 0.5",
    ]  # fmt: skip
    assert changed_fields(tmp_path / "run", before) == [] == changed_fields(tmp_path / "new", now)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--backbone=b1", "was trained with backbone 'b0', not 'b1'"),
        ("--activation=swish", "was trained with activation 'relu', not 'swish'"),
        ("--output-stride=2", "was trained with output_stride 4, not 2"),
        ("--text-scale=800", "was trained with text_scale 512.0, not 800.0"),
        ("--merge=bifpn", "was trained with merge 'u', not 'bifpn'"),
        ("--ema-decay=0", "was trained with ema_decay 0.997, not 0.0"),
    ],
)
def test_another_network_in_the_same_workdir(
    option: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint_of(tmp_path / "run", load())
    before = snapshot(tmp_path)
    assert main(["train", option, "--workdir", str(tmp_path / "run")]) == 2
    expected = f"error: {tmp_path / 'run'}: {said}. Use the same value, or another --workdir.\n"
    assert capsys.readouterr().err == expected
    assert snapshot(tmp_path) == before
