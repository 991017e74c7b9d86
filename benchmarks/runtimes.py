"""Detectors end to end in every runtime: the milliseconds of one 1280x720 image, of several networks.

    python benchmarks/runtimes.py benchmarks/results/runtimes.json [--rounds 3] [--images 5] [--folder DIR]

Timed is `detector(image)` on an array: scaling and padding, the network, decoding, merging; reading the file
is not. Each network's weights are random, with batch norm's statistics of generated scenes, for time does not
depend on them; it does depend on how many cells become boxes. So the network runs, and is waited for, and
then the boxes are made of the same maps for all: those that a perfect network would give of the scene.

Each case is a process of its own, started anew in every round, and a round has all cases, so that other work
on the machine disturbs all alike. Times are medians over all images; ratios are medians over the rounds, each
within one round. A runtime that is not installed is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from step import machine

from efficientnet_east.system.environment import ALLOCATOR

SHAPE = 720, 1280
SCENE = 3  # of the generated ones: 20 words
WARM_UP = 3  # images that are not timed: memory is laid out, and graphs are optimised
CALIBRATION = 12  # scenes for int8's ranges
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet50": {"backbone": "resnet50"},
    "b0": {"backbone": "b0"},
    "b0 swish": {"backbone": "b0", "activation": "swish"},
    "b4": {"backbone": "b4"},
    "b4 swish": {"backbone": "b4", "activation": "swish"},
    "b4-modified": {"backbone": "b4-modified"},
    "default": {"backbone": "b0", "activation": "swish", "pre_stride": "expand"},
    "fast": {"backbone": "lite0", "activation": "relu6", "pre_stride": "expand"},
}
USUAL = ("resnet50", "b0", "b0 swish", "b4")
BASELINE, REFERENCE = "resnet50", "TensorFlow, checkpoint"
PACKAGES = ("tensorflow", "onnxruntime", "openvino", "opencv-python-headless", "ai-edge-litert", "numpy")


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to run a network: a file, its format and precision (none: the checkpoint), a runtime."""

    file: str
    kind: str = ""
    precision: str = "float32"
    runtime: str = "auto"
    package: str = "tensorflow"


WAYS = {
    REFERENCE: Way("run"),
    "TensorFlow, frozen": Way("b.pb", "frozen"),
    "TensorFlow, SavedModel": Way("saved", "saved_model"),
    "ONNX Runtime": Way("b.onnx", "onnx", package="onnxruntime"),
    "ONNX Runtime, int8": Way("int8.onnx", "onnx", "int8", package="onnxruntime"),
    "OpenVINO": Way("b.onnx", "onnx", runtime="openvino", package="openvino"),
    "OpenVINO, int8": Way("int8.onnx", "onnx", "int8", runtime="openvino", package="openvino"),
    "OpenCV": Way("b.onnx", "onnx", runtime="opencv", package="cv2"),
    "LiteRT": Way("b.tflite", "tflite", package="ai_edge_litert"),
    "LiteRT, float16": Way("half.tflite", "tflite", "float16", package="ai_edge_litert"),
    "LiteRT, int8": Way("int8.tflite", "tflite", "int8", package="ai_edge_litert"),
}


# --- the files


def prepare(folder: Path, fields: dict[str, Any], ways: Sequence[str]) -> None:
    """Write a workdir of random weights, and its exports."""
    from efficientnet_east import config as configuration
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.data.synthetic.scenes import SyntheticScenes
    from efficientnet_east.export import formats, network
    from efficientnet_east.inference.runtimes.metadata import Calibration

    config = configuration.load(None, fields)
    scenes = SyntheticScenes(CALIBRATION, 1, (384, 640))
    images = [scenes[index].image for index in range(CALIBRATION)]
    if not (folder / "run").exists():
        (folder / "run").mkdir(parents=True)
        (folder / "run" / "config.yaml").write_text(configuration.dump(config))
        tf_checkpoints.write(folder / "run" / "model.ckpt-1", initial(config, images))
    loaded = network.load(tf_checkpoints.find(folder / "run"), config)
    for way in dict.fromkeys(WAYS[name] for name in ways):
        path = formats.FORMATS[way.kind].path(folder / way.file) if way.kind else folder / way.file
        if way.kind and not path.exists():
            calibration = Calibration(method="", images={}) if way.precision == "int8" else None
            _, data = formats.encode(loaded, way.kind, way.precision, None, calibration, images)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)


