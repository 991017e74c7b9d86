"""Losses against a second implementation in NumPy, hand-made cases, and where their gradients point."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from efficientnet_east import losses
from efficientnet_east.compat import tf

SHAPE = (2, 4, 6)


class Losses:
    """The graph, built once: maps in; terms and gradients with respect to the predictions out."""

    def __init__(self) -> None:
        with tf.Graph().as_default() as graph:
            depths = {"score": 1, "geometry": 5, "true_score": 1, "true_geometry": 5, "mask": 1}
            self.inputs = {
                name: tf.placeholder(tf.float32, (None, None, None, d)) for name, d in depths.items()
            }
            self.terms, self.gradients = {}, {}
            for name in losses.SCORE_LOSSES:
                terms = losses.east_losses(
                    *self.inputs.values(), score_loss=name, score_weight=0.5, iou_weight=2.0, angle_weight=7.0
                )
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
    return Losses()


def random_maps(seed: int, text: float = 0.3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def geometry() -> np.ndarray:
        return np.concatenate([rng.uniform(0, 60, (*SHAPE, 4)), rng.uniform(-0.78, 0.78, (*SHAPE, 1))], 3)

    return {
        "score": rng.uniform(0.01, 0.99, (*SHAPE, 1)),
        "geometry": geometry(),
        "true_score": (rng.uniform(size=(*SHAPE, 1)) < text).astype(float),
        "true_geometry": geometry(),
        "mask": (rng.uniform(size=(*SHAPE, 1)) < 0.8).astype(float),
    }


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

    score = {
        "dice": 1 - (2 * overlap + 100) / (total + 100),
        "balanced_cross_entropy": (mean(text) + mean(background)) / 2,
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


def one_cell(geometry: list[float], truth: list[float]) -> dict[str, np.ndarray]:
    one = np.ones((1, 1, 1, 1))
    return {
        "score": one, "true_score": one, "mask": one,
        "geometry": np.reshape(geometry, (1, 1, 1, 5)), "true_geometry": np.reshape(truth, (1, 1, 1, 5)),
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
    """Equation 1 with lambda_g = 1, and lambda_theta = 10 within the geometry."""
    maps = {name: value.astype(np.float32) for name, value in random_maps(3).items()}
    with tf.Graph().as_default(), tf.Session() as session:
        terms = session.run(losses.east_losses(*maps.values()))
    assert terms["model"] == pytest.approx(terms["score"] + terms["iou"] + 10 * terms["angle"], rel=1e-5)
