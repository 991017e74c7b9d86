"""From an image to detections: fit, pad, map back, the written contract, and the weights that are used."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.project import Trained
from helpers.spots import ROUNDING, BrightSpots, assert_same, corners, noise, spots
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.config import Detect
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.label_maps import CHANNELS
from efficientnet_east.geometry.quads import area
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.preprocess import PADDING
from efficientnet_east.structures import Detections

SIZES = [(1, 1), (1, 4800), (4800, 1), (33, 65), (720, 1280), (32, 32), (2400, 64), (2401, 64)]


def to_input(points: np.ndarray, image: tuple[int, int], fitted: tuple[int, int]) -> np.ndarray:
    """Where points of an image come to lie as it is scaled; a pixel reaches 0.5 around its centre."""
    factors = np.array([fitted[1] / image[1], fitted[0] / image[0]])
    return (points + 0.5) * factors - 0.5


class Painter:
    """A network that sees given boxes (x0, y0, x1, y1 in pixels of its input), and text in the padding."""

    def __init__(
        self, boxes: np.ndarray, fitted: tuple[int, int], scores: tuple[float, ...] = (0.99,)
    ) -> None:
        self.boxes, self.fitted, self.scores = boxes, fitted, scores
        self.seen = np.zeros(0)

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert batch.dtype == np.uint8 and batch.shape[0] == 1 and batch.shape[3] == 3
        assert batch.shape[1] % 32 == batch.shape[2] % 32 == 0
        self.seen = batch[0]
        rows, columns = batch.shape[1] // 4, batch.shape[2] // 4
        y, x = np.mgrid[:rows, :columns] * 4.0
        score, geometry = np.zeros((1, rows, columns, 1)), np.full((1, rows, columns, 5), 9.0)
        geometry[..., 4] = 0
        for (x0, y0, x1, y1), value in zip(self.boxes, self.scores, strict=True):
            inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
            assert inside.any(), "a box must hold a cell"
            score[0, inside, 0] = value
            geometry[0, inside, :4] = np.stack([y - y0, x1 - x, y1 - y, x - x0], axis=-1)[inside]
        score[0, (y >= self.fitted[0]) | (x >= self.fitted[1]), 0] = 1.0
        return score.astype(np.float32), geometry.astype(np.float32)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_box_comes_back_in_pixels_of_the_image(size: tuple[int, int]) -> None:
    height, width = size
    factor = min(1, 2400 / max(size))
    fitted = max(1, round(height * factor)), max(1, round(width * factor))
    box = np.array([width * 0.2 - 6, height * 0.3 - 7, width * 0.4 + 8, height * 0.5 + 6])
    painted = to_input(box.reshape(2, 2), size, fitted).ravel()
    painter = Painter(painted[None], fitted)
    image = noise(height, width)
    found = Detector(painter, Detect())(image)
    assert len(found) == 1
    np.testing.assert_allclose(found.quads[0], corners(box), atol=ROUNDING)
    assert found.scores[0] == np.float32(0.99)

    assert painter.seen.shape[:2] == tuple(-(-side // 32) * 32 for side in fitted)
    if fitted == size:
        np.testing.assert_array_equal(painter.seen[:height, :width], image)
    for beside in (painter.seen[fitted[0] :], painter.seen[:, fitted[1] :]):
        assert (beside == PADDING).all()


def test_best_first_and_each_score_with_its_own_box() -> None:
    boxes = np.array([[0.0, 0, 40, 20], [60, 0, 100, 20], [0, 60, 40, 80]])
    found = Detector(Painter(boxes, (96, 128), (0.92, 0.98, 0.95)), Detect())(noise(96, 128))
    np.testing.assert_allclose(found.scores, [0.98, 0.95, 0.92])
    np.testing.assert_allclose(found.quads, [corners(boxes[i]) for i in (1, 2, 0)], atol=ROUNDING)


def test_limits() -> None:
    boxes = np.array([[0.0, 0, 40, 20], [60, 10, 100, 15], [0, 60, 40, 80]])
    painter = Painter(boxes, (96, 128), (0.92, 0.98, 0.6))

    def count(**limits: Any) -> int:
        return len(Detector(painter, Detect(**limits))(noise(96, 128)))

    assert count() == 2  # 0.6 is below the score threshold of a cell
    assert count(score_threshold=0.5) == 3
    assert count(score_threshold=0.5, box_threshold=0.91) == 2
    assert count(box_threshold=0.97) == 1
    assert count(min_box_side=5.1) == 1 and count(min_box_side=4.9) == 2
    assert count(score_threshold=0.985) == 0


def test_sides_are_limited_in_pixels_of_the_input() -> None:
    """What the network saw counts, however large the image was."""
    painter = Painter(np.array([[0.0, 0, 30, 4]]), (60, 100))
    assert len(Detector(painter, Detect(max_side=100, min_box_side=5))(noise(600, 1000))) == 0
    (quad,) = Detector(painter, Detect(max_side=100, min_box_side=3))(noise(600, 1000)).quads
    np.testing.assert_allclose(np.ptp(quad, axis=0), [300, 40], atol=10 * ROUNDING)


def test_a_network_of_one_size() -> None:
    network = BrightSpots()
    detector = Detector(network, Detect(), size=(64, 96))
    (found,) = detector(spots(50, 90, (5, 9))).quads
    np.testing.assert_allclose(found.mean(axis=0), (36, 20), atol=0.1)
    detector([np.full(size, 90, np.uint8) for size in [(200, 90, 3), (20, 300, 3), (64, 96, 3), (1, 1, 3)]])
    tiled = Detector(network, Detect(tile_size=32, scales=(0.5, 1.0, 2.0)), size=(64, 96))
    image = spots(300, 500)
    image[279:282, 479:482] = 255, 0, 0  # still bright when it is enlarged
    np.testing.assert_allclose(tiled(image).quads[0].mean(axis=0), (480, 280), atol=0.3)
    assert {batch[1:] for batch in network.batches} == {(64, 96)}


def test_upright_boxes_and_only_the_best() -> None:
    image = spots(96, 128, (5, 5), (5, 20), (18, 10))
    (turned, upright) = (Detector(BrightSpots(), Detect(axis_aligned=flag))(image) for flag in (False, True))
    low, high = turned.quads.min(axis=1), turned.quads.max(axis=1)
    np.testing.assert_array_equal(
        upright.quads, [corners(np.append(*ends)) for ends in zip(low, high, strict=True)]
    )
    best = Detector(BrightSpots(), Detect(max_detections=2))(image)
    assert_same(best, Detections(turned.quads[:2], turned.scores[:2]))
    fewer = Detector(BrightSpots(), Detect(max_candidates=1))(image)
    assert_same(fewer, Detections(turned.quads[:1], turned.scores[:1]))


def test_nothing_found() -> None:
    found = Detector(Painter(np.zeros((0, 4)), (64, 64), ()), Detect())(noise(64, 64))
    assert found.quads.shape == (0, 4, 2) and found.quads.dtype == np.float32
    assert found.scores.shape == (0,) and found.scores.dtype == np.float32
    assert len(found) == 0


def test_stride_two() -> None:
    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = batch.shape[1] // 2, batch.shape[2] // 2
        score, geometry = np.zeros((1, *shape, 1), np.float32), np.zeros((1, *shape, 5), np.float32)
        score[0, 10, 15], geometry[0, 10, 15] = 1.0, (5, 12, 6, 11, 0)
        return score, geometry

    (quad,) = Detector(run, Detect(), stride=2)(noise(33, 65)).quads
    np.testing.assert_allclose(quad, corners(np.array([30 - 11, 20 - 5, 30 + 12, 20 + 6])), atol=ROUNDING)


def test_a_slanted_quad_comes_back_in_pixels_of_the_image() -> None:
    """A trapezium, which no rectangle fits, in an image twice as large as the network's input."""
    quad = np.array([[20, 40], [90, 20], [100, 60], [24, 52]], float)

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = batch.shape[1] // 4, batch.shape[2] // 4
        y, x = np.mgrid[: shape[0], : shape[1]] * 4.0
        offsets = to_input(quad, (240, 320), (120, 160)) - np.stack([x, y], axis=-1)[..., None, :]
        score = (np.abs(x - 30) <= 12) & (np.abs(y - 22) <= 6)
        geometry = offsets.reshape(1, *shape, 8).astype(np.float32)
        geometry[0, 5, 7] = np.roll(geometry[0, 5, 7], 4)  # from another corner
        geometry[0, 5, 8] = geometry[0, 5, 8].reshape(4, 2)[[0, 2, 1, 3]].ravel()  # crossed
        return score[None, ..., None].astype(np.float32), geometry

    found = Detector(run, Detect(max_side=160))(noise(240, 320))
    np.testing.assert_allclose(found.quads, quad[None], atol=2 * ROUNDING)
    assert found.scores == [1]


