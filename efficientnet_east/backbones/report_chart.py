"""The chart of what `report` counts: parameters and multiply-adds against the compound coefficient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from efficientnet_east.backbones.report import Report, describe
from efficientnet_east.drawing import charts
from efficientnet_east.scaling import ALPHA, BETA, MOST_PHI


def against_phi(reports: Sequence[Report], size: tuple[int, int] | None = None, **options: Any) -> bytes:
    """Draw parameters and multiply-adds against the compound coefficient.

    Args:
      reports: what to mark with a star and its name; those that have no coefficient are left out.
      size: as for `report.describe`.
      **options: of `report.describe`.

    Returns:
      A PNG of 1000 x 520 pixels: B0 scaled by any coefficient as a line, published variants as points, and
      dashed what the paper's rule makes of B0 (section 3.3): for each unit of phi, parameters grow
      alpha * beta**2 times, and so does the work at one size; at each one's own size it doubles.
    """
    starred = [report for report in reports if report.width_factor]
    last = min(MOST_PHI, max([8.0, *(report.phi for report in starred)]))
    steps = [step / 10 for step in range(-10, round(10 * last) + 1)]

    def described(names: Iterable[str]) -> list[Report]:
        return [describe(name, size, **options) for name in names]

    line = described(f"phi={phi}" for phi in steps)
    published = described(f"b{number}" for number in range(9))
    lite = described(f"lite{number}" for number in range(5))

    def panel(field: str, unit: float, growth: float, rule: str) -> list[charts.Series]:
        base = getattr(published[0], field) / unit
        return [
            _series("B0 scaled by φ", line, field, unit, {"linestyle": "-"}),
            _series("published, B0 to B8", published, field, unit, _points("o"), named=True),
            _series("published, lite0 to lite4", lite, field, unit, _points("^")),
            charts.Series(f"B0 × {rule}", steps, [base * growth**phi for phi in steps], {"linestyle": "--"}),
            *([_series("asked for", starred, field, unit, _points("*"), named=True)] if starred else []),
        ]

    at_one_size = ALPHA * BETA**2, "(αβ²)^φ"
    work = panel("multiply_adds", 1e9, *(at_one_size if size else (2.0, "2^φ")))
    panels = [
        charts.Panel("parameters (millions)", panel("parameters", 1e6, *at_one_size), log=True),
        charts.Panel("multiply-adds of one image (billions)", work, log=True),
    ]
    extent = f"at {size[1]}x{size[0]} pixels" if size else "each at its own size"
    return charts.draw(f"EfficientNet by compound coefficient, {extent}", "compound coefficient φ", panels)


def _points(marker: str) -> dict[str, str]:
    return {"linestyle": "none", "marker": marker}


def _series(
    label: str,
    reports: Sequence[Report],
    field: str,
    unit: float,
    style: dict[str, str],
    named: bool = False,
) -> charts.Series:
    y = [getattr(report, field) / unit for report in reports]
    names = [report.name for report in reports] if named else []
    return charts.Series(label, [report.phi for report in reports], y, style, names)
