"""A network that sees bright spots, and images that have some."""

import numpy as np

from efficientnet_east.structures import Detections

# In pixels of the network's input: the compiled merge adds up thousands of boxes in single precision.
ROUNDING = 0.05


def corners(box: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


class BrightSpots:
    """A network that sees a box of 24 x 16 pixels around every bright red cell: what it finds depends on the
    pixels, and on nothing around them."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.batches.append(batch.shape[:3])
        cells = batch[:, ::4, ::4].astype(np.float32)
        score = (cells[..., :1] / 255) * (cells[..., 2:] < 20)
        return score, np.broadcast_to(np.float32([8, 12, 8, 12, 0.1]), (*score.shape[:3], 5)).copy()


def spots(height: int, width: int, *cells: tuple[int, int]) -> np.ndarray:
    image = np.full((height, width, 3), 90, np.uint8)
    for number, (y, x) in enumerate(cells):
        image[4 * y, 4 * x] = 255 - number, 0, 0
    return image


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.quads, expected.quads)
    np.testing.assert_array_equal(found.scores, expected.scores)
