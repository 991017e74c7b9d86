"""Weights on the variables: what whole and partial files restore, what it computes, what is refused."""

from typing import Any

import numpy as np
import pytest
from helpers.graphs import classifier, shared

from efficientnet_east.checkpoints import tf_checkpoints, weight_files, weight_names, weights
from efficientnet_east.checkpoints.weight_files import WeightFile
from efficientnet_east.checkpoints.weight_names import KERAS, LUKEMELAS, OFFICIAL, OWN, TIMM, Naming
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
    source = weight_files.read(shared(file))
    return source.arrays, weights.restore(source, name)


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
        tf_checkpoints.assign(session, values, variables)
    return session


def test_b0_file() -> None:
    """All but the last projection, its batch norm with it; the head's five arrays are not the trunk's."""
    arrays, restored = restore("b0", B0)
    last = "efficientnet-b0/blocks_15"
    initialised = [f"{last}/project/weights", *batch_norm(f"{last}/project")]
    assert sorted(restored.initialized) == sorted(initialised)
    assert len(restored.values) == len(trunk("b0")) - 5 == 299
    assert restored.identities == ()
    head = [f"efficientnet-b0/head/tpu_batch_normalization/{leaf}" for leaf in BATCH_NORM]
    assert sorted(restored.top) == sorted([*head, "efficientnet-b0/head/dense/bias"])
    assert restored.orphans == tuple(f"{last}/tpu_batch_normalization_2/{leaf}" for leaf in BATCH_NORM)
    assert restored.missing == (f"{last}/conv2d_1/kernel",)
    assert restored.unused == restored.elsewhere == () and restored.more == {}
    assert len(arrays) == 308 == len(restored.values) + len(restored.top) + len(restored.orphans)
    report = restored.report().splitlines()
    assert report[0].endswith("imagenet-aa-partial.npz: npz, by the names of the official checkpoints")
    assert report[1] == "restored 299 variables of the backbone" and len(report) == 5
    assert f"{last}/project/weights" in report[2] and restored.orphans[0] in report[3]
    assert report[4].startswith("head and classifier, which the trunk does not use: ")


