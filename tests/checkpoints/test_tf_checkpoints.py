"""Checkpoints found wherever they were moved to, read, refused where they do not fit or are damaged."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError

KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        yield graph


def save(folder: Path, *steps: int, absolute: bool = False) -> list[str]:
    """Checkpoints of two variables, one of which holds the step."""
    kernel = tf.get_variable("layer/weights", initializer=KERNEL)
    step = tf.get_variable("global_step", initializer=np.int64(0), trainable=False)
    saver = tf.train.Saver([kernel, step], max_to_keep=None, save_relative_paths=not absolute)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        paths = []
        for number in steps:
            session.run(step.assign(number))
            paths.append(
                saver.save(session, str(folder / "model.ckpt"), global_step=number, write_meta_graph=False)
            )
    return paths


def delete(prefix: str) -> None:
    for path in Path(prefix).parent.glob(Path(prefix).name + ".*"):
        path.unlink()


def test_find(tmp_path: Path) -> None:
    saved = save(tmp_path, 8, 9, 10)
    assert tf_checkpoints.find(tmp_path) == tf_checkpoints.find(str(tmp_path)) == saved[-1]
    assert tf_checkpoints.find(saved[0]) == tf_checkpoints.find(Path(saved[0] + ".index")) == saved[0]
    assert tf_checkpoints.read(tf_checkpoints.find(tmp_path))["global_step"] == 10


@pytest.mark.parametrize("absolute", [True, False])
def test_find_in_a_moved_folder(tmp_path: Path, absolute: bool) -> None:
    """Even where another run has since taken the old folder's place."""
    old, new = tmp_path / "old", tmp_path / "über neu"
    old.mkdir()
    save(old, 1, 2, absolute=absolute)
    shutil.copytree(old, new)
    assert tf_checkpoints.find(new) == str(new / "model.ckpt-2")
    shutil.rmtree(old)
    assert tf_checkpoints.read(tf_checkpoints.find(new))["global_step"] == 2


def test_find_where_the_newest_or_the_state_file_is_gone(tmp_path: Path) -> None:
    saved = save(tmp_path, 8, 9, 10)
    delete(saved[-1])
    assert tf_checkpoints.find(tmp_path) == saved[1]
    for damaged in (b"not a state file {{{", b"\xff\xfe\x00", b""):
        (tmp_path / "checkpoint").write_bytes(damaged)
        assert tf_checkpoints.find(tmp_path) == saved[1]
    (tmp_path / "checkpoint").unlink()
    assert tf_checkpoints.find(tmp_path) == saved[1]
    delete(saved[0])
    delete(saved[1])
    assert tf_checkpoints.newest_in(tmp_path) is None


def test_newest_by_number_without_state_file(tmp_path: Path) -> None:
    """Step 1000 comes after 999, and other files have no part."""
    for name in ("model.ckpt-999", "model.ckpt-1000", "model.ckpt-x", "model.ckpt", "other.ckpt-2000"):
        (tmp_path / f"{name}.index").touch()
    assert tf_checkpoints.newest_in(tmp_path) == str(tmp_path / "model.ckpt-1000")


