"""Half precision: which variables there are, and how far results are from float32's."""

import functools
from typing import Any

import numpy as np
import pytest
from helpers.graphs import TINY
from helpers.layers import SMALL_RESNET, everything_of_a_step, session_with_random_variables

from efficientnet_east import backbones, model, scaling
from efficientnet_east.backbones.families import resnet50
from efficientnet_east.compat import slim, tf

IMAGES = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype(np.float32)
LOSSES = tf.GraphKeys.REGULARIZATION_LOSSES

tiny = functools.partial(backbones.efficientnet, network=TINY, scope="tiny", activation="swish")


def step_of(build: Any, dtype: Any, **options: Any) -> tuple[Any, list[np.ndarray]]:
    """Names, and the values of loss, gradients and updated statistics, of a backbone over these images."""
    with tf.Graph().as_default(), slim.arg_scope(backbones.efficientnet_arg_scope(1e-3)):
        given = {"seed": tf.constant([1, 2]), "drop_connect": 0.9} | options
        _, maps = build(tf.cast(IMAGES, dtype), **given)
        assert {maps[f"f{level}"].dtype.base_dtype for level in range(1, 6)} == {dtype}
        assert {v.dtype.base_dtype for v in tf.global_variables()} == {tf.float32}
        assert {tf.convert_to_tensor(loss).dtype for loss in tf.get_collection(LOSSES)} == {tf.float32}
        wide = {name: tf.cast(value, tf.float32) for name, value in maps.items()}
        return everything_of_a_step(wide)


def distances(found: list[np.ndarray], expected: list[np.ndarray]) -> np.ndarray:
    """Norms of the differences by the norms; of gradients that nearly cancel, by 1/500 of the largest."""
    pairs = list(zip(found, expected, strict=True))
    least = max(np.linalg.norm(b) for b in expected) / 500
    return np.array([np.linalg.norm(a - b) / max(np.linalg.norm(b), least, 1e-6) for a, b in pairs])


@pytest.mark.parametrize("name", ["tiny", "resnet50"])
@pytest.mark.rewritten
def test_a_backbone_in_bfloat16(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same variables, updates and penalties, and results as near as eight bits of mantissa are."""
    monkeypatch.setattr(resnet50, "ROWS", SMALL_RESNET)
    build = tiny if name == "tiny" else functools.partial(backbones.build, name=name)
    names, expected = step_of(build, tf.float32)
    found: dict[str, list[np.ndarray]] = {}
    modes = {"plain": {}, "recompute": {"recompute": True}, "sync": {"batch_norm": "sync"}}
    for mode, options in modes.items():
        seen, found[mode] = step_of(build, tf.bfloat16, **options)
        assert seen == names
    for values in found.values():
        apart = distances(values, expected)
        assert apart[0] < 0.01 and np.median(apart) < 0.2 and apart.max() < 0.7, (apart[0], apart.max())
        assert np.median(apart) > 1e-3, "it was computed in float32"
    if name == "resnet50":  # no operations are fused here that would round less in one of the two
        np.testing.assert_array_equal(distances(found["recompute"], found["plain"]), 0)


@pytest.mark.parametrize(("merge", "precision"), [("u", "bfloat16"), ("bifpn", "bfloat16"), ("u", "float16")])
def test_the_whole_network(merge: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps and variables are float32 whatever is between; frozen batch norm computes in halves as well."""
    monkeypatch.setitem(scaling.VARIANTS, "tiny", scaling.Variant(0.3, 0.3, 64, 0.2))
    images, maps, variables = np.uint8(IMAGES * 40 + 120), [], []
    for kind in ("float32", precision):
        with tf.Graph().as_default() as graph:
            outputs = model.build(
                tf.constant(images), backbone="tiny", merge=merge, fpn_width=16, fpn_repeats=2,
                is_training=True, batch_norm="frozen", precision=kind, weight_decay=1e-4,
            )  # fmt: skip
            assert {output.dtype for output in outputs} == {tf.float32}
            assert {tf.convert_to_tensor(loss).dtype for loss in tf.get_collection(LOSSES)} == {tf.float32}
            convolutions = [
                op for op in graph.get_operations() if op.type in ("Conv2D", "DepthwiseConv2dNative")
            ]
            apart = ("/se/", "Conv_7", "Conv_8", "Conv_9")
            kinds = {op.outputs[0].dtype.name for op in convolutions if not any(a in op.name for a in apart)}
            assert kinds == {kind}
            variables.append({(v.op.name, v.dtype.base_dtype.name) for v in tf.global_variables()})
            with session_with_random_variables() as session:
                maps.append(session.run(outputs))
    assert variables[0] == variables[1] and {dtype for _, dtype in variables[0]} == {"float32"}
    score, expected = maps[1].score, maps[0].score
    assert 0 < np.abs(score - expected).mean() < 0.02 and np.abs(score - expected).max() < 0.2
