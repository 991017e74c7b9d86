"""What detections give: JSON, ICDAR text, pictures, and words cut out upright."""

import json

import cv2
import numpy as np
import pytest
from helpers.submissions import read_quads
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.data.submissions import write_submission
from efficientnet_east.drawing.overlays import draw_quads
from efficientnet_east.geometry.quads import rectangle
from efficientnet_east.structures import Detections

BOX = np.array([[10, 20], [50, 20], [50, 36], [10, 36]], np.float32)
NOTHING = Detections(np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32))


def detections(*quads: np.ndarray) -> Detections:
    scores = np.linspace(1, 0.5, len(quads), dtype=np.float32)
    return Detections(np.array(quads, np.float32).reshape(-1, 4, 2), scores)


def chart(height: int = 60, width: int = 90) -> np.ndarray:
    """A picture in which every pixel says where it is: red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    return np.stack([2 * x, 3 * y, np.full_like(x, 7)], axis=2).astype(np.uint8)


def test_json_says_all() -> None:
    found = detections(BOX + np.float32(1 / 3), BOX - 100)
    told = json.loads(found.to_json(image="ä.jpg", width=5))
    assert list(told) == ["image", "width", "words"] and told["image"] == "ä.jpg"
    assert told["words"] == found.as_dict()["words"]
    for word, quad, score in zip(told["words"], found.quads, found.scores, strict=True):
        np.testing.assert_allclose(word["corners"], quad, atol=0.0051)
        assert word["score"] == pytest.approx(score, abs=1e-4)
    assert NOTHING.to_json() == '{"words": []}'


def test_icdar_text_is_what_a_submission_holds(tmp_path: object) -> None:
    found = detections(BOX + np.float32(0.4), BOX - np.float32(10.2))
    assert found.to_icdar() == "10,20,50,20,50,36,10,36\n0,10,40,10,40,26,0,26\n"
    assert (
        found.to_icdar(decimals=1, scores=True).splitlines()[1]
        == "-0.2,9.8,39.8,9.8,39.8,25.8,-0.2,25.8,0.5000"
    )
    assert NOTHING.to_icdar(scores=True) == ""
    write_submission(f"{tmp_path}/out.zip", {"img_1": found.quads})
    lines = [list(map(int, line.split(","))) for line in found.to_icdar().splitlines()]
    np.testing.assert_array_equal(read_quads(f"{tmp_path}/out.zip")["img_1"].reshape(-1, 8), lines)


def test_pictures_in_both_channel_orders() -> None:
    image, found = chart(), detections(BOX)
    picture = found.draw(image)
    np.testing.assert_array_equal(picture, draw_quads(image, found.quads, scores=found.scores))
    np.testing.assert_array_equal(found.draw(image[..., ::-1], bgr=True), picture[..., ::-1])
    assert (found.draw(image, scores=False) != picture).any()
    np.testing.assert_array_equal(NOTHING.draw(image), image)


# --- crops


def test_an_upright_word_is_cut_out_as_it_is() -> None:
    """Less half a pixel, the box is the border between the pixels' squares."""
    (word,) = detections(BOX - np.float32(0.5)).crops(chart())
    np.testing.assert_array_equal(word, chart()[20:36, 10:50])
    (around,) = detections(BOX - np.float32(0.5)).crops(chart(), margin=0.25)
    np.testing.assert_array_equal(around, chart()[16:40, 6:54])


@pytest.mark.parametrize("degrees", [-44, -20, 0, 15, 44])
def test_a_turned_word_comes_out_upright(degrees: float) -> None:
    """The crop's pixels say where they come from: along the word, and across it."""
    center, sides = np.array([45.0, 30.0]), np.array([6.0, 16, 6, 16])
    (quad,) = rectangle(center[None], sides[None], np.deg2rad([degrees]))
    (word,) = detections(quad).crops(chart())
    assert word.shape == (12, 32, 3)
    x, y = word[..., 0] / 2, word[..., 1] / 3
    u, v = (quad[1] - quad[0]) / 32, (quad[3] - quad[0]) / 12
    i, j = np.mgrid[:12, :32] + 0.5
    expected = quad[0] + j[..., None] * u + i[..., None] * v
    np.testing.assert_allclose(np.stack([x, y], axis=2), expected, atol=0.6)


def test_perspective_is_taken_out() -> None:
    board = np.zeros((100, 200, 3), np.uint8)
    quad = np.array([[20, 30], [180, 10], [180, 90], [20, 60]], np.float32)
    flat = np.array([[0, 0], [160, 0], [160, 40], [0, 40]], np.float32) - 0.5
    stripes = np.where(np.arange(160)[None, :, None] % 32 < 16, 255, 0).astype(np.uint8) * np.ones(
        (40, 1, 3), np.uint8
    )
    cv2.warpPerspective(stripes, cv2.getPerspectiveTransform(flat, quad), (200, 100), dst=board)
    (word,) = detections(quad).crops(board, height=40)
    columns = np.arange(word.shape[1]) * 160 / word.shape[1] % 32
    inner = word[4:-4]
    assert inner[:, (columns > 2) & (columns < 14)].mean() > 240
    assert inner[:, (columns > 18) & (columns < 30)].mean() < 15


def test_tall_words_are_turned_if_asked() -> None:
    tall = np.array([[10, 4], [22, 4], [22, 52], [10, 52]], np.float32) - 0.5
    (word,), (turned,) = detections(tall).crops(chart()), detections(tall).crops(chart(), turn_tall=1.5)
    np.testing.assert_array_equal(turned, np.rot90(word))
    assert detections(tall).crops(chart(), turn_tall=4.0)[0].shape == word.shape


def test_one_height_for_a_recognizer() -> None:
    words = detections(BOX, BOX * np.float32(0.5), BOX * np.float32(3)).crops(chart(), height=32)
    assert [word.shape for word in words] == [(32, 80, 3)] * 3
    assert NOTHING.crops(chart()) == []


@settings(deadline=None, max_examples=80)
@given(
    corners=st.lists(st.floats(-2e5, 2e5, width=32) | st.floats(-20, 70, width=32), min_size=8, max_size=8),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    margin=st.sampled_from([0.0, 0.3]),
    height=st.sampled_from([None, 1, 32]),
)
def test_any_box_has_a_crop(
    corners: list[float], size: tuple[int, int], margin: float, height: int | None
) -> None:
    """However far, thin or crooked it is; and none is much larger than its image."""
    (word,) = detections(np.array(corners)).crops(chart(*size), margin=margin, height=height)
    assert word.dtype == np.uint8 and word.ndim == 3 and word.size
    assert height is None or len(word) == height
    assert height is not None or word.shape[0] * word.shape[1] <= 4 * size[0] * size[1] + 2**15


def test_crops_of_an_image_that_opencv_cannot_warp_at_once() -> None:
    image = np.zeros((8, 40_000, 3), np.uint8)
    image[:, 35_000:] = 200
    (near, whole) = detections(
        np.array([[34_990, 0], [35_010, 0], [35_010, 7], [34_990, 7]]),
        np.array([[0, 0], [39_999, 0], [39_999, 7], [0, 7]]),
    ).crops(image)
    assert near[:, :8].max() == 0 and near[:, -8:].min() == 200
    assert whole.shape[1] == 32_766 and whole[:, :28_000].max() == 0 and whole[:, 29_000:].min() == 200