def test_thin_quads_are_dropped() -> None:
    """By area over the longest side: here all sides are long, and it is 4 pixels high."""

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        score, geometry = np.zeros((1, 16, 16, 1), np.float32), np.zeros((1, 16, 16, 8), np.float32)
        score[0, 6, 6], geometry[0, 6, 6] = 1, (-30, -2, 10, -2, 30, 2, -10, 2)
        return score, geometry

    expected = 40 * 4 / 40
    assert len(Detector(run, Detect(min_box_side=expected - 0.01))(noise(64, 64))) == 1
    assert len(Detector(run, Detect(min_box_side=expected + 0.01))(noise(64, 64))) == 0


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    max_side=st.sampled_from([32, 100, 2400]),
    spread=st.sampled_from([1.0, 30.0, 1e4, np.inf]),
    thinnest=st.sampled_from([0.0, 3.0]),
)
def test_whatever_the_network_says_the_contract_holds(
    channels: int, seed: int, height: int, width: int, max_side: int, spread: float, thinnest: float
) -> None:
    rng = np.random.default_rng(seed)

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = 1, batch.shape[1] // 4, batch.shape[2] // 4
        geometry = rng.exponential(1, (*shape, channels)).astype(np.float32) * np.float32(spread)
        if channels == CHANNELS["rbox"]:
            geometry[..., 4] = rng.uniform(-np.pi / 4, np.pi / 4, shape)
        else:
            geometry *= rng.choice([-1, 1], geometry.shape)
        return rng.random((*shape, 1), np.float32), geometry

    limits = Detect(score_threshold=0.7, max_side=max_side, min_box_side=thinnest)
    with np.errstate(invalid="ignore", over="ignore"):
        found = Detector(run, limits)(noise(height, width))
    assert isinstance(found, Detections)
    assert found.quads.dtype == found.scores.dtype == np.float32
    assert found.quads.shape == (len(found), 4, 2) and np.isfinite(found.quads).all()
    assert (np.diff(found.scores) <= 0).all() and (found.scores >= 0).all() and (found.scores <= 1).all()
    assert (area(found.quads) > 0).all(), "clockwise on the screen"


