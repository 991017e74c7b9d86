"""Sessions that run a graph as it was built.

TensorFlow rewrites a graph anew for every set of fetches, which takes longer than the few steps of a test.
The run of `trained`, the bundled model, tests marked `rewritten` and most programs see what users see.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

REWRITES = [True]  # whether sessions that open now rewrite their graphs; the last one counts


def let_tests_choose() -> None:
    """Have all sessions of this process that open from now on look at `REWRITES`."""
    from tensorflow.python.client import session

    if hasattr(session.BaseSession.__init__, "__wrapped__"):
        return
    original = session.BaseSession.__init__

    @functools.wraps(original)
    def opened(self: Any, target: str = "", graph: Any = None, config: Any = None) -> None:
        if not REWRITES[-1]:
            config = as_built(config)
        original(self, target, graph, config)

    session.BaseSession.__init__ = opened


def as_built(config: Any) -> Any:
    """A copy of a session's configuration that leaves the graph alone."""
    from tensorflow.python.eager import context

    from efficientnet_east.compat import tf

    copy = tf.ConfigProto()
    copy.CopyFrom(config or context.context().config)
    copy.graph_options.rewrite_options.disable_meta_optimizer = True
    return copy


@contextlib.contextmanager
def rewriting(yes: bool) -> Iterator[None]:
    """Say what sessions do that open in a block."""
    REWRITES.append(yes)
    try:
        yield
    finally:
        REWRITES.pop()
