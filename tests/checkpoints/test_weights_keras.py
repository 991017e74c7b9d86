"""Keras applications against their imported weights: every file that Keras writes, even and odd sizes."""

import functools
import shutil
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf2
import tf_keras
from helpers.graphs import assert_same_maps, random_weight, trunk

from efficientnet_east import scaling
from efficientnet_east.checkpoints import (
    object_checkpoints,
    tf_checkpoints,
    weight_files,
    weight_names,
    weights,
)
from efficientnet_east.cli import main
from efficientnet_east.errors import UserError

SIZES = {"b0": [(224, 224), (380, 380), (512, 288), (225, 225), (301, 203)], "b4": [(224, 224), (301, 203)]}
MODELS = {"b0": "EfficientNetB0", "b4": "EfficientNetB4"}
LEAVES = {"kernel": "weights", "bias": "biases"}
# Ends of the stages before a stride, and the layers right before it: (ours, in Keras).
B0_MAPS = {
    "blocks_0": "block1a_project_bn", "blocks_2": "block2b_add", "blocks_4": "block3b_add",
    "blocks_10": "block5c_add", "blocks_15": "block7a_project_bn",
    "blocks_1/expand": "block2a_expand_activation", "blocks_3/expand": "block3a_expand_activation",
    "blocks_5/expand": "block4a_expand_activation", "blocks_11/expand": "block6a_expand_activation",
    "head": "top_activation",
}  # fmt: skip
B4_MAPS = {
    "blocks_1": "block1b_add", "blocks_5": "block2d_add", "blocks_9": "block3d_add",
    "blocks_21": "block5f_add", "blocks_31": "block7b_add",
    "blocks_2/expand": "block2a_expand_activation", "blocks_6/expand": "block3a_expand_activation",
    "blocks_10/expand": "block4a_expand_activation", "blocks_22/expand": "block6a_expand_activation",
    "head": "top_activation",
}  # fmt: skip


@functools.cache
def random_model(name: str) -> Any:
    """The Keras network with random weights and random batch-norm statistics."""
    model = getattr(keras.applications, MODELS[name])(
        weights=None, include_top=False, input_shape=(224, 224, 3)
    )
    rng = np.random.default_rng(0)
    for variable in model.variables:
        layer, leaf = variable.path.split("/")[-2:]
        if not layer.startswith("normalization"):  # of the pixels: the identity as it is
            shape = tuple(variable.shape)
            fan_in = int(np.prod(shape[:2] if layer.endswith("dwconv") else shape[:-1]))
            variable.assign(random_weight(rng, LEAVES.get(leaf, leaf), shape, fan_in))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keras")


def saved(folder: Path, name: str) -> Path:
    path = folder / f"{name}.weights.h5"
    if not path.exists():
        random_model(name).save_weights(path)
    return path


def imported(path: Path, name: str) -> weights.Restored:
    return weights.restore(weight_files.read(path), name)


def maps_of(name: str, size: tuple[int, int], image: np.ndarray, layers: list[str]) -> list[np.ndarray]:
    """Keras pads for a size that it knows beforehand, so each size has a network of its own."""
    model = getattr(keras.applications, MODELS[name])(weights=None, include_top=False, input_shape=(*size, 3))
    model.set_weights(random_model(name).get_weights())
    maps = keras.Model(model.input, [model.get_layer(layer).output for layer in layers])
    return [np.asarray(map) for map in maps(255 * image)]  # it begins by dividing by 255


@pytest.mark.parametrize(("name", "maps"), [("b0", B0_MAPS), ("b4", B4_MAPS)])
def test_all_maps_at_even_and_odd_sizes(name: str, maps: dict[str, str], folder: Path) -> None:
    restored = imported(saved(folder, name), name)
    network = scaling.resolve(scaling.get_variant(name))
    features = [f.end_point for way in scaling.PRE_STRIDES for f in scaling.features(network, way)]
    assert features == list(maps)
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(1, *size, 3)).astype(np.float32) for size in SIZES[name]]
    mine = trunk(name, "swish").run(restored.values | restored.more, images, list(maps))
    for size, image, found in zip(SIZES[name], images, mine, strict=True):
        theirs = maps_of(name, size, image, list(maps.values()))
        assert_same_maps(found, theirs, [f"{name} at {size}: {end_point}" for end_point in maps])


