"""Weight files of every kind: read where they are sound, refused in one line where they are not."""

import io
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efficientnet_east.checkpoints import tf_checkpoints, weight_files
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, good=np.zeros(3), bad=np.array([0, bad], np.float16))
    with pytest.raises(UserError, match=r"w\.npz: bad: holds NaN or infinity; expected finite numbers"):
        weight_files.read(path)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


class Trap:
    """Unpickling it ends the program."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (1,)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"weights", id="text"),
        pytest.param(npy(np.zeros(3)), id="one array, no archive"),
        pytest.param(pickle.dumps(Trap()), id="pickle"),
        pytest.param(npz(a=np.array([Trap()], object)), id="pickle in an archive"),
        pytest.param(zipped(a=npy(np.zeros(3))[:-8]), id="an array cut short"),
        pytest.param(zipped(a=npy(np.zeros(3)).replace(b"(3,)", b"(3<<")), id="a broken header"),
        pytest.param(
            zipped(a=npy(np.zeros((3, 10**3))).replace(b"(3, 1000)", b"(9**9**9)")), id="a hostile header"
        ),
        pytest.param(npz(a=np.zeros(3))[:-30], id="an archive cut short"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read .*; expected an \.npz of arrays") as caught:
        weight_files.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("array", [["word"], [1j], [True], np.zeros(3, "datetime64[s]"), np.zeros(3, "f,f")])
def test_other_things_than_numbers_are_refused(tmp_path: Path, array: Any) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, good=np.zeros(3), odd=np.asarray(array))
    with pytest.raises(UserError, match=r"w\.npz: odd: holds no real numbers"):
        weight_files.read(path)


def test_entries_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(zipped(a=b"no array"))
    with pytest.raises(UserError, match=r"w\.npz: a: holds no real numbers"):
        weight_files.read(path)


def test_no_file(tmp_path: Path) -> None:
    for name, format in (("no.npz", None), ("no.h5", None), ("no", "npz"), ("no", "keras")):
        with pytest.raises(UserError, match=rf"{name}: no such file; expected an? "):
            weight_files.read(tmp_path / name, format)
    for name, what in (("no", "file or checkpoint"), ("no.ckpt", "model")):
        with pytest.raises(UserError, match=rf"{name}: no such {what}; expected a "):
            weight_files.read(tmp_path / name)
    for format in ("npz", "keras"):
        with pytest.raises(UserError, match="cannot be read"):
            weight_files.read(tmp_path, format)


def test_several_names_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, **{f"bad{i}": np.array(np.nan) for i in range(8)}, good=np.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        weight_files.read(path)
    names = ", ".join(f"bad{i}" for i in range(6))
    assert str(caught.value) == f"{path}: {names} and 2 more: holds NaN or infinity; expected finite numbers"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_damage_is_noticed_or_harmless(tmp_path: Path, packed: bool, where: float, value: int) -> None:
    """Cut short at any place, or one byte changed: an error in one line, never other numbers."""
    arrays = {"a/b": np.arange(8, dtype=np.float32), "c": np.ones((2, 3), np.float16)}
    buffer = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, **arrays)
    whole, path = buffer.getvalue(), tmp_path / "w.npz"
    place = int(where * len(whole))
    for damaged in (whole[:place], whole[:place] + bytes([value]) + whole[place + 1 :]):
        path.write_bytes(damaged)
        try:
            read = weight_files.read(path).arrays
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert len(read) <= 2
            for name in read.keys() & arrays.keys():
                np.testing.assert_array_equal(read[name], arrays[name])


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """64 MB of zeros in a small file that claims 1.5 GB: refused by its directory, before any is unpacked."""
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, zeros=np.zeros(1 << 24, np.float32))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, 1_500_000_000)
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bomb\.npz: would unpack from \d+ to 1500000000 bytes; expected"):
        weight_files.read(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


# --- which format


def test_contents_tell_the_format(tmp_path: Path) -> None:
    """Whatever the file is called."""
    h5 = io.BytesIO()
    with h5py.File(h5, "w") as file:
        file["a"] = np.zeros(1)
    torch_zip, keras_zip = io.BytesIO(), io.BytesIO()
    for buffer, name in ((torch_zip, "model/data.pkl"), (keras_zip, "model.weights.h5")):
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, b"")
    contents = {
        "npz": [npz(a=np.zeros(1))],
        "keras": [h5.getvalue(), keras_zip.getvalue()],
        "torch": [torch_zip.getvalue(), pickle.dumps({}), (2).to_bytes(8, "little") + b"{}"],
    }
    path = tmp_path / "weights.bin"
    for format, files in contents.items():
        for content in files:
            path.write_bytes(content)
            assert weight_files.format_of(path) == format
    path.write_bytes(b"some text")
    assert weight_files.format_of(path) == "torch"  # by its ending, so that its reader says what is wrong
    other = zipped(a=b"")
    for name, content in (("weights.dat", b"some text"), ("weights.dat", other.replace(b".npy", b".txt"))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is no weight file of a known kind; expected a TensorFlow"):
            weight_files.format_of(tmp_path / name)


def test_another_format_than_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, a=np.zeros(1))
    with pytest.raises(UserError, match=r"cannot be read .*; expected a \.h5, \.weights\.h5 or \.keras file"):
        weight_files.read(path, "keras")
    with pytest.raises(UserError, match=r"w\.npz: no such checkpoint"):
        weight_files.read(path, "tpu")


# --- TensorFlow checkpoints


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the official training leaves it, with averages and an optimiser's slots."""
    folder = tmp_path_factory.mktemp("official")
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("efficientnet-b0/stem"):
            kernel = tf.get_variable("conv2d/kernel", initializer=np.full((3, 2), 1.0, np.float32))
            mean = tf.get_variable("bn/moving_mean", initializer=np.full(2, 5.0, np.float32), trainable=False)
        step = tf.train.get_or_create_global_step()
        optimizer = tf.train.RMSPropOptimizer(0.5, momentum=0.9)
        update = optimizer.apply_gradients([(tf.ones_like(kernel), kernel)], step)
        average = tf.train.ExponentialMovingAverage(0.5)
        with tf.control_dependencies([update]):
            update = average.apply([kernel, mean])
        session.run(tf.global_variables_initializer())
        session.run([update, mean.assign([7.0, 7.0])])
        tf.train.Saver().save(session, str(folder / "model.ckpt"))
    return folder


