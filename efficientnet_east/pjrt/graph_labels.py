"""Label maps inside the graph: `geometry.label_maps.encode` again, for a batch of padded texts.

They are for a step that runs without Python, and for machines with too few processor cores to make labels for
their accelerator. All shapes are static, and every operation compiles under XLA, also for TPUs: single
precision only, no sorting. The rules are those of `geometry.label_maps.encode`, where they are explained; the
geometry is that of `geometry.quads`.

Single precision moves edges by some 1e-4 pixels: a cell whose pixel lies that near to one may have another
owner than in `geometry.label_maps.encode`, and of two texts of the same area, or of two least rectangles
around one text, the other may be taken.
"""

from __future__ import annotations

import math

import numpy as np

from efficientnet_east.compat import Tensor, tf
from efficientnet_east.geometry.label_maps import BALANCED_CELLS, CHANNELS
from efficientnet_east.geometry.quads import EQUAL_AREAS

_STARTS, _ENDS = np.triu_indices(4, k=1)
_TINY = float(np.finfo(np.float32).tiny)


def encode(
    quads: Tensor,
    ignore: Tensor,
    count: Tensor,
    shape: tuple[int, int],
    *,
    stride: int = 4,
    shrink: float = 0.3,
    min_side: float = 0.0,
    ring: bool = False,
    geometry: str = "rbox",
    core: float = 0.0,
    balance: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Build the labels of a batch (EAST, section 3.3).

    Args:
      quads: float32 (b, N, 4, 2) with static b and N, N at least 1; (x, y) in pixels, in either direction.
        They may reach out of the image; what stands behind the first `count` of each image is not read.
      ignore: bool (b, N), True for illegible texts.
      count: int32 (b,), the number of texts of each image, at most N.
      shape: (height, width) of the images, pixels.
      stride: pixels per cell.
      shrink: a corner moves along each of its sides by this share of the shorter one, 0 to 0.5.
      min_side: texts whose rectangle has a shorter side than this (pixels) are masked like illegible ones.
      ring: also mask what lies between the shrunk and the full quad of every text.
      geometry: a key of `geometry.label_maps.CHANNELS`.
      core: see `geometry.quads.shrink`.
      balance: see `geometry.label_maps.encode`.

    Returns:
      score: float32 (b, h, w, 1), h and w being height and width over stride, rounded up.
      geometry: float32 (b, h, w, 5 or 8), see `geometry.maps`.
      mask: float32 (b, h, w, 1).

    Raises:
      ValueError: another geometry, or shapes that are not static.
    """
    if geometry not in CHANNELS:
        raise ValueError(f"geometry must be one of {', '.join(CHANNELS)}, received {geometry!r}")
    if not quads.shape.is_fully_defined() or int(quads.shape[1]) < 1:
        raise ValueError(f"quads must be (b, N, 4, 2), static, with N from 1, received {quads.shape}")
    cells = (-(-shape[0] // stride), -(-shape[1] // stride))
    quads, ignore = _large_first(quads, ignore, count)
    rectangles = _min_area_rectangle(quads)
    masked = ignore | (_shorter_side(rectangles) < min_side)
    inner = _shrink(quads, shrink, core)
    owner, has_cells, hidden, *outer = _paint(inner, quads, masked, count, cells, stride, ring)
    wanted = ~masked & ~has_cells & (tf.range(int(quads.shape[1])) < count[:, None])
    owner = _give_a_cell(owner, inner, wanted, shape, stride)
    if ring:
        hidden |= outer[0] > owner
    positive = (owner >= 0)[..., None]
    texts = rectangles if geometry == "rbox" else _from_top_side(_convex(quads))
    found = tf.gather(texts, tf.maximum(owner, 0), batch_dims=1)  # (b, h, w, 7 or 8)
    values = (_to_rbox if geometry == "rbox" else _to_quad)(found, *_pixels(cells, stride))
    zero = tf.zeros_like(values)
    score, mask = tf.cast(positive, tf.float32), tf.cast(~hidden, tf.float32)[..., None]
    if balance:
        mask *= tf.where(positive, _text_weights(inner, owner, stride, balance), tf.ones_like(mask))
    return score, tf.where(tf.broadcast_to(positive, values.shape), values, zero), mask


def _text_weights(inner: Tensor, owner: Tensor, stride: int, balance: float) -> Tensor:
    """What each cell weighs, (b, h, w, 1), if it is its owner's."""
    cells = tf.maximum(tf.abs(_area(inner)) / stride**2, 1.0)
    return tf.gather((BALANCED_CELLS / cells) ** balance, tf.maximum(owner, 0), batch_dims=1)[..., None]


def _large_first(quads: Tensor, ignore: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Sort texts by falling area, those of the same area as they came, then padding of zeros."""
    texts = int(quads.shape[1])
    real = tf.range(texts) < count[:, None]
    quads = tf.where(tf.broadcast_to(real[..., None, None], quads.shape), quads, tf.zeros_like(quads))
    order = _rising(tf.where(real, -tf.abs(_area(quads)), tf.ones_like(quads[..., 0, 0])))
    return tf.gather(quads, order, batch_dims=1), tf.gather(ignore & real, order, batch_dims=1)


def _rising(values: Tensor) -> Tensor:
    """Find indices (..., k) that put values (..., k) into rising order; equal ones stay as they are.

    By counting: sorting is a call to a library on some of XLA's devices, and k is small.
    """
    size = int(values.shape[-1])
    others, each = values[..., None, :], values[..., None]
    before = (others < each) | (tf.equal(others, each) & tf.constant(np.tri(size, k=-1, dtype=bool)))
    rank = tf.reduce_sum(tf.cast(before, tf.int32), -1)[..., None, :]
    return tf.argmax(tf.cast(tf.equal(rank, tf.range(size)[:, None]), tf.int32), -1, output_type=tf.int32)


def _area(quads: Tensor) -> Tensor:
    """Compute the signed area (...) of quads (..., 4, 2), relative to their first corner for precision."""
    x, y = tf.unstack(quads - quads[..., :1, :], axis=-1)
    return 0.5 * tf.reduce_sum(x * tf.roll(y, -1, -1) - tf.roll(x, -1, -1) * y, -1)


def _min_area_rectangle(quads: Tensor) -> Tensor:
    """Find the smallest rectangles (b, N, 7): cos, sin, left, right, top, bottom along their axes, angle."""
    side = tf.gather(quads, _ENDS, axis=2) - tf.gather(quads, _STARTS, axis=2)  # (b, N, 6, 2)
    angle = tf.atan2(-side[..., 1], side[..., 0])
    angle -= math.pi / 2 * tf.ceil(angle / (math.pi / 2) - 0.5)
    cos, sin = tf.cos(angle)[..., None], tf.sin(angle)[..., None]
    # Extents from the first corner: areas are compared, and far from the origin they would lose digits.
    first = quads[..., :1, :]
    x, y = tf.unstack((quads - first)[:, :, None], axis=-1)  # (b, N, 1, 4)
    along, across = cos * x - sin * y, sin * x + cos * y  # (b, N, 6, 4)
    extents = [reduce(line, 3) for line in (along, across) for reduce in (tf.reduce_min, tf.reduce_max)]
    size = (extents[1] - extents[0]) * (extents[3] - extents[2])
    enough = size <= tf.reduce_min(size, 2, keepdims=True) * (1 + EQUAL_AREAS)
    best = tf.argmax(tf.cast(enough, tf.int32), 2, output_type=tf.int32)
    found = tf.stack([cos[..., 0], sin[..., 0], *extents, angle], 3)
    found = tf.gather(found, best, batch_dims=2)
    cos, sin, x, y = found[..., :1], found[..., 1:2], first[..., 0, :1], first[..., 0, 1:]
    along, across = cos * x - sin * y, sin * x + cos * y
    offset = tf.concat([tf.zeros_like(found[..., :2]), along, along, across, across, tf.zeros_like(cos)], 2)
    return found + offset


def _shorter_side(rectangles: Tensor) -> Tensor:
    _, _, left, right, top, bottom, _ = tf.unstack(rectangles, axis=-1)
    return tf.minimum(right - left, bottom - top)


def _shrink(quads: Tensor, ratio: float, core: float) -> Tensor:
    """See `geometry.quads.shrink`."""
    lengths = tf.norm(tf.roll(quads, -1, 2) - quads, axis=3)  # (b, N, 4)
    upright = (lengths[..., 0] + lengths[..., 2] < lengths[..., 1] + lengths[..., 3])[..., None]
    steps = ratio * tf.minimum(lengths, tf.roll(lengths, 1, 2))
    turned = tf.broadcast_to(upright[..., None], quads.shape)
    quads = tf.where(turned, tf.roll(quads, -1, 2), quads)
    steps = tf.where(tf.broadcast_to(upright, steps.shape), tf.roll(steps, -1, 2), steps)
    quads = _shorten(quads, steps, (1, 0, 3, 2))
    if core:
        across = tf.norm(tf.gather(quads, (3, 2, 1, 0), axis=2) - quads, axis=3)
        steps = tf.minimum(steps, tf.maximum(across - core, 0.0) / 2.0)
    quads = _shorten(quads, steps, (3, 2, 1, 0))
    return tf.where(turned, tf.roll(quads, 1, 2), quads)


def _shorten(quads: Tensor, steps: Tensor, partners: tuple[int, ...]) -> Tensor:
    """Move every corner towards its partner by its step, at most half of the way."""
    side = tf.gather(quads, partners, axis=2) - quads
    length = tf.maximum(tf.norm(side, axis=3), _TINY)
    return quads + side * tf.minimum(steps / length, 0.5)[..., None]


def _paint(
    inner: Tensor,
    quads: Tensor,
    masked: Tensor,
    count: Tensor,
    cells: tuple[int, int],
    stride: int,
    ring: bool,
) -> tuple[Tensor, ...]:
    """Paint text after text, from the last, which is on top of all others, to the first.

    Returns:
      owner: int32 (b, h, w), the last text whose shrunk quad covers each cell, -1 for none.
      has_cells: bool (b, N), whether a text is an owner.
      hidden: bool (b, h, w), whether a masked text's full quad covers the cell.
      outer, with `ring` only: int32 (b, h, w), the last text whose full quad covers each cell, -1 for none.
    """
    batch, texts = (int(size) for size in masked.shape)
    ends = tf.stack([_crossings(inner, cells[0], stride), _crossings(quads, cells[0], stride)])
    ends = tf.transpose(ends, (2, 0, 3, 1, 4))[..., None]  # (N, 2, 4, b, h, 1)
    x = tf.range(cells[1], dtype=tf.float32) * float(stride)
    of_text = tf.transpose(masked)[..., None, None]  # (N, b, 1, 1)

    def paint(
        n: Tensor, owner: Tensor, has_cells: Tensor, hidden: Tensor, *outer: Tensor
    ) -> tuple[Tensor, ...]:
        # Even-odd rule: a cell with an odd number of crossings before it lies inside.
        passed = [ends[n, :, side] <= x for side in range(4)]  # each (2, b, h, w)
        core, full = tf.unstack((passed[0] ^ passed[1]) ^ (passed[2] ^ passed[3]))
        new, number = core & (owner < 0), tf.fill((batch, *cells), n)
        has_cells |= tf.reduce_any(new, (1, 2))[:, None] & tf.equal(tf.range(texts), n)
        outer = tuple(tf.where(full & (last < 0), number, last) for last in outer)
        return n - 1, tf.where(new, number, owner), has_cells, hidden | (full & of_text[n]), *outer

    none, nowhere = -tf.ones((batch, *cells), tf.int32), tf.zeros((batch, *cells), tf.bool)
    state = (tf.reduce_max(count) - 1, none, tf.zeros((batch, texts), tf.bool), nowhere, *[none] * ring)
    return tf.while_loop(lambda n, *_: n >= 0, paint, state)[1:]


def _crossings(quads: Tensor, rows: int, stride: int) -> Tensor:
    """Find x where sides of quads (b, N, 4, 2) cross each row of cells: (b, N, 4, rows), else infinite."""
    y = tf.range(rows, dtype=tf.float32) * float(stride)
    x0, y0 = tf.unstack(quads[..., None, :], axis=-1)  # (b, N, 4, 1)
    x1, y1 = tf.unstack(tf.roll(quads, -1, 2)[..., None, :], axis=-1)
    crossed = tf.not_equal(y0 <= y, y1 <= y)
    rise = tf.where(crossed, tf.broadcast_to(y1 - y0, crossed.shape), tf.ones(crossed.shape))
    return tf.where(crossed, x0 + (y - y0) / rise * (x1 - x0), tf.fill(crossed.shape, np.float32(np.inf)))


def _give_a_cell(owner: Tensor, inner: Tensor, wanted: Tensor, shape: tuple[int, int], stride: int) -> Tensor:
    """Give each chosen text the cell nearest to its center, unless a later text has it."""
    batch, rows, columns = (int(size) for size in owner.shape)
    x, y = tf.unstack(tf.reduce_mean(inner, 2), axis=-1)  # (b, N)
    wanted &= (x >= -0.5) & (y >= -0.5) & (x < shape[1] - 0.5) & (y < shape[0] - 0.5)
    # Those that need none give "no text" to the first cell, which changes nothing there.
    row, column = (tf.where(wanted, tf.rint(axis / stride), tf.zeros_like(axis)) for axis in (y, x))
    row = tf.minimum(tf.cast(row, tf.int32), rows - 1)
    column = tf.minimum(tf.cast(column, tf.int32), columns - 1)
    image = tf.broadcast_to(tf.range(batch)[:, None], row.shape)
    text = tf.where(wanted, tf.broadcast_to(tf.range(int(row.shape[1])), row.shape), -tf.ones_like(row))
    return tf.tensor_scatter_nd_max(owner, tf.stack([image, row, column], 2), text)


def _pixels(cells: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """Compute x (w, 1) and y (h, 1, 1) of the pixels that cells stand for."""
    x, y = (tf.range(size, dtype=tf.float32) * float(stride) for size in cells[::-1])
    return x[:, None], y[:, None, None]


def _to_rbox(rectangles: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Compute channels (b, h, w, 5) of the pixels in each one's rectangle (b, h, w, 7)."""
    cos, sin, left, right, top, bottom, angle = tf.split(rectangles, 7, axis=3)
    along, across = cos * x - sin * y, sin * x + cos * y
    distances = tf.concat([across - top, right - along, bottom - across, along - left], 3)
    return tf.concat([tf.maximum(distances, 0.0), angle], 3)


def _to_quad(quads: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Compute channels (b, h, w, 8) of the pixels in each one's quad (b, h, w, 4, 2)."""
    x, y = (tf.broadcast_to(axis, (*quads.shape[1:3], 1)) for axis in (x, y))
    return tf.reshape(quads, (*quads.shape[:3], 8)) - tf.concat([x, y] * 4, 2)


def _convex(quads: Tensor) -> Tensor:
    """See `geometry.quads.convex`; (b, N, 4, 2), but with any corner first."""
    quads = _choose(_area(quads) < 0, tf.gather(quads, (0, 3, 2, 1), axis=2), quads)
    left_turns = tf.reduce_sum(tf.cast(_turns(quads) < 0, tf.int32), 2)
    quads = _choose(left_turns > 1, _in_order(quads), quads)
    return _choose(left_turns > 0, _flattened(quads), quads)


def _choose(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Choose the quad a or b (b, N, 4, 2) for each text (b, N)."""
    return tf.where(tf.broadcast_to(condition[..., None, None], a.shape), a, b)


def _turns(quads: Tensor) -> Tensor:
    """Compute cross products (b, N, 4) of the two sides at each corner, positive for a turn to the right."""
    after = tf.roll(quads, -1, 2) - quads
    before = tf.roll(after, 1, 2)
    return before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]


def _in_order(quads: Tensor) -> Tensor:
    """Sort the corners clockwise around their mean."""
    x, y = tf.unstack(quads - tf.reduce_mean(quads, 2, keepdims=True), axis=-1)
    return tf.gather(quads, _rising(tf.atan2(y, x)), batch_dims=2)


def _flattened(quads: Tensor) -> Tensor:
    """Begin quads at their most reflex corner; if it is reflex, move it to the line between its neighbors."""
    turns = _turns(quads)
    first = tf.argmin(turns, 2, output_type=tf.int32)
    quads = _rolled(quads, first)
    reflex, end, opposite, start = tf.unstack(quads, axis=2)
    side = end - start
    length = tf.maximum(tf.reduce_sum(side**2, 2), _TINY)
    along = tf.clip_by_value(tf.reduce_sum((reflex - start) * side, 2) / length, 0.0, 1.0)[..., None]
    moved = tf.stack([start + along * side, end, opposite, start], 2)
    return _choose(tf.reduce_min(turns, 2) < 0, moved, quads)


def _from_top_side(quads: Tensor) -> Tensor:
    """See `geometry.quads.from_top_side`; (b, N, 4, 2)."""
    p0, p1, p2, p3 = tf.unstack(quads, axis=2)
    along, across = (p1 - p0) + (p2 - p3), (p3 - p0) + (p2 - p1)
    x, y = along[..., 0] + across[..., 1], along[..., 1] - across[..., 0]
    quarter_turns = tf.atan2(-y, x) / (math.pi / 2)
    return _rolled(quads, tf.cast(tf.ceil(quarter_turns - 0.5), tf.int32))


def _rolled(quads: Tensor, by: Tensor) -> Tensor:
    """Begin quads (b, N, 4, 2) so many (b, N) corners later."""
    return tf.gather(quads, tf.math.floormod(tf.range(4) + by[..., None], 4), batch_dims=2)
