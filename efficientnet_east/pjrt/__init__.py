"""Training without TensorFlow on the accelerator: a step as StableHLO, and what runs it through PJRT."""