def test_averages_are_taken_and_slots_are_not(official: Path) -> None:
    tensors = tf_checkpoints.read(str(official / "model.ckpt"))
    kernel, mean = "efficientnet-b0/stem/conv2d/kernel", "efficientnet-b0/stem/bn/moving_mean"
    assert {f"{kernel}/RMSProp", f"{kernel}/RMSProp_1", "global_step"} <= tensors.keys()
    source = weight_files.read(official)
    assert source.arrays.keys() == {kernel, mean}
    assert source.notes == ("took the moving averages of 2 variables",)
    for name in (kernel, mean):
        shadow = tensors[name + tf_checkpoints.AVERAGE_SUFFIX]
        np.testing.assert_array_equal(source.arrays[name], shadow)
        assert np.abs(shadow - tensors[name]).min() > 0.1


def test_every_way_to_name_a_checkpoint(official: Path, tmp_path: Path) -> None:
    names = ["", ".index", ".meta", ".data-00000-of-00001"]
    paths = [official, *(Path(f"{official / 'model.ckpt'}{name}") for name in names)]
    found = [weight_files.read(path) for path in paths]
    assert all(source.format == "tpu" and len(source.arrays) == 2 for source in found)
    for part in ("index", "data-00000-of-00001"):  # moved without the state file
        (tmp_path / f"renamed.{part}").write_bytes((official / f"model.ckpt.{part}").read_bytes())
    assert len(weight_files.read(tmp_path).arrays) == 2
    (tmp_path / "second.index").touch()
    with pytest.raises(UserError, match="holds 2 checkpoints; expected one, or a checkpoint's prefix"):
        weight_files.read(tmp_path)
    with pytest.raises(UserError, match="holds 0 checkpoints"):
        weight_files.read(tmp_path / ".." / official.name / ".." / tmp_path.name / "..", "tpu")


