"""`import-weights` and `export-weights`: what they write, what training takes of it, what they refuse."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commands import error_of
from helpers.project import TINY, Trained

from efficientnet_east import scaling
from efficientnet_east.checkpoints import (
    model_file,
    tf_checkpoints,
    weight_files,
    weight_names,
    weights,
)
from efficientnet_east.checkpoints.weight_names import OFFICIAL, OWN, TOP
from efficientnet_east.cli import import_weights, main
from efficientnet_east.compat import tf
from efficientnet_east.config import load
from efficientnet_east.training.checkpointing import start_from

pytestmark = pytest.mark.usefixtures("tiny")
SCOPE = "efficientnet-tiny"


def random_arrays(naming: weight_names.Naming, seed: int = 0) -> dict[str, np.ndarray]:
    """A whole file by some naming's names, head and a classifier of 5 classes included."""
    rng = np.random.default_rng(seed)
    return {
        f"{SCOPE}/{v.source}": rng.normal(size=[side or 5 for side in v.source_shape]).astype(np.float32)
        for v in weight_names.variables("tiny", naming)
    }


def by_our_names(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        f"{SCOPE}/{v.name}": arrays[f"{SCOPE}/{v.source}"] for v in weight_names.variables("tiny", OFFICIAL)
    }


def npz(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def words(source: Path, output: Path, *more: str) -> list[str]:
    return ["import-weights", f"--source={source}", "--backbone=tiny", f"--output={output}", *more]


def assert_holds(path: Path, expected: dict[str, np.ndarray]) -> None:
    arrays = weight_files.read(path).arrays
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


@pytest.fixture
def official(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A checkpoint as the official training saves it: averages and slots of other values."""
    averages = random_arrays(OFFICIAL)
    with tf.Graph().as_default(), tf.Session() as session:
        variables = []
        for name, array in averages.items():
            variables += [
                tf.Variable(array + 1, name=name, use_resource=False),
                tf.Variable(array, name=f"{name}/ExponentialMovingAverage", use_resource=False),
                tf.Variable(array * 0 - 9, name=f"{name}/RMSProp", use_resource=False),
                tf.Variable(array * 0 - 9, name=f"{name}/RMSProp_1", use_resource=False),
            ]
        variables.append(tf.Variable(np.int64(218_949), name="global_step", use_resource=False))
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver(variables).save(session, str(tmp_path / "official" / "model.ckpt"))
    return Path(prefix), by_our_names(averages)


@pytest.mark.parametrize("output", ["ours.ckpt", "ours.npz"])
def test_official_checkpoint(
    official: tuple[Path, dict[str, np.ndarray]],
    output: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prefix, expected = official
    assert main.main(words(prefix.parent, tmp_path / "new" / output)) == 0
    assert_holds(tmp_path / "new" / output, expected)
    trunk = [name for name in expected if name.split("/")[1] not in TOP]
    kernel = f"{SCOPE}/head/conv2d/kernel"
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"{prefix}: tpu, by the names of the official checkpoints",
        f"took the moving averages of {len(expected)} variables",
        f"restored {len(trunk)} variables of the backbone",
    ]
    assert lines[3].startswith(f"head and classifier, which the trunk does not use: {kernel}, ")
    assert lines[4:] == [f"wrote {len(expected)} arrays to {tmp_path / 'new' / output}"]


def test_formats_are_those_of_the_readers() -> None:
    assert set(import_weights.WEIGHT_FORMATS) == weight_files.FORMATS.keys() == weight_names.NAMINGS.keys()


def test_missing_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused, or left to be initialised; imported or not, training begins from the same."""
    arrays = random_arrays(OFFICIAL)
    (residual,) = [block.name for block in scaling.resolve(TINY).blocks if block.residual]
    block = f"{SCOPE}/{residual}"
    for name in ("conv2d_1/kernel", "se/conv2d/bias"):
        del arrays[f"{block}/{name}"]
    path, output = npz(tmp_path / "partial.npz", arrays), tmp_path / "ours.ckpt"
    said = f"{path}: lacks 2 arrays: {block}/se/conv2d/bias, {block}/conv2d_1/kernel; expected all "
    assert error_of(capsys, words(path, output)) == f"{said}of them; allow_missing goes on without"
    assert list(tmp_path.iterdir()) == [path]
    assert main.main(words(path, output, "--allow-missing")) == 0
    assert "not in the file, start from their initial values: " in capsys.readouterr().out
    direct, again = (weights.restore(weight_files.read(p), "tiny") for p in (path, output))
    assert direct.initialized == again.initialized and direct.identities == again.identities == (residual,)
    assert direct.values.keys() == again.values.keys()
    for name, array in direct.values.items():
        np.testing.assert_array_equal(array, again.values[name])


def test_unused_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = random_arrays(OFFICIAL) | {f"{SCOPE}/blocks_99/conv2d/kernel": np.ones(2)}
    path = npz(tmp_path / "more.npz", arrays)
    said = f"{path}: holds 1 array without a place: {SCOPE}/blocks_99/conv2d/kernel; expected none; "
    said += "allow_unused leaves them out"
    assert error_of(capsys, words(path, tmp_path / "o.npz", "--allow-missing")) == said
    assert main.main(words(path, tmp_path / "o.npz", "--allow-unused")) == 0
    assert_holds(tmp_path / "o.npz", by_our_names(random_arrays(OFFICIAL)))


def test_what_cannot_be_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, text = npz(tmp_path / "good.npz", random_arrays(OWN)), tmp_path / "notes.txt"
    text.write_text("no weights")
    before = set(tmp_path.iterdir())
    output = tmp_path / "out.npz"
    cases = [
        (words(good, output, "--backbone=b0"), "looks like tiny; expected weights of b0"),
        (words(good, output, "--backbone=b99"), "unknown variant 'b99'; expected one of b0"),
        (words(good, output, "--format=h5"), "--format: invalid choice: 'h5'; expected tpu, keras"),
        (words(good, output, "--format=keras"), f"{good}: cannot be read ("),
        (words(text, output), f"{text}: is no weight file of a known kind; expected a TensorFlow checkpoint"),
        (words(tmp_path / "no.h5", output), "no.h5: no such file; expected a .h5"),
        (words(good, tmp_path), f"--output: {tmp_path} is a folder; expected a file name"),
        (words(good, text / "out.npz"), "--output: "),
    ]
    for command, said in cases:
        assert said in error_of(capsys, command)
    assert set(tmp_path.iterdir()) == before


# --- out of a run, and into the next one


def begun(one_graph: Any, init: Path) -> tuple[str, dict[str, np.ndarray]]:
    with one_graph.as_default(), tf.Session(graph=one_graph) as session:
        session.run(tf.global_variables_initializer())
        report = start_from(session, str(init), load(None, {"backbone": "tiny"}))
        return report, session.run({variable.op.name: variable for variable in tf.model_variables()})


def test_a_run_goes_out_and_comes_back(
    one_graph: Any, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = tf_checkpoints.find(trained.workdir)
    tensors = tf_checkpoints.read(prefix)
    ending = tf_checkpoints.AVERAGE_SUFFIX
    expected = {name.removesuffix(ending): a for name, a in tensors.items() if name.endswith(ending)}
    out = tmp_path / "out.npz"
    assert main.main(["export-weights", f"--model={trained.workdir}", f"--output={out}"]) == 0
    lines = [f"averaged weights of {prefix}", f"wrote {len(expected)} arrays to {out}"]
    assert capsys.readouterr().out.splitlines() == lines
    with np.load(out) as file:
        assert set(file.files) == expected.keys() | {model_file.CONFIG}
    assert any(name.startswith("feature_fusion/") for name in expected)
    assert main.main(words(out, tmp_path / "again.ckpt")) == 0
    said = capsys.readouterr().out
    assert "out.npz: npz, by the names of this project" in said and " of other parts: feature_fusion" in said
    for init in (out, tmp_path / "again.ckpt"):
        assert_holds(init, expected)
        report, values = begun(one_graph, init)
        assert report.startswith(f"starting from the weights of {init}")
        assert values.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(values[name], array, err_msg=name)


def test_a_run_without_averages(
    trained: Trained, tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counters and the optimiser's slots stay behind."""
    tensors = tf_checkpoints.read(tf_checkpoints.find(trained.workdir))
    plain = {n: array for n, array in tensors.items() if not n.endswith(tf_checkpoints.AVERAGE_SUFFIX)}
    tf_checkpoints.write(tmp_path / "model.ckpt-4", plain)
    shutil.copy(trained.workdir / "config.yaml", tmp_path)
    out = tmp_path / "out.npz"
    assert main.main(["export-weights", f"--model={tmp_path / 'model.ckpt-4'}", f"--output={out}"]) == 0
    assert "weights (no averages found) of" in capsys.readouterr().out
    averaged = {n.removesuffix(tf_checkpoints.AVERAGE_SUFFIX) for n in tensors.keys() - plain.keys()}
    with np.load(out) as file:
        assert set(file.files) == averaged | {model_file.CONFIG}
        np.testing.assert_array_equal(file[f"{SCOPE}/stem/weights"], plain[f"{SCOPE}/stem/weights"])


def test_what_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export-weights", f"--model={tmp_path}", f"--output={tmp_path / 'o.npz'}"]
    assert "holds no checkpoint; expected a workdir" in error_of(capsys, command)
    assert "is a folder" in error_of(capsys, [*command, f"--output={tmp_path}"])
    assert list(tmp_path.iterdir()) == []
