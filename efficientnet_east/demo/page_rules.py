"""Which of Gradio's many routes may be used: only those that the page needs.

Gradio fetches addresses, serves files and runs functions for everybody who knows its routes. Here each
request must be one that the page itself makes, and may only name files of the page's own folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from efficientnet_east.demo.request_guard import Rules

_OWN = {("GET", "/health"), ("POST", "/detect")}
_EXACT = {
    ("GET", name) for name in ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
} | {
    ("GET", f"/gradio_api/{name}")
    for name in ("app_id", "startup-events", "theme.css", "queue/data", "upload_progress")
} | {("POST", f"/gradio_api/{name}") for name in ("upload", "queue/join", "cancel", "reset")}  # fmt: skip
_BELOW = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")
_FILE = "/gradio_api/file="
MOST_KEPT = 1_000_000_000  # bytes of uploads and results


def rules(folder: Path | None) -> Rules:
    """Make the rules of a `RequestGuard`.

    Args:
      folder: of the page's files; None where there is no page.
    """

    def expect(method: str, path: str, body: bytes | None) -> None:
        asked = ("GET" if method == "HEAD" else method), path
        if asked in _OWN:
            return
        if folder is None or not (asked in _EXACT or (asked[0] == "GET" and _is_readable(path, folder))):
            raise HTTPException(404, "not found")
        if path.endswith("/upload") and body is None and _size(folder) > MOST_KEPT:
            raise HTTPException(503, "too many uploads at the moment")
        if path.endswith("/queue/join") and body is not None:
            _expect_own_files(body, folder)

    return expect


def _is_readable(path: str, folder: Path) -> bool:
    if path.startswith(_FILE):
        return is_below(path.removeprefix(_FILE), folder)
    return path.startswith(_BELOW) and ".." not in path


def is_below(path: str, folder: Path) -> bool:
    """Whether an absolute path lies below an absolute folder, with links and dots resolved."""
    if "\0" in path or not os.path.isabs(path):
        return False
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _expect_own_files(body: bytes, folder: Path) -> None:
    """Refuse a request that names a file or an address that is not an upload of the page."""
    try:
        named = [value for key, value in _strings(json.loads(body)) if key in ("path", "url")]
    except (ValueError, RecursionError):
        raise HTTPException(400, "not a request of the page") from None
    for value in named:
        file = value.partition(_FILE)[2] if _FILE in value else value
        if not is_below(file, folder):
            raise HTTPException(403, "only uploads can be read")


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a JSON value with its key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _strings(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)
    elif isinstance(value, str):
        yield key, value


def _size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except OSError:  # swept away
                continue
    return total
