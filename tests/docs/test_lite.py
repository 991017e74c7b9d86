"""The start for lite0 that is made of a trained B0."""

from pathlib import Path

import numpy as np
import pytest
from helpers.graphs import as_if_trained
from helpers.programs import load_example

from efficientnet_east import model
from efficientnet_east.checkpoints import model_file, tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.data.images import write_image
from efficientnet_east.options import NORMALIZATIONS

(start,) = load_example("lite", "start_from_b0")
RNG = np.random.default_rng(5)


def scores(weights: dict[str, np.ndarray], pixels: np.ndarray, **options: str) -> np.ndarray:
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, pixels.shape)
        outputs = model.build(
            images, pre_stride="expand", activation="swish", normalization="imagenet", **options
        )
        tf_checkpoints.assign(session, weights, tf.global_variables())
        return session.run(outputs.score, {images: pixels})


@pytest.fixture(scope="module")
def b0() -> dict[str, np.ndarray]:
    """A detector whose gates are the same for every image: what they read is multiplied by 0."""
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [1, 64, 64, 3])
        model.build(images, backbone="b0", activation="swish", pre_stride="expand")
        variables = tf.global_variables()
        session.run(tf.global_variables_initializer())
        values = as_if_trained(variables, RNG)
        for variable in variables:
            if variable.op.name.endswith("/se/expand/biases"):
                values[variable.op.name] = RNG.normal(size=variable.shape.as_list())
        tf_checkpoints.assign(session, values, variables)
        weights = session.run({variable.op.name: variable for variable in variables})
    for name in weights:
        if name.endswith("/se/expand/weights"):
            weights[name] = np.zeros_like(weights[name])
    return weights


def test_constant_gates_fold_without_loss(b0: dict[str, np.ndarray]) -> None:
    pixels = RNG.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    gates = start.mean_gates(b0, list(pixels))
    assert len(gates) == 16
    for block, gate in gates.items():
        bias = b0[f"efficientnet-b0/{block}/se/expand/biases"]
        np.testing.assert_allclose(gate, 1 / (1 + np.exp(-bias)), rtol=1e-5)
    lite = start.without_gates(b0, gates)
    stem = "efficientnet-lite0/stem"
    for part in ("weights", "BatchNorm/moving_mean"):  # of B0 again, for B0's pixels
        lite[f"{stem}/{part}"] = b0[f"efficientnet-b0/stem/{part}"]
    expected, found = scores(b0, pixels, backbone="b0"), scores(lite, pixels, backbone="lite0")
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_stem_gives_the_same_from_other_pixels() -> None:
    """By hand, for the one cell whose window is a whole image."""
    kernel, moving = RNG.normal(size=(3, 3, 3, 4)), RNG.normal(size=4)
    stem = "efficientnet-lite0/stem"
    changed = start.stem_for_lite({f"{stem}/weights": kernel, f"{stem}/BatchNorm/moving_mean": moving})
    pixels = RNG.integers(0, 256, (3, 3, 3))

    def centered(kind: str, kernel: np.ndarray, moving: np.ndarray) -> np.ndarray:
        mean, deviation = map(np.array, NORMALIZATIONS[kind])
        return np.einsum("ijc,ijco->o", (pixels - mean) / deviation, kernel) - moving

    expected = centered("imagenet", kernel, moving)
    found = centered("lite", changed[f"{stem}/weights"], changed[f"{stem}/BatchNorm/moving_mean"])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_file_is_one_that_training_begins_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "images" / "a.png", RNG.integers(0, 256, (512, 512, 3), dtype=np.uint8))
    output = tmp_path / "start.npz"
    assert start.main(["--images", str(tmp_path / "images"), "--output", str(output)]) == 0
    assert capsys.readouterr().out.startswith(f"{output}: 16 gates folded")
    weights = model_file.read_weights(output)
    with tf.Graph().as_default():
        model.build(
            tf.placeholder(tf.uint8, [1, 64, 64, 3]),
            backbone="lite0",
            activation="relu6",
            pre_stride="expand",
        )
        shapes = {variable.op.name: tuple(variable.shape.as_list()) for variable in tf.global_variables()}
    assert {name: array.shape for name, array in weights.items()} == shapes
    assert "lite0" in model_file.read_config(output)


def test_another_detector_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_file.write(
        tmp_path / "a.npz", {}, "model:\n  backbone: b4\n  activation: relu\n  pre_stride: block\n"
    )
    words = [
        "--images",
        str(tmp_path),
        "--model",
        str(tmp_path / "a.npz"),
        "--output",
        str(tmp_path / "b.npz"),
    ]
    assert start.main(words) == 2 and not (tmp_path / "b.npz").exists()
    assert "a.npz: is no detector on B0" in capsys.readouterr().err