def assert_equal(one: weights.Restored, other: weights.Restored) -> None:
    for a, b in ((one.values, other.values), (one.more, other.more)):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def legacy(folder: Path) -> Any:
    """The same network in the older Keras, which wrote the files that applications still ship."""
    model = tf_keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(224, 224, 3))
    model.set_weights(random_model("b0").get_weights())
    return model


def test_older_keras_by_layer_name(folder: Path, legacy: Any) -> None:
    legacy.save_weights(folder / "legacy.h5")
    with h5py.File(folder / "legacy.h5") as file:
        assert "block2a_dwconv/block2a_dwconv/depthwise_kernel:0" in file
    assert_equal(imported(folder / "legacy.h5", "b0"), imported(saved(folder, "b0"), "b0"))


def test_older_keras_by_class_and_number(folder: Path, legacy: Any) -> None:
    """Its `.weights.h5` tells no names."""
    legacy.save_weights(folder / "legacy.weights.h5")
    restored = imported(folder / "legacy.weights.h5", "b0")
    assert "Keras 3, by class and number" in restored.report()
    assert_equal(restored, imported(saved(folder, "b0"), "b0"))


@pytest.mark.parametrize("name", ["b0", "b4"])
def test_class_and_number_lead_where_the_layers_names_do(name: str, folder: Path) -> None:
    """Early versions of Keras 3 wrote the same file without the names."""
    shutil.copy(saved(folder, name), folder / "nameless.weights.h5")
    with h5py.File(folder / "nameless.weights.h5", "r+") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
    restored = imported(folder / "nameless.weights.h5", name)
    assert "Keras 3, by class and number" in restored.report()
    named = imported(saved(folder, name), name)
    assert "names of Keras applications" in named.report()
    assert_equal(restored, named)


def test_whole_models_in_both_forms(folder: Path) -> None:
    """The optimiser's state in it is no weight."""
    model = random_model("b0")
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    for suffix in (".keras", ".h5"):
        path = folder / f"whole{suffix}"
        model.save(path)
        restored = imported(path, "b0")
        assert restored.unused == restored.elsewhere == ()
        assert_equal(restored, imported(saved(folder, "b0"), "b0"))


def test_as_a_part_of_another_model(folder: Path) -> None:
    """Nested, behind another convolution, with a classifier that has no place here."""
    images = keras.Input((64, 64, 3))
    inner = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(64, 64, 3))
    inner.set_weights(random_model("b0").get_weights())
    maps = inner(keras.layers.Conv2D(3, 1, name="mix")(images))
    model = keras.Model(images, keras.layers.Conv2D(7, 1, name="cells")(maps))
    for name in ("nested.weights.h5", "nested.h5"):
        (model.save_weights if "weights" in name else model.save)(folder / name)
        restored = imported(folder / name, "b0")
        assert sorted(restored.unused) == ["cells/bias", "cells/kernel", "mix/bias", "mix/kernel"]
        assert_equal(restored, imported(saved(folder, "b0"), "b0"))


def test_classifier_comes_along(folder: Path) -> None:
    """Of applications under `predictions`, of the older port under `probs`."""
    model = keras.applications.EfficientNetB0(weights=None, input_shape=(32, 32, 3), classes=5)
    kernel = np.random.default_rng(2).normal(size=(1280, 5)).astype(np.float32)
    model.get_layer("predictions").set_weights([kernel, np.arange(5)])
    model.save(folder / "top.h5")
    shutil.copy(folder / "top.h5", folder / "probs.h5")
    with h5py.File(folder / "probs.h5", "r+") as file:
        file.move("model_weights/predictions/predictions", "model_weights/probs/probs")
    for name in ("top.h5", "probs.h5"):
        restored = imported(folder / name, "b0")
        assert restored.unused == () and len(restored.more) == 5 + 2
        np.testing.assert_array_equal(restored.more["efficientnet-b0/logits/weights"], kernel)
        np.testing.assert_array_equal(restored.more["efficientnet-b0/logits/biases"], np.arange(5))


# --- checkpoints of TensorFlow 2, which have no names but in their tree of objects


