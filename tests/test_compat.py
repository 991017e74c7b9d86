"""An EAST fork in tf-slim runs behind `import efficientnet_east.compat`, and nothing else changes.

Most cases are programs of their own: what is tested are the effects of an import.
"""

import ast
import os
import subprocess
import sys
import types
from pathlib import Path

from efficientnet_east import compat

ROOT = Path(__file__).resolve().parents[1]

SNAPSHOT = """
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops, tensor
from tensorflow.python.ops import control_flow_ops

def state():
    flags = (
        tf2.executing_eagerly(),
        tf.resource_variables_enabled(),
        tf.control_flow_v2_enabled(),
        tensor.Tensor._USE_EQUALITY,
        tf.get_logger().level,
    )
    return flags, dict(vars(ops)), dict(vars(control_flow_ops)), set(vars(tf)), set(vars(tf2))

before = state()
"""

FORK = """
import numpy as np
import tf_slim as slim

def network(images, is_training):
    batch_norm = {"decay": 0.9, "epsilon": 1e-5, "scale": True, "is_training": is_training}
    with slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d],
        activation_fn=tf.nn.relu,
        normalizer_fn=slim.batch_norm,
        normalizer_params=batch_norm,
        weights_regularizer=slim.l2_regularizer(1e-5),
    ):
        net = slim.conv2d(images, 8, 3, stride=2)
        net = slim.separable_conv2d(net, 16, 3, stride=2, depth_multiplier=1)
        net = slim.separable_conv2d(net, None, 3, depth_multiplier=1)
        net = tf.concat([net, slim.max_pool2d(net, 3, stride=1, padding="SAME")], 3)
        net = slim.batch_norm(net, decay=0.9, updates_collections=None, is_training=is_training)
        net = slim.dropout(net, 0.99, is_training=is_training)
        score = slim.conv2d(net, 1, 1, activation_fn=tf.nn.sigmoid, normalizer_fn=None)
    return score

def train(folder):
    images = tf.placeholder(tf.float32, [None, 32, 32, 3], "input_images")
    truth = tf.placeholder(tf.float32, [None, 8, 8, 1])
    is_training = tf.placeholder(tf.bool, [])
    with tf.variable_scope("model"):
        score = network(images, is_training)
    with tf.variable_scope("model", reuse=True):
        again = network(images, False)
    slim.losses.log_loss(score, truth)
    penalties = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    assert len(penalties) == 5, penalties  # the point-wise kernel counts apart
    loss = slim.losses.get_total_loss()
    step = tf.train.get_or_create_global_step()
    kernels = {v: 1.1 for v in tf.trainable_variables() if v.op.name.endswith("weights")}
    update = slim.learning.create_train_op(
        loss, tf.train.AdamOptimizer(0.05), global_step=step, clip_gradient_norm=5.0,
        gradient_multipliers=kernels, summarize_gradients=True,
    )
    saver = tf.train.Saver(tf.global_variables())
    rng = np.random.default_rng(0)
    feed = {images: rng.normal(size=(4, 32, 32, 3)), truth: rng.integers(0, 2, (4, 8, 8, 1))}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        values = [session.run(update, feed | {is_training: True}) for _ in range(15)]
        assert values[-1] < 0.9 * values[0], values
        moved = [v for v in tf.global_variables() if v.op.name.endswith("moving_mean")]
        assert all(np.abs(session.run(v)).max() > 0 for v in moved) and len(moved) == 4, moved
        prefix = saver.save(session, folder + "/model.ckpt", global_step=step)
        expected = session.run([score, again], feed | {is_training: False})
        np.testing.assert_allclose(*expected, atol=1e-6)
    with tf.Session() as session:
        saver.restore(session, prefix)
        np.testing.assert_allclose(session.run(score, feed | {is_training: False}), expected[0], atol=1e-6)
        assert session.run(step) == 15

def resnet(build, name, variables):
    from tf_slim.nets import resnet_utils
    images = tf.placeholder(tf.float32, [None, 64, 64, 3])
    with slim.arg_scope(resnet_utils.resnet_arg_scope(weight_decay=1e-5)):
        net, end_points = build(images)
    assert len(slim.get_model_variables(name)) == variables, len(slim.get_model_variables(name))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        maps = {key: end_points[f"{name}/{key}"] for key in ("block1", "block2")}
        return {k: v.shape for k, v in session.run(maps, {images: np.ones((1, 64, 64, 3))}).items()}
"""


def run(folder: Path, *parts: str) -> None:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(["import sys", *parts]), str(folder)],
        capture_output=True, text=True, cwd=folder, env=environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_fork_without_v2_behaviour(tmp_path: Path) -> None:
    """The way of today's ports: no eager mode, reference variables, and tf-slim's own ResNet-50."""
    program = """
import efficientnet_east.compat
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
"""
    use = """
train(sys.argv[1])
assert type(tf.global_variables()[0]).__name__ == "RefVariable"
from tf_slim.nets import resnet_v1
shapes = resnet(resnet_v1.resnet_v1_50, "resnet_v1_50", 265)
assert shapes == {"block1": (1, 8, 8, 256), "block2": (1, 4, 4, 512)}, shapes
"""
    run(tmp_path, program, FORK, use)


