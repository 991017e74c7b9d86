"""The network is the same whatever arg scope is around it; what changes training alone still comes in."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from helpers.graphs import SHORT, TINY
from helpers.layers import SMALL_RESNET

from efficientnet_east import backbones
from efficientnet_east.backbones.arg_scopes import REGULARIZERS, isolated
from efficientnet_east.backbones.families import resnet50
from efficientnet_east.backbones.precision import l2
from efficientnet_east.bifpn import bifpn
from efficientnet_east.compat import slim, tf
from efficientnet_east.east_head import east_head

FUNCTIONS = [
    slim.conv2d, slim.separable_conv2d, slim.batch_norm, slim.max_pool2d, slim.fully_connected, slim.dropout,
    slim.model_variable, slim.variable, slim.nets.resnet_v1.bottleneck,
]  # fmt: skip
# Options that have a place of their own in `isolated`: lists of tensors, devices, regularizers.
KEPT = {"variables_collections", "outputs_collections", "updates_collections", "collections", "device",
        "caching_device"}  # fmt: skip
IMAGES = (2, 64, 64, 3)


def tiny(images: Any, **options: Any) -> Any:
    """Every part of an EfficientNet: gates, expansions, pooled levels, head and classifier."""
    options = {"levels": 6, "num_classes": 3, "activation": "swish"} | options
    return backbones.efficientnet(images, TINY, **options)[1]["f6"]


def resnet(images: Any, **options: Any) -> Any:
    return backbones.resnet50(images, levels=6, num_classes=3, **options)[1]["f6"]


def features() -> dict[str, Any]:
    return {f"f{level}": tf.ones([2, 64 >> level, 64 >> level, 8 * level]) for level in range(2, 7)}


def u_head(images: Any, **options: Any) -> Any:
    return tf.concat(east_head(features(), weight_decay=1e-4, **options), 3)


def bifpn_head(images: Any, **options: Any) -> Any:
    return tf.concat(east_head(features(), merge="bifpn", width=8, repeats=2, **options), 3)


def bifpn_alone(images: Any, **options: Any) -> Any:
    return bifpn(features(), finest=2, width=8, repeats=2, **options)


NETWORKS = {
    "efficientnet": tiny,
    "efficientnet recomputed": lambda images: tiny(images, recompute=True),
    "efficientnet synchronised": lambda images: tiny(images, batch_norm="sync"),
    "efficientnet at inference": lambda images: tiny(images, is_training=False),
    "resnet50": resnet,
    "resnet50 recomputed": lambda images: resnet(images, recompute=True),
    "u": u_head,
    "bifpn": bifpn_head,
    "bifpn alone": bifpn_alone,
}


def hostile() -> Any:
    """An arg scope in which whatever a layer takes from around it is something that no layer can use."""
    stack = contextlib.ExitStack()
    for function in FUNCTIONS:
        names = set(slim.arg_scoped_arguments(function)) - KEPT - {*REGULARIZERS, "regularizer"}
        stack.enter_context(slim.arg_scope([function], **{name: object() for name in names}))
    return stack


def graph_of(build: Callable[[Any], Any], scope: Callable[[], Any]) -> str:
    """The graph of a network and its gradients, as text."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(1)
        with scope():
            net = build(tf.placeholder(tf.float32, IMAGES))
            assert tf.gradients(net, tf.trainable_variables())
        return str(graph.as_graph_def())


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_no_arg_scope_around_changes_the_graph(
    build: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operation for operation, gradients included, with every option of every function set around it."""
    monkeypatch.setattr(resnet50, "ROWS", SMALL_RESNET)
    plain = graph_of(build, contextlib.nullcontext)
    assert graph_of(build, hostile) == plain


def test_the_hostile_scope_is_hostile() -> None:
    """What the test above would see without the isolation."""
    with tf.Graph().as_default(), hostile(), pytest.raises((TypeError, ValueError)):
        slim.conv2d(tf.zeros(IMAGES), 4, 3)


def short(images: Any, **options: Any) -> Any:
    """Every kind of layer that an EfficientNet has."""
    return backbones.efficientnet(images, SHORT, num_classes=3, activation="swish", **options)[0]


@pytest.mark.parametrize("build", [short, resnet])
def test_weight_decay_of_the_scope_around_applies(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of this project, that of slim's ResNet, and a fork's own for biases; one for each kernel."""
    monkeypatch.setattr(resnet50, "ROWS", SMALL_RESNET)
    scopes = [
        ({}, lambda name, rank: False),
        (backbones.efficientnet_arg_scope(1e-3), lambda name, rank: name.endswith("weights")),
        (slim.nets.resnet_utils.resnet_arg_scope(weight_decay=1e-3), is_plain_kernel),
        (scope_of_biases(), lambda name, rank: name.endswith("biases")),
    ]
    for recompute in (False, True):
        for scope, decays in scopes:
            with tf.Graph().as_default(), slim.arg_scope(scope):
                net = build(tf.zeros(IMAGES), recompute=recompute)
                assert tf.gradients(net, tf.trainable_variables())
                decayed = [v for v in tf.trainable_variables() if decays(v.op.name, v.shape.rank)]
                assert len(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == len(decayed)


def is_plain_kernel(name: str, rank: int) -> bool:
    """slim's arg scope for its ResNet knows neither separable convolutions nor dense layers."""
    return name.endswith("/weights") and rank == 4


def scope_of_biases() -> Any:
    layers = [slim.conv2d, slim.separable_conv2d, slim.fully_connected]
    with slim.arg_scope(layers, biases_regularizer=l2(1e-3)) as scope:
        return scope


def test_the_heads_weight_decay_is_its_argument() -> None:
    with tf.Graph().as_default(), slim.arg_scope(backbones.efficientnet_arg_scope(1e-3)):
        u_head(None)
        own = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        bifpn_alone(None, weight_decay=0.0)
        assert tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES) == own and len(own) == 10


def test_collections_and_devices_of_the_scope_around_apply() -> None:
    """A fork that gathers maps, keeps its updates apart and stores its variables on the CPU still can."""
    with (
        tf.Graph().as_default(),
        slim.arg_scope([slim.conv2d], outputs_collections="maps"),
        slim.arg_scope([slim.batch_norm], updates_collections="mine"),
        slim.arg_scope([slim.model_variable], device="/cpu:0"),
    ):
        tiny(tf.zeros(IMAGES))
        norms = [v for v in tf.trainable_variables() if v.op.name.endswith("gamma")]
        assert len(tf.get_collection("mine")) == 2 * len(norms) > 0
        assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == []
        assert len(tf.get_collection("maps")) > 10
        assert {v.device for v in tf.trainable_variables()} == {"/device:CPU:0"}


def test_the_scope_around_is_there_again_afterwards() -> None:
    with slim.arg_scope([slim.conv2d], stride=2, weights_regularizer=abs):
        around = slim.current_arg_scope()
        with isolated(REGULARIZERS):
            (options,) = slim.current_arg_scope().values()
            assert options == {"weights_regularizer": abs}
        assert slim.current_arg_scope() is around
