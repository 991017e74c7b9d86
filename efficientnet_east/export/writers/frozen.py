"""TensorFlow's frozen graph, a GraphDef."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from efficientnet_east.export import folding
from efficientnet_east.export.network import Network, described_graph
from efficientnet_east.inference.runtimes import metadata
from efficientnet_east.inference.runtimes.metadata import Metadata


def write(network: Network, described: Metadata, images: Sequence[np.ndarray]) -> bytes:
    """Write a frozen TensorFlow graph, a GraphDef.

    Args:
      network: to be written.
      described: its metadata.
      images: not read.

    Returns:
      The file.
    """
    return metadata.seal(for_tensorflow(network, described).SerializeToString(deterministic=True))


def for_tensorflow(network: Network, described: Metadata) -> Any:
    """The graph as TensorFlow, also an older one, and OpenCV read it."""
    graph = folding.with_merges_in_parts(described_graph(network, described))
    return folding.for_older_readers(folding.with_mean_as_bias(graph, network.inputs))
