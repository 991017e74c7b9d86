"""The chart of what `calculator` counts. Matplotlib is loaded only to draw, without the state of pyplot."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from efficientnet_east.calculator import Report, describe
from efficientnet_east.scaling import ALPHA, BETA

INCHES, DPI = (10.0, 5.2), 100  # 1000 x 520 pixels
MAX_PHI = 12.0  # as far as `scaling.get_variant` goes


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


def against_phi(reports: Sequence[Report], size: tuple[int, int] | None = None, **options: Any) -> bytes:
    """Draw parameters and multiply-adds against the compound coefficient.

    Args:
      reports: what to mark with a star and its name; those that have no coefficient are left out.
      size: as for `calculator.describe`.
      **options: of `calculator.describe`.

    Returns:
      A PNG of 1000 x 520 pixels: B0 scaled by any coefficient as a line, published variants as points, and
      dashed what the paper's rule makes of B0 (section 3.3): for each unit of phi, parameters grow
      alpha * beta**2 times, and so does the work at one size; at each one's own size it doubles.
    """
    starred = [report for report in reports if report.width_factor]
    last = min(MAX_PHI, max([8.0, *(report.phi for report in starred)]))
    steps = [step / 10 for step in range(-10, round(10 * last) + 1)]

    def described(names: Iterable[str]) -> list[Report]:
        return [describe(name, size, **options) for name in names]

    line = described(f"phi={phi}" for phi in steps)
    published = described(f"b{number}" for number in range(9))
    lite = described(f"lite{number}" for number in range(5))

    def panel(field: str, unit: float, growth: float, rule: str) -> list[Series]:
        base = getattr(published[0], field) / unit
        return [
            _series("B0 scaled by φ", line, field, unit, {"linestyle": "-"}),
            _series("published, B0 to B8", published, field, unit, _points("o"), named=True),
            _series("published, lite0 to lite4", lite, field, unit, _points("^")),
            Series(f"B0 × {rule}", steps, [base * growth**phi for phi in steps], {"linestyle": "--"}),
            *([_series("asked for", starred, field, unit, _points("*"), named=True)] if starred else []),
        ]

    at_one_size = ALPHA * BETA**2, "(αβ²)^φ"
    panels = {
        "parameters (millions)": panel("parameters", 1e6, *at_one_size),
        "multiply-adds of one image (billions)": panel(
            "multiply_adds", 1e9, *(at_one_size if size else (2.0, "2^φ"))
        ),
    }
    extent = f"at {size[1]}x{size[0]} pixels" if size else "each at its own size"
    return _png(f"EfficientNet by compound coefficient, {extent}", "compound coefficient φ", panels)


def _points(marker: str) -> dict[str, str]:
    return {"linestyle": "none", "marker": marker}


def _series(
    label: str,
    reports: Sequence[Report],
    field: str,
    unit: float,
    style: dict[str, str],
    named: bool = False,
) -> Series:
    y = [getattr(report, field) / unit for report in reports]
    names = [report.name for report in reports] if named else []
    return Series(label, [report.phi for report in reports], y, style, names)


def _png(title: str, x_label: str, panels: Mapping[str, Sequence[Series]]) -> bytes:
    """Panels side by side; their keys are the labels of the y axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (y_label, drawn) in zip(row, panels.items(), strict=True):
        _draw(axes, drawn)
        axes.set(xlabel=x_label, ylabel=y_label)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Any, drawn: Sequence[Series]) -> None:
    """Every series in a colour of its own, over a logarithmic y axis labelled with plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.08)
    for number, series in enumerate(drawn):
        axes.plot(series.x, series.y, **series.style, color=f"C{number}", label=series.label)
        for x, y, name in zip(series.x, series.y, series.names, strict=False):
            axes.annotate(name, (x, y), (5, -10), textcoords="offset points", fontsize=9, color=f"C{number}")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
