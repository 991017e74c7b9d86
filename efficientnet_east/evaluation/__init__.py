"""Score detections by the ICDAR protocols, run a detector over a data set, and report the results."""
