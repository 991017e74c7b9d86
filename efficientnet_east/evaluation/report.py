"""The report of a result, in one folder: figures, curves, all images, the worst and the best ones.

| file | what it is |
|---|---|
| `report.html` | everything on one page |
| `report.json` | the figures: protocol, curve, best thresholds, by size, angle and script |
| `images.csv`, `images.json` | every image: its score; every text and detection, and whether it matched |
| `curve.png`, `thresholds.png`, `reliability.png`, `kinds.png` | charts |
| `pictures/` | the worst and the best images, with the ground truth on the left |
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.drawing.charts import Bars, Panel, Series, draw, draw_bars
from efficientnet_east.errors import one_line
from efficientnet_east.evaluation import curve as curves
from efficientnet_east.evaluation import mistakes
from efficientnet_east.evaluation.breakdown import Bin, by_angle, by_script, by_size
from efficientnet_east.evaluation.curve import Curve, Point
from efficientnet_east.evaluation.icdar2015 import Result
from efficientnet_east.files.atomic import write_file
from efficientnet_east.inference import calibration
from efficientnet_east.structures import Truth

PAGE, FIGURES, IMAGES_TABLE, IMAGES = "report.html", "report.json", "images.csv", "images.json"
CURVE, THRESHOLDS, KINDS, PICTURES = "curve.png", "thresholds.png", "kinds.png", "pictures"
RELIABILITY = "reliability.png"
COLUMNS = (
    "image",
    "hmean",
    "precision",
    "recall",
    "texts",
    "missed",
    "detections",
    "wrong",
    "ignored",
    "picture",
)
POINTS = 200  # of a curve in a file, at most
# What a spreadsheet takes for the beginning of a formula, in the full-width forms of East Asia, too.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
AVERAGE_PRECISION = (
    "mean over all legible texts of the precision at the rank of the detection that found the text (0 if "
    "none did). Detections are ranked by score, without those on illegible texts. Nothing is interpolated, "
    "as in the ICDAR scripts"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of one image, as they were scored.

    Attributes:
      quads: (n, 4, 2), pixels.
      scores: (n,), or None where they have none.
    """

    quads: np.ndarray
    scores: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """A result, and everything that it was computed from.

    Attributes:
      subject: what was scored, such as a checkpoint or a file.
      protocol: name of the protocol.
      found: image name -> detections.
      truths: image name -> texts; the images of the result.
      result: of the protocol.
      curve: over the detections' scores; None where they have none.
      sweep: for each threshold on the score map the curve of what it leaves, by rising threshold; empty where
        there is no score map.
      mistakes: see `mistakes.kinds_of`; None for a protocol that does not match one to one.
      reliability: the detections that count, by their score; empty where they have none.
    """

    subject: str
    protocol: str
    found: Mapping[str, Boxes]
    truths: Mapping[str, Truth]
    result: Result
    curve: Curve | None
    sweep: Mapping[float, Curve] = dataclasses.field(default_factory=dict)
    mistakes: Mapping[str, Mapping[int, str]] | None = None
    reliability: Sequence[calibration.ScoreBin] = ()

    @property
    def quads(self) -> dict[str, np.ndarray]:
        """Image name -> quads, as the protocols take them."""
        return {name: found.quads for name, found in self.found.items()}

    @property
    def kinds(self) -> dict[str, list[Bin]]:
        """`size`, `angle` and, where the ground truth names some, `script` -> the result divided by it."""
        bins = {
            "size": by_size(self.result, self.quads, self.truths),
            "angle": by_angle(self.result, self.quads, self.truths),
            "script": by_script(self.result, self.truths),
        }
        return {kind: parts for kind, parts in bins.items() if parts}

    @property
    def best(self) -> tuple[float | None, Point] | None:
        """Threshold on the score map (None where there is none), and the point of the highest hmean."""
        candidates = [*self.sweep.items(), *([(None, self.curve)] if self.curve and not self.sweep else [])]
        points = [(threshold, curve.best) for threshold, curve in candidates if curve.best]
        return max(points, key=lambda pair: pair[1].hmean) if points else None


