"""hmean against milliseconds: the bundled models in every runtime, in float32 and int8, beside ResNet-50.

    python benchmarks/speed.py files FOLDER --calibration DIR/images --data DIR --list FILE
    python benchmarks/speed.py times FOLDER --json OUT.json
    python benchmarks/speed.py hmean FOLDER --json OUT.json --data DIR --list FILE
    python benchmarks/speed.py page --json OUT.json

`files` exports each bundled model once for each runtime, and a ResNet-50 of random weights. `times` needs a
quiet machine and stops after `--minutes`. `hmean` may run at any time. It scores the files that can differ:
float32 once, and each int8. Both add to the same JSON. `page` writes table and picture of docs/speed.md.

Timed is `detector(image)` for a 1280x720 array, see `runtimes.py`: one process for each model and runtime,
round after round. Boxes are made of the same maps for all. Memory is the most that such a process had, with
the libraries that it loaded.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import runtimes
from step import machine

from efficientnet_east.checkpoints import bundled
from efficientnet_east.drawing.charts import Panel, Series, draw

ROOT = Path(__file__).resolve().parents[1]
ORIGINAL, OWN = "1", "own"  # the size of the image, and the scales that the model brings
SIZES = {ORIGINAL: "at 1", OWN: "at its own scales"}
MEMORY = "megabytes"
BASELINE = "ResNet-50"
FLOAT = "ONNX Runtime"  # float32 is scored here; other runtimes' maps are the same
INT8 = ("ONNX Runtime, int8", "OpenVINO, int8", "LiteRT, int8")
WAYS = (FLOAT, "OpenVINO", "LiteRT", "OpenCV", "TensorFlow, frozen", *INT8)
SCORED = (FLOAT, "OpenVINO", *INT8)  # OpenVINO computes in bfloat16 where it can
BEGIN, END = "<!-- Written by benchmarks/speed.py. Do not edit. -->", "<!-- End. -->"

Times = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]  # model -> way -> size -> milliseconds


def file_of(folder: Path, model: str, way: str) -> Path:
    """The file that a way runs."""
    return folder / model / runtimes.WAYS[way].file


# --- the files


def write_files(options: argparse.Namespace) -> None:
    """Export what is not there yet. A bundled ONNX file of int8 is taken as it is."""
    from efficientnet_east.cli.main import main as run

    for name, model in bundled.MODELS.items():
        for way in dict.fromkeys(runtimes.WAYS[way] for way in WAYS):
            path = options.folder / name / way.file
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if (way.kind, way.precision) == ("onnx", model.precision):
                path.write_bytes(model.onnx.read_bytes())
                continue
            words = ["export", "--model", name, "--format", way.kind, "--precision", way.precision]
            words += [
                "--output",
                str(path),
                *(_int8_words(options) if way.precision == "int8" else ["--no-verify"]),
            ]
            if run(words):
                raise SystemExit(2)
    print(runtimes.in_process("--prepare", str(options.folder / BASELINE), "resnet50", "--ways", *WAYS))


def _int8_words(options: argparse.Namespace) -> list[str]:
    """int8 is calibrated on given images, and judged by its hmean on others."""
    given = {"calibration": options.calibration, "data": options.data, "list": options.list}
    return [
        "--allow-loss",
        *(word for name, value in given.items() if value for word in (f"--{name}", value)),
    ]


# --- times


def measure_times(options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of all cases until the time is up; at least one."""
    rounds: list[dict[str, Any]] = []
    begun = time.perf_counter()
    while not rounds or (time.perf_counter() - begun) * (1 + 1 / len(rounds)) < 60 * options.minutes:
        rounds.append({})
        for model in (*bundled.MODELS, BASELINE):
            ways = (runtimes.REFERENCE, *WAYS) if model == BASELINE else WAYS
            rounds[-1][model] = {way: _time(options, model, way) for way in ways}
        print(f"round {len(rounds)}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return {"machine": machine(runtimes.PACKAGES) | {"threads": options.threads}, "rounds": rounds}


def _time(options: argparse.Namespace, model: str, way: str) -> dict[str, Any]:
    images = 2 if model == BASELINE else options.images
    words = ["case", str(file_of(options.folder, model, way)), runtimes.WAYS[way].runtime]
    counts = ["--threads", str(options.threads), "--images", str(images)]
    return runtimes.in_process(*words, *counts, program=__file__)


def measure_case(options: argparse.Namespace) -> dict[str, list[float]]:
    """One file in one runtime: milliseconds of each image at each size, and the most memory at any time."""
    from efficientnet_east.inference.detector import Detector

    detector = Detector.load(options.file, {"runtime": options.runtime, "threads": options.threads})
    scales = {ORIGINAL: (1.0,), OWN: detector.detect.scales}
    if scales[OWN] == scales[ORIGINAL]:
        del scales[OWN]
    found = {size: runtimes.measure(detector, options.images, of)["whole"] for size, of in scales.items()}
    return found | {MEMORY: [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]}


def medians(rounds: Sequence[Times]) -> dict[str, dict[str, dict[str, float]]]:
    """Model -> way -> size -> milliseconds, over the images of all rounds; and memory like them."""
    return {
        model: {
            way: {
                size: round(statistics.median(t for one in rounds for t in one[model][way][size]), 1)
                for size in by_size
            }
            for way, by_size in ways.items()
        }
        for model, ways in rounds[0].items()
    }


# --- hmean


def measure_hmean(options: argparse.Namespace) -> dict[str, Any]:
    """Score what can differ from float32, and float32 once, at each size, by ICDAR 2015's protocol."""
    found: dict[str, Any] = {}
    for model in bundled.MODELS:
        found[model] = {way: _score(model, way, options) for way in SCORED}
        print(f"{model}: {json.dumps(found[model])}", file=sys.stderr, flush=True)
    return found


def _score(model: str, way: str, options: argparse.Namespace) -> dict[str, float]:
    from efficientnet_east.evaluation import icdar2015
    from efficientnet_east.evaluation.predictions import detect_all, quads_of
    from efficientnet_east.inference.detector import Detector
    from efficientnet_east.training import sources

    samples = sources.open_images(options.data, options.list, options.limit, None)
    scores = {}
    for size, scales in {ORIGINAL: {"scales": (1.0,)}, OWN: {}}.items():
        settings = {**scales, "threads": options.threads, "runtime": runtimes.WAYS[way].runtime}
        detector = Detector.load(file_of(options.folder, model, way), settings)
        detections, truths = detect_all(detector, samples, progress=False)
        scores[size] = round(icdar2015.score(quads_of(detections), truths).hmean, 4)
    return scores


# --- the page


def rows_of(figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each model and precision: hmean by size, milliseconds by runtime and size."""
    times, hmeans = medians(figures["times"]["rounds"]), figures.get("hmean", {})
    for model, ways in times.items():
        for precision in ("float32", "int8"):
            chosen = [way for way in ways if runtimes.WAYS[way].precision == precision]
            scored = {way: hmeans[model][way] for way in chosen if way in hmeans.get(model, {})}
            yield {"model": model, "precision": precision, "ms": {way: ways[way] for way in chosen},
                   "hmean": scored}  # fmt: skip


def table(figures: Mapping[str, Any]) -> str:
    """Markdown: a line for each model, runtime and precision."""
    heads = [*(f"hmean {size}" for size in SIZES.values()), *(f"ms {size}" for size in SIZES.values())]
    lines = [f"| model | runtime | {' | '.join(heads)} | MB |", "|---" * (3 + len(heads)) + "|"]
    for row in rows_of(figures):
        for way, measured in row["ms"].items():
            scores = row["hmean"].get(way) or (
                row["hmean"].get(FLOAT, {}) if row["precision"] == "float32" else {}
            )
            cells = [_cell(scores.get(size), 3) for size in SIZES]
            cells += [_cell(measured.get(size), 0) for size in (*SIZES, MEMORY)]
            lines.append(f"| {row['model']} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, digits: int) -> str:
    """Empty where nothing was measured."""
    return "" if value is None else f"{value:.{digits}f}"


def chart(figures: Mapping[str, Any]) -> bytes:
    """hmean against the milliseconds of each scored file; a PNG."""
    points = [
        Series(f"{row['model']}, {way}", [row["ms"][way][size] for size in scores], list(scores.values()),
               {"marker": "o"}, list(scores))
        for row in rows_of(figures) for way, scores in row["hmean"].items()
    ]  # fmt: skip
    return draw(
        "Bundled models on img_901 to img_1000, at 1 and at their own scales",
        "ms for 1280x720",
        [Panel("hmean", points)],
        columns=1,
    )


def write_page(options: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    """Put the table between the markers of the page, and draw the picture beside it."""
    text = options.page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{options.page}: no line {BEGIN!r} with {END!r} behind it")
    options.page.write_text(f"{before}{BEGIN}\n\n{table(figures)}\n\n{END}{after}", encoding="utf-8")
    if figures.get("hmean"):
        (options.page.parent / "images" / "speed.png").write_bytes(chart(figures))


# --- the command line


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    actions = parser.add_subparsers(dest="action", required=True)
    files, times, hmean, page, case = map(actions.add_parser, ("files", "times", "hmean", "page", "case"))
    for one in (files, times, hmean):
        one.add_argument("folder", type=Path, help="of the exported files")
    files.add_argument("--calibration", required=True, help="folder of images for int8's ranges")
    for one in (files, hmean):
        one.add_argument("--data", required=one is hmean, help="images with ground truth")
        one.add_argument("--list", help="names of those to use")
    for one in (times, hmean, page):
        one.add_argument("--json", type=Path, required=True, help="file to write, or to add to")
    for one in (times, hmean, case):
        one.add_argument("--threads", type=int, default=2)
    hmean.add_argument("--limit", type=int)
    times.add_argument("--minutes", type=float, default=8.0, help="no round begins that would end later [8]")
    for one in (times, case):
        one.add_argument("--images", type=int, default=3, help="timed images of a case in a round [3]")
    page.add_argument("--page", type=Path, default=ROOT / "docs" / "speed.md")
    case.add_argument("file")
    case.add_argument("runtime")
    return parser


def main() -> None:
    """Do what is asked for; figures are added to those that the JSON file has."""
    options = parser().parse_args()
    if options.action == "files":
        write_files(options)
        return
    if options.action == "case":
        print(json.dumps(measure_case(options)))
        return
    there = options.json.exists()
    figures = json.loads(options.json.read_text(encoding="utf-8")) if there else {}
    if options.action == "page":
        write_page(options, figures)
        return
    figures[options.action] = (measure_times if options.action == "times" else measure_hmean)(options)
    options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
