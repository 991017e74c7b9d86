"""The training recipe: step, loop, schedule, checkpoints, summaries."""
