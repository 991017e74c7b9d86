"""Environment variables that must be set before TensorFlow is imported."""

from __future__ import annotations

import os

# Of TensorFlow's CPU allocator: whether it keeps what is freed.
ALLOCATOR = "TF_CPU_ALLOCATOR_USE_BFC"
QUIET = "TF_CPP_MIN_LOG_LEVEL"


def hush_tensorflow() -> None:
    """Hide most of what TensorFlow prints when it starts, unless the environment says otherwise.

    TensorFlow calls "failed call to cuInit" an error on every machine without a GPU, so level 3 is needed.
    Real errors come as Python exceptions.
    """
    os.environ.setdefault(QUIET, "3")


def keep_memory() -> None:
    """Let TensorFlow on a CPU keep the memory that it frees, unless the environment says otherwise.

    By default it returns freed memory to the system and asks for it again, page by page. On some machines
    that takes a third of a training step, on others nothing. Call this before TensorFlow is imported, or it
    has no effect. It is for programs, not for libraries: it changes the whole process.
    """
    os.environ.setdefault(ALLOCATOR, "true")