def figures(scored: Scored, **about: Any) -> dict[str, Any]:
    """Collect what `report.json` holds.

    Args:
      scored: the result.
      **about: what else belongs there, such as the thresholds of the detector.

    Returns:
      JSON-ready values.
    """
    best, kinds = scored.best, scored.kinds
    values: dict[str, Any] = {"subject": one_line(scored.subject), "protocol": scored.protocol}
    values |= {"images": len(scored.truths)} | scored.result.as_dict()
    if scored.curve is not None:
        values |= {
            "average_precision": scored.curve.average_precision,
            "average_precision_is": AVERAGE_PRECISION if scored.curve.average_precision is not None else None,
            "curve": _points(scored.curve),
        }
    if best:
        threshold, point = best
        values["best"] = {"score_threshold": threshold, "box_threshold": point.threshold} | _shares(point)
    if scored.mistakes is not None:
        values["mistakes"] = mistakes.counts(scored.mistakes)
    if scored.reliability:
        values["expected_calibration_error"] = calibration.expected_error(scored.reliability)
        values["reliability"] = [dataclasses.asdict(part) for part in scored.reliability]
    values["by_score_threshold"] = [
        {"score_threshold": threshold, "average_precision": curve.average_precision, "curve": _points(curve)}
        for threshold, curve in scored.sweep.items()
    ]
    values |= {f"by_{kind}": [part.as_dict() for part in parts] for kind, parts in kinds.items()}
    return values | about


def _points(curve: Curve) -> list[dict[str, float]]:
    return [dataclasses.asdict(point) for point in curves.thinned(curve.points, POINTS)]


def _shares(point: Point) -> dict[str, float]:
    return {name: getattr(point, name) for name in ("precision", "recall", "hmean")}


def image_rows(scored: Scored, pictures: Mapping[str, str]) -> list[dict[str, Any]]:
    """Collect one row for each image.

    Args:
      scored: the result.
      pictures: image name -> file in the report's folder, for those that were drawn.

    Returns:
      The rows of `images.csv`, the worst image first.
    """
    rows = []
    for name, image in scored.result.images.items():
        truths, detections = ({pair[side] for pair in image.pairs} for side in (0, 1))
        rows.append({
            "image": name,
            "hmean": round(float(image.hmean), 6),
            "precision": round(float(image.precision), 6),
            "recall": round(float(image.recall), 6),
            "texts": image.care_truths,
            "missed": image.care_truths - len(truths),
            "detections": image.care_detections,
            "wrong": image.care_detections - len(detections),
            "ignored": len(image.ignored),
            "picture": pictures.get(name, ""),
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["hmean"], -row["texts"]))


def image_details(scored: Scored) -> dict[str, Any]:
    """Collect every text and every detection with what became of it.

    Args:
      scored: the result.

    Returns:
      Image name -> its score, `texts` and `detections`, JSON-ready.
    """
    return {name: _image_detail(scored, name) for name in scored.result.images}


def _image_detail(scored: Scored, name: str) -> dict[str, Any]:
    image, truth = scored.result.images[name], scored.truths[name]
    found = scored.found.get(name, Boxes(np.zeros((0, 4, 2)), None))
    by_text, by_detection = ({pair[side] for pair in image.pairs} for side in (0, 1))
    wrong = (scored.mistakes or {}).get(name, {})
    texts = [
        {
            "corners": _rounded(quad),
            "text": truth.texts[index],
            "state": "ignored" if truth.ignore[index] else "found" if index in by_text else "missed",
        }
        for index, quad in enumerate(truth.quads)
    ]
    detections = [
        {
            "corners": _rounded(quad),
            "score": None if found.scores is None else round(float(found.scores[index]), 6),
            "state": _state(index, image.ignored, by_detection),
        }
        | ({"mistake": wrong[index]} if index in wrong else {})
        for index, quad in enumerate(found.quads)
    ]
    shares = {"precision": image.precision, "recall": image.recall, "hmean": image.hmean}
    return {**shares, "texts": texts, "detections": detections, "pairs": [list(pair) for pair in image.pairs]}


def _state(index: int, ignored: Sequence[int], right: set[int]) -> str:
    return "ignored" if index in ignored else "right" if index in right else "wrong"


def _rounded(quad: np.ndarray) -> list[list[float]]:
    return (np.round(np.asarray(quad, np.float64), 2) + 0.0).tolist()  # no -0


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Write a table that a spreadsheet may open: no cell of text begins like a formula, none breaks a line.

    Args:
      rows: with these columns each.
      columns: in their order.

    Returns:
      UTF-8, the names of the columns first.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # A space in front would hide the sign from us, but not from every spreadsheet.
    begins = value.lstrip(" \u00a0\ufeff").startswith(_FORMULA)
    return one_line(f"'{value}" if begins else value)


