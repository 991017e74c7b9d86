"""Charts: panels of lines and of bars, for others to fill.

Matplotlib is loaded only to draw, without the state of pyplot.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

INCHES, DPI = (10.0, 5.2), 100  # of a row of panels: 1000 x 520 pixels


@dataclasses.dataclass(frozen=True)
class Series:
    """Points, or a line, in one panel.

    Attributes:
      label: in the legend.
      x: one number a point.
      y: as many.
      style: options of matplotlib's `Axes.plot`.
      names: written beside the points; empty for none.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: dict[str, str]
    names: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
      label: of the y axis.
      series: what is drawn, in this order.
      log: whether the y axis is logarithmic.
      limits: of the y axis; None fits the series, as a second limit its upper end.
    """

    label: str
    series: Sequence[Series]
    log: bool = False
    limits: tuple[float, float | None] | None = None


@dataclasses.dataclass(frozen=True)
class Bars:
    """One pair of axes with groups of bars.

    Attributes:
      x_label: below.
      y_label: beside.
      names: of the groups, from left to right.
      heights: in the legend -> a number for each group; None leaves a gap.
      limits: of the y axis; None fits the bars, as a second limit its upper end.
    """

    x_label: str
    y_label: str
    names: Sequence[str]
    heights: Mapping[str, Sequence[float | None]]
    limits: tuple[float, float | None] = (0, None)


def draw(title: str, x_label: str, panels: Sequence[Panel], columns: int = 2) -> bytes:
    """Draw panels in rows.

    Args:
      title: above them all.
      x_label: below each.
      panels: at least one.
      columns: panels in a row.

    Returns:
      A PNG, 1000 pixels wide; a row of panels is 520 pixels high where it is alone, else 400.
    """
    rows = -(-len(panels) // columns)
    figure = _figure(title, rows)
    places = figure.subplots(rows, min(columns, len(panels)), squeeze=False, sharex=True).ravel()
    for axes, panel in zip(places, panels, strict=False):
        _draw(axes, panel)
        axes.set(xlabel=x_label, ylabel=panel.label)
        axes.tick_params(labelbottom=True)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return _png(figure)


def draw_bars(title: str, panels: Sequence[Bars]) -> bytes:
    """Draw groups of bars, the panels in one row.

    Args:
      title: above them all.
      panels: at least one.

    Returns:
      A PNG of 1000 x 520 pixels.
    """
    figure = _figure(title, 1)
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(places, panels, strict=True):
        _draw_bars(axes, panel)
    return _png(figure)


def _figure(title: str, rows: int) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = INCHES[0], INCHES[1] if rows == 1 else 4.0 * rows
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, parse_math=False)  # a file's name may hold dollars
    return figure


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_bars(axes: Any, panel: Bars) -> None:
    width = 0.8 / len(panel.heights)
    for number, (label, heights) in enumerate(panel.heights.items()):
        places = [index + (number - (len(panel.heights) - 1) / 2) * width for index in range(len(heights))]
        axes.bar(places, [height or 0 for height in heights], width, label=label, color=f"C{number}")
    axes.set_xticks(range(len(panel.names)), panel.names, fontsize=9)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label, ylim=panel.limits)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    if len(panel.heights) > 1:
        axes.legend()


def _draw(axes: Any, panel: Panel) -> None:
    """Every series in a color of its own; a logarithmic axis is labeled with plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.08 if any(series.names for series in panel.series) else 0.02)
    for number, series in enumerate(panel.series):
        axes.plot(series.x, series.y, **{"color": f"C{number}"} | series.style, label=series.label)
        for x, y, name in zip(series.x, series.y, series.names, strict=False):
            axes.annotate(name, (x, y), (5, -10), textcoords="offset points", fontsize=9, color=f"C{number}")
    axes.set_ylim(panel.limits)
    axes.grid(alpha=0.3)
    if len(panel.series) > 1:
        axes.legend()
