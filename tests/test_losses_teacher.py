"""The losses against a teacher's maps: by hand, where they are least, and where their gradients point."""

from collections.abc import Callable

import numpy as np
import pytest
from helpers.loss_maps import SHAPE, random_maps

from efficientnet_east import losses
from efficientnet_east.compat import tf

Maps = tuple[np.ndarray, np.ndarray]
Teach = Callable[[Maps, Maps], tuple[dict[str, float], list[np.ndarray]]]


@pytest.fixture(scope="module")
def teach() -> Teach:
    """The losses between the score and geometry of two detectors, and their gradients for the first."""
    with tf.Graph().as_default() as graph:
        places = [tf.placeholder(tf.float32, (None, None, None, depth)) for depth in (1, 5, 1, 5)]
        terms = losses.teacher_losses(*places, score_weight=0.5, iou_weight=2.0, angle_weight=7.0)
        gradients = tf.gradients(terms["total"], places[:2])
    session = tf.Session(graph=graph)
    return lambda ours, theirs: session.run(
        [terms, gradients], dict(zip(places, (*ours, *theirs), strict=True))
    )


def test_a_teacher_by_hand(teach: Teach) -> None:
    """Two cells, of which the teacher holds one for text: score .8 and .1; the pupil gives .5 to both."""
    ours = np.full((1, 1, 2, 1), 0.5), np.reshape([[2, 10, 5, 50, 0.3], [9, 9, 9, 9, 0]], (1, 1, 2, 5))
    theirs = (
        np.reshape([0.8, 0.1], (1, 1, 2, 1)),
        np.reshape([[1, 20, 3, 40, 0.1], [1, 1, 1, 1, 0]], (1, 1, 2, 5)),
    )
    terms, _ = teach(ours, theirs)
    divergence = sum(p * np.log(p / 0.5) + (1 - p) * np.log((1 - p) / 0.5) for p in (0.8, 0.1))
    assert terms["score"] == pytest.approx(divergence / (0.9 + losses.LEAST_MINED), rel=1e-5)
    intersection, union = 50 * 4, 60 * 4 + 60 * 7 - 50 * 4
    # The mean over .8 of a cell, of which a mean takes no less than one.
    assert terms["iou"] == pytest.approx(0.8 * np.log((union + 1) / (intersection + 1)), rel=1e-5)
    assert terms["angle"] == pytest.approx(0.8 * (1 - np.cos(0.2)), rel=1e-4)
    expected = 0.5 * terms["score"] + 2 * terms["iou"] + 7 * terms["angle"]
    assert terms["total"] == pytest.approx(expected, rel=1e-5)


def test_a_pupil_like_its_teacher_has_nothing_to_learn(teach: Teach) -> None:
    maps = random_maps(9)
    terms, gradients = teach((maps["score"], maps["geometry"]), (maps["score"], maps["geometry"]))
    assert max(map(abs, terms.values())) < 1e-6
    assert np.abs(gradients[0]).max() < 1e-6, "the divergence is least where the scores are equal"


def test_a_teacher_draws_every_score_and_the_boxes_it_is_sure_of(teach: Teach) -> None:
    maps = random_maps(10)
    theirs = np.where(maps["true_score"] == 1, 0.9, 0.2), maps["true_geometry"]
    terms, (by_score, by_geometry) = teach((maps["score"], maps["geometry"]), theirs)
    assert (np.sign(by_score) == np.sign(maps["score"] - theirs[0])).all()
    sure = theirs[0][..., 0] > 0.5
    assert sure.any() and by_geometry[sure].any(1).all() and not by_geometry[~sure].any()
    assert all(value > 0 for value in terms.values())


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_certain_scores_stay_finite(teach: Teach, level: float) -> None:
    maps = random_maps(11)
    certain = np.full((*SHAPE, 1), level)
    for ours, theirs in ((certain, 1 - certain), (maps["score"], certain)):
        terms, gradients = teach((ours, maps["geometry"]), (theirs, maps["true_geometry"]))
        assert all(np.isfinite(value) for value in terms.values())
        assert all(np.isfinite(gradient).all() for gradient in gradients)