@pytest.mark.parametrize(
    ("name", "problem"), [(".", "holds no checkpoint"), ("nowhere", "no such"), ("model.ckpt-1", "no such")]
)
def test_nothing_found(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=problem) as caught:
        tf_checkpoints.find(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and "model.ckpt-1000" in str(caught.value)


def test_read_gives_every_tensor(tmp_path: Path) -> None:
    (prefix,) = save(tmp_path, 7)
    tensors = tf_checkpoints.read(prefix)
    assert tensors.keys() == {"layer/weights", "global_step"}
    np.testing.assert_array_equal(tensors["layer/weights"], KERNEL)


def test_read_refuses_missing_data(tmp_path: Path) -> None:
    (prefix,) = save(tmp_path, 7)
    (tmp_path / "model.ckpt-7.data-00000-of-00001").unlink()
    with pytest.raises(UserError, match=r"model\.ckpt-7: cannot be read .*an undamaged checkpoint"):
        tf_checkpoints.read(prefix)
    delete(prefix)
    with pytest.raises(UserError, match="cannot be read"):
        tf_checkpoints.read(prefix)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    with tf.Graph().as_default():
        return Path(save(folder, 7)[0])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([".index", ".data-00000-of-00001"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 255),
)
def test_damage_is_noticed_or_harmless(
    saved: Path, tmp_path: Path, suffix: str, where: float, value: int
) -> None:
    """Cut short at any place, or one byte changed: an error in one line, never other numbers."""
    parts = {part: Path(f"{saved}{part}").read_bytes() for part in (".index", ".data-00000-of-00001")}
    place = int(where * len(parts[suffix]))
    whole = parts[suffix]
    for damaged in (whole[:place], whole[:place] + bytes([value]) + whole[place + 1 :]):
        for part, content in (parts | {suffix: damaged}).items():
            Path(f"{tmp_path / 'c'}{part}").write_bytes(content)
        try:
            tensors = tf_checkpoints.read(str(tmp_path / "c"))
        except UserError as error:
            assert "cannot be read" in str(error) and "\n" not in str(error)
        else:
            if "layer/weights" in tensors:
                np.testing.assert_array_equal(tensors["layer/weights"], KERNEL)


def test_averages_replace_what_they_average() -> None:
    tensors = {
        "a/weights": np.zeros(2),
        "a/weights/ExponentialMovingAverage": np.ones(2),
        "b/biases": np.full(3, 5.0),
        "global_step": np.int64(4),
    }
    picked = tf_checkpoints.averaged(tensors)
    assert {name: np.max(value) for name, value in picked.items()} == {
        "a/weights": 1,
        "b/biases": 5,
        "global_step": 4,
    }
    assert len(tensors) == 4


def test_averages_as_tensorflow_names_them(tmp_path: Path) -> None:
    weights = tf.get_variable("layer/weights", initializer=np.zeros(2, np.float32))
    average = tf.train.ExponentialMovingAverage(0.75)
    with tf.control_dependencies([weights.assign([4.0, 8.0])]):
        update = average.apply([weights])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(update)
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    picked = tf_checkpoints.averaged(tf_checkpoints.read(prefix))
    assert picked.keys() == {"layer/weights"}
    np.testing.assert_allclose(picked["layer/weights"], [1.0, 2.0])


def test_fit() -> None:
    weights = tf.get_variable("layer/weights", [3, 4])
    bias = tf.get_variable("layer/biases", [4])
    fitting = {"layer/weights": KERNEL, "layer/biases": np.zeros(4), "more": np.zeros(1)}
    tf_checkpoints.check_fit("run/model.ckpt-1", fitting, [weights, bias])
    lacking = {name: value for name, value in fitting.items() if name != "layer/biases"}
    with pytest.raises(UserError) as caught:
        tf_checkpoints.check_fit("run/model.ckpt-1", lacking, [weights, bias])
    another = "run/model.ckpt-1: is a checkpoint of another architecture"
    assert str(caught.value) == f"{another}: it lacks layer/biases; expected one of this model"
    with pytest.raises(UserError) as caught:
        tf_checkpoints.check_fit("run/model.ckpt-1", fitting | {"layer/weights": KERNEL.T}, [weights, bias])
    assert str(caught.value) == f"{another}: layer/weights has shape (4, 3); expected (3, 4)"


def test_assign_sets_the_named_and_leaves_the_rest() -> None:
    """Moving averages included, whose initial values are those of other variables."""
    a = tf.get_variable("a", [3, 4], initializer=tf.ones_initializer())
    c = tf.get_variable("c", [], tf.int64, initializer=tf.zeros_initializer(), use_resource=False)
    average = tf.train.ExponentialMovingAverage(0.75)
    average.apply([a])
    b = average.average(a)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        tf_checkpoints.assign(session, {"a": KERNEL, "c": 9, "unknown": KERNEL}, [a, b, c])
        values = session.run([a, b, c])
        np.testing.assert_array_equal(values[0], KERNEL)
        np.testing.assert_array_equal(values[1], np.ones((3, 4)))
        assert values[2] == 9
        tf_checkpoints.assign(session, {"a/ExponentialMovingAverage": -KERNEL}, [a, b, c])
        np.testing.assert_array_equal(session.run(b), -KERNEL)
        tf_checkpoints.assign(session, {}, [a, b, c])
