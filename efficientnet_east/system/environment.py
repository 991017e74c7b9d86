"""What has to be in the process's environment before TensorFlow is imported."""

from __future__ import annotations

import os

# Of TensorFlow's CPU allocator: whether it keeps what is freed.
ALLOCATOR = "TF_CPU_ALLOCATOR_USE_BFC"
QUIET = "TF_CPP_MIN_LOG_LEVEL"


def hush() -> None:
    """Leave out most of what TensorFlow prints when it starts, unless the environment says something else.

    "failed call to cuInit", on every machine without a GPU, is an error to it, so level 3 is needed. What
    really goes wrong comes as a Python exception.
    """
    os.environ.setdefault(QUIET, "3")


def keep_memory() -> None:
    """Let TensorFlow on a CPU keep the memory that it frees, unless the environment says something else.

    By default it gives freed memory back to the system and asks for it again, page by page: on some machines
    a third of the time of a training step, on others none. Call this before TensorFlow is imported; later it
    changes nothing. It is for programs, not for libraries: it changes the whole process.
    """
    os.environ.setdefault(ALLOCATOR, "true")
