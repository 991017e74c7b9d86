"""ImageNet weights: what is restored from the two files, what it computes, and what is refused."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import classifier, shared
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efficientnet_east import checkpoints, scaling
from efficientnet_east.backbones import weights
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError

B0 = "weights/efficientnet-b0-imagenet-aa-partial.npz"
B4 = "weights/efficientnet-b4-imagenet-aa-partial-fp16.npz"
GOLDEN = "weights/efficientnet-b0-golden-block0-block1.npz"
SCOPE = "efficientnet-b0"
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def batch_norm(layer: str) -> list[str]:
    return [f"{layer}/BatchNorm/{leaf}" for leaf in BATCH_NORM]


def restore(name: str, file: str) -> tuple[dict[str, np.ndarray], weights.Restored]:
    path = str(shared(file))
    arrays = weights.read_npz(path)
    scope = f"efficientnet-{name}"
    return arrays, weights.restore(arrays, classifier(name).shapes("variables"), name, scope, path)


def trunk(name: str) -> dict[str, tuple[int, ...]]:
    return classifier(name).shapes("variables", trunk=True)


def session_with(name: str, values: dict[str, np.ndarray]) -> Any:
    variables = classifier(name).graph.get_collection("variables")
    with classifier(name).graph.as_default():
        config = tf.ConfigProto()
        # The optimiser would fuse operations away whose outputs are fetched here.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        session = tf.Session(config=config)
        session.run(tf.variables_initializer(variables))
        checkpoints.assign(session, values, variables)
    return session


@pytest.mark.parametrize("name", ["b0", "b4"])
def test_official_names_cover_the_trunk(name: str) -> None:
    """Every variable once, to official names that are all different."""
    pairs = list(weights.official_names(scaling.resolve(scaling.VARIANTS[name]), f"efficientnet-{name}"))
    ours, theirs = zip(*pairs, strict=True)
    assert sorted(ours) == sorted(trunk(name)) and len(set(theirs)) == len(theirs)


def test_official_names_by_hand() -> None:
    """A block without and one with expansion: the official numbering starts one later in the second."""
    pairs = dict(weights.official_names(scaling.resolve(scaling.VARIANTS["b0"]), "s"))
    expected = {
        "stem/weights": "stem/conv2d/kernel",
        "stem/BatchNorm/beta": "stem/tpu_batch_normalization/beta",
        "blocks_0/depthwise/depthwise_weights": "blocks_0/depthwise_conv2d/depthwise_kernel",
        "blocks_0/depthwise/BatchNorm/gamma": "blocks_0/tpu_batch_normalization/gamma",
        "blocks_0/se/reduce/weights": "blocks_0/se/conv2d/kernel",
        "blocks_0/se/expand/biases": "blocks_0/se/conv2d_1/bias",
        "blocks_0/project/weights": "blocks_0/conv2d/kernel",
        "blocks_0/project/BatchNorm/moving_mean": "blocks_0/tpu_batch_normalization_1/moving_mean",
        "blocks_1/expand/weights": "blocks_1/conv2d/kernel",
        "blocks_1/expand/BatchNorm/gamma": "blocks_1/tpu_batch_normalization/gamma",
        "blocks_1/depthwise/BatchNorm/gamma": "blocks_1/tpu_batch_normalization_1/gamma",
        "blocks_1/project/weights": "blocks_1/conv2d_1/kernel",
        "blocks_1/project/BatchNorm/moving_variance": "blocks_1/tpu_batch_normalization_2/moving_variance",
    }
    assert {ours: pairs[f"s/{ours}"] for ours in expected} == {k: f"s/{v}" for k, v in expected.items()}


def test_b0_file() -> None:
    """All but the last projection, its batch norm with it; the head's five arrays are not the trunk's."""
    arrays, restored = restore("b0", B0)
    last = "efficientnet-b0/blocks_15"
    initialised = [f"{last}/project/weights", *batch_norm(f"{last}/project")]
    assert sorted(restored.initialised) == sorted(initialised)
    assert len(restored.values) == len(trunk("b0")) - 5 == 299
    assert restored.identities == ()
    head = [f"efficientnet-b0/head/tpu_batch_normalization/{leaf}" for leaf in BATCH_NORM]
    orphans = [f"{last}/tpu_batch_normalization_2/{leaf}" for leaf in BATCH_NORM]
    assert sorted(restored.unused) == sorted([*head, "efficientnet-b0/head/dense/bias", *orphans])
    assert len(arrays) == 308 == len(restored.values) + len(restored.unused)
    report = restored.report().splitlines()
    assert report[0] == "restored 299 variables of the backbone from ImageNet weights" and len(report) == 3
    assert f"{last}/project/weights" in report[1] and "head/dense/bias" in report[2]


def test_b4_file() -> None:
    """The last block lacks two kernels; it begins as the identity. Half precision is widened exactly."""
    arrays, restored = restore("b4", B4)
    last = "efficientnet-b4/blocks_31"
    gamma = f"{last}/project/BatchNorm/gamma"
    absent = [f"{last}/{layer}/weights" for layer in ("expand", "project")]
    fresh = [*absent, *batch_norm(f"{last}/expand"), *batch_norm(f"{last}/project")]
    assert sorted(restored.initialised) == sorted(set(fresh) - {gamma})
    assert restored.identities == ("blocks_31",) and not restored.values[gamma].any()
    assert len(restored.values) == len(trunk("b4")) - len(fresh) + 1
    unused = {name for name in restored.unused if "/head/" not in name}
    numbers = ("tpu_batch_normalization", "tpu_batch_normalization_2")
    assert unused == {f"{last}/{number}/{leaf}" for number in numbers for leaf in BATCH_NORM}
    assert len(restored.unused) == len(unused) + 6 and len(arrays) == 607
    assert {array.dtype for array in restored.values.values()} == {np.dtype(np.float32)}
    with np.load(shared(B4)) as file:
        raw = file["efficientnet-b4/blocks_5/conv2d_1/kernel"]
    assert raw.dtype == np.float16
    np.testing.assert_array_equal(
        restored.values["efficientnet-b4/blocks_5/project/weights"], raw.astype(np.float32)
    )
    lines = restored.report().splitlines()
    assert lines[0].startswith(f"restored {len(restored.values) - 1} variables")
    assert any(
        line.startswith("blocks begun as the identity") and line.endswith(": blocks_31") for line in lines
    )


def test_b4_last_block_is_the_identity() -> None:
    """Read off the graph itself, with the photograph of the golden file."""
    built, (_, restored) = classifier("b4"), restore("b4", B4)
    with np.load(shared(GOLDEN)) as golden, session_with("b4", restored.values) as session:
        before, after = session.run(
            [built.end_points["blocks_30"], built.end_points["blocks_31"]], {built.images: golden["inputs"]}
        )
    np.testing.assert_array_equal(before, after)
    assert before.std() > 0.1


def test_golden_activations_of_another_implementation() -> None:
    """Block 0's output and every step of block 1, at the graph's own tensors.

    The other implementation was run on pixels in [0, 1] as they are, without mean and deviation.
    """
    built, (_, restored) = classifier("b0"), restore("b0", B0)
    scope = "efficientnet-b0/blocks_1"
    steps = {
        "depthwise_conv_out": "depthwise/depthwise",
        "bn1_out": "depthwise/BatchNorm/FusedBatchNormV3",
        "swish1_out": "depthwise/mul",
        "se_reduce_out": "se/reduce/BiasAdd",
        "se_expand_out": "se/expand/BiasAdd",
        "sigmoid_out": "se/mul",  # the gated map
        "project_conv_out": "project/Conv2D",
    }
    tensors = {name: built.graph.get_tensor_by_name(f"{scope}/{step}:0") for name, step in steps.items()}
    tensors |= {"expand_conv_in": built.end_points["blocks_0"], "bn2_out": built.end_points["blocks_1"]}
    with np.load(shared(GOLDEN)) as golden, session_with("b0", restored.values) as session:
        assert golden.files[0] == "inputs" and set(golden.files[1:]) == tensors.keys()
        result = session.run(tensors, {built.images: golden["inputs"]})
        for name in golden.files[1:]:
            np.testing.assert_allclose(result[name], golden[name], atol=1e-4, err_msg=name)


@pytest.fixture
def whole() -> dict[str, np.ndarray]:
    """A complete file of B0's trunk, each array another number."""
    network = scaling.resolve(scaling.VARIANTS["b0"])
    pairs = weights.official_names(network, SCOPE)
    return {theirs: np.full(trunk("b0")[ours], i, np.float32) for i, (ours, theirs) in enumerate(pairs)}


