"""From files or seeds to training batches; no TensorFlow anywhere."""
