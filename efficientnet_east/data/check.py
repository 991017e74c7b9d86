"""Check a whole data set: what would stop training, and what training would not use.

The files are read by the loader's own parser, so training can read what passes here. A problem stops
training, or costs a text or an image. A hint is about something that training reads but that looks wrong.
Nothing is written to the data set.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.data.datasets import Record, find_annotated, require_text
from efficientnet_east.data.formats.annotation import ImageAnnotation, TextAnnotation
from efficientnet_east.data.images import check_image, image_size, is_turned, read_image
from efficientnet_east.drawing.charts import Bars, draw_bars
from efficientnet_east.drawing.overlays import at_most, contact_sheet, draw_quads, titled
from efficientnet_east.drawing.palette import GRAY, GREEN, YELLOW
from efficientnet_east.errors import UserError, joined, one_line
from efficientnet_east.geometry.bins import ANGLES, SIZES, bin_labels, bin_of, text_heights
from efficientnet_east.geometry.quads import clockwise, min_area_rectangle, tilt
from efficientnet_east.structures import Truth
from efficientnet_east.system.progress import track

PANELS, PANEL_SIDE = 16, 640  # of the mosaic
_WITH_LINE = re.compile(r"(.+):(\d+)", re.DOTALL)
_FAR_OUTSIDE = 0.25  # share of a text's area box that may lie outside of the image without a hint


@dataclasses.dataclass(frozen=True)
class Issue:
    """A problem, or a hint, in one place.

    Attributes:
      file: that it is in, or the data set's folder.
      line: of the file, from 1; None for the whole file.
      problem: what is wrong.
      fix: what would be right, or what to do; a phrase or a sentence.
      kind: a short name of hints of one kind; empty for a problem.
    """

    file: str
    line: int | None
    problem: str
    fix: str
    kind: str = ""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return one_line(f"{where}: {joined(self.problem, self.fix)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Checked:
    """What a data set holds.

    Attributes:
      folder: of the data set.
      records: the images that training can use, in its order.
      problems: what stops training, or is left out with `data.skip_bad`, in the order of the files.
      hints: what training reads but looks wrong.
      least_side: thinner texts, in pixels of the image, are never trained on.
    """

    folder: str
    records: Sequence[Record]
    problems: Sequence[Issue]
    hints: Sequence[Issue]
    least_side: float

    @property
    def truth(self) -> Truth:
        """Return the texts of all usable images, one after the other."""
        truths = [record.truth for record in self.records]
        quads = np.concatenate([np.zeros((0, 4, 2), np.float32), *(truth.quads for truth in truths)])
        ignore = np.concatenate([np.zeros(0, np.bool_), *(truth.ignore for truth in truths)])
        return Truth(quads, ignore, tuple(text for truth in truths for text in truth.texts))

    def counts(self) -> dict[str, int]:
        """Count images and texts by what training does with them."""
        truth = self.truth
        thin = shorter_side(truth.quads) < self.least_side
        legible = [bool((~record.truth.ignore).any()) for record in self.records]
        return {
            "images": len(self.records),
            "images with legible text": sum(legible),
            "images without any text": sum(not len(record.truth.texts) for record in self.records),
            "texts": len(truth.texts),
            "legible texts": int((~truth.ignore).sum()),
            "illegible texts": int(truth.ignore.sum()),
            "trainable texts": int((~truth.ignore & ~thin).sum()),
            "problems": len(self.problems),
            "hints": len(self.hints),
        }

    def histograms(self) -> dict[str, dict[str, int]]:
        """Count the legible texts by `size`, `angle`, and `script` where files name some: bin -> number."""
        truth = self.truth
        quads = truth.quads[~truth.ignore]
        measured = {"size": (text_heights(quads), SIZES), "angle": (tilt(quads), ANGLES)}
        found = {
            kind: dict(zip(bin_labels(edges), _histogram(values, edges), strict=True))
            for kind, (values, edges) in measured.items()
        }
        scripts = Counter(
            script
            for record in self.records
            for script, ignore in zip(record.truth.scripts, record.truth.ignore, strict=False)
            if script and not ignore
        )
        return found | ({"script": dict(sorted(scripts.items()))} if scripts else {})

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain Python values, for JSON."""
        parts = {name: [dataclasses.asdict(f) for f in getattr(self, name)] for name in ("problems", "hints")}
        usable = [record.image.name for record in self.records]
        return {"folder": self.folder, "counts": self.counts(), "histograms": self.histograms(),
                **parts, "usable": usable}  # fmt: skip