def test_fork_in_a_graph_of_its_own(tmp_path: Path) -> None:
    """Eager mode stays on around it, variables are resources, and TensorFlow's own modules are untouched."""
    use = """
import efficientnet_east.compat
import efficientnet_east.model
assert state() == before
"""
    program = """
with tf.Graph().as_default():
    train(sys.argv[1])
    assert type(tf.global_variables()[0]).__name__ == "ResourceVariable"
from tf_slim.nets import resnet_v1
blocks = [resnet_v1.resnet_v1_block(f"block{i}", base_depth=4, num_units=2, stride=2) for i in (1, 2)]
with tf.Graph().as_default():
    shapes = resnet(lambda images: resnet_v1.resnet_v1(images, blocks, scope="r"), "r", 70)
assert shapes == {"block1": (1, 8, 8, 16), "block2": (1, 4, 4, 16)}, shapes
assert state()[0] == before[0] and float(tf2.constant(2.0) * 3) == 6
"""
    run(tmp_path, SNAPSHOT, use, FORK, program)


SUPERVISED = """
import pathlib
import efficientnet_east.compat
import tf_slim as slim
import tensorflow.compat.v1 as tf
from tf_slim.training import evaluation

def network():
    images = tf.train.batch([tf.random_uniform([16, 16, 3])], 2)  # a queue, with threads of its own
    net = slim.conv2d(images, 4, 3, normalizer_fn=slim.batch_norm)
    return tf.reduce_mean(tf.square(net - 1.0))

def learn(folder, **options):
    tf.losses.add_loss(network())
    op = slim.learning.create_train_op(tf.losses.get_total_loss(), tf.train.AdamOptimizer(1e-3))
    tf.summary.scalar("loss", tf.losses.get_total_loss())
    options = {"save_summaries_secs": 1, "save_interval_secs": 1, "log_every_n_steps": 1} | options
    return slim.learning.train(op, folder, number_of_steps=40, **options)

def slowly(session, *given):
    import time
    time.sleep(0.05)  # so that every thread has its turn
    return slim.learning.train_step(session, *given)

def judge(folder):
    mean, update = slim.metrics.streaming_mean(network())
    found = slim.evaluation.evaluate_once(
        "", tf.train.latest_checkpoint(folder), folder + "/eval", num_evals=2, eval_op=update, final_op=mean
    )
    assert 0 < found < 10, found

def check(folder, loss):
    assert 0 < loss < 10, loss
    names = {path.name for path in pathlib.Path(folder).iterdir()}
    saved = {int(n[11:-6]) for n in names if n.startswith("model.ckpt-") and n.endswith(".index")}
    assert 40 in saved and len(saved) > 1, names
    files = [str(path) for path in pathlib.Path(folder).glob("events*")]
    events = [event for file in files for event in tf.train.summary_iterator(file)]
    tags = {value.tag for event in events for value in event.summary.value}
    assert {"loss", "global_step/sec"} <= tags, tags
"""


def test_slim_trains_and_evaluates_in_a_graph_of_its_own(tmp_path: Path) -> None:
    """Its supervisor's threads count steps, write summaries and save, none of which knows the graph."""
    program = """
for name, where in (("default", None), ("given", tf.Graph())):
    folder = sys.argv[1] + "/" + name
    with where.as_default() if where else tf.Graph().as_default():
        check(folder, learn(folder, train_step_fn=slowly))
    with tf.Graph().as_default():
        judge(folder)
    assert tf.executing_eagerly()
with tf.Graph().as_default() as graph:
    op = slim.learning.create_train_op(network(), tf.train.AdamOptimizer(1e-3))
assert slim.learning.train(op, sys.argv[1] + "/outside", number_of_steps=3, graph=graph) < 10
"""
    run(tmp_path, SUPERVISED, program)


def test_slim_trains_and_evaluates_without_eager_mode(tmp_path: Path) -> None:
    program = """
tf.disable_eager_execution()
check(sys.argv[1], learn(sys.argv[1], train_step_fn=slowly))
tf.reset_default_graph()
judge(sys.argv[1])
"""
    run(tmp_path, SUPERVISED, program)


def test_tensorflow_has_every_name_that_slim_asks_for() -> None:
    """All attributes of modules in tf-slim's source, whether or not anything above calls them."""
    assert compat.slim
    missing = []
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "tf_slim" or not (module.__file__ or "").endswith(".py"):
            continue
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = getattr(module, node.value.id, None)
                if isinstance(owner, types.ModuleType | types.SimpleNamespace) and not hasattr(
                    owner, node.attr
                ):
                    missing.append(f"{name}: {node.value.id}.{node.attr}")
    assert missing == []


def test_import_may_come_second(tmp_path: Path) -> None:
    """A fork whose file imports tf-slim first gets the same mended modules."""
    program = """
import tf_slim as slim
import efficientnet_east.compat
import tensorflow.compat.v1 as tf
assert efficientnet_east.compat.slim is slim
with tf.Graph().as_default():
    images = tf.placeholder(tf.float32, [None, 8, 8, 3])
    slim.conv2d(images, 4, 3, normalizer_fn=slim.batch_norm)
    assert len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) == 2
"""
    run(tmp_path, program)
