"""What BiFPN costs beside EAST's U-shaped merge: weights, multiply-adds, and time of a training step.

    python benchmarks/merges.py merges.json [--backbone b0] [--size 512] [--batch 2] [--steps 12]

The steps of both networks alternate within one process, so that other work on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from step import WARM_UP, Run

from efficientnet_east import config as configuration
from efficientnet_east import model
from efficientnet_east.compat import tf


def counts(config: configuration.Config, size: int) -> dict[str, int]:
    """Trainable parameters and one image's multiply-adds, of the head and of the whole network."""
    with tf.Graph().as_default() as graph:
        model.build(tf.zeros([1, size, size, 3]), **config.model.model_dump(), is_training=False)
        sizes = {v.op.name: int(np.prod(v.shape.as_list())) for v in tf.trainable_variables()}
        work = {op.name: multiply_adds(op) for op in graph.get_operations()}

    def head(of: dict[str, int]) -> int:
        return sum(n for name, n in of.items() if name.startswith("feature_fusion/"))

    return {
        "parameters": sum(sizes.values()), "head_parameters": head(sizes),
        "multiply_adds": sum(work.values()), "head_multiply_adds": head(work),
    }  # fmt: skip


def multiply_adds(op: Any) -> int:
    """Of a convolution; 0 for anything else."""
    if op.type not in ("Conv2D", "DepthwiseConv2dNative"):
        return 0
    height, width, inputs, _ = op.inputs[1].shape.as_list()
    cells = int(np.prod(op.outputs[0].shape.as_list()))
    return cells * height * width * (inputs if op.type == "Conv2D" else 1)


def main() -> None:
    """Writes the figures as JSON and prints them."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", type=Path)
    parser.add_argument("--backbone", default="b0")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    fields = {"backbone": options.backbone, "crop_size": options.size, "batch_size": options.batch}
    configs = {merge: configuration.load(None, fields | {"merge": merge}) for merge in ("u", "bifpn")}
    runs = {merge: Run(fields | {"merge": merge}) for merge in configs}
    times = [
        {merge: run.seconds()["wall"] for merge, run in runs.items()} for _ in range(WARM_UP + options.steps)
    ]
    times = times[WARM_UP:]
    figures: dict[str, Any] = dict(fields)
    for merge, config in configs.items():
        step_ms = 1e3 * statistics.median(each[merge] for each in times)
        figures[merge] = counts(config, options.size) | {"step_ms": round(step_ms)}
    ratios = [each["bifpn"] / each["u"] for each in times]
    figures["step_ratio"] = round(statistics.median(ratios), 2)
    report = json.dumps(figures, indent=2)
    options.json.write_text(report + "\n", encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
