"""Group words into lines, and put lines into reading order, by geometry alone.

The rule (`docs/detection.md` explains it for users). Lengths are in heights of the words concerned.

1. Two words are neighbors if the gap between the end of one and the beginning of the other is small, if they
   overlap across the text there, if they are about equally high, and if they run in the same direction.
2. A word and its nearest neighbor to the right share a line if each is the other's nearest. So a line never
   forks, and it may bend.
3. Words that are much higher than wide and found no neighbor beside them are tried as text that runs down.
4. The page is turned upright. Where a gap runs through it from top to bottom, the left column is read before
   the right one; where there is no such gap, what is above is read before what is below.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from efficientnet_east.geometry.overlaps import bounds, meeting_each_other
from efficientnet_east.geometry.quads import area, clockwise, from_top_side

GAP = 1.2  # largest gap between two words of a line, in their mean height
LAP = 0.6  # by which two words may overlap along the line, in the lower one's height
SHARE = 0.5  # of the lower word's height that must lie beside the other one
ALIKE = 0.4  # least height of a word, as a share of its neighbor's
BEND = np.radians(20)  # largest difference of two words' directions, if both have one
TALL, VERY_TALL = 1.5, 4.0  # height over width: may run down, and does
COLUMN_GAP = 1.0  # least width of the space between two columns, in heights of a line
FAR_BELOW = 2.0  # a column does not go on after a space of so many heights of a line


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """A line of text.

    Attributes:
      words: indices of its words, in the order in which they are read.
      quad: float32 (4, 2), pixels: the rectangle around them that lies along the text, clockwise from the
        corner where the line begins; of a single word, the word's own box.
    """

    words: tuple[int, ...]
    quad: np.ndarray


def find_lines(quads: np.ndarray) -> tuple[Line, ...]:
    """Group words into lines.

    Args:
      quads: (n, 4, 2), convex, pixels, in any order.

    Returns:
      The lines in the order in which they are read. Every word is in exactly one of them.
    """
    quads = from_top_side(clockwise(np.asarray(quads, np.float64)))
    if not len(quads):
        return ()
    place = np.lexsort((*quads.reshape(-1, 8).T, *quads.mean(axis=1).T))  # whatever order they came in
    chains, down = _chains(quads[place])
    words = [place[list(chain)] for chain in chains]
    around = np.stack([_around(quads[own], runs_down) for own, runs_down in zip(words, down, strict=True)])
    return tuple(Line(tuple(words[i].tolist()), around[i].astype(np.float32)) for i in reading_order(around))


def _chains(quads: np.ndarray) -> tuple[list[tuple[int, ...]], list[bool]]:
    """The words of each line in their order, and whether it runs down."""
    shape = _sides(quads)
    very_tall = shape[:, 1] > VERY_TALL * shape[:, 0]
    after = _links(quads, ~very_tall, _are_no_columns(shape))
    alone = np.ones(len(quads), bool)
    alone[[*after, *after.values()]] = False
    turned = np.roll(quads, -1, axis=1)  # the first side runs down now, as the text may do
    below = _links(turned, alone, _may_run_down(shape))
    tall_alone = {i for i in np.flatnonzero(alone & (shape[:, 1] > TALL * shape[:, 0])) if i not in below}
    followed = _followed(after | below, len(quads))
    return followed, [chain[0] in below or (len(chain) == 1 and chain[0] in tall_alone) for chain in followed]


def _are_no_columns(shape: np.ndarray) -> np.ndarray:
    """Bool (n,): words that may stand beside another such word in a line; two words that run down do not."""
    return shape[:, 1] <= 2 * shape[:, 0]


def _may_run_down(shape: np.ndarray) -> np.ndarray:
    return shape[:, 1] > TALL * shape[:, 0]


def _sides(quads: np.ndarray) -> np.ndarray:
    """Width and height (n, 2): between the middles of opposite sides, and the area over that."""
    width = np.linalg.norm((quads[:, 1] + quads[:, 2] - quads[:, 0] - quads[:, 3]) / 2, axis=1)
    width = np.maximum(width, 1e-6)
    return np.stack([width, np.maximum(area(quads) / width, 1e-6)], axis=1)


def _links(quads: np.ndarray, usable: np.ndarray, leads: np.ndarray) -> dict[int, int]:
    """Which word follows which.

    Args:
      quads: (n, 4, 2), each from the corner that begins the side along which it would be read.
      usable: bool (n,), words that are looked at.
      leads: bool (n,); of two neighbors at least one must be such a word.

    Returns:
      Index of a word -> index of the word that follows.
    """
    index = np.flatnonzero(usable)
    if len(index) < 2:
        return {}
    first, second, cost = _neighbors(quads[index], leads[index])
    # By cost, then by place: equal costs are decided the same way in every order of the words.
    best = np.lexsort((second, first, cost))
    first, second = first[best], second[best]
    next_of = _firsts(first)
    before_of = _firsts(second)
    mutual = next_of & before_of
    return dict(zip(index[first[mutual]].tolist(), index[second[mutual]].tolist(), strict=True))


def _firsts(values: np.ndarray) -> np.ndarray:
    """Bool: where each value stands for the first time."""
    found = np.zeros(len(values), bool)
    found[np.unique(values, return_index=True)[1]] = True
    return found


def _neighbors(quads: np.ndarray, leads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of words that may follow each other, and the space between them."""
    limits, sides = bounds(quads), _sides(quads)
    reach = GAP * sides[:, 1] / ALIKE
    pairs = list(meeting_each_other(limits + np.array([-1, -1, 1, 1])[:, None] * reach))
    one, other = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    lead = leads[one] | leads[other]
    one, other = one[lead], other[lead]
    along, _ = _directions(quads, sides, one, other)
    centers = quads.mean(axis=1)
    backwards = ((centers[other] - centers[one]) * along).sum(axis=1) < 0
    first, second = np.where(backwards, other, one), np.where(backwards, one, other)
    gap, fits = _gaps(quads, sides, first, second)
    return first[fits], second[fits], gap[fits]


