"""The programs in `examples/`, imported, and a checkpoint whose maps have something to show."""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.graphs import as_if_trained

from efficientnet_east import config, model
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load_example(folder: str, *names: str) -> list[types.ModuleType]:
    """Import scripts as their own folder sees them, and leave no trace of their everyday names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES / folder))
        for name in names:
            patch.delitem(sys.modules, name, raising=False)
        modules = [importlib.import_module(name) for name in names]
        for name in names:
            del sys.modules[name]
        return modules


def make_workdir(folder: Path, **fields: Any) -> Path:
    """A workdir as train.py leaves it, of a network whose score map is not flat."""
    folder.mkdir(parents=True)
    settings = config.load(None, fields)
    (folder / "config.yaml").write_text(config.dump(settings))
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(2)
        model.build(tf.placeholder(tf.uint8, [None, None, None, 3]), **settings.model.model_dump())
        variables = tf.global_variables()
        session.run(tf.global_variables_initializer())
        tf_checkpoints.assign(session, as_if_trained(variables, np.random.default_rng(0)), variables)
        tf.train.Saver(variables).save(session, str(folder / "model.ckpt"), 7, write_meta_graph=False)
    return folder


def scale_variables(workdir: Path, factors: dict[str, float]) -> None:
    """Save the newest checkpoint again with some of the head's variables multiplied."""
    prefix = tf_checkpoints.find(workdir)
    with tf.Graph().as_default(), tf.Session() as session:
        values = {
            name: value * factors.get(name.removeprefix("feature_fusion/"), 1.0)
            for name, value in tf_checkpoints.read(prefix).items()
        }
        variables = [tf.get_variable(name, initializer=value) for name, value in values.items()]
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, prefix.rpartition("-")[0], 8, write_meta_graph=False)
