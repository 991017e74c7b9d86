"""What the server accepts. Imports neither FastAPI nor Gradio, which may not be installed."""

from __future__ import annotations

import dataclasses

MEGABYTE = 1_000_000


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the server accepts.

    Attributes:
      upload_bytes: of one request.
      upload_seconds: until the whole request must be there.
      uploads: requests whose bodies are held at a time; `upload_bytes` times this is the most memory.
      hosts: names by which the server may be called, besides `localhost` and numeric addresses.
      password: for HTTP basic authentication, with any user name; none where empty.
    """

    upload_bytes: int = 20 * MEGABYTE
    upload_seconds: float = 30.0
    uploads: int = 16
    hosts: tuple[str, ...] = ()
    password: str = ""