def restore_b0(arrays: dict[str, np.ndarray]) -> weights.Restored:
    return weights.restore(arrays, trunk("b0"), "b0", SCOPE, "some.npz")


def test_complete_file(whole: dict[str, np.ndarray]) -> None:
    restored = restore_b0(whole)
    assert restored.values.keys() == trunk("b0").keys()
    assert restored.initialised == restored.unused == restored.identities == ()
    assert restored.report() == "restored 304 variables of the backbone from ImageNet weights"
    gamma = restored.values[f"{SCOPE}/blocks_3/depthwise/BatchNorm/gamma"]
    assert gamma[0] == whole[f"{SCOPE}/blocks_3/tpu_batch_normalization_1/gamma"][0] > 0


def test_lacking_squeeze_bias_keeps_its_neighbours(whole: dict[str, np.ndarray]) -> None:
    """No batch norm belongs to it, so that it alone is initialised."""
    del whole[f"{SCOPE}/blocks_4/se/conv2d/bias"]
    restored = restore_b0(whole)
    assert restored.initialised == (f"{SCOPE}/blocks_4/se/reduce/biases",) and restored.unused == ()


def test_lacking_depthwise_kernel_takes_its_batch_norm_along(whole: dict[str, np.ndarray]) -> None:
    del whole[f"{SCOPE}/blocks_4/depthwise_conv2d/depthwise_kernel"]
    restored = restore_b0(whole)
    layer = f"{SCOPE}/blocks_4/depthwise"
    assert restored.initialised == (f"{layer}/depthwise_weights", *batch_norm(layer))
    assert restored.unused == tuple(
        f"{SCOPE}/blocks_4/tpu_batch_normalization_1/{leaf}" for leaf in BATCH_NORM
    )
    assert restored.identities == ()


