"""Losses against a second implementation in NumPy, hand-made cases, and where their gradients point."""

from collections.abc import Sequence

import numpy as np
import pytest
from helpers.loss_maps import SHAPE, random_maps
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from efficientnet_east import losses
from efficientnet_east.compat import tf


class Losses:
    """The graph, built once: maps in; terms and gradients with respect to the predictions out."""

    def __init__(self, channels: int) -> None:
        with tf.Graph().as_default() as graph:
            depths = {
                "score": 1, "geometry": channels, "true_score": 1, "true_geometry": channels, "mask": 1
            }  # fmt: skip
            self.inputs = {
                name: tf.placeholder(tf.float32, (None, None, None, d)) for name, d in depths.items()
            }
            self.terms, self.gradients = {}, {}
            for name in losses.SCORE_LOSSES:
                terms = losses.east_losses(
                    *self.inputs.values(), score_loss=name, score_weight=0.5,
                    iou_weight=2.0, angle_weight=7.0, quad_weight=3.0,
                )  # fmt: skip
                self.terms[name] = terms
                predicted = [self.inputs["score"], self.inputs["geometry"]]
                self.gradients[name] = tf.gradients(terms["model"], predicted)
        self.session = tf.Session(graph=graph)

    def __call__(
        self, score_loss: str = "dice", **maps: np.ndarray
    ) -> tuple[dict[str, float], list[np.ndarray]]:
        feeds = {self.inputs[name]: value for name, value in maps.items()}
        return self.session.run([self.terms[score_loss], self.gradients[score_loss]], feeds)


@pytest.fixture(scope="module")
def evaluate() -> Losses:
    return Losses(5)


@pytest.fixture(scope="module")
def evaluate_quad() -> Losses:
    return Losses(8)


