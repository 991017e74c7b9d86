"""Read the checkpoints that TensorFlow 2 writes: trees of objects, with arrays by their place in the tree.

`tf.train.Checkpoint`, Keras' `save_weights` and every SavedModel (its folder `variables`, TF Hub's as well)
write this form. Beside its place, the tree has each variable's own name, such as `stem_conv/kernel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from efficientnet_east.compat import TrackableObjectGraph
from efficientnet_east.errors import UserError

TREE = "_CHECKPOINTABLE_OBJECT_GRAPH"
# What hangs on a model beside its weights. Optimizers are also known by what they have.
_NO_WEIGHTS = {"optimizer", "keras_api", "save_counter"}
_OPTIMIZERS = ({"_iterations", "_learning_rate"}, {"iter", "learning_rate"})


def read(path: str, reader: Any) -> dict[str, np.ndarray]:
    """Read the weights of a checkpoint by the names of its variables.

    Args:
      path: of the checkpoint, for the error.
      reader: from `tf.train.load_checkpoint`; the checkpoint has the entry `TREE`.

    Returns:
      Variable name -> array, without what belongs to optimizers and metrics.

    Raises:
      UserError: variables with different values have the same name.
      DecodeError: the tree is damaged.
    """
    stored = reader.get_variable_to_shape_map()
    found: dict[str, np.ndarray] = {}
    for name, key in _variables(TrackableObjectGraph.FromString(reader.get_tensor(TREE))):
        if key not in stored:
            continue
        array = np.asarray(reader.get_tensor(key))
        # A SavedModel may list its variables several times, each time with the values.
        if name in found and not np.array_equal(found[name], array):
            problem = f"is a checkpoint of TensorFlow 2 in which several variables are called {name}"
            raise UserError(path, problem, "Save the same weights with Keras as .weights.h5 or .keras.")
        found[name] = array
    return found


def _variables(tree: Any) -> Iterator[tuple[str, str]]:
    """Name and key of each variable that the root leads to."""
    waiting, seen = [0], {0}
    while waiting:
        node = tree.nodes[waiting.pop()]
        for part in node.attributes:
            if part.name == "VARIABLE_VALUE":
                yield part.full_name or part.checkpoint_key.partition("/.ATTRIBUTES")[0], part.checkpoint_key
        children = {child.local_name: child.node_id for child in node.children}
        if any(children.keys() >= names for names in _OPTIMIZERS):
            continue
        new = {number for name, number in children.items() if name not in _NO_WEIGHTS} - seen
        seen |= new
        waiting += sorted(new)
