"""TensorBoard scalars and pictures."""

from __future__ import annotations

import cv2
import numpy as np

from efficientnet_east.compat import tf
from efficientnet_east.data.loader import Batch
from efficientnet_east.draw import contact_sheet, maps_picture

PICTURES = 4  # crops of a batch that are shown


class Summary:
    """Writes events into a workdir, or nowhere once closed.

    Args:
      workdir: folder of the events.
    """

    def __init__(self, workdir: str) -> None:
        with tf.Graph().as_default():  # the v1 writer refuses to be made in eager mode
            self._writer = tf.summary.FileWriter(workdir)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write scalars.

        Args:
          step: number of steps done.
          values: tag -> value.
        """
        entries = [tf.Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()]
        self._writer.add_summary(tf.Summary(value=entries), step)

    def picture(self, step: int, tag: str, image: np.ndarray) -> None:
        """Write a picture.

        Args:
          step: number of steps done.
          tag: its title.
          image: uint8 (height, width, 3), RGB.
        """
        png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        shown = tf.Summary.Image(height=image.shape[0], width=image.shape[1], encoded_image_string=png)
        self._writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag=tag, image=shown)]), step)
        self._writer.flush()

    def close(self) -> None:
        """Write out what is left."""
        self._writer.close()


def maps_sheet(batch: Batch, score: np.ndarray, geometry: np.ndarray) -> np.ndarray:
    """Put crops, true maps and predicted maps side by side.

    Args:
      batch: with the true maps.
      score: float32 (b, h, w, 1), predicted.
      geometry: float32 (b, h, w, 5), predicted.

    Returns:
      uint8 RGB; a row for each of the first crops: image, truth, prediction.
    """
    rows = []
    for i in range(min(PICTURES, len(batch.images))):
        truth = maps_picture(
            batch.images[i], batch.score[i, ..., 0], batch.geometry[i, ..., 4], batch.mask[i, ..., 0]
        )
        guess = maps_picture(batch.images[i], score[i, ..., 0], geometry[i, ..., 4])
        rows += [truth, guess]
    return contact_sheet(rows, columns=2)
