"""Networks that are none: one sees a word where `make_data` writes it, one takes for text what is dark."""

import json
from pathlib import Path

import numpy as np

from efficientnet_east.inference.runtimes import metadata


def one_box(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A network that sees one word, where `make_data` writes one: (18, 28) to (112, 56)."""
    shape = 1, batch.shape[1] // 4, batch.shape[2] // 4
    score, geometry = np.zeros((*shape, 1), np.float32), np.zeros((*shape, 5), np.float32)
    score[0, 10, 16], geometry[0, 10, 16] = 0.95, (12, 48, 16, 46, 0)
    return score, geometry


def write_dark_network(path: Path) -> Path:
    """Write an ONNX file: cells of 4 x 4 dark pixels have a high score, and boxes of 16 x 16 pixels.

    It needs neither TensorFlow nor training.
    """
    from onnx import TensorProto, helper, numpy_helper

    box = np.array([8, 8, 8, 8, 0], np.float32).reshape(1, 5, 1, 1)
    constants = {"axes": np.array([1]), "dark": np.float32(110), "slope": np.float32(8),
                 "box": box, "zero": np.float32(0)}  # fmt: skip
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["grey"], keepdims=1),
        helper.make_node("AveragePool", ["grey"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Sub", ["dark", "cells"], ["darker"]),
        helper.make_node("Div", ["darker", "slope"], ["steep"]),
        helper.make_node("Sigmoid", ["steep"], ["score"]),
        helper.make_node("Mul", ["score", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "box"], ["geometry"]),
    ]
    channels = {"images": 3, "score": 1, "geometry": 5}
    images, *maps = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", number, f"h_{name}", f"w_{name}"])
        for name, number in channels.items()
    )
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "dark", [images], maps, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model.metadata_props.add(key="efficientnet_east", value=_description())
    path.write_bytes(metadata.seal(model.SerializeToString()))
    return path


def _description() -> str:
    text = metadata.dump(metadata.Metadata.model_validate({
        "efficientnet_east": "0.1.0", "format": "onnx", "input": {"name": "images", "layout": "NCHW"},
        "score": "score", "geometry": "geometry", "boxes": "rbox", "stride": 4, "divisor": 32,
        "normalisation": "imagenet", "detect": {"score_threshold": 0.8}, "versions": {},
        "source": {"checkpoint": "none", "sha256": "0" * 64},
    }))  # fmt: skip
    assert json.loads(text)
    return text.decode()