def expected_terms(maps: dict[str, np.ndarray], score_loss: str) -> dict[str, float]:
    """One cell at a time, in plain Python."""
    overlap = total = 0.0
    text: list[float] = []
    background: list[float] = []
    ious: list[float] = []
    angles: list[float] = []
    for cell in np.ndindex(SHAPE):
        if not maps["mask"][cell][0]:
            continue
        p, t = maps["score"][cell][0], maps["true_score"][cell][0]
        overlap, total = overlap + p * t, total + p + t
        (text if t else background).append(-np.log(p if t else 1 - p))
        if t:
            a, b = maps["geometry"][cell], maps["true_geometry"][cell]
            # Distances are top, right, bottom, left; boxes around the cell x0, y0, x1, y1, y downwards.
            (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = ((-g[3], -g[0], g[1], g[2]) for g in (a, b))
            inter = (min(ax1, bx1) - max(ax0, bx0)) * (min(ay1, by1) - max(ay0, by0))
            union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - inter
            ious.append(-np.log((inter + 1) / (union + 1)))
            angles.append(1 - np.cos(a[4] - b[4]))

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else 0.0

    dice = 1 - (2 * overlap + 100) / (total + 100)
    score = {
        "dice": dice,
        "balanced_cross_entropy": (mean(text) + mean(background)) / 2,
        "dice_and_cross_entropy": dice + mean(text + background),  # so few cells are all mined
    }[score_loss]
    terms = {"score": score, "iou": mean(ious), "angle": mean(angles)}
    return terms | {"model": 0.5 * score + 2 * terms["iou"] + 7 * terms["angle"]}


@pytest.mark.parametrize("score_loss", losses.SCORE_LOSSES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), text=st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_against_plain_python(evaluate: Losses, score_loss: str, seed: int, text: float) -> None:
    maps = random_maps(seed, text)
    terms, _ = evaluate(score_loss, **maps)
    assert terms == pytest.approx(expected_terms(maps, score_loss), rel=2e-4, abs=1e-6)


def one_cell(geometry: Sequence[float], truth: Sequence[float]) -> dict[str, np.ndarray]:
    one = np.ones((1, 1, 1, 1))
    return {
        "score": one, "true_score": one, "mask": one,
        "geometry": np.reshape(geometry, (1, 1, 1, -1)), "true_geometry": np.reshape(truth, (1, 1, 1, -1)),
    }  # fmt: skip


def test_iou_by_hand(evaluate: Losses) -> None:
    """Four different distances: any other pairing of top, right, bottom and left gives another number.

    Truth: 1 up, 20 right, 3 down, 40 left: 60 wide, 4 high.
    Predicted: 2 up, 10 right, 5 down, 50 left: 60 wide, 7 high.
    Common: 1 up, 10 right, 3 down, 40 left: 50 wide, 4 high.
    """
    terms, _ = evaluate(**one_cell([2, 10, 5, 50, 0.3], [1, 20, 3, 40, 0.1]))
    intersection, union = 50 * 4, 60 * 4 + 60 * 7 - 50 * 4
    assert terms["iou"] == pytest.approx(np.log((union + 1) / (intersection + 1)), rel=1e-5)
    assert terms["angle"] == pytest.approx(1 - np.cos(0.2), rel=1e-4)


def test_iou_by_hand_tells_pairings_apart(evaluate: Losses) -> None:
    """What the case above relies on: with top paired to left or right the same numbers give another IoU."""
    values = []
    for order in ([0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3]):
        a, b = np.array([2, 10, 5, 50])[order], np.array([1, 20, 3, 40])[order]
        values.append(evaluate(**one_cell([*a, 0], [*b, 0]))[0]["iou"])
    assert min(abs(values[0] - values[1]), abs(values[0] - values[2]), abs(values[1] - values[2])) > 1e-3
    mirrored = evaluate(**one_cell([5, 50, 2, 10, 0], [3, 40, 1, 20, 0]))[0]["iou"]
    assert mirrored == pytest.approx(values[0], rel=1e-5)


@pytest.mark.parametrize("score_loss", losses.SCORE_LOSSES)
def test_perfect_prediction_costs_nothing(evaluate: Losses, score_loss: str) -> None:
    maps = random_maps(5)
    maps |= {"score": maps["true_score"], "geometry": maps["true_geometry"]}
    terms, gradients = evaluate(score_loss, **maps)
    assert max(map(abs, terms.values())) < 1e-5
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("score_loss", losses.SCORE_LOSSES)
@pytest.mark.parametrize("area", [1, 4096])
def test_no_text_pushes_the_score_down(evaluate: Losses, score_loss: str, area: int) -> None:
    """Finite, with a slope everywhere; the geometry is left alone."""
    shape = (2, 1, area)
    zeros = {name: np.zeros((*shape, depth)) for name, depth in (("true_score", 1), ("true_geometry", 5))}
    maps = zeros | {"mask": np.ones((*shape, 1)), "geometry": np.full((*shape, 5), 3.0)}
    totals = []
    for level in (0.9, 0.05, 1e-7):
        terms, (score_gradient, geometry_gradient) = evaluate(
            score_loss, score=np.full((*shape, 1), level), **maps
        )
        assert terms["iou"] == terms["angle"] == 0 and np.isfinite(terms["model"])
        assert (score_gradient > 0).all() or level == 1e-7
        assert np.isfinite(score_gradient).all() and not geometry_gradient.any()
        totals.append(terms["model"])
    assert totals == sorted(totals, reverse=True) and totals[-1] < 1e-3


@pytest.mark.parametrize("score_loss", losses.SCORE_LOSSES)
def test_everything_masked_costs_nothing(evaluate: Losses, score_loss: str) -> None:
    maps = random_maps(6) | {"mask": np.zeros((*SHAPE, 1))}
    terms, gradients = evaluate(score_loss, **maps)
    assert set(terms.values()) == {0.0} and not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("score_loss", losses.SCORE_LOSSES)
def test_masked_cells_have_no_part(evaluate: Losses, score_loss: str) -> None:
    """No gradient there, and whatever stands there, in prediction or truth, changes nothing elsewhere."""
    maps = random_maps(7)
    terms, (by_score, by_geometry) = evaluate(score_loss, **maps)
    hidden = maps["mask"] == 0
    text = (maps["true_score"] == 1) & ~hidden
    assert hidden.any() and text.any()
    assert not by_score[hidden].any() and by_score[~hidden].all()
    assert not by_geometry[~text[..., 0]].any() and by_geometry[text[..., 0]].any(1).all()
    other = random_maps(8)
    for name in ("score", "geometry", "true_score", "true_geometry"):
        maps[name] = np.where(hidden, other[name] * 0.9, maps[name])
    again, gradients = evaluate(score_loss, **maps)
    assert again == pytest.approx(terms, rel=1e-6)
    np.testing.assert_allclose(gradients[0], by_score, rtol=1e-5)
    np.testing.assert_allclose(gradients[1], by_geometry, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("score_loss", losses.SCORE_LOSSES)
def test_gradients_point_at_the_truth(evaluate: Losses, score_loss: str) -> None:
    """A small step downhill lowers the loss; score gradients have the sign of the error."""
    maps = random_maps(9)
    terms, (by_score, by_geometry) = evaluate(score_loss, **maps)
    seen = maps["mask"] == 1
    assert (by_score[seen & (maps["true_score"] == 0)] > 0).all()
    assert (by_score[seen & (maps["true_score"] == 1)] < 0).all()
    maps["score"] = maps["score"] - 1e-3 * by_score
    maps["geometry"] = maps["geometry"] - 1e-2 * by_geometry
    assert evaluate(score_loss, **maps)[0]["model"] < terms["model"]


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(np.float32, (1, 2, 3, 5), elements=st.floats(0, 2000, width=32)),
    arrays.arrays(np.float32, (1, 2, 3, 5), elements=st.floats(0, 2000, width=32)),
    arrays.arrays(np.float32, (1, 2, 3, 1), elements=st.floats(0, 1, width=32)),
)
def test_finite_for_any_maps(evaluate: Losses, a: np.ndarray, b: np.ndarray, score: np.ndarray) -> None:
    """Empty boxes and saturated scores included."""
    ones = np.ones_like(score)
    for score_loss in losses.SCORE_LOSSES:
        for truth in (ones, 0 * ones):
            terms, gradients = evaluate(
                score_loss, score=score, geometry=a, true_score=truth, true_geometry=b, mask=ones
            )
            assert np.isfinite(list(terms.values())).all() and terms["iou"] >= -1e-4
            assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_geometry_terms_do_not_grow_with_the_share_of_text(evaluate: Losses) -> None:
    maps = one_cell([2, 10, 5, 50, 0.3], [1, 20, 3, 40, 0.1])
    wide = {name: np.tile(value, (3, 4, 5, 1)) for name, value in maps.items()}
    half = wide | {"true_score": wide["true_score"] * (np.arange(5)[:, None] > 1)}
    one, many, some = (evaluate(**m)[0] for m in (maps, wide, half))
    for name in ("iou", "angle"):
        assert one[name] == pytest.approx(many[name], rel=1e-5) == pytest.approx(some[name], rel=1e-5)


def test_default_weights_are_the_papers() -> None:
    """Equation 1 with lambda_g = 1, and lambda_theta = 10 within the RBOX geometry."""
    for maps in (random_maps(3), quad_maps(3)):
        with tf.Graph().as_default(), tf.Session() as session:
            tensors = [tf.constant(map_, tf.float32) for map_ in maps.values()]
            terms = session.run(losses.east_losses(*tensors))
        total = terms["score"] + terms.get("quad", 0) + terms.get("iou", 0) + 10 * terms.get("angle", 0)
        assert terms["model"] == pytest.approx(total, rel=1e-5) and terms["model"] > terms["score"] > 0


# --- QUAD

LOOSE = st.floats(-2000, 2000, width=32)
# 100 wide; the shortest side is the left one: 5 from (0, 0) to (3, 4).
SLANTED = np.array([0, 0, 100, 0, 100, 40, 3, 4], float)


def quad_maps(seed: int, text: float = 0.3) -> dict[str, np.ndarray]:
    """Noisy upright quads of 2 to 80 pixels, predicted from any of their corners."""
    rng = np.random.default_rng(seed)
    signs = np.array([-1, -1, 1, -1, 1, 1, -1, 1])
    truth = signs * np.exp(rng.uniform(0, 3.7, (*SHAPE, 8)))
    turned = np.stack([np.roll(truth, 2 * start, axis=3) for start in range(4)])
    start = rng.integers(0, 4, (1, *SHAPE, 1))
    predicted = np.take_along_axis(turned, start, axis=0)[0] + rng.normal(0, 5, (*SHAPE, 8))
    return random_maps(seed, text) | {"geometry": predicted, "true_geometry": truth}


def expected_quad_loss(maps: dict[str, np.ndarray]) -> float:
    """Equations 8 and 9, one cell and one ordering at a time, in plain Python."""
    costs = []
    for cell in np.ndindex(maps["mask"].shape[:3]):
        if not maps["mask"][cell][0] * maps["true_score"][cell][0]:
            continue
        found, truth = maps["geometry"][cell].reshape(4, 2), maps["true_geometry"][cell].reshape(4, 2)
        shortest = min(np.hypot(*(truth[i] - truth[(i + 1) % 4])) for i in range(4))
        sums = []
        for start in range(4):
            errors = [abs(found[i][k] - truth[(i + start) % 4][k]) for i in range(4) for k in range(2)]
            sums.append(sum(0.5 * e * e if e < 1 else e - 0.5 for e in errors))
        costs.append(min(sums) / (8 * max(shortest, 1)))
    return float(np.mean(costs)) if costs else 0.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), text=st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_quad_against_plain_python(evaluate_quad: Losses, seed: int, text: float) -> None:
    maps = quad_maps(seed, text)
    terms, _ = evaluate_quad(**maps)
    quad, score = expected_quad_loss(maps), expected_terms(random_maps(seed, text), "dice")["score"]
    assert terms == pytest.approx({"score": score, "quad": quad, "model": 0.5 * score + 3 * quad}, rel=2e-4)


