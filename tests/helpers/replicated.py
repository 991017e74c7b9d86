"""`train` on a small network, as a program of its own: on several devices, or one of several processes."""

import functools
import signal
import sys
from typing import Any

from helpers import sessions
from helpers.graphs import narrow_network

from efficientnet_east import backbones, model
from efficientnet_east.backbones.batch_norm import batch_norm_options
from efficientnet_east.cli import main
from efficientnet_east.compat import slim, tf

# The second block has a residual, and its branch may be dropped.
NETWORK = narrow_network((6, 3, 2, 8), (6, 5, 1, 8))


def small(images: Any, *, batch_norm: str, is_training: bool = False, **options: Any) -> model.Outputs:
    """A stand-in for `model.build` with every kind of layer that it has."""
    of_backbone = {name: options[name] for name in ("drop_connect", "seed") if name in options}
    _, end_points = backbones.efficientnet(
        model.normalize(images), NETWORK, batch_norm=batch_norm, is_training=is_training, scope="small",
        activation="swish", **of_backbone,
    )  # fmt: skip
    mode = "sync" if batch_norm == "sync" else "train"
    norm = batch_norm_options(mode, is_training=is_training, decay=0.9)
    net = slim.conv2d(end_points["blocks_1"], 8, 3, activation_fn=None, scope="head", **norm)
    score = slim.conv2d(net, 1, 1, activation_fn=tf.sigmoid, scope="score")
    geometry = slim.conv2d(net, 5, 1, activation_fn=tf.sigmoid, scope="geometry")
    return model.Outputs(score, geometry * [100.0, 100.0, 100.0, 100.0, 0.7])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sessions.let_tests_choose()
    sessions.REWRITES[:] = [False]
    model.build = functools.partial(small)  # type: ignore[assignment]
    sys.exit(main.main(["train", *sys.argv[1:]]))