def small(library: Any) -> Any:
    """Applications' B0 with a classifier and an optimizer that has slots."""
    model = library.applications.EfficientNetB0(weights=None, classes=3, input_shape=(32, 32, 3))
    rng = np.random.default_rng(3)
    model.set_weights([rng.uniform(0.5, 1.5, array.shape) for array in model.get_weights()])
    model.compile("adam", "mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["Keras 3", "Keras 2"])
def test_object_checkpoints_are_what_the_weight_file_is(library: Any, tmp_path: Path) -> None:
    """`tf.train.Checkpoint` with and without an optimizer beside the model, and SavedModels."""
    model = small(library)
    model.save_weights(tmp_path / "named.weights.h5")
    expected = imported(tmp_path / "named.weights.h5", "b0")
    assert len(expected.more) == 5 + 2
    tf2.train.Checkpoint(model=model).write(str(tmp_path / "plain.ckpt"))
    tf2.train.Checkpoint(opt=model.optimizer, net=model).save(str(tmp_path / "both" / "run.ckpt"))
    if library is keras:
        model.export(str(tmp_path / "saved"))
    else:
        tf2.saved_model.save(model, str(tmp_path / "saved"))
    for path in ("plain.ckpt", "plain.ckpt.index", "both", "saved", "saved/saved_model.pb",
                 "saved/variables/variables"):  # fmt: skip
        restored = imported(tmp_path / path, "b0")
        assert restored.initialized == restored.unused == restored.elsewhere == (), path
        assert "tpu, by the names of Keras applications" in restored.report()
        assert_equal(restored, expected)


def test_object_checkpoints_of_another_backbone_are_refused(folder: Path) -> None:
    tf2.train.Checkpoint(model=random_model("b0")).write(str(folder / "b0.ckpt"))
    with pytest.raises(UserError, match=r"stem_conv/kernel has shape .*like b0; expected weights of b4"):
        imported(folder / "b0.ckpt", "b4")


class Bare(tf2.Module):
    """A part of a model whose variables have the official names, as modules of TF Hub have them."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.variables_of_hub = [tf2.Variable(array, name=name) for name, array in arrays.items()]


def test_object_checkpoints_with_official_names(folder: Path, tmp_path: Path) -> None:
    names = {v.name: v for v in weight_names.variables("b0", weight_names.OFFICIAL)}
    whole = imported(saved(folder, "b0"), "b0")
    arrays = {
        f"efficientnet-b0/{names[name.partition('/')[2]].source}": array
        for name, array in (whole.values | whole.more).items()
    }
    tf2.saved_model.save(Bare(arrays), str(tmp_path / "hub"))
    restored = imported(tmp_path / "hub", "b0")
    assert "by the names of the official checkpoints" in restored.report()
    assert restored.unused == ()
    assert_equal(restored, whole)


def test_object_checkpoints_without_names(tmp_path: Path) -> None:
    """Variables that are all called the same cannot be told apart: one line, and what to save instead."""
    model = tf2.Module()
    model.parts = [tf2.Variable(np.full(3, float(number)), name="kernel") for number in range(3)]
    tf2.train.Checkpoint(model=model).write(str(tmp_path / "c"))
    said = "several variables are called kernel. Save the same weights with Keras as .weights.h5"
    with pytest.raises(UserError, match=said):
        weight_files.read(tmp_path / "c")


def test_a_damaged_tree_is_one_line(tmp_path: Path) -> None:
    tf_checkpoints.write(tmp_path / "c", {object_checkpoints.TREE: np.array(b"\xff\xff"), "a/b": np.zeros(3)})
    with pytest.raises(UserError, match=r"c: cannot be read .*; expected an undamaged checkpoint") as caught:
        weight_files.read(tmp_path / "c")
    assert "\n" not in str(caught.value)


def test_object_checkpoints_where_a_run_is_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Detecting, evaluating and exporting need a run of this project: one line, exit code 2."""
    tf2.train.Checkpoint(a=tf2.Variable(np.zeros(3), name="stem_conv/kernel")).write(str(tmp_path / "c"))
    tf2.saved_model.save(Bare({"a/b": np.zeros(3)}), str(tmp_path / "hub"))
    for source in (tmp_path / "c", tmp_path / "hub"):
        for words in (["detect", "photo.jpg", "--output", str(tmp_path / "o")],
                      ["export", "--format", "frozen", "--output", str(tmp_path / "o.pb")],
                      ["export-weights", "--output", str(tmp_path / "o.npz")]):  # fmt: skip
            assert main.main([*words, "--checkpoint", str(source)]) == 2
            assert capsys.readouterr().err.count("\n") == 1
