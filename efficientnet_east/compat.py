"""tf-slim 1.1.0 on today's TensorFlow: the only file that asks which TensorFlow this is.

tf-slim was last released in 2020 and reaches for private TensorFlow names that have moved or gone.
Importing this module puts them back, in tf-slim's view and nowhere else:

* `slim.batch_norm` builds its layer from `tf_keras.legacy_tf_layers`, which today's tf-keras wheel keeps
  under `tf_keras.src` (TensorFlow 2.16 and later);
* `slim.learning.train` runs inside of `with tf.Graph().as_default():` as well as without eager mode: the
  threads that count steps and save have no default graph of their own;
* its modules reach into `control_flow_ops`, `array_ops`, `ops` and `variable_scope` for names that these
  have lost since (`cond`, `stack`, `IndexedSlices` and others): layers, losses, metrics, clipped gradients.

An EAST fork needs one line before its own `import tf_slim as slim`:

    import efficientnet_east.compat

No graph or eager mode is chosen here and no other TensorFlow behavior changes.
"""

import contextlib
import functools
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph
from tensorflow.python.layers import normalization as _normalization
from tensorflow.python.util import lazy_loader as _lazy_loader

Tensor: TypeAlias = Any  # tf.Tensor; TensorFlow ships no types
_LEGACY_LAYER = "tf_keras.legacy_tf_layers.normalization"
_MOVED_LAYER = "tf_keras.src.legacy_tf_layers.normalization"


def _mend_batch_norm() -> None:
    """Point TensorFlow's lazily loaded batch-norm layer at where tf-keras keeps it (still lazily)."""
    loader = getattr(_normalization, "normalization", None)
    # A LazyLoader that has loaded is replaced by the real module; one that has not bears the wrong name.
    if not isinstance(loader, _lazy_loader.LazyLoader) or getattr(loader, "__name__", "") != _LEGACY_LAYER:
        return
    if importlib.util.find_spec("tf_keras") is None:
        raise ImportError(
            f"tf-slim's batch_norm needs tf-keras beside TensorFlow {tf.__version__}: "
            f"pip install 'tf-keras~={'.'.join(tf.__version__.split('.')[:2])}.0'"
        )
    _normalization.normalization = _lazy_loader.LazyLoader(
        "normalization", vars(_normalization), _MOVED_LAYER
    )


def _mend_slim_names() -> None:
    """Give tf-slim's modules the names they look for; TensorFlow's own modules stay untouched."""
    framework = {"IndexedSlices": tf.IndexedSlices, "Tensor": tf.Tensor}
    moved: dict[str, dict[str, object]] = {
        "array_ops": {"stack": tf.stack, "unstack": tf.unstack},
        "control_flow_ops": {
            "cond": tf.cond, "while_loop": tf.while_loop, "case": tf.case, "Assert": tf.Assert
        },
        "framework_ops": framework,
        "ops": framework,
        "variable_scope": {"variable": tf.Variable},
    }  # fmt: skip
    slim_modules = [module for name, module in sys.modules.items() if name.startswith("tf_slim.")]
    for module in slim_modules:
        for attribute in moved.keys() & vars(module).keys():
            _fill(module, attribute, moved[attribute])


def _fill(module: types.ModuleType, attribute: str, names: Mapping[str, object]) -> None:
    """Replace `module.attribute`, a TensorFlow module, by a view of it that has `names` as well."""
    original = getattr(module, attribute)
    missing = {name: value for name, value in names.items() if not hasattr(original, name)}
    if missing:
        setattr(module, attribute, types.SimpleNamespace(**vars(original) | missing))


class _Coordinator(tf.train.Coordinator):
    """Gives the threads that it watches a default graph, without which they are in eager mode."""

    def __init__(self, graph: tf.Graph) -> None:
        super().__init__()
        self._graph = graph

    @contextlib.contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        with super().stop_on_exception(), self._graph.as_default():
            yield


class _Supervisor(tf.train.Supervisor):
    """The one of TensorFlow, with threads that know its graph."""

    def __init__(self, graph: tf.Graph | None = None, **options: Any) -> None:
        graph = graph or tf.get_default_graph()
        super().__init__(graph=graph, **options)
        self._coord = _Coordinator(graph)


def _mend_learning() -> None:
    """Let `slim.learning.train` and the threads that it starts run in the graph of what they train."""
    learning = vars(sys.modules["tf_slim.learning"])
    names = vars(learning["supervisor"]) | {"Supervisor": _Supervisor}
    learning["supervisor"] = types.SimpleNamespace(**names)
    original = learning["train"]

    @functools.wraps(original)
    def train(train_op: Any, *arguments: Any, **options: Any) -> Any:
        with train_op.graph.as_default():
            return original(train_op, *arguments, **options)

    learning["train"] = train


def override_gradient(op: Any, gradient: Callable[..., Any]) -> None:
    """Give one operation a gradient of its own, in this process only.

    `tf.custom_gradient` and `gradient_override_map` write the name of a registered function into the graph.
    A program that imports such a graph without the same registration cannot differentiate it. What is set
    here is no part of the written graph: there, the operation has its standard gradient.

    Args:
      op: an operation of the graph.
      gradient: takes the operation and the gradients of its outputs, returns those of its inputs.
    """
    op._gradient_function = gradient


def lite_files() -> tuple[types.ModuleType, types.ModuleType]:
    """Import what reads and writes TensorFlow Lite's files as objects, which takes a while.

    Returns:
      The module of the functions, and that of the schema.
    """
    from tensorflow.lite.python import schema_py_generated
    from tensorflow.lite.tools import flatbuffer_utils

    return flatbuffer_utils, schema_py_generated


_mend_batch_norm()
import tf_slim as slim  # noqa: E402  (must see the mended layer)
import tf_slim.nets.resnet_v1  # noqa: E402, F401  (as `slim.nets`; before its names are mended, too)

_mend_slim_names()
_mend_learning()

__all__ = ["Tensor", "TrackableObjectGraph", "lite_files", "override_gradient", "slim", "tf"]
