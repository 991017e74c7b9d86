"""Quicker gradients on CPUs: of wide depthwise kernels, of 1x1 convolutions and of means over a map."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from efficientnet_east.compat import Tensor, override_gradient, tf

# oneDNN's kernel for the gradient of depthwise filters takes filters of any height, but of so many columns at
# most; for wider ones there is a general kernel, which needs several times as long.
COLUMNS = 3


@contextlib.contextmanager
def quick_gradients() -> Iterator[None]:
    """Give the operations built inside of this context gradients that CPUs are quick at.

    * The gradient of a depthwise filter with more than `COLUMNS` columns is computed in pieces of at most so
      many, which gives the same sums.
    * The gradients of a 1x1 convolution are matrix products.
    * The gradient of a mean over a map is divided before it is spread over the map, not after.

    They are left as they are where a device other than the CPU may run them, and in the graphs of functions,
    which are compiled or exported. The forward pass is the same as without this context, and so is the graph
    that is saved: whoever imports it gets the standard gradients.
    """
    graph = tf.get_default_graph()
    before = len(graph.get_operations())
    yield
    for op in graph.get_operations()[before:]:
        if op.type in _GRADIENTS:
            override_gradient(op, _GRADIENTS[op.type])


def _depthwise_gradient(op: Any, delta: Tensor) -> tuple[Tensor, Tensor]:
    """What the standard gradient gives."""
    images, kernel = op.inputs
    names = ("strides", "padding", "data_format", "dilations", "explicit_paddings")
    options = {name: _attribute(op, name) for name in names}
    to_images = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
        input_sizes=tf.shape(images), filter=kernel, out_backprop=delta, **options
    )
    if kernel.shape[1] > COLUMNS and options["padding"] == "SAME" and _on_cpu(op):
        return to_images, filter_gradient(images, kernel.shape.as_list(), delta, options["strides"][1])
    to_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=images, filter_sizes=tf.shape(kernel), out_backprop=delta, **options
    )
    return to_images, to_kernel


def _pointwise_gradient(op: Any, delta: Tensor) -> tuple[Tensor, Tensor]:
    """What the standard gradient of a convolution gives."""
    images, kernel = op.inputs
    names = ("strides", "padding", "data_format", "dilations", "explicit_paddings", "use_cudnn_on_gpu")
    options = {name: _attribute(op, name) for name in names}
    if kernel.shape[:2] == [1, 1] and set(options["strides"]) == {1} and _on_cpu(op):
        inputs, outputs = kernel.shape.as_list()[2:]
        rows, deltas = tf.reshape(images, [-1, inputs]), tf.reshape(delta, [-1, outputs])  # (cells, channels)
        to_rows = tf.matmul(deltas, tf.reshape(kernel, [inputs, outputs]), transpose_b=True)
        to_kernel = tf.matmul(rows, deltas, transpose_a=True)
        return tf.reshape(to_rows, tf.shape(images)), tf.reshape(to_kernel, kernel.shape)
    to_images = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(images), filter=kernel, out_backprop=delta, **options
    )
    to_kernel = tf.raw_ops.Conv2DBackpropFilter(
        input=images, filter_sizes=tf.shape(kernel), out_backprop=delta, **options
    )
    return to_images, to_kernel


def _mean_gradient(op: Any, delta: Tensor) -> tuple[Tensor, None]:
    """What the standard gradient of a mean with `keepdims` gives."""
    images = op.inputs[0]
    cells = tf.size(images) // tf.size(delta)
    return tf.broadcast_to(delta / tf.cast(cells, delta.dtype), tf.shape(images)), None


_GRADIENTS: dict[str, Callable[..., Any]] = {
    "DepthwiseConv2dNative": _depthwise_gradient,
    "Conv2D": _pointwise_gradient,
    "Mean": _mean_gradient,
}


def _attribute(op: Any, name: str) -> Any:
    value = op.get_attr(name)
    return value.decode() if isinstance(value, bytes) else value


def _on_cpu(op: Any) -> bool:
    """Whether a convolution is of the kind that these gradients know, and sure to run on the CPU."""
    return bool(
        op.inputs[1].dtype == tf.float32
        and _attribute(op, "data_format") == "NHWC"
        and set(_attribute(op, "dilations")) == {1}
        and not op.graph.building_function
        and all(device.device_type == "CPU" for device in tf.config.list_physical_devices())
    )


def filter_gradient(images: Tensor, kernel: list[int], delta: Tensor, stride: int) -> Tensor:
    """Compute the gradient of a depthwise filter of `SAME` padding, a few of its columns at a time.

    Args:
      images: float32 (batch, height, width, channels), what was convolved.
      kernel: shape of the filter, [height, width, channels, multiplier].
      delta: float32 (batch, ceil(height / stride), ceil(width / stride), channels * multiplier), the gradient
        of the convolution's result.
      stride: of both axes.

    Returns:
      float32 of the shape `kernel`.
    """
    rows, columns, *channels = kernel
    cells = tf.shape(delta)[1:3]
    reach = stride * (cells - 1)  # between the first and the last place of the filter
    missing = tf.maximum(reach + tf.constant([rows, columns]) - tf.shape(images)[1:3], 0)
    margins = tf.stack([missing // 2, missing - missing // 2], 1)
    with tf.control_dependencies([delta]):  # else the copy would be made, and kept, from the forward pass on
        padded = tf.pad(images, tf.pad(margins, [[1, 1], [0, 0]]))
    pieces = []
    for first in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - first)
        part = padded[:, :, first : first + reach[1] + width]
        pieces.append(
            tf.nn.depthwise_conv2d_native_backprop_filter(
                part, [rows, width, *channels], delta, [1, stride, stride, 1], "VALID"
            )
        )
    return tf.concat(pieces, 1)