def _directions(
    quads: np.ndarray, sides: np.ndarray, one: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (m, 2) along pairs of words, in which the longer word counts for more, and the bends."""
    runs = (quads[:, 1] + quads[:, 2] - quads[:, 0] - quads[:, 3]) / 2
    along = runs[one] + runs[other]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    angles = np.arctan2(runs[:, 1], runs[:, 0])
    bend = np.abs((angles[one] - angles[other] + np.pi) % (2 * np.pi) - np.pi)
    long = sides[:, 0] > TALL * sides[:, 1]  # a short word's direction says little
    return along, np.where(long[one] & long[other], bend, 0.0)


def _gaps(
    quads: np.ndarray, sides: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The space between the end of one word and the beginning of the other; whether they may be neighbors."""
    along, bend = _directions(quads, sides, first, second)
    end, begin = quads[first][:, [1, 2]], quads[second][:, [0, 3]]
    step = begin.mean(axis=1) - end.mean(axis=1)
    gap = (step * along).sum(axis=1)
    across = along[:, 0] * step[:, 1] - along[:, 1] * step[:, 0]
    half, other_half = (np.linalg.norm(side[:, 1] - side[:, 0], axis=1) / 2 for side in (end, begin))
    shared = np.minimum(half, across + other_half) - np.maximum(-half, across - other_half)
    heights = sides[first, 1], sides[second, 1]
    low, mean = np.minimum(*heights), (heights[0] + heights[1]) / 2
    fits = (low >= ALIKE * np.maximum(*heights)) & (bend <= BEND)
    fits &= (gap <= GAP * mean) & (gap >= -LAP * low)
    fits &= shared >= SHARE * 2 * np.minimum(half, other_half)
    return np.maximum(gap, 0) + np.abs(across), fits


def _followed(after: dict[int, int], count: int) -> list[tuple[int, ...]]:
    """Chains from links, of which each word has at most one on either side; a ring is cut at one word."""
    begins = sorted(set(range(count)) - set(after.values()))
    chains: list[tuple[int, ...]] = []
    seen: set[int] = set()
    for begin in [*begins, *range(count)]:
        chain: list[int] = []
        word: int | None = begin
        while word is not None and word not in seen:
            seen.add(word)
            chain.append(word)
            word = after.get(word)
        if chain:
            chains.append(tuple(chain))
    return chains


def _around(words: np.ndarray, runs_down: bool) -> np.ndarray:
    """The rectangle (4, 2) around words, along the text, from the corner where the first word begins."""
    words = np.roll(words, -1, axis=1) if runs_down else words
    if len(words) == 1:
        return words[0]
    run = (words[:, 1] + words[:, 2] - words[:, 0] - words[:, 3]).sum(axis=0)
    u = run / max(float(np.linalg.norm(run)), 1e-9)
    v = np.array([-u[1], u[0]])
    x, y = words.reshape(-1, 2) @ u, words.reshape(-1, 2) @ v
    x0, x1, y0, y1 = x.min(), x.max(), y.min(), y.max()
    return np.array([x0 * u + y0 * v, x1 * u + y0 * v, x1 * u + y1 * v, x0 * u + y1 * v])


def reading_order(quads: np.ndarray) -> list[int]:
    """Put lines into the order in which they are read: left to right and top to bottom.

    Args:
      quads: (n, 4, 2), the rectangles around the lines, each from the corner that begins it.

    Returns:
      Their indices. The order of the arguments does not matter.
    """
    boxes, height = _upright(quads)
    return _ordered(boxes, np.arange(len(boxes)), height).tolist()


def _upright(quads: np.ndarray) -> tuple[np.ndarray, float]:
    """Boxes (n, 4), x0, y0, x1, y1, of lines on a page that is turned upright, and a line's height.

    Of a line's height its middle half counts, so that lines that lean a little still lie above one another.
    """
    sides = _sides(quads)
    runs = (quads[:, 1] + quads[:, 2] - quads[:, 0] - quads[:, 3]) / 2
    angles = np.arctan2(runs[:, 1], runs[:, 0])
    level = np.abs(angles) <= np.pi / 4
    turn = _middle(angles[level], sides[level, 0]) if level.any() else 0.0
    cosine, sine = np.cos(turn), np.sin(turn)
    turned = quads @ np.array([[cosine, -sine], [sine, cosine]])
    thin = turned.copy()
    thin[level, :, 1] = (turned[:, [3, 2, 1, 0], 1] * 0.25 + turned[..., 1] * 0.75)[level]
    low, high = thin.min(axis=1), thin.max(axis=1)
    return np.concatenate([low, high], axis=1), float(np.median(sides[:, 1]))


def _middle(values: np.ndarray, weights: np.ndarray) -> float:
    """The weighted median."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])


def _ordered(boxes: np.ndarray, index: np.ndarray, height: float) -> np.ndarray:
    """`index` in reading order: columns first, then rows of the page, and what can be divided by neither."""
    if len(index) < 2:
        return index
    columns = _parts(boxes[index], 0, COLUMN_GAP * height)
    if columns.max():
        return _each(boxes, index, columns, height)
    rows = _parts(boxes[index], 1, 0.0)
    if rows.max():
        return _each(boxes, index, _with_columns(boxes[index], rows, height), height)
    x, y = boxes[index][:, [0, 2]].mean(axis=1), boxes[index][:, [1, 3]].mean(axis=1)
    return index[np.lexsort((x, y))]


def _each(boxes: np.ndarray, index: np.ndarray, part: np.ndarray, height: float) -> np.ndarray:
    return np.concatenate([_ordered(boxes, index[part == k], height) for k in range(part.max() + 1)])


def _parts(boxes: np.ndarray, axis: int, gap: float) -> np.ndarray:
    """Which part, from 0, each box lies in, if they are divided at all gaps along an axis."""
    begins, ends = boxes[:, axis], boxes[:, axis + 2]
    order = np.argsort(begins, kind="stable")
    reach = np.maximum.accumulate(ends[order])
    parts = np.zeros(len(boxes), np.intp)
    parts[order[1:]] = np.cumsum(begins[order][1:] > reach[:-1] + gap)
    return parts


def _with_columns(boxes: np.ndarray, rows: np.ndarray, height: float) -> np.ndarray:
    """Rows joined as long as one gap runs through all of them: they are the rows of columns.

    A row begins columns if it has such a gap itself. What stands above them, over one of them or over both,
    is read before.
    """
    joined = np.zeros(rows.max() + 1, np.intp)
    run: np.ndarray | None = None
    for row in range(1, len(joined)):
        own = boxes[rows == row]
        above = boxes[rows == row - 1] if run is None else run
        both = np.concatenate([above, own])
        near = own[:, 1].min() - above[:, 3].max() <= FAR_BELOW * height
        begun = run is not None or _parts(above, 0, COLUMN_GAP * height).max() > 0
        goes_on = bool(near and begun and _parts(both, 0, COLUMN_GAP * height).max() > 0)
        run = both if goes_on else None
        joined[row] = joined[row - 1] + (not goes_on)
    return joined[rows]
