"""StableHLO as text, for PJRT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.compat import tf
from efficientnet_east.export.network import Network
from efficientnet_east.inference.runtimes import metadata
from efficientnet_east.inference.runtimes.metadata import Metadata
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.pjrt.stablehlo_runtime import open_stablehlo

COMMENT = b"// "  # of StableHLO's text


def write(network: Network, described: Metadata, images: Sequence[np.ndarray]) -> bytes:
    """Write StableHLO, as text for one size: float32 (1, height, width, 3) to score and geometry.

    Args:
      network: to be written.
      described: its metadata: the size is read.
      images: not read.

    Returns:
      The file; its first line is a comment, the metadata.
    """
    if described.input.size is None:
        raise ValueError("StableHLO is written for one size")
    spec = tf.TensorSpec([1, *described.input.size, 3], tf.float32)

    def forward(images: Any) -> Any:
        names = [f"{name}:0" for name in network.outputs]
        return tf.import_graph_def(network.graph, {network.inputs: images}, names, name="")

    wrapped = tf.wrap_function(forward, [spec])
    compiled = tf.function(lambda images: wrapped(images), input_signature=[spec], jit_compile=True)
    zeros = np.zeros(spec.shape, np.float32)
    text = compiled.experimental_get_compiler_ir(zeros)(stage="stablehlo", platform_name="CPU")
    return metadata.seal(COMMENT + metadata.dump(described) + b"\n" + str(text).encode())


def open_written(path: Path, threads: int, runtime: str) -> Runtime:
    """Open a file that this module wrote, to check it; jaxlib runs it."""
    return open_stablehlo(path)
