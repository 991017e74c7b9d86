"""What a network costs, counted from its list of layers: parameters, multiply-adds, bytes of activations."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Collection, Iterable

# Maps that the backward pass reads of a layer with batch norm, each of the layer's output size: batch norm
# needs the convolution's output; ReLU its own output; swish (x * sigmoid(x)) and hard-swish both factors and,
# for the next layer, the product.
KEPT_MAPS = {"relu": 2, "relu6": 2, "swish": 4, "hard-swish": 4}
_LINEAR_MAPS = 2  # the convolution's output and the normalized one


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution or dense layer and what follows it.

    Attributes:
      name: its scope below the network's.
      kernel: side of the square kernel.
      inputs: channels in.
      outputs: channels out.
      stride: pixels of the image per cell of the output (`SAME` padding all the way); None for one cell,
        as after a global mean.
      depthwise: one kernel for each channel; `inputs` equals `outputs`.
      dense: the kernel has two axes, as that of `slim.fully_connected`.
      batch_norm: followed by batch norm; if not, the layer has biases.
      activated: followed by the activation.
      products: whether a squeeze-and-excite product of the same size follows.
      pooled: whether 3x3 max-pooling with stride 2 follows.
      part: what is computed again as a whole with `recompute`, such as `blocks_3`; empty for what is kept.
    """

    name: str
    kernel: int
    inputs: int
    outputs: int
    stride: int | None = 1
    depthwise: bool = False
    dense: bool = False
    batch_norm: bool = True
    activated: bool = True
    products: bool = False
    pooled: bool = False
    part: str = ""

    @property
    def weights(self) -> int:
        """Numbers in the kernel, which is also the multiply-adds of one output cell."""
        return self.kernel**2 * self.inputs * (1 if self.depthwise else self.outputs)

    @property
    def parameters(self) -> int:
        """Trainable numbers: kernel, and gamma and beta or biases."""
        return self.weights + self.outputs * (2 if self.batch_norm else 1)

    def cells(self, height: int, width: int) -> int:
        """Count the cells of the output for an image of so many pixels."""
        return 1 if self.stride is None else math.ceil(height / self.stride) * math.ceil(width / self.stride)

    def kept(self, height: int, width: int, activation: str) -> int:
        """Count the numbers that the backward pass reads, for one image of so many pixels."""
        maps = (KEPT_MAPS[activation] if self.activated else _LINEAR_MAPS) + self.products
        found = maps * self.cells(height, width)
        if self.pooled and self.stride is not None:
            found += dataclasses.replace(self, stride=2 * self.stride).cells(height, width)
        return found * self.outputs


def parameters(layers: Iterable[Layer]) -> int:
    """Count trainable parameters (batch-norm gamma and beta included, moving statistics not)."""
    return sum(layer.parameters for layer in layers)


def multiply_adds(layers: Iterable[Layer], height: int, width: int) -> int:
    """Count the multiply-adds of one image's convolutions and dense layers.

    Args:
      layers: of the network.
      height: of the image, in pixels.
      width: of the image, in pixels.

    Returns:
      The count; B0 with 1000 classes at 224x224: 0.386e9 (the paper rounds to 0.39e9).
    """
    return sum(layer.weights * layer.cells(height, width) for layer in layers)


def activation_bytes(
    layers: Iterable[Layer], height: int, width: int, activation: str, batch: int = 1
) -> int:
    """Estimate the bytes of float32 activations that a training step keeps for its backward pass.

    Counted are the maps that the gradients of convolution, batch norm, activation and squeeze-and-excite
    read; a residual sum overwrites one of its terms. Gradients, the allocator's overhead and the weights with
    their slots come on top.

    Args:
      layers: of the network.
      height: of the images, in pixels.
      width: of the images, in pixels.
      activation: a key of `KEPT_MAPS`.
      batch: number of images.

    Returns:
      The bytes.
    """
    return 4 * batch * sum(layer.kept(height, width, activation) for layer in layers)


def recomputed_bytes(
    layers: Iterable[Layer],
    height: int,
    width: int,
    activation: str,
    batch: int = 1,
    read: Collection[str] = (),
) -> int:
    """Estimate the same when every part is computed again in the backward pass (`recompute`).

    Counted are all maps of the layers outside of parts, one map for each part, its output, and what is inside
    of the largest part while its gradient is computed, with the gradient of its widest map: that one comes on
    top here, for the maps of the other parts are gone.

    Args:
      layers: of the network.
      height: of the images, in pixels.
      width: of the images, in pixels.
      activation: a key of `KEPT_MAPS`.
      batch: number of images.
      read: names of layers inside of parts whose output is read outside, and so kept as well.

    Returns:
      The bytes.
    """
    kept, inside = 0, collections.Counter[str]()
    outputs, widest = dict[str, int](), collections.Counter[str]()
    for layer in layers:
        numbers = layer.kept(height, width, activation)
        if not layer.part:
            kept += numbers
            continue
        output = layer.outputs * layer.cells(height, width)
        inside[layer.part] += numbers
        widest[layer.part] = max(widest[layer.part], output)
        outputs[layer.part] = output  # in the end that of its last layer
        if layer.name in read:
            kept += output
    return 4 * batch * (kept + sum(outputs.values()) + max((inside + widest).values(), default=0))