def test_quad_by_hand(evaluate_quad: Losses) -> None:
    """Errors of 0.5, 3 and 10 pixels: 0.125, 2.5 and 9.5, over 8 and the shortest side."""
    off = SLANTED + np.array([0.5, 0, 0, -3, 0, 0, 0, 10])
    terms, _ = evaluate_quad(**one_cell(off, SLANTED))
    assert terms["quad"] == pytest.approx((0.125 + 2.5 + 9.5) / (8 * 5), rel=1e-5)
    mirrored = SLANTED.reshape(4, 2)[::-1].ravel()
    assert evaluate_quad(**one_cell(mirrored, SLANTED))[0]["quad"] > 1, "the other way round is another quad"


@pytest.mark.parametrize("turn", range(4))
def test_quad_does_not_depend_on_the_first_corner(evaluate_quad: Losses, turn: int) -> None:
    maps = quad_maps(4)
    terms, (_, gradient) = evaluate_quad(**maps)
    for name in ("geometry", "true_geometry"):
        again, (_, turned) = evaluate_quad(**maps | {name: np.roll(maps[name], 2 * turn, axis=3)})
        assert again == pytest.approx(terms, rel=1e-5)
        expected = np.roll(gradient, 2 * turn, axis=3) if name == "geometry" else gradient
        np.testing.assert_allclose(turned, expected, rtol=1e-4, atol=1e-7)


