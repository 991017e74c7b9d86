"""Drawing: new pictures, the right places, readable lines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east.drawing import overlays

QUAD = np.array([[[20, 20], [100, 20], [100, 60], [20, 60]]], np.float32)


def gray(level, shape=(90, 140)):
    return np.full((*shape, 3), level, np.uint8)


@pytest.mark.parametrize("level", [0, 60, 128, 200, 255])
def test_lines_show_on_any_ground(level):
    image = gray(level)
    drawn = overlays.draw_quads(image, QUAD)
    profile = drawn[40, 95:106].astype(int)  # across the right side
    assert np.ptp(profile, axis=0).max() > 150
    assert (image == level).all() and drawn is not image
    assert (drawn[30:50, 30:90] == level).all() and (drawn[70:] == level).all()


@pytest.mark.parametrize("corner", range(4))
def test_corners_get_the_color(corner):
    drawn = overlays.draw_quads(gray(128), QUAD, color=(255, 0, 40), thickness=3)
    x, y = QUAD[0, corner].astype(int)
    assert drawn[y, x].tolist() == [255, 0, 40]


def test_lines_are_smoothed():
    slanted = np.array([[[20, 20], [100, 33], [95, 70], [15, 55]]], np.float32)
    assert len(np.unique(overlays.draw_quads(gray(128), slanted)[..., 0])) > 10


def test_subpixel_corners_matter():
    assert (overlays.draw_quads(gray(0), QUAD + 0.5) != overlays.draw_quads(gray(0), QUAD)).any()


def test_thickness_follows_the_image_and_the_argument():
    def green(shape, **options):
        scale = shape[0] / 90
        picture = overlays.draw_quads(gray(0, shape), QUAD * scale, **options)
        return (picture[..., 1] > 100).sum() / scale

    assert green((90, 140), thickness=5) > 2 * green((90, 140), thickness=1)
    assert green((1800, 2800)) > 2 * green((90, 140))


def test_no_quads_no_change():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    assert np.array_equal(overlays.draw_quads(image, np.zeros((0, 4, 2), np.float32)), image)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e12, 1e12), min_size=8, max_size=8), st.sampled_from([(1, 1), (1, 50), (40, 30)]))
def test_any_quad_on_any_image(numbers, shape):
    quads = np.array(numbers, np.float32).reshape(1, 4, 2)
    drawn = overlays.draw_quads(gray(50, shape), quads, scores=np.array([0.5], np.float32))
    assert drawn.shape == (*shape, 3) and drawn.dtype == np.uint8


def test_views_of_other_arrays_can_be_drawn_on():
    mirrored = gray(90)[:, ::-1, ::-1]
    assert overlays.draw_quads(mirrored, QUAD).shape == mirrored.shape


def test_scores_are_written_and_counted():
    plain, labeled = (
        overlays.draw_quads(gray(90), QUAD),
        overlays.draw_quads(gray(90), QUAD, scores=np.array([0.93])),
    )
    assert (plain != labeled)[:20].any() and not (plain != labeled)[30:].any()
    with pytest.raises(ValueError):
        overlays.draw_quads(gray(90), QUAD, scores=np.array([0.9, 0.8]))


@pytest.mark.parametrize(
    "bad", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((9, 9, 4), np.uint8)]
)
def test_only_rgb_images(bad):
    for call in (
        lambda: overlays.draw_quads(bad, QUAD),
        lambda: overlays.heat_overlay(bad, np.zeros((3, 3))),
    ):
        with pytest.raises(ValueError, match="uint8"):
            call()


def test_heat_overlay_is_clear_at_zero_and_strong_at_one():
    image = gray(100)
    score = np.zeros((9, 14), np.float32)
    score[:, 7:] = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.0)
    heat = overlays.heat_overlay(image, score)
    assert (heat[:, :70] == 100).all()
    assert np.abs(heat[45, 125].astype(int) - 100).max() > 80
    assert heat[45, 125, 0] > heat[45, 125, 2]  # red before blue: the map's colors are RGB
    with pytest.raises(ValueError, match="map"):
        overlays.heat_overlay(image, score[..., None])


def test_contact_sheet_cells():
    sheet = overlays.contact_sheet([gray(10), gray(20), gray(30)], 2)
    high, wide = 90, 140
    assert sheet.shape == (2 * high + overlays.GAP, 2 * wide + overlays.GAP, 3)
    assert (sheet[:high, :wide] == 10).all() and (sheet[:high, wide + overlays.GAP :] == 20).all()
    assert (sheet[high + overlays.GAP :, :wide] == 30).all()
    assert (sheet[high + overlays.GAP :, wide + overlays.GAP :] == overlays.PAPER).all()


def test_contact_sheet_fits_other_sizes_in_proportion():
    sheet = overlays.contact_sheet([gray(10), gray(200, (300, 100))], 2)
    cell = sheet[:, 140 + overlays.GAP :]
    columns = np.flatnonzero((cell == 200).all((0, 2)))
    assert len(columns) == 30 and columns[0] == 55  # 300x100 in 90x140: 90x30, in the middle


@pytest.mark.parametrize(("images", "columns"), [([], 2), ([gray(1)], 0)])
def test_empty_sheets_are_refused(images, columns):
    with pytest.raises(ValueError, match="contact_sheet"):
        overlays.contact_sheet(images, columns)


def test_side_by_side_is_one_row():
    assert overlays.side_by_side([gray(1), gray(2), gray(3)]).shape == (90, 3 * 140 + 2 * overlays.GAP, 3)


def test_maps_picture_panels():
    image, score = gray(200), np.ones((9, 14), np.float32)
    angle = np.zeros((9, 14), np.float32)
    angle[:, :7], angle[:, 7:] = -0.7, 0.7
    mask = np.ones((9, 14), np.float32)
    mask[:, :7] = 0
    picture = overlays.maps_picture(image, score, angle, mask)
    assert picture.shape == (90, 4 * 140 + 3 * overlays.GAP, 3)
    panels = [picture[:, i * (140 + overlays.GAP) :][:, :140] for i in range(4)]
    assert (panels[0] == 200).all()
    assert panels[2][45, 20, 2] > panels[2][45, 20, 0] and panels[2][45, 120, 0] > panels[2][45, 120, 2]
    assert (panels[3][:, :70] == 30).all() and (panels[3][:, 70:] == 200).all()
    assert overlays.maps_picture(image, score).shape == (90, 2 * 140 + overlays.GAP, 3)
