"""The merges' convolutions, each map's alone: the same numbers, fewer cells, and only where it is allowed."""

from typing import Any

import numpy as np
import pytest

from efficientnet_east.compat import tf
from efficientnet_east.export import folding

SIDES = 6, 10  # of the coarse map
COARSE, FINE, MERGED = 5, 3, 4  # channels


def merge(kernel: int = 1, read_twice: bool = False, nearest: bool = False) -> Any:
    """A merge as the networks have it: enlarge, join, convolve, bias, ReLU; sizes open."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default() as graph:
        coarse = tf.placeholder(tf.float32, [None, None, None, COARSE], "coarse")
        fine = tf.placeholder(tf.float32, [None, None, None, FINE], "fine")
        size = tf.stack([tf.shape(coarse)[1] * 2, tf.shape(coarse)[2] * 2])
        enlarge = tf.image.resize_nearest_neighbor if nearest else tf.image.resize_bilinear
        joined = tf.concat([enlarge(coarse, size), fine], axis=-1, name="joined")
        weights = rng.normal(0, 1, (kernel, kernel, COARSE + FINE, MERGED)).astype(np.float32)
        net = tf.nn.conv2d(joined, weights, 1, "SAME", name="conv")
        net = tf.nn.relu(tf.nn.bias_add(net, rng.normal(0, 1, MERGED).astype(np.float32)), name="out")
        if read_twice:
            tf.reduce_sum(joined, name="again")
        return graph.as_graph_def()


def run(graph: Any) -> np.ndarray:
    rng = np.random.default_rng(1)
    fed = {"coarse:0": rng.normal(0, 1, (2, *SIDES, COARSE)),
           "fine:0": rng.normal(0, 1, (2, 2 * SIDES[0], 2 * SIDES[1], FINE))}  # fmt: skip
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph, name="")
        return session.run("out:0", fed)


@pytest.mark.parametrize("nearest", [False, True])
def test_parts_are_the_whole(nearest: bool) -> None:
    graph = merge(nearest=nearest)
    found = folding.with_merges_in_parts(graph)
    expected = run(graph)
    assert 0.2 < (expected > 0).mean() < 0.8
    np.testing.assert_allclose(run(found), expected, atol=1e-5)
    kinds = [node.op for node in found.node]
    assert "ConcatV2" not in kinds and kinds.count("Conv2D") == 2
    nodes = {node.name: node for node in found.node}
    (resize,) = [node for node in found.node if node.op.startswith("Resize")]
    coarse = nodes[resize.input[0]]
    assert coarse.op == "Conv2D" and coarse.input[0] == "coarse", "it is enlarged behind its convolution"
    assert {node.input[0] for node in found.node if node.op == "Shape"} == {coarse.name}


@pytest.mark.parametrize("options", [{"kernel": 3}, {"read_twice": True}])
def test_other_joins_stay(options: dict[str, Any]) -> None:
    """A wider kernel sees over the border of two maps, and what others read must be there."""
    graph = merge(**options)
    found = folding.with_merges_in_parts(graph)
    assert [node.op for node in found.node].count("ConcatV2") == 1
    np.testing.assert_array_equal(run(found), run(graph))