def test_long_and_short_texts_weigh_the_same(evaluate_quad: Losses) -> None:
    """Errors in proportion to the text, beyond the half pixel that the bend near 0 costs."""
    small = evaluate_quad(**one_cell(SLANTED + 4, SLANTED))[0]["quad"]
    large = evaluate_quad(**one_cell((SLANTED + 4) * 30, SLANTED * 30))[0]["quad"]
    assert large == pytest.approx(4 / 5, abs=0.01) and small == pytest.approx(3.5 / 5, abs=1e-4)
    wide = SLANTED * [1, 1, 9, 1, 9, 1, 1, 1]
    assert evaluate_quad(**one_cell(wide + 4, wide))[0]["quad"] == pytest.approx(small, rel=1e-5)


def test_quad_gradients_point_at_the_truth(evaluate_quad: Losses) -> None:
    maps = quad_maps(9)
    maps["geometry"] = maps["true_geometry"] + np.random.default_rng(0).normal(0, 0.4, maps["geometry"].shape)
    terms, (by_score, gradient) = evaluate_quad(**maps)
    text = (maps["true_score"] * maps["mask"])[..., 0] == 1
    assert not gradient[~text].any() and by_score.any()
    error = maps["geometry"] - maps["true_geometry"]
    assert (np.sign(gradient[text]) == np.sign(error[text])).all()
    maps["geometry"] = maps["geometry"] - 0.1 * gradient
    assert evaluate_quad(**maps)[0]["quad"] < terms["quad"]


