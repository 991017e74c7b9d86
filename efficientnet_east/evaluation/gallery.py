"""The HTML page of a report. It needs only the files beside it, and runs no script.

Names and transcriptions come from other people's files, so all of them are escaped, and the page's policy
forbids a browser to run or to fetch anything.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from efficientnet_east.errors import one_line
from efficientnet_east.evaluation.breakdown import Bin
from efficientnet_east.evaluation.mistakes import KINDS
from efficientnet_east.evaluation.report import (
    AVERAGE_PRECISION,
    FIGURES,
    IMAGES,
    IMAGES_TABLE,
    Scored,
)

# `file:` for a page opened from a disk, where `'self'` means nothing to some browsers.
_POLICY = (
    "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
)
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  color: #1c1e21; background: #fff; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 1.6rem .6rem 0; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #d8dade; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; max-width: 28rem; }
thead th { border-bottom: 2px solid #8a8f98; }
.kinds { display: flex; flex-wrap: wrap; align-items: flex-start; }
img { max-width: 100%; height: auto; } figure { margin: 1.2rem 0; }
figcaption { overflow-wrap: anywhere; } .note { color: #555b63; }
.big td { font-size: 1.25rem; }
i { font-style: normal; padding: 0 .35rem; border-radius: .2rem; color: #fff; }
"""
_LEGEND = (
    "<p class='note'>Left, the ground truth: <i style='background:#3767c8'>found</i> "
    "<i style='background:#c8372d'>missed</i> <i style='background:#777'>illegible</i>. "
    "Right, the detections: "
    "<i style='background:#23883c'>right</i> <i style='background:#c8372d'>wrong</i> "
    "<i style='background:#777'>on illegible text</i>.</p>"
)


def page(
    scored: Scored,
    values: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    charts: Sequence[str],
    pictures: Mapping[str, str],
) -> bytes:
    """Write the page of a report.

    Args:
      scored: the result.
      values: what `report.figures` gave.
      rows: what `report.image_rows` gave.
      charts: names of the files beside the page.
      pictures: `worst_1` ... and `best_1` ... -> image name; `rows` say where the pictures are.

    Returns:
      HTML in UTF-8.
    """
    parts = [
        f"<h1>{_text(scored.subject)}</h1>",
        _summary(scored, values),
        *(_chart(name) for name in charts),
        _mistakes(values.get("mistakes")),
        _kinds(scored.kinds),
        *_gallery(rows, pictures),
        _images(rows),
        f"<p class='note'>Data files: {_links((FIGURES, IMAGES_TABLE, IMAGES))}</p>",
    ]
    head = (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{_text(scored.subject)}</title><style>{_STYLE}</style></head><body>\n"
    )
    return (head + "\n".join(parts) + "\n</body></html>\n").encode("utf-8", "xmlcharrefreplace")


def _text(value: object) -> str:
    return html.escape(one_line(str(value)), quote=True)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]], style: str = "") -> str:
    """Make a table of cells that are HTML already."""
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table class='{style}'><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _summary(scored: Scored, values: Mapping[str, Any]) -> str:
    result = scored.result
    average = values.get("average_precision")
    columns = ["images", "legible texts", "counted detections", "precision", "recall", "hmean"]
    row = [str(len(scored.truths)), str(result.care_truths), str(result.care_detections)]
    row += [_share(value) for value in (result.precision, result.recall, result.hmean)]
    if average is not None:
        columns, row = [*columns, "average precision"], [*row, _share(average)]
    lines = [f"<p>Protocol: {_text(scored.protocol)}.</p>", _table(columns, [row], "big")]
    if scored.best:
        threshold, point = scored.best
        at = f"score threshold {threshold:g} and " if threshold is not None else ""
        lines.append(
            f"<p>The best hmean, {_share(point.hmean)} (precision {_share(point.precision)}, recall "
            f"{_share(point.recall)}), is at {at}box threshold {point.threshold:.4g}. It was found on these "
            "images. Choose thresholds on other images than those you report on.</p>"
        )
    if average is not None:
        lines.append(f"<p class='note'>Average precision: {_text(AVERAGE_PRECISION)}.</p>")
    return "\n".join(lines)


def _chart(name: str) -> str:
    return f"<figure><img src='{_text(name)}' alt='chart'></figure>"


def _kinds(kinds: Mapping[str, Sequence[Bin]]) -> str:
    tables = []
    for kind, bins in kinds.items():
        rows = [
            [
                _text(part.label),
                str(part.texts),
                _share(part.recall),
                "–" if part.detections is None else str(part.detections),
                _share(part.precision),
            ]
            for part in bins
        ]
        tables.append(_table([kind, "texts", "recall", "detections", "precision"], rows))
    note = "Recall counts the texts of each kind, precision the detections of each kind."
    return f"<h2>By kind of text</h2><p class='note'>{note}</p><div class='kinds'>{''.join(tables)}</div>"


def _mistakes(counts: Mapping[str, int] | None) -> str:
    if counts is None:
        return ""
    rows = [[_text(kind), str(count), _text(KINDS[kind])] for kind, count in counts.items()]
    return "<h2>Wrong detections</h2>" + _table(["kind", "number", "meaning"], rows)


def _gallery(rows: Sequence[Mapping[str, Any]], pictures: Mapping[str, str]) -> list[str]:
    by_name = {row["image"]: row for row in rows}
    parts = []
    for kind in ("worst", "best"):
        chosen = {rank: name for rank, name in pictures.items() if rank.startswith(f"{kind}_")}
        if chosen:
            parts.append(f"<h2>The {kind} images</h2>{_LEGEND}")
        for name in chosen.values():
            row = by_name[name]
            about = (
                f"hmean {row['hmean']:.3f}, {row['missed']} of {row['texts']} texts missed, "
                f"{row['wrong']} of {row['detections']} detections wrong"
            )
            source = _text(row["picture"])
            parts.append(
                f"<figure><figcaption><b>{_text(name)}</b>: {about}</figcaption>"
                f"<a href='{source}'><img src='{source}' alt='' loading='lazy'></a></figure>"
            )
    return parts


def _images(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = ["hmean", "precision", "recall", "texts", "missed", "detections", "wrong", "ignored"]
    cells = []
    for row in rows:
        name = _text(row["image"])
        linked = f"<a href='{_text(row['picture'])}'>{name}</a>" if row["picture"] else name
        cells.append([linked, *(_number(row[column]) for column in columns)])
    return "<h2>All images, worst first</h2>" + _table(["image", *columns], cells)


def _number(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _links(names: Iterable[str]) -> str:
    return ", ".join(f"<a href='{_text(name)}'>{_text(name)}</a>" for name in names)