def test_b4_file() -> None:
    """The last block lacks two kernels; it begins as the identity. Half precision is widened exactly."""
    arrays, restored = restore("b4", B4)
    last = "efficientnet-b4/blocks_31"
    gamma = f"{last}/project/BatchNorm/gamma"
    absent = [f"{last}/{layer}/weights" for layer in ("expand", "project")]
    fresh = [*absent, *batch_norm(f"{last}/expand"), *batch_norm(f"{last}/project")]
    assert sorted(restored.initialized) == sorted(set(fresh) - {gamma})
    assert restored.identities == ("blocks_31",) and not restored.values[gamma].any()
    assert len(restored.values) == len(trunk("b4")) - len(fresh) + 1
    numbers = ("tpu_batch_normalization", "tpu_batch_normalization_2")
    assert set(restored.orphans) == {f"{last}/{number}/{leaf}" for number in numbers for leaf in BATCH_NORM}
    assert restored.unused == () and len(restored.top) == 6 and len(arrays) == 607
    assert len(restored.more) == 5, "the head's convolution is whole, the classifier is not"
    assert {array.dtype for array in restored.values.values()} == {np.dtype(np.float32)}
    with np.load(shared(B4)) as file:
        raw = file["efficientnet-b4/blocks_5/conv2d_1/kernel"]
    assert raw.dtype == np.float16
    np.testing.assert_array_equal(
        restored.values["efficientnet-b4/blocks_5/project/weights"], raw.astype(np.float32)
    )
    lines = restored.report().splitlines()
    assert lines[1].startswith(f"restored {len(restored.values) - 1} variables")
    assert any(
        line.startswith("blocks without a projection in the file") and line.endswith(": blocks_31")
        for line in lines
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


def whole(naming: Naming = OFFICIAL, root: str = f"{SCOPE}/", name: str = "b0") -> dict[str, Any]:
    """A complete file of a trunk, each array of another number."""
    variables = [v for v in weight_names.variables(name, naming) if v.layer not in weight_names.TOP]
    return {root + v.source: np.full(v.source_shape, i, np.float32) for i, v in enumerate(variables)}  # type: ignore[arg-type]


def restore_b0(arrays: dict[str, np.ndarray], format: str = "npz") -> weights.Restored:
    return weights.restore(WeightFile("some.file", format, arrays), "b0")


def refusal(arrays: dict[str, np.ndarray], format: str = "npz", name: str = "b0") -> str:
    with pytest.raises(UserError) as caught:
        weights.restore(WeightFile("some.file", format, arrays), name)
    return str(caught.value)


FILES = [("npz", OFFICIAL, "efficientnet-b0/"), ("npz", OFFICIAL, "mine/"), ("tpu", OWN, "efficientnet-b0/"),
         ("keras", KERAS, ""), ("torch", LUKEMELAS, ""), ("torch", LUKEMELAS, "encoder."),
         ("torch", TIMM, "module.")]  # fmt: skip


@pytest.mark.parametrize(("format", "naming", "root"), FILES)
def test_complete_files(format: str, naming: Naming, root: str) -> None:
    arrays = whole(naming, root)
    restored = restore_b0(arrays, format)
    assert restored.values.keys() == trunk("b0").keys()
    assert {name: array.shape for name, array in restored.values.items()} == trunk("b0")
    for field in ("initialized", "missing", "orphans", "unused", "top", "elsewhere", "identities"):
        assert getattr(restored, field) == (), field
    assert restored.report().splitlines()[1:] == ["restored 304 variables of the backbone"]
    source = {v.name: root + v.source for v in weight_names.variables("b0", naming)}
    gamma = restored.values[f"{SCOPE}/blocks_3/depthwise/BatchNorm/gamma"]
    assert gamma[0] == arrays[source["blocks_3/depthwise/BatchNorm/gamma"]][0] > 0
    weights.expect_complete(restored, WeightFile("some.file", format, arrays), False, False)


def test_other_parts_of_a_model_are_said() -> None:
    """An EfficientDet has its backbone under the same scope."""
    parts = {"fpn_cells/cell_0/w": np.ones(1), "class_net/kernel": np.ones(2), "class_net/bias": np.ones(2)}
    arrays = whole() | parts
    restored = restore_b0(arrays)
    assert restored.elsewhere == tuple(parts) and restored.more == {}
    assert restored.report().splitlines()[-1] == "3 arrays of other parts: fpn_cells, class_net"
    weights.expect_complete(restored, WeightFile("some.file", "npz", arrays), False, False)


def test_other_parts_of_this_projects_models_come_along() -> None:
    arrays = whole(OWN) | {"feature_fusion/Conv/weights": np.ones(3)}
    assert restore_b0(arrays).more == {"feature_fusion/Conv/weights": arrays["feature_fusion/Conv/weights"]}


def test_wanted_variables_of_a_graph() -> None:
    """With a head convolution in the graph its arrays are wanted; what no file can hold is initialised."""
    head = {"head/conv2d/kernel": (1, 1, 320, 1280), "head/tpu_batch_normalization/beta": (1280,)}
    arrays = whole() | {f"{SCOPE}/{name}": np.ones(shape) for name, shape in head.items()}
    source = WeightFile("some.file", "npz", arrays)
    wanted = [*trunk("b0"), f"{SCOPE}/head/weights", f"{SCOPE}/head/BatchNorm/beta", f"{SCOPE}/head/new"]
    restored = weights.restore(source, "b0", wanted)
    assert restored.values.keys() == {*trunk("b0"), *wanted[-3:-1]}
    assert restored.initialized == (wanted[-1],) and restored.top == () and restored.more == {}
    assert len(weights.restore(source, "b0").top) == 2


def test_lacking_squeeze_bias_keeps_its_neighbours() -> None:
    """No batch norm belongs to it, so that it alone is initialised."""
    arrays = whole()
    del arrays[f"{SCOPE}/blocks_4/se/conv2d/bias"]
    restored = restore_b0(arrays)
    assert restored.initialized == (f"{SCOPE}/blocks_4/se/reduce/biases",) and restored.orphans == ()


def test_lacking_depthwise_kernel_takes_its_batch_norm_along() -> None:
    arrays = whole()
    del arrays[f"{SCOPE}/blocks_4/depthwise_conv2d/depthwise_kernel"]
    restored = restore_b0(arrays)
    layer = f"{SCOPE}/blocks_4/depthwise"
    assert restored.initialized == (f"{layer}/depthwise_weights", *batch_norm(layer))
    assert restored.orphans == tuple(
        f"{SCOPE}/blocks_4/tpu_batch_normalization_1/{leaf}" for leaf in BATCH_NORM
    )
    assert restored.identities == () == restored.unused


def test_lacking_projections_with_and_without_residual() -> None:
    arrays = whole()
    for block in ("blocks_3", "blocks_4"):  # a new width, and its repeat
        del arrays[f"{SCOPE}/{block}/conv2d_1/kernel"]
    restored = restore_b0(arrays)
    assert restored.identities == ("blocks_4",)
    assert f"{SCOPE}/blocks_3/project/BatchNorm/gamma" in restored.initialized
    assert not restored.values[f"{SCOPE}/blocks_4/project/BatchNorm/gamma"].any()
    assert f"{SCOPE}/blocks_4/project/BatchNorm/beta" in restored.initialized  # 0, too
    assert f"restored {304 - 10} variables" in restored.report()


def test_missing_and_unused_arrays_are_refused_by_name() -> None:
    arrays = whole()
    del arrays[f"{SCOPE}/blocks_4/se/conv2d/bias"]
    arrays |= {f"{SCOPE}/blocks_4/extra_{i}": np.ones(1) for i in range(9)}
    source, restored = WeightFile("some.file", "npz", arrays), restore_b0(arrays)
    lacks = f"some.file: lacks 1 array: {SCOPE}/blocks_4/se/conv2d/bias; "
    lacks += "expected all of them; allow_missing goes on without"
    extra = ", ".join(f"{SCOPE}/blocks_4/extra_{i}" for i in range(6))
    unused = f"some.file: holds 9 arrays without a place: {extra} and 3 more; "
    unused += "expected none; allow_unused leaves them out"
    for allowed, message in (((False, False), lacks), ((False, True), lacks), ((True, False), unused)):
        with pytest.raises(UserError) as caught:
            weights.expect_complete(restored, source, *allowed)
        assert str(caught.value) == message
    weights.expect_complete(restored, source, True, True)
    assert f"unused arrays: {SCOPE}/blocks_4/extra_0, " in restored.report()


@pytest.mark.parametrize(
    ("other", "format", "naming", "root", "why"),
    [
        ("b4", "npz", OFFICIAL, "efficientnet-b4/", "stem/conv2d/kernel has shape (3, 3, 3, 48), not "),
        ("b4", "tpu", OWN, "efficientnet-b0/", "stem/weights has shape (3, 3, 3, 48), not (3, 3, 3, 32)"),
        ("b1", "keras", KERAS, "", "has no place for block1b_dwconv/depthwise_kernel, block1b_bn/gamma, "),
        ("b4", "torch", LUKEMELAS, "module.", "module._conv_stem.weight has shape (48, 3, 3, 3), not (32,"),
        ("lite0", "torch", TIMM, "", "lacks blocks.0.0.se.conv_reduce.weight, blocks.0.0.se."),
        ("resnet50", "npz", OWN, "resnet_v1_50/", "has none of its names"),
    ],
)  # fmt: skip
def test_other_backbones_are_refused(other: str, format: str, naming: Naming, root: str, why: str) -> None:
    message = refusal(whole(naming, root, other), format)
    assert message.startswith("some.file: ") and why in message
    assert message.endswith(f"; looks like {other}; expected weights of b0")


def test_another_backbone_with_a_gap_is_still_recognised() -> None:
    arrays = whole(OFFICIAL, "efficientnet-b4/", "b4")
    del arrays["efficientnet-b4/blocks_3/conv2d/kernel"]
    assert "looks like b4" in refusal(arrays)


def test_real_files_refuse_the_other_variant() -> None:
    source = weight_files.read(shared(B4))
    with pytest.raises(UserError, match="; looks like b4; expected weights of b0"):
        weights.restore(source, "b0")


def test_other_shapes_are_refused() -> None:
    arrays, name = whole(), f"{SCOPE}/blocks_1/conv2d/kernel"
    arrays[name] = arrays[name].transpose(0, 1, 3, 2)
    said = f"{name} has shape (1, 1, 96, 16), not (1, 1, 16, 96)"
    assert refusal(arrays) == f"some.file: {said}; expected weights of b0"
    arrays[f"{SCOPE}/head/dense/kernel"] = np.zeros((1279, 10))
    more = f"{said} (and 1 more)"
    assert refusal(arrays) == f"some.file: {more}; expected weights of b0"
    del arrays[name]
    assert "head/dense/kernel has shape (1279, 10), not (1280, classes)" in refusal(arrays)


def test_files_of_something_else() -> None:
    assert refusal({}) == (
        "some.file: holds nothing, which are not the names of the official checkpoints or this project; "
        "expected weights of b0"
    )
    message = refusal({f"layer{i}.weight": np.ones(1) for i in range(9)}, "torch")
    assert message.startswith("some.file: holds layer0.weight, ")
    assert "layer5.weight and 3 more, which are not the names of lukemelas" in message
    twice = whole(LUKEMELAS, "student.") | whole(LUKEMELAS, "teacher.")
    assert refusal(twice, "torch") == "some.file: holds several networks: student., teacher.; expected one"


def test_resnet_has_the_names_of_slim() -> None:
    logits = {"resnet_v1_50/logits/weights": np.ones((1, 1, 2048, 7))}
    arrays = whole(OWN, "resnet_v1_50/", "resnet50") | logits
    restored = weights.restore(WeightFile("some.file", "tpu", arrays), "resnet50")
    assert restored.initialized == restored.unused == () and len(restored.values) == 53 * 5
    conv = "resnet_v1_50/block1/unit_1/bottleneck_v1/conv2"
    assert {f"{conv}/weights", f"{conv}/BatchNorm/gamma"} <= restored.values.keys()
    message = refusal(whole(KERAS, ""), "keras", "resnet50")
    assert message.startswith("some.file: no names are known for resnet50 in a .h5, ")
