"""A network's weights on disk: TensorFlow checkpoints, the model file, weight files of other projects."""
