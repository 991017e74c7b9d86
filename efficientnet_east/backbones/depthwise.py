"""A quicker gradient of wide depthwise kernels on CPUs."""

from __future__ import annotations

from typing import Any

from efficientnet_east.compat import tf

Tensor = Any

# oneDNN's kernel for the gradient of depthwise filters takes filters of any height, but of so many columns at
# most; for wider ones there is a general kernel, which needs several times as long.
COLUMNS = 3

_GRADIENT = "EfficientnetEastDepthwise"


def quick_depthwise_gradient() -> Any:
    """Give the depthwise convolutions built inside of this context a gradient that CPUs are quick at.

    The gradient of a filter with more than `COLUMNS` columns is computed in pieces of at most so many, which
    gives the same sums. It is left as it is where a device other than the CPU may run it, and in the graphs
    of functions, which are compiled or exported.

    Returns:
      A context; the operations of the forward pass are the same as without it.
    """
    return tf.get_default_graph().gradient_override_map({"DepthwiseConv2dNative": _GRADIENT})


@tf.RegisterGradient(_GRADIENT)
def _depthwise_gradient(op: Any, delta: Tensor) -> tuple[Tensor, Tensor]:
    """What the standard gradient gives."""
    images, kernel = op.inputs
    names = ("strides", "padding", "data_format", "dilations", "explicit_paddings")
    options = {name: _attribute(op, name) for name in names}
    to_images = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
        input_sizes=tf.shape(images), filter=kernel, out_backprop=delta, **options
    )
    if _in_pieces(op):
        return to_images, filter_gradient(images, kernel.shape.as_list(), delta, options["strides"][1])
    to_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=images, filter_sizes=tf.shape(kernel), out_backprop=delta, **options
    )
    return to_images, to_kernel


def _attribute(op: Any, name: str) -> Any:
    value = op.get_attr(name)
    return value.decode() if isinstance(value, bytes) else value


def _in_pieces(op: Any) -> bool:
    """Whether `filter_gradient` knows the operation, and is quicker at it."""
    kernel = op.inputs[1]
    return bool(
        kernel.shape[1] > COLUMNS
        and kernel.dtype == tf.float32
        and _attribute(op, "padding") == "SAME"
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
