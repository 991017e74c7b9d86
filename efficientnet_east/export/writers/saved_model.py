"""A SavedModel: one file in a folder, a graph without variables."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from efficientnet_east.compat import tf
from efficientnet_east.export.network import Network
from efficientnet_east.export.writers.frozen import for_tensorflow
from efficientnet_east.inference.runtimes import SAVED_MODEL_FILE, metadata
from efficientnet_east.inference.runtimes.metadata import Metadata


def write(network: Network, described: Metadata, images: Sequence[np.ndarray]) -> bytes:
    """Write a SavedModel with the signature `serving_default`: input `images`, outputs `score`, `geometry`.

    Args:
      network: to be written.
      described: its metadata.
      images: not read.

    Returns:
      The file saved_model.pb, all that there is in the folder: a graph without variables.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
            tf.import_graph_def(for_tensorflow(network, described), name="")
            images, score, geometry = (
                graph.get_tensor_by_name(f"{name}:0") for name in (network.inputs, *network.outputs)
            )
            signature = tf.saved_model.predict_signature_def(
                {"images": images}, {"score": score, "geometry": geometry}
            )
            builder = tf.saved_model.Builder(str(path))
            builder.add_meta_graph_and_variables(
                session, ["serve"], {"serving_default": signature}, strip_default_attrs=True
            )
            builder.save()
        return metadata.seal((path / SAVED_MODEL_FILE).read_bytes())
