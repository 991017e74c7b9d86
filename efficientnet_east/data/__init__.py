"""From files or seeds to training batches; no TensorFlow anywhere."""

from absl import logging

# Grain warns at import that JAX is absent, which is no news here. A worker process loads the main module
# before it imports Grain: so `__main__` and `cli.main` import this package.
logging.get_absl_logger().addFilter(lambda record: "jax profiler" not in record.getMessage())