def check(
    folder: str,
    names: Sequence[str] | None = None,
    limit: int | None = None,
    split: str = "train",
    *,
    least_side: float = 0.0,
    progress: bool = False,
) -> Checked:
    """Check a data set, every file of it.

    Args:
      folder: in one of the layouts of `datasets.find_records`.
      names: the images to look at; all where None.
      limit: look at the first so many usable images only.
      split: "train" or "test".
      least_side: thinner texts, in pixels of the image, are never trained on.
      progress: whether to show a progress bar, or plain lines where stderr is no terminal.

    Returns:
      What was found.

    Raises:
      UserError: there is no such folder, or nothing in it is laid out as a data set.
    """
    errors: list[UserError] = []
    try:
        found = find_annotated(folder, names, limit, errors, split)
    except UserError:
        if not errors:
            raise
        found = []
    usable, hints, turned = [], list[Issue](), 0
    for record, annotated in track(found, len(found), "check", show=progress):
        try:
            check_image(record.image)
        except UserError as error:
            errors.append(error)
        else:
            usable.append(record)
            hints += _hints(record, annotated, least_side)
            turned += is_turned(record.image)
    hints += _turned(folder, turned, len(usable))
    try:
        require_text(usable, folder)
    except UserError as error:
        errors.append(error)
    return Checked(folder, usable, [_issue(error) for error in errors], hints, least_side)


def _issue(error: UserError) -> Issue:
    found = _WITH_LINE.fullmatch(error.where)
    if found and Path(found[1]).is_file():
        return Issue(found[1], int(found[2]), error.problem, error.hint)
    return Issue(error.where, None, error.problem, error.hint)


def _hints(record: Record, annotated: ImageAnnotation, least_side: float) -> list[Issue]:
    """Look for hints in one image whose pixels and ground truth can be read."""
    width, height = image_size(record.image)
    found = _other_size(record, annotated, (width, height))
    texts = annotated.texts
    if not texts:
        fix = "If the image shows text, annotate it: training takes all of this image for background."
        where = record.image if annotated.location else record.truth_file
        return [*found, Issue(str(where), None, "holds no text", fix, "no text")]
    quads = np.array([text.quad for text in texts])
    found += [*_outside(texts, quads, np.array([width, height], np.float64)), *_repeated(texts, quads)]
    sides = shorter_side(quads)
    for text, side in zip(texts, sides.tolist(), strict=True):
        if side < least_side and not text.ignore:
            fix = f"expected at least {least_side:.1f} to train on it (see min_text_side, scale_max)"
            found.append(_hint(text, f"the text is {side:.1f} pixels thick", fix, "too thin"))
        if text.corners != 4:
            problem = f"a polygon of {text.corners} corners is read as the smallest rectangle around it"
            found.append(_hint(text, problem, "Give 4 corners unless the text is curved.", "polygon"))
    return found


def _hint(text: TextAnnotation, problem: str, fix: str, kind: str) -> Issue:
    location = text.location
    return Issue(location.file, location.line, location.describe(problem), fix, kind)


def _other_size(record: Record, annotated: ImageAnnotation, size: tuple[int, int]) -> list[Issue]:
    """An annotation that was made for a copy of another size, or for the image before it was turned."""
    if annotated.size in (None, size):
        return []
    annotated_size = " x ".join(map(str, annotated.size or ()))
    problem = f"was annotated as an image of {annotated_size} pixels, and has {size[0]} x {size[1]}"
    fix = "Give the corners in pixels of the image as viewers show it."
    return [Issue(str(record.image), None, problem, fix, "other size")]


def _turned(folder: str, count: int, total: int) -> list[Issue]:
    """Images that viewers turn. A tool that does not turn them gives corners in another position."""
    if not count:
        return []
    problem = f"{count} of {total} images are turned by their EXIF data"
    fix = "Make sure that the corners fit the turned images, as viewers show them: look at the report."
    return [Issue(folder, None, problem, fix, "turned")]


