"""Messages of a run. They must not end it: the reader of stdout may have gone, or its disk may be full."""

from __future__ import annotations

import contextlib
import logging
from typing import Any


class _Unfailing(logging.LoggerAdapter):
    """Log as the logger does, but ignore that a line cannot be written."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """See `logging.Logger.log`, which all other methods call."""
        with contextlib.suppress(OSError):
            super().log(level, msg, *args, **options)


def unfailing_logger(name: str) -> logging.LoggerAdapter:
    """Return the logger of a module whose messages come while training runs.

    Args:
      name: of the module.
    """
    return _Unfailing(logging.getLogger(name))
