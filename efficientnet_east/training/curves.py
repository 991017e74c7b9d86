"""Charts of a run: its results so far, and the learning rate from its first step to its last."""

from __future__ import annotations

from collections.abc import Sequence

from efficientnet_east.config import Train
from efficientnet_east.drawing.charts import Panel, Series, draw
from efficientnet_east.training.results import Row
from efficientnet_east.training.schedule import learning_rate

RESULTS_FILE, SCHEDULE_FILE = "results.png", "schedule.png"
POINTS = 1000  # at most, of the line of learning rates
DOTTED = {"marker": ".", "linewidth": "1.2"}


def results_chart(title: str, rows: Sequence[Row]) -> bytes:
    """Draw what `results.csv` holds.

    Args:
      title: above all.
      rows: at least one, with `step`.

    Returns:
      A PNG: panels of the losses, of precision, recall and hmean (if there are any), of the learning rate and
      of the speed, against steps.
    """
    losses = sorted({name for row in rows for name in row if name.startswith("loss/")})
    validated = [_series(rows, name) for name in ("precision", "recall", "hmean")]
    best = [_best(row) for row in rows if row.get("best")][-1:]
    panels = [
        Panel("loss", [_series(rows, name) for name in losses], log=True),
        Panel("ICDAR 2015 protocol", validated + best, limits=(0, 1)),
        Panel("learning rate", [_series(rows, "learning_rate")], limits=(0, None)),
        Panel("images a second", [_series(rows, "images_per_second")], limits=(0, None)),
    ]
    return draw(title, "step", [panel for panel in panels if any(series.x for series in panel.series)])


def schedule_chart(train: Train) -> bytes:
    """Draw the learning rate of a whole run.

    Args:
      train: the configuration's section.

    Returns:
      A PNG.
    """
    stride = max(1, train.steps // POINTS)
    steps = [*range(0, train.steps, stride), train.steps - 1]
    line = Series(train.schedule, steps, [learning_rate(step, train) for step in steps], {})
    return draw(f"{train.schedule}, {train.steps} steps", "step", [Panel("learning rate", [line])])


def _series(rows: Sequence[Row], name: str) -> Series:
    points = [(row["step"], row[name]) for row in rows if name in row]
    return Series(name.removeprefix("loss/"), [x for x, _ in points], [y for _, y in points], DOTTED)


def _best(row: Row) -> Series:
    style = {"marker": "*", "markersize": "11", "linestyle": "none", "color": "black"}
    return Series(f"best hmean {row['hmean']:.3f}", [row["step"]], [row["hmean"]], style)
