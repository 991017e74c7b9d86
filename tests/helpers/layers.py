"""What the tests of backbones share: small networks, their variables, and a whole step of gradients."""

import dataclasses
from typing import Any

import numpy as np

from efficientnet_east.backbones.batch_norm import is_statistic
from efficientnet_east.backbones.families import resnet50
from efficientnet_east.compat import tf

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 64, 64, 3)).astype(np.float32)
UPDATES = tf.GraphKeys.UPDATE_OPS


def session_with_random_variables(seed: int = 1) -> Any:
    """Weights, biases and statistics that are neither 0 nor 1; the same for the same names and shapes."""
    rng, session, values = np.random.default_rng(seed), tf.Session(), {}
    for variable in sorted(tf.global_variables(), key=lambda variable: variable.op.name):
        noise = rng.uniform(0.5, 1.5, variable.shape.as_list())
        positive = variable.op.name.endswith(("gamma", "moving_variance"))
        values[variable] = noise if positive else 0.3 * (noise - 1)
    session.run([v.initializer for v in values], {v.initializer.inputs[1]: x for v, x in values.items()})
    return session


def names(variables: list[Any]) -> set[str]:
    return {variable.op.name for variable in variables}


SMALL_RESNET = tuple(dataclasses.replace(row, channels=8, units=2) for row in resnet50.ROWS)


def everything_of_a_step(maps: dict[str, Any]) -> tuple[Any, list[np.ndarray]]:
    """What the graph has, and the values of loss, gradients and updated statistics."""
    loss = tf.add_n([tf.reduce_mean(maps[f"f{level}"] ** 2) for level in range(1, 6)])
    penalties = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    updates = tf.get_collection(UPDATES)
    gradients = tf.gradients(tf.add_n([loss, *penalties]), tf.trainable_variables())
    assert tf.get_collection(UPDATES) == updates  # what is built again has none
    statistics = [v for v in tf.global_variables() if is_statistic(v.op.name)]
    with session_with_random_variables() as session:
        values = session.run([loss, *gradients])
        session.run(updates)
        values += session.run(statistics)
    return (
        names(tf.global_variables()),
        names(tf.trainable_variables()),
        len(updates),
        len(penalties),
    ), values
