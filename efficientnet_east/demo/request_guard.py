"""What every request passes first: who asks, for what, from which page, how much, and how slowly.

Plain ASGI, so that it stands before whatever library answers. A request that is refused gets one line of
JSON, `{"error": "..."}`; whatever goes wrong behind the gate becomes such a line, too.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import hmac
import ipaddress
import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MEGABYTE = 1_000_000
WRONG = "something went wrong here"
# Everything comes from this server; the page's own scripts and styles stand in its text.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_WITHHELD = (b"access-control-", b"server")  # no other page may read what is answered


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is accepted.

    Attributes:
      upload_bytes: of one request.
      upload_seconds: until all of it must be there.
      uploads: requests whose bodies are held at a time; `upload_bytes` times this is the most memory.
      hosts: names by which the server may be called, besides `localhost` and numeric addresses.
      password: what HTTP's basic authentication must give, with any user; none where empty.
    """

    upload_bytes: int = 20 * MEGABYTE
    upload_seconds: float = 30.0
    uploads: int = 16
    hosts: tuple[str, ...] = ()
    password: str = ""


class Refused(Exception):
    """The request is not answered.

    Args:
      status: of HTTP.
      reason: for whoever asked.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Gate:
    """Lets requests through to an application.

    Args:
      app: the application.
      limits: what is accepted.
      expect: raises `Refused` for a method and path that nobody needs, before the body is read; and, with
        the body, for what it must not hold.
    """

    def __init__(
        self, app: App, limits: Limits, expect: Callable[[str, str, bytes | None], None] | None = None
    ) -> None:
        self._app, self._limits, self._expect = app, limits, expect or (lambda method, path, body: None)
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP and the server's own start and end is ignored."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        begun = False

        async def guarded(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": _with_own(message.get("headers", ()))}
            await send(message)

        try:
            await self._let_through(scope, receive, guarded)
        except Refused as refused:
            await _refuse(guarded, refused)
        # Whatever it is, the client learns nothing of it, and the server goes on.
        except Exception as error:
            print(f"error: {scope['method']} {scope['path']!r}: {error!r}", file=sys.stderr)
            if not begun:
                await _refuse(guarded, Refused(500, WRONG))

    async def _let_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _single(scope["headers"])
        method, path = scope["method"], scope["path"]
        expect_own_page(headers, self._limits.hosts)
        if self._limits.password:
            expect_password(headers, self._limits.password)
        self._expect(method, path, None)
        if method in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        if self._uploads >= self._limits.uploads:
            raise Refused(503, "too many uploads at the moment")
        self._uploads += 1
        try:
            messages = [await self._read(headers, receive)]  # held by nobody else, for it may be large
            self._expect(method, path, messages[0])
            await self._app(scope, _replay(messages, receive), send)
        finally:
            self._uploads -= 1

    async def _read(self, headers: dict[str, str], receive: Receive) -> bytes:
        """The whole body, unless it is too large or too slow; not a byte is read of what says it is."""
        most = self._limits.upload_bytes
        too_large = Refused(413, f"more than {most / MEGABYTE:g} megabytes")
        if not headers.get("content-length", "0").isdecimal():
            raise Refused(400, "a content-length that is no number")
        if int(headers.get("content-length", "0")) > most:
            raise too_large
        body = bytearray()  # a list of the pieces would leave the memory in pieces, too
        try:
            async with asyncio.timeout(self._limits.upload_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the upload was broken off")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise Refused(408, f"not there within {self._limits.upload_seconds:g} seconds") from None


def expect_own_page(headers: dict[str, str], hosts: tuple[str, ...]) -> None:
    """Refuse requests that another page makes its reader's browser send.

    A name that somebody else's DNS points here would make that page's requests look like our own's, so names
    must be known; addresses are nobody's to point.

    Args:
      headers: of the request.
      hosts: names that are known.

    Raises:
      Refused: the request is another page's, or for another host.
    """
    host = headers.get("host", "")
    name = host_name(host)
    if name not in ("localhost", *(known.lower() for known in hosts)) and not _is_address(name):
        raise Refused(421, "this server does not go by that name; start it with --allow-host NAME")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise Refused(403, "requests from other pages are not answered")
    if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
        raise Refused(403, "requests from other pages are not answered")


def expect_password(headers: dict[str, str], password: str) -> None:
    """Refuse requests without the password; the user's name may be any.

    Args:
      headers: of the request.
      password: the one.

    Raises:
      Refused: it is missing or wrong.
    """
    kind, _, encoded = headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        given = b""
    if kind.lower() != "basic" or not hmac.compare_digest(given, password.encode()):
        raise Refused(401, "a password is needed")


def host_name(host: str) -> str:
    """The name in the header `Host`, without the port.

    Args:
      host: such as `localhost:7860` or `[::1]:7860`.
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def answer(status: int, values: dict[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """An answer of one line of JSON.

    Args:
      status: of HTTP.
      values: what is told.

    Returns:
      Status, headers and body.
    """
    body = json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="efficientnet_east"'))
    if status == 503:
        headers.append((b"retry-after", b"2"))
    return status, headers, body


async def _refuse(send: Send, refused: Refused) -> None:
    status, headers, body = answer(refused.status, {"error": refused.reason})
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _replay(bodies: list[bytes], receive: Receive) -> Receive:
    """What has been read, given once; then whatever comes, that is the end of the connection."""

    async def replayed() -> MutableMapping[str, Any]:
        if not bodies:
            return await receive()
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    return replayed


def _single(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers by name; what stands twice counts as another value than either."""
    found: dict[str, str] = {}
    for name, value in headers:
        text = value.decode("latin-1")
        known = found.get(name.decode("latin-1"))
        found[name.decode("latin-1")] = text if known is None else f"{known},{text}"
    return found


def _with_own(headers: Any) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if not name.lower().startswith(_WITHHELD)]
    return [*kept, *_HEADERS]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