def initial(config: Any, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Random weights, and batch norm's statistics of some images: maps of a natural range everywhere."""
    from efficientnet_east import model
    from efficientnet_east.backbones.batch_norm import is_statistic, reestimate
    from efficientnet_east.compat import tf

    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        feed = tf.placeholder(tf.uint8, [None, *images[0].shape])
        model.build(feed, **config.model.model_dump(), is_training=True, bn_decay=0.0)
        variables = tf.global_variables()
        session.run(tf.global_variables_initializer())
        chosen = [variable for variable in variables if is_statistic(variable.op.name)]
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        shown = ({feed: images[index : index + 4]} for index in range(0, len(images), 4))
        found = reestimate(session, updates, chosen, shown)
        return session.run({variable.op.name: variable for variable in variables}) | found


# --- one case, in a process of its own


def measure(detector: Any, images: int, scales: Sequence[float] = (1.0,)) -> dict[str, Any]:
    """The milliseconds of each image, of all and of the network alone, and how many boxes came out.

    Args:
      detector: whose own `scales` do not count.
      images: that are timed.
      scales: at which each is looked at.
    """
    from efficientnet_east.data.synthetic.scenes import SyntheticScenes

    scene = SyntheticScenes(SCENE + 1, 0, SHAPE)[SCENE]
    maps = dict(_true_maps(scene, scale, detector.divisor) for scale in scales)
    own = detector.run
    spent: list[float] = []

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        begin = time.perf_counter()
        score, geometry = own(batch)
        spent[-1] += 1e3 * (time.perf_counter() - begin)
        true_score, true_geometry = maps[score.shape[1:3]]
        if geometry.shape != true_geometry.shape:
            raise SystemExit(f"a geometry map of {geometry.shape}, not {true_geometry.shape}")
        return true_score, true_geometry

    scaled = detector.with_detect(detector.detect.model_copy(update={"scales": tuple(scales)})).with_run(run)
    whole = []
    for _ in range(WARM_UP + images):
        spent.append(0.0)
        begin = time.perf_counter()
        found = scaled(scene.image)
        whole.append(1e3 * (time.perf_counter() - begin))
    timed = {"whole": whole, "network": spent}
    rounded = {name: [round(value, 1) for value in values[WARM_UP:]] for name, values in timed.items()}
    cells = sum(int(score.sum()) for score, _ in maps.values())
    return rounded | {"cells": cells, "boxes": len(found)}


def _true_maps(
    scene: Any, scale: float, divisor: int
) -> tuple[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """What a perfect network would say of a scaled scene, by the shape of its maps."""
    from efficientnet_east.geometry import label_maps

    height, width = (side + -side % divisor for side in (round(side * scale) for side in SHAPE))
    labels = label_maps.encode(scene.truth.quads * scale, scene.truth.ignore, (height, width))
    score, geometry = (part.reshape(1, *labels.score.shape, -1) for part in (labels.score, labels.geometry))
    return labels.score.shape, (score, geometry)


def in_process(*words: str, program: str = __file__) -> dict[str, Any]:
    """A program, by default this one, once more; what it printed last."""
    root = str(Path(__file__).resolve().parents[1])
    environment = {ALLOCATOR: "true"} | os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": root}
    command = [sys.executable, "-W", "ignore", program, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# --- the table


Round = dict[str, dict[str, dict[str, Any]]]  # network -> way -> what `measure` gave


def summary(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """A row for each network and way."""
    rows = []
    for network, ways in rounds[0].items():
        for way in ways:
            row: dict[str, Any] = {"network": network, "runtime": way}
            for part in ("whole", "network"):
                every = [value for done in rounds for value in done[network][way][part]]
                row[f"{part}_ms"] = round(statistics.median(every), 1)
            row["to_resnet50_here"] = ratio(rounds, (network, way), (BASELINE, way))
            row["to_resnet50_in_tensorflow"] = ratio(rounds, (network, way), (BASELINE, REFERENCE))
            rows.append(row)
    return rows


def ratio(rounds: Sequence[Round], case: tuple[str, str], other: tuple[str, str]) -> float:
    """How many times as quick a case is as another: the median over the rounds."""

    def median(done: Round, network: str, way: str) -> float:
        return statistics.median(done[network][way]["whole"])

    return round(statistics.median(median(done, *other) / median(done, *case) for done in rounds), 2)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each way, a column for each network, times as quick as ResNet-50 below."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    lines = [f"| {SHAPE[1]}x{SHAPE[0]} | {' | '.join(networks)} |", "|---" * (1 + len(networks)) + "|"]
    for way in dict.fromkeys(row["runtime"] for row in rows):
        found = {row["network"]: row for row in rows if row["runtime"] == way}
        lines.append(f"| {way} | {' | '.join(_cell(found[network]) for network in networks)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    if row["network"] == BASELINE:
        return f"{row['whole_ms']:.0f} ms (/{row['to_resnet50_in_tensorflow']:.2f})"
    ratios = f"/{row['to_resnet50_here']:.2f}, /{row['to_resnet50_in_tensorflow']:.2f}"
    return f"{row['whole_ms']:.0f} ms ({ratios})"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("json", type=Path, nargs="?", help="file to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=5, help="timed images of a case in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the networks are kept for another time")
    parser.add_argument("--networks", nargs="*", default=list(USUAL), choices=list(NETWORKS), metavar="N")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), metavar="W")
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Writes the networks, runs all cases round after round, writes the figures and prints the table."""
    options = parser().parse_args()
    if options.prepare:
        prepare(Path(options.prepare[0]), NETWORKS[options.prepare[1]], options.ways)
        print("{}")
    elif options.measure:
        from efficientnet_east.inference.detector import Detector

        path, runtime = options.measure
        detector = Detector.load(path, {"runtime": runtime, "threads": options.threads})
        print(json.dumps(measure(detector, options.images)))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            compare(options, options.folder or Path(temporary))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """All cases, in a folder for the networks."""
    wanted = dict.fromkeys([REFERENCE, *options.ways])
    ways = [name for name in wanted if importlib.util.find_spec(WAYS[name].package)]
    networks = list(dict.fromkeys([BASELINE, *options.networks]))
    for network in networks:
        in_process("--prepare", str(folder / network), network, "--ways", *ways)
        print(f"wrote {network}", file=sys.stderr, flush=True)
    counts = ["--threads", str(options.threads), "--images", str(options.images)]
    rounds: list[Round] = []
    for number in range(options.rounds):
        rounds.append({network: {} for network in networks})
        for way in ways:
            for network in networks:
                path = str(folder / network / WAYS[way].file)
                found = in_process("--measure", path, WAYS[way].runtime, *counts)
                rounds[-1][network][way] = found
                print(f"round {number + 1}: {network}: {way}: {found}", file=sys.stderr, flush=True)
    rows = summary(rounds)
    print(table(rows))
    if options.json:
        about = machine(PACKAGES) | {"threads": options.threads}
        figures = {"machine": about, "rows": rows, "rounds": rounds}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
