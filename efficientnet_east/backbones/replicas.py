"""What the replicas of a `tf.distribute` strategy exchange. With a single replica nothing changes.

The gradients that replicas apply are means over them, and every replica's loss is that of the whole batch.
So the gradient of a mean over the replicas is the mean of the gradients that come back to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from efficientnet_east.compat import Tensor, override_gradient, tf


def count() -> int:
    """Count the replicas that compute a step together, those of other processes included."""
    replicas = tf.distribute.get_replica_context()
    return 1 if replicas is None else int(replicas.num_replicas_in_sync)


def index() -> int:
    """Number this replica among all of them, from 0."""
    return 0 if count() == 1 else int(tf.get_static_value(_replicas().replica_id_in_sync_group))


def own_rows(whole: Tensor) -> Tensor:
    """Take this replica's part of what is given for the whole batch.

    Args:
      whole: (rows, ...), the number of rows a multiple of that of the replicas.

    Returns:
      (rows / replicas, ...): the first replica has the first rows.
    """
    if count() == 1:
        return whole
    rows = tf.shape(whole)[0] // count()
    return whole[index() * rows : (index() + 1) * rows]


def mean_over(value: Tensor) -> Tensor:
    """Average a value over the replicas, and its gradient, since every replica's loss depends on it.

    The replica context's `all_reduce` knows this gradient, too, but walks the graph for variables that the
    value depends on, and through the other replicas finds some that are none of its own.

    Args:
      value: floating-point tensor, of one shape in all replicas.

    Returns:
      The mean, the same in all of them.
    """
    if count() == 1:
        return value
    mean = _merged(tf.distribute.ReduceOp.MEAN, [value])[0]
    passed = tf.identity_n([mean, value])
    override_gradient(passed[0].op, _mean_over_gradient)
    return passed[0]


def sums_over(*values: Tensor) -> list[Tensor]:
    """Sum scalars over the replicas by one exchange; differentiable as `mean_over` is.

    Args:
      *values: floating-point scalars of one dtype.

    Returns:
      The sums.
    """
    if count() == 1:
        return list(values)
    return tf.unstack(mean_over(tf.stack(values)) * count())


def means_of(values: Sequence[Tensor]) -> list[Tensor]:
    """Average many tensors over the replicas, exchanged together. No gradients go through.

    Args:
      values: floating-point tensors of one dtype.

    Returns:
      The means.
    """
    return list(values) if count() == 1 else _merged(tf.distribute.ReduceOp.MEAN, values)


def of_first(values: Sequence[Tensor]) -> list[Tensor]:
    """Broadcast the values of the first replica.

    Args:
      values: tensors of any number type, finite.

    Returns:
      Tensors of the same shapes, the same in all replicas.
    """
    if count() == 1:
        return list(values)
    found = list(values) if index() == 0 else [tf.zeros_like(value) for value in values]
    for kind in {value.dtype: None for value in values}:  # what is exchanged together has one dtype
        places = [place for place, value in enumerate(values) if value.dtype == kind]
        sums = _merged(tf.distribute.ReduceOp.SUM, [found[place] for place in places])
        for place, total in zip(places, sums, strict=True):
            found[place] = total
    return found


def local(variable: Any) -> Any:
    """Get this replica's copy of a variable; call it inside of a replica."""
    each = copies(variable)
    return each[index() % len(each)]


def copies(variable: Any) -> list[Any]:
    """List the copies of a variable in this process, one for each replica; the first has the plain name."""
    return list(tf.distribute.get_strategy().experimental_local_results(variable))


def firsts(variables: Sequence[Any]) -> list[Any]:
    """Get the first copy in this process of each variable. Copies are equal, so a checkpoint needs no more.

    Args:
      variables: of the graph.

    Returns:
      Plain variables.
    """
    return [getattr(variable, "values", [variable])[0] for variable in variables]


def name_of(variable: Any) -> str:
    """Get a variable's name in a checkpoint. Its `op`, which copies lack, would not do."""
    return str(variable.name).partition(":")[0]


def _mean_over_gradient(op: Any, delta: Tensor, unused: Tensor) -> tuple[None, Tensor]:
    del op, unused
    return None, _merged(tf.distribute.ReduceOp.MEAN, [delta])[0]


def _merged(operation: Any, values: Sequence[Tensor]) -> list[Tensor]:
    def reduce(strategy: Any, *values: Any) -> list[Any]:
        return strategy.extended.batch_reduce_to(operation, [(value, value) for value in values])

    return list(_replicas().merge_call(reduce, args=tuple(values)))


def _replicas() -> Any:
    return tf.distribute.get_replica_context()