def test_damaged_checkpoint(official: Path, tmp_path: Path) -> None:
    (tmp_path / "c.index").write_bytes((official / "model.ckpt.index").read_bytes())
    (tmp_path / "c.data-00000-of-00001").write_bytes(b"short")
    with pytest.raises(UserError, match=r"c: cannot be read .*; expected an undamaged checkpoint"):
        weight_files.read(tmp_path / "c")


# --- Keras


def hdf5(path: Path, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value
    return path


def test_keras_names(tmp_path: Path) -> None:
    path = hdf5(
        tmp_path / "w.h5",
        model_weights__stem_conv__stem_conv__x=np.zeros(1),
        normalization__normalization__mean=np.array([np.nan]),
        optimizer_weights__adam__stem_conv__m=np.zeros(1),
        layers__conv2d_3__vars__0=np.ones(2, np.float16),
        layers__thing__vars__0=np.zeros(1),
    )
    with h5py.File(path, "r+") as file:
        file.move("model_weights/stem_conv/stem_conv/x", "model_weights/stem_conv/stem_conv/kernel:0")
        file["layers/conv2d_3/vars"].attrs["name"] = "block1a_se_reduce"
        file["layers/thing/vars"].attrs["name"] = "something"
    arrays = weight_files.read(path).arrays
    assert arrays.keys() == {"stem_conv/kernel", "block1a_se_reduce/kernel", "layers/thing/vars/0"}
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_two_networks_in_one_keras_file(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "w.h5", a__stem_conv__kernel=np.zeros(1), b__stem_conv__kernel=np.ones(1))
    with pytest.raises(UserError, match="holds several layers with the names stem_conv/kernel; expected one"):
        weight_files.read(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_keras_file_cut_short(tmp_path: Path, share: float) -> None:
    path = hdf5(tmp_path / "w.h5", a__b__kernel=np.arange(5000.0))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"w\.h5: cannot be read .*; expected a \.h5"):
        weight_files.read(path)


def test_keras_file_that_reaches_into_others(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"12345678")
    hdf5(tmp_path / "other.h5", a__kernel=np.zeros(1))
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "/a/kernel")
        file["good/kernel"] = np.zeros(1)
    assert weight_files.read(path).arrays.keys() == {"good/kernel"}
    with h5py.File(path, "w") as file:
        file.create_dataset("a/kernel", (8,), "u1", external=[(str(tmp_path / "secret"), 0, 8)])
    with pytest.raises(UserError, match="or keeps them in other files"):
        weight_files.read(path)


def test_keras_file_that_claims_too_much(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/kernel", (2**20, 2**20), "f4", chunks=(1024, 1024))
    assert path.stat().st_size < 10**5
    with pytest.raises(UserError, match=f"kernel has {2**40} numbers"):
        weight_files.read(path)


# --- what reads PyTorch's files may be absent


@pytest.mark.parametrize(
    ("package", "name", "content"),
    [("torch", "w.pth", pickle.dumps(Trap())), ("safetensors.numpy", "w.safetensors", b"")],
)
def test_missing_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str, content: bytes
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(content)
    pip = package.partition(".")[0]
    with pytest.raises(UserError, match=f"which is not installed. Install it with `pip install {pip}`"):
        weight_files.read(tmp_path / name)


# --- written


@pytest.mark.parametrize("name", ["new/w.npz", "new/model.ckpt"])
def test_written_weights_are_read_again(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"a/{i}/weights": rng.normal(size=(i, 2)).astype(np.float32) for i in range(1, 4)}
    for factor in (1, 2):  # the second time over the first
        weight_files.write(tmp_path / name, {n: factor * array for n, array in arrays.items()})
        again = weight_files.read(tmp_path / name).arrays
        assert again.keys() == arrays.keys()
        for n, array in arrays.items():
            np.testing.assert_array_equal(again[n], factor * array)
    suffixes = {".npz"} if name.endswith(".npz") else {".index", ".data-00000-of-00001"}
    assert {path.suffix for path in (tmp_path / "new").iterdir()} == suffixes


def test_nothing_is_left_of_a_checkpoint_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match=r"model\.ckpt: cannot be written .*No space left"):
        weight_files.write(tmp_path / "model.ckpt", {"a/b": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        weight_files.write(tmp_path / "file" / "model.ckpt", {"a/b": np.zeros(1)})