def shorter_side(quads: np.ndarray) -> np.ndarray:
    """Measure the shorter sides of the rectangles around texts, which decide whether they get labels.

    Args:
      quads: (n, 4, 2), pixels.

    Returns:
      float64 (n,), pixels.
    """
    corners, _ = min_area_rectangle(quads)
    return np.linalg.norm(corners[:, 1:3] - corners[:, :2], axis=2).min(axis=1, initial=np.inf)


def _outside(texts: Sequence[TextAnnotation], quads: np.ndarray, extent: np.ndarray) -> list[Issue]:
    """Texts outside of the image: their corners may be for a larger copy, or have x and y exchanged."""
    low, high = quads.min(axis=1), quads.max(axis=1)
    inside = np.clip(np.minimum(high, extent - 0.5) - np.maximum(low, -0.5), 0, None)
    share = 1 - np.prod(inside, axis=1) / np.prod(np.maximum(high - low, 1e-9), axis=1)
    shown = f"{extent[0]:.0f} x {extent[1]:.0f} pixels"
    return [
        _hint(
            texts[number],
            f"{100 * share[number]:.0f} % of the text lies outside of the image of {shown}",
            "Give the corners in pixels of this image.",
            "outside",
        )
        for number in np.flatnonzero(share > _FAR_OUTSIDE).tolist()
    ]


def _repeated(texts: Sequence[TextAnnotation], quads: np.ndarray) -> list[Issue]:
    """Texts whose four corners stand in the file already, in any order."""
    first: dict[bytes, TextAnnotation] = {}
    found = []
    for text, quad in zip(texts, quads, strict=True):
        key = quad[np.lexsort((quad[:, 1], quad[:, 0]))].tobytes()
        if key in first:
            other = first[key].location
            problem = f"repeats the corners of {other.part or f'line {other.line}'}"
            found.append(_hint(text, problem, "Remove one of the two.", "repeated"))
        first.setdefault(key, text)
    return found


def _histogram(values: np.ndarray, edges: Sequence[float]) -> list[int]:
    return np.bincount(bin_of(values, edges), minlength=len(edges) - 1).tolist()


def histogram_chart(checked: Checked) -> bytes:
    """Draw how many texts there are of each size and angle.

    Args:
      checked: what `check` gave.

    Returns:
      A PNG of 1000 x 520 pixels.
    """
    units = {"size": "thickness of the text, pixels", "angle": "angle to the horizontal, degrees"}
    panels = [
        Bars(units.get(kind, kind), "legible texts", list(bins), {"texts": list(bins.values())})
        for kind, bins in checked.histograms().items()
    ]
    return draw_bars(one_line(checked.folder), panels)


def draw_mosaic(checked: Checked) -> np.ndarray:
    """Draw images from all over the data set with their texts, to see whether the corners are right.

    Args:
      checked: what `check` gave, with at least one usable image.

    Returns:
      uint8 RGB: up to 16 images. Texts to train on are green, those that are too thin yellow, illegible ones
      gray. A dot marks the first corner.
    """
    count = len(checked.records)
    chosen = sorted({round(index) for index in np.linspace(0, count - 1, min(PANELS, count))})
    panels = [_panel(checked.records[index], checked.least_side) for index in chosen]
    return contact_sheet(panels, int(np.ceil(np.sqrt(len(panels)))))


def _panel(record: Record, least_side: float) -> np.ndarray:
    image, truth = read_image(record.image), record.truth
    small = at_most(image, PANEL_SIDE)
    factor = small.shape[1] / image.shape[1]
    quads, thin = (truth.quads + 0.5) * factor - 0.5, shorter_side(truth.quads) < least_side
    for color, which in (
        (GRAY, truth.ignore),
        (YELLOW, ~truth.ignore & thin),
        (GREEN, ~truth.ignore & ~thin),
    ):
        small = draw_quads(small, quads[which], color=color)
        dots = quads[which][:, :1] + np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        small = draw_quads(small, clockwise(dots.reshape(-1, 4, 2)), color=color, thickness=2)
    return titled(small, record.image.name)