def test_quad_right_or_masked_or_without_text_costs_nothing(evaluate_quad: Losses) -> None:
    maps = quad_maps(5)
    right = maps | {"score": maps["true_score"], "geometry": np.roll(maps["true_geometry"], 4, axis=3)}
    for case in (right, *(maps | {name: np.zeros((*SHAPE, 1))} for name in ("mask", "true_score"))):
        terms, (_, gradient) = evaluate_quad(**case)
        assert terms["quad"] == 0 and not gradient.any() and np.isfinite(terms["model"])


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(np.float32, (1, 2, 3, 8), elements=LOOSE),
    arrays.arrays(np.float32, (1, 2, 3, 8), elements=LOOSE),
)
def test_quad_is_finite_for_any_maps(evaluate_quad: Losses, a: np.ndarray, b: np.ndarray) -> None:
    """Truths without area, or even a side, included."""
    ones = np.ones((1, 2, 3, 1), np.float32)
    for truth in (b, 0 * b, b * np.float32(1e-30)):
        terms, gradients = evaluate_quad(
            score=ones, geometry=a, true_score=ones, true_geometry=truth, mask=ones
        )
        assert np.isfinite(list(terms.values())).all() and terms["quad"] >= 0
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def mined(score: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> tuple[float, np.ndarray]:
    """The cross-entropy on mined cells, and its gradient."""
    with tf.Graph().as_default(), tf.Session() as session:
        scores, others = tf.constant(score, tf.float32), [tf.constant(m, tf.float32) for m in (truth, mask)]
        loss = losses.mined_cross_entropy(scores, *others)
        return session.run([loss, tf.gradients(loss, scores)[0]])


@pytest.mark.parametrize("seed", range(4))
def test_only_the_hardest_background_teaches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, 40, 40, 1)
    truth, mask = (rng.random(shape) < 0.05).astype(float), (rng.random(shape) < 0.9).astype(float)
    score = rng.permutation(np.geomspace(1e-5, 0.99, truth.size)).reshape(shape)
    loss, gradient = mined(score, truth, mask)
    text, background = (truth * mask) > 0, ((1 - truth) * mask) > 0
    wanted = int(max(losses.MINED_RATIO * text.sum(), 2 * losses.LEAST_MINED))
    learned = (gradient != 0) & ~text
    assert wanted <= learned.sum() <= wanted + 2 < background.sum() / 2
    hardest = np.sort(score[background])[-int(learned.sum()) :]
    assert (learned == (background & (score >= hardest[0]))).all()
    terms = np.concatenate([-np.log(score[text]), -np.log(1 - hardest)])
    assert loss == pytest.approx(terms.mean(), rel=1e-4)


def test_mining_ends_where_there_is_no_background_or_no_text() -> None:
    shape = (1, 30, 30, 1)
    ones, zeros = np.ones(shape), np.zeros(shape)
    assert mined(0.5 * ones, ones, ones)[0] == pytest.approx(np.log(2), rel=1e-5)
    assert mined(0.5 * ones, ones, zeros)[0] == 0
    # All scores alike: whichever of them were the hardest, all are.
    loss, gradient = mined(0.5 * ones, zeros, ones)
    assert loss == pytest.approx(np.log(2), rel=1e-5) and (gradient > 0).all()


def test_a_text_that_weighs_more_pulls_more() -> None:
    truth = np.zeros((1, 30, 30, 1))
    truth[0, 2:4, 2:4], truth[0, 10:20, 10:20] = 1, 1
    mask = np.ones_like(truth)
    mask[0, 2:4, 2:4] = 3
    for loss in (losses.mined_cross_entropy, losses.dice_loss):
        with tf.Graph().as_default(), tf.Session() as session:
            score = tf.constant(0.5 * np.ones_like(truth), tf.float32)
            value = loss(score, tf.constant(truth, tf.float32), tf.constant(mask, tf.float32))
            slope = session.run(tf.gradients(value, score)[0])[0, :, :, 0]
        assert slope[2, 2] == pytest.approx(3 * slope[10, 10], rel=1e-4) and slope[10, 10] < 0
