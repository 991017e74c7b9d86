"""What a backbone costs, as tables: its stages, parameters, multiply-adds and the memory of training it.

Everything is counted from the numbers of `catalog`; nothing is built, and nothing here needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from efficientnet_east.backbones import catalog, costs
from efficientnet_east.backbones.families.family import Backbone, rows_of
from efficientnet_east.errors import UserError
from efficientnet_east.scaling import LEAST_PHI, MOST_PHI, Feature, parse_phi


@dataclasses.dataclass(frozen=True)
class StageCost:
    """One line of the paper's Table 1, with its sizes at one resolution.

    Attributes:
      name: `stem`, `stage1` ..., `head`, `logits`; of ResNet-50 `conv1`, `pool1`, `block1` ...
      operator: such as `MBConv6, k5x5, SE`.
      kernel: side of the (depthwise) kernel.
      stride: of the whole stage; None where all cells become one.
      channels: out of the stage.
      repeats: blocks or units.
      height: of the stage's input, in cells.
      width: of the stage's input, in cells.
      parameters: trainable numbers.
      multiply_adds: of one image.
      activation_bytes: that a training step keeps of the whole batch.
    """

    name: str
    operator: str
    kernel: int
    stride: int | None
    channels: int
    repeats: int
    height: int
    width: int
    parameters: int
    multiply_adds: int
    activation_bytes: int


@dataclasses.dataclass(frozen=True)
class Report:
    """All that is known of a backbone at one size, its stages included.

    Attributes:
      name: as given to `catalog.get_backbone`.
      phi: compound coefficient.
      width_factor: on channels; None for what is no EfficientNet, as for the next two.
      depth_factor: on repeats.
      dropout: before the classifier.
      resolution: side of the ImageNet crop that it was made for, in pixels.
      normalization: of the pixels, a key of `options.NORMALIZATIONS`.
      activation: that the memory is counted for.
      pre_stride: which maps `features` are, see `scaling.features`.
      classes: of the classifier; None for the trunk alone.
      height: of the images, in pixels.
      width: of the images, in pixels.
      batch: images in a step.
      stages: from the image to the last map or the classifier.
      features: the maps f1 to f5.
      parameters: trainable numbers, batch-norm gamma and beta included.
      multiply_adds: of one image.
      activation_bytes: that a training step keeps of the batch, see `costs.activation_bytes`.
      recomputed_bytes: that it needs with recomputation, see `costs.recomputed_bytes`.
    """

    name: str
    phi: float
    width_factor: float | None
    depth_factor: float | None
    dropout: float | None
    resolution: int
    normalization: str
    activation: str
    pre_stride: str
    classes: int | None
    height: int
    width: int
    batch: int
    stages: tuple[StageCost, ...]
    features: tuple[Feature, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int
    recomputed_bytes: int


def phi_name(text: str) -> str:
    """Name the backbone of a compound coefficient.

    Args:
      text: a plain decimal, such as `1.5`.

    Returns:
      The name, such as `phi=1.5`.

    Raises:
      UserError: no number, or one out of range.
    """
    if parse_phi(f"phi={text}") is None:
        expected = f"expected a plain decimal from {LEAST_PHI} to {MOST_PHI}, such as 1.5"
        raise UserError("phi", f"{text!r} cannot be used", expected)
    return f"phi={text}"


def offered(activation: str | None, pre_stride: str) -> tuple[str, ...]:
    """List the named backbones that exist with these options; all of them if no such option is known."""
    names = catalog.names()
    if activation not in (None, *costs.KEPT_MAPS):
        return names
    return tuple(name for name in names if catalog.offers(name, activation, pre_stride)) or names


def describe(
    name: str,
    size: tuple[int, int] | None = None,
    *,
    batch: int = 1,
    activation: str | None = None,
    pre_stride: str = "block",
    classes: int | None = None,
) -> Report:
    """Count what a backbone costs.

    Args:
      name: see `catalog.get_backbone`.
      size: (height, width) of the images in pixels; None for the size that the backbone was made for.
      batch: images in a training step.
      activation: a key of `costs.KEPT_MAPS`, on which memory depends; None for the backbone's own.
      pre_stride: which maps count as "right before the stride", see `scaling.features`.
      classes: count head and classifier of so many classes, too.

    Returns:
      The report.

    Raises:
      UserError: an unknown name, an option that the backbone does not have, a number below 1.
    """
    for option, number in (("batch", batch), ("classes", classes)):
        if number is not None and number < 1:
            raise UserError(option, f"is {number}", "expected a whole number from 1")
    backbone = catalog.get_backbone(name, pre_stride=pre_stride, classes=classes)
    own = activation or backbone.activation
    catalog.check_activation(name, own)
    height, width = size or (backbone.resolution, backbone.resolution)
    variant = backbone.network.variant if backbone.network else None
    return Report(
        name=name,
        phi=backbone.phi,
        width_factor=variant.width if variant else None,
        depth_factor=variant.depth if variant else None,
        dropout=variant.dropout if variant else None,
        resolution=backbone.resolution,
        normalization=backbone.normalization,
        activation=own,
        pre_stride=pre_stride,
        classes=classes,
        height=height,
        width=width,
        batch=batch,
        stages=_stages(backbone, height, width, own, batch),
        features=backbone.features,
        parameters=backbone.parameters,
        multiply_adds=backbone.multiply_adds(height, width),
        activation_bytes=backbone.activation_bytes(height, width, batch=batch, activation=own),
        recomputed_bytes=backbone.recomputed_bytes(height, width, batch=batch, activation=own),
    )


# --- from layers to stages


def _stages(
    backbone: Backbone, height: int, width: int, activation: str, batch: int
) -> tuple[StageCost, ...]:
    rows = backbone.rows or tuple(rows_of(backbone.layers))
    stages, stride = [], 1
    for row in rows:
        layers = [layer for layer in backbone.layers if layer.name.partition("/")[0] in row.scopes]
        stages.append(
            StageCost(
                name=row.name,
                operator=row.operator,
                kernel=row.kernel,
                stride=row.stride,
                channels=row.channels,
                repeats=row.repeats,
                height=math.ceil(height / stride),
                width=math.ceil(width / stride),
                parameters=costs.parameters(layers),
                multiply_adds=costs.multiply_adds(layers, height, width),
                activation_bytes=costs.activation_bytes(layers, height, width, activation, batch),
            )
        )
        stride *= row.stride or 1
    return tuple(stages)


# --- for machines and for people


def as_dict(reports: Sequence[Report]) -> dict[str, Any]:
    """Make plain dictionaries of everything, for JSON: `{"backbones": [...]}`, fields as in `Report`."""
    return {"backbones": [dataclasses.asdict(report) for report in reports]}


def text(reports: Sequence[Report]) -> str:
    """Write a table of stages for each report and, of several, an overview below."""
    parts = [stage_table(report) for report in reports]
    return "\n\n".join([*parts, overview(reports)] if len(reports) > 1 else parts)


def overview(reports: Sequence[Report]) -> str:
    """Write one line for each report, 100 columns at most.

    Args:
      reports: with the same options.

    Returns:
      Lines of text.
    """
    rows = [
        [
            report.name,
            f"{report.width}x{report.height}",
            report.activation,
            f"{report.parameters:,}",
            _giga(report.multiply_adds),
            _mega(report.activation_bytes),
            _mega(report.recomputed_bytes),
            " ".join(str(feature.channels) for feature in report.features),
        ]
        for report in reports
    ]
    heads = [
        ["", "size", "acti-", "parameters", "mult.-", "kept", "kept*", "f1 ... f5"],
        ["", "pixels", "vation", "", "adds, G", "MB", "MB", "channels"],
    ]
    return f"{_aligned([*heads, *rows], left=(0, 2, 7))}\n{_legend(reports[0])}; kept*: with recomputation"


def stage_table(report: Report) -> str:
    """Write the stages of one report, its totals and its feature maps, 100 columns at most.

    Args:
      report: from `describe`.

    Returns:
      Lines of text.
    """
    rows = [
        [
            stage.name,
            stage.operator,
            str(stage.stride or "-"),
            f"{stage.channels:,}",
            str(stage.repeats),
            f"{stage.width}x{stage.height}",
            f"{stage.parameters:,}",
            _giga(stage.multiply_adds),
            _mega(stage.activation_bytes),
        ]
        for stage in report.stages
    ]
    totals = [f"{report.parameters:,}", _giga(report.multiply_adds), _mega(report.activation_bytes)]
    heads = [
        ["", "operator", "stride", "channels", "repeats", "input", "parameters", "mult.-", "kept"],
        ["", "", "", "", "", "cells", "", "adds, G", "MB"],
    ]
    table = _aligned([*heads, *rows, ["total", *[""] * 5, *totals]], left=(0, 1))
    maps = [
        ["maps", *(feature.name for feature in report.features)],
        ["stride", *(str(feature.stride) for feature in report.features)],
        ["channels", *(f"{feature.channels:,}" for feature in report.features)],
        ["end point", *(feature.end_point for feature in report.features)],
    ]
    legend = f"{_legend(report)}; with recomputation {_mega(report.recomputed_bytes)} MB"
    return "\n".join([_title(report), table, legend, "", _aligned(maps, left=(0,))])


def _title(report: Report) -> str:
    factors = ""
    if report.width_factor and report.depth_factor:
        factors = f" (phi {report.phi:g}, width {report.width_factor:.4g}, depth {report.depth_factor:.4g})"
    return f"{report.name}{factors}; {report.width}x{report.height} pixels, {report.activation}"


def _legend(report: Report) -> str:
    """What the figures mean, in two lines."""
    if report.classes is not None:
        extent = f"classifier of {report.classes:,} included"
    else:
        extent = "trunk alone" if report.pre_stride == "block" else "trunk and head convolution"
    images = "1 image" if report.batch == 1 else f"{report.batch:,} images"
    return f"{extent}; multiply-adds of 1 image\nkept: estimated for a training step of {images}"


def _giga(count: int) -> str:
    return f"{count / 1e9:,.4f}"


def _mega(count: int) -> str:
    return f"{count / 1e6:,.1f}" if count < 1e10 else f"{count / 1e6:,.0f}"


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Align columns, two spaces apart, to the right but for those named."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
