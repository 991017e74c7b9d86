"""From an image to `Detections`."""