def test_lacking_projections_with_and_without_residual(whole: dict[str, np.ndarray]) -> None:
    for block in ("blocks_3", "blocks_4"):  # a new width, and its repeat
        del whole[f"{SCOPE}/{block}/conv2d_1/kernel"]
    restored = restore_b0(whole)
    assert restored.identities == ("blocks_4",)
    assert f"{SCOPE}/blocks_3/project/BatchNorm/gamma" in restored.initialised
    assert not restored.values[f"{SCOPE}/blocks_4/project/BatchNorm/gamma"].any()
    assert f"{SCOPE}/blocks_4/project/BatchNorm/beta" in restored.initialised  # 0, too
    assert restored.report().startswith(f"restored {304 - 10} variables")


@pytest.mark.parametrize("scopes", [["efficientnet-b4"], [SCOPE, "efficientnet-b4"], []])
def test_other_variants_are_refused(whole: dict[str, np.ndarray], scopes: list[str]) -> None:
    arrays = {name.replace(SCOPE, scope): value for scope in scopes for name, value in whole.items()}
    with pytest.raises(UserError) as caught:
        restore_b0(arrays)
    found = ", ".join(scopes) or "nothing"
    assert str(caught.value) == f"some.npz: holds weights of {found}; expected weights of efficientnet-b0"


def test_real_files_refuse_the_other_variant() -> None:
    arrays = weights.read_npz(shared(B4))
    with pytest.raises(
        UserError, match=r"holds weights of efficientnet-b4; expected weights of efficientnet-b0"
    ):
        restore_b0(arrays)


def test_other_shapes_are_refused(whole: dict[str, np.ndarray]) -> None:
    name = f"{SCOPE}/blocks_1/conv2d/kernel"
    whole[name] = whole[name].transpose(0, 1, 3, 2)
    with pytest.raises(UserError) as caught:
        restore_b0(whole)
    expected = f"expected (1, 1, 16, 96) of {SCOPE}/blocks_1/expand/weights"
    assert str(caught.value) == f"some.npz: {name}: has shape (1, 1, 96, 16); {expected}"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, good=np.zeros(3), bad=np.array([0, bad], np.float16))
    with pytest.raises(UserError, match=r"w\.npz: bad: holds NaN or infinity; expected finite numbers"):
        weights.read_npz(path)


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
    with pytest.raises(
        UserError, match=r"cannot be read .*; expected an \.npz of ImageNet weights"
    ) as caught:
        weights.read_npz(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("array", [["word"], [1j], [True], np.zeros(3, "datetime64[s]"), np.zeros(3, "f,f")])
def test_other_things_than_numbers_are_refused(tmp_path: Path, array: Any) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, good=np.zeros(3), odd=np.asarray(array))
    with pytest.raises(UserError, match=r"w\.npz: odd: holds no real numbers"):
        weights.read_npz(path)


def test_entries_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(zipped(a=b"no array"))
    with pytest.raises(UserError, match=r"w\.npz: a: holds no real numbers"):
        weights.read_npz(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.npz: no such file"):
        weights.read_npz(tmp_path / "no.npz")
    with pytest.raises(UserError, match="cannot be read"):
        weights.read_npz(tmp_path)


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
            read = weights.read_npz(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert len(read) <= 2
            for name in read.keys() & arrays.keys():
                np.testing.assert_array_equal(read[name], arrays[name])