def write_data(
    folder: Path, values: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], details: Any
) -> None:
    """Write the files for programs.

    Args:
      folder: of the report.
      values: what `figures` gave.
      rows: what `image_rows` gave.
      details: what `image_details` gave.

    Raises:
      UserError: a file cannot be written.
    """
    write_file(folder / FIGURES, _json(values))
    write_file(folder / IMAGES_TABLE, as_csv(rows, COLUMNS))
    write_file(folder / IMAGES, _json(details))


def _json(values: Any) -> bytes:
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()


def write_charts(folder: Path, scored: Scored) -> list[str]:
    """Draw the charts.

    Args:
      folder: of the report.
      scored: the result.

    Returns:
      The names of the files.

    Raises:
      UserError: a file cannot be written.
    """
    charts = {}
    title = one_line(scored.subject)
    if scored.curve and scored.curve.points:
        charts[CURVE] = curve_chart(title, scored)
        charts[THRESHOLDS] = thresholds_chart(title, scored.curve)
    if scored.reliability:
        charts[RELIABILITY] = reliability_chart(title, scored.reliability)
    charts[KINDS] = kinds_chart(title, scored.kinds)
    for name, png in charts.items():
        write_file(folder / name, png)
    return list(charts)


def curve_chart(title: str, scored: Scored) -> bytes:
    """Draw precision against recall, a line for each threshold on the score map.

    Args:
      title: above all.
      scored: a result with a curve.

    Returns:
      A PNG of 1000 x 520 pixels.
    """
    named = {f"score map ≥ {threshold:g}": curve for threshold, curve in scored.sweep.items()}
    named = named or {"all detections": scored.curve or Curve((), None)}
    lines = [
        Series(
            label, [point.recall for point in curve.points], [point.precision for point in curve.points], {}
        )
        for label, curve in named.items()
    ]
    if scored.best:
        point = scored.best[1]
        style = {"marker": "*", "markersize": "12", "linestyle": "none", "color": "black"}
        lines.append(Series(f"best hmean {point.hmean:.3f}", [point.recall], [point.precision], style))
    return draw(title, "recall", [Panel("precision", lines, limits=(0, 1.02))])


def thresholds_chart(title: str, curve: Curve) -> bytes:
    """Draw precision, recall and hmean against the score from which a detection counts.

    Args:
      title: above all.
      curve: with points.

    Returns:
      A PNG of 1000 x 520 pixels.
    """
    x = [point.threshold for point in curve.points]
    lines = [
        Series(name, x, [getattr(point, name) for point in curve.points], {})
        for name in ("precision", "recall", "hmean")
    ]
    return draw(
        title, "box threshold", [Panel("of the detections above the threshold", lines, limits=(0, 1.02))]
    )


def reliability_chart(title: str, bins: Sequence[calibration.ScoreBin]) -> bytes:
    """Draw the share of right detections against their score, and how many there are of each score.

    Args:
      title: above all.
      bins: of `calibration.reliability`.

    Returns:
      A PNG of 1000 x 520 pixels.
    """
    filled = [part for part in bins if part.count]
    scores, right = [part.score for part in filled], [part.right for part in filled]
    counts = [float(part.count) for part in filled]
    error = calibration.expected_error(bins)
    lines = [
        Series("perfect calibration", [0.0, 1.0], [0.0, 1.0], {"linestyle": "--", "color": "0.6"}),
        Series(f"detections (error {error:.3f})", scores, right, {"marker": "o"}),
    ]
    panels = [
        Panel("share of right detections", lines, limits=(0, 1.02)),
        Panel("detections", [Series("number", scores, counts, {"marker": "o"})], limits=(0, None)),
    ]
    return draw(title, "score", panels)


def kinds_chart(title: str, kinds: Mapping[str, Sequence[Bin]]) -> bytes:
    """Draw precision and recall by size, angle and script.

    Args:
      title: above all.
      kinds: what `Scored.kinds` gives.

    Returns:
      A PNG of 1000 x 520 pixels.
    """
    units = {"size": "thickness of the text, pixels", "angle": "angle to the horizontal, degrees"}
    panels = []
    for kind, bins in kinds.items():
        heights = {"recall": [part.recall for part in bins]}
        if kind != "script":
            heights["precision"] = [part.precision for part in bins]
        names = [part.label for part in bins]
        panels.append(Bars(units.get(kind, kind), "share", names, heights, (0, 1.02)))
    return draw_bars(title, panels)