# --- a trained checkpoint


@pytest.mark.parametrize(("levels", "height"), [(5, 160), (6, 192), (7, 256)])
def test_inputs_fit_the_configured_levels(
    levels: int, height: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(batch.shape[1:3])
        return np.zeros((1, height // 2, 64, 1)), np.zeros((1, height // 2, 64, 5))

    (tmp_path / "config.yaml").write_text(f"model:\n  merge: bifpn\n  levels: {levels}\n  output_stride: 2\n")
    monkeypatch.setattr(tf_checkpoints, "find", lambda workdir: f"{workdir}/model.ckpt-1")
    monkeypatch.setattr("efficientnet_east.inference.graph.load_graph", lambda prefix, config: run)
    assert Detector.load(tmp_path).maps(noise(130, 128))[0].shape == (65, 64)
    assert seen == [(height, 128)]


def test_the_averaged_weights_are_used(trained: Trained, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same maps without the raw weights in the checkpoint, others without the averages."""
    image = cv2.imread(str(trained.data / "images" / "img_1.png"))[..., ::-1]
    whole = Detector.load(f"{trained.workdir}/model.ckpt-4", {"max_side": "96", "threads": 1})
    assert whole.detect.max_side == 96  # an option
    assert whole.detect.score_threshold == 0.02  # the run's own
    score, geometry, scale = whole.maps(image)
    assert score.shape == (18, 24) and geometry.shape == (18, 24, 5) and scale.tolist() == [0.75, 0.75]
    assert score.min() > 0 and score.max() < 1 and geometry.min() < 0 < geometry.max() <= 512

    suffix, values = "/ExponentialMovingAverage", tf_checkpoints.read(tf_checkpoints.find(trained.workdir))
    averages = {name.removesuffix(suffix): value for name, value in values.items() if name.endswith(suffix)}
    raw = {name: values[name] for name in averages}
    monkeypatch.setattr(tf_checkpoints, "read", lambda prefix: averages)
    same = Detector.load(trained.workdir, {"max_side": "96", "threads": 1}).maps(image)
    np.testing.assert_allclose(same[0], score, atol=1e-6)
    np.testing.assert_allclose(same[1], geometry, atol=1e-3)
    monkeypatch.setattr(tf_checkpoints, "read", lambda prefix: raw)
    other = Detector.load(trained.workdir, {"max_side": "96", "threads": 1}).maps(image)
    assert np.abs(other[0] - score).max() > 1e-4  # a hundred times what "the same" means above


def test_the_configuration_must_be_there_and_fit(trained: Trained, tiny: None, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(trained.workdir, folder)
    (folder / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config\.yaml: no such file; expected the configuration"):
        Detector.load(folder)
    text = (trained.workdir / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("output_stride: 4", "output_stride: 2"))
    with pytest.raises(UserError, match=r"ckpt-4: is a checkpoint of another architecture.*merge_f1"):
        Detector.load(folder)


def test_batches_order_and_threads_change_nothing(trained: Trained, tiny: None) -> None:
    """The same boxes from a real network, alone or together, first or last, with one thread or four."""
    rng = np.random.default_rng(0)
    sizes = [(96, 128), (96, 128), (70, 100), (96, 128)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    limits = {"score_threshold": 0.02, "min_box_side": 0}
    one = Detector.load(trained.workdir, {"threads": 1, **limits})
    alone = [one(image) for image in images]
    assert sum(map(len, alone)) > 4
    four = Detector.load(trained.workdir, {"threads": 4, **limits})
    backwards = list(reversed(four(images[::-1])))
    for together in (one(images), four(images), backwards):
        for found, expected in zip(together, alone, strict=True):
            assert len(found) == len(expected)
            np.testing.assert_allclose(found.quads, expected.quads, atol=0.05)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
