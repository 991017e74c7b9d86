"""Check every request before the application sees it: host, origin, password, route, size, speed.

Starlette's own middleware does not do for this server: `TrustedHostMiddleware` cannot allow every numeric
address, and the body must be there, within its limits of size and time, before Gradio may act on it. A
refused request gets one line of JSON, `{"error": "..."}`, and so does an error behind the guard.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from efficientnet_east.demo.limits import MEGABYTE, Limits

# Checks method, path and, once it is there, the body of a request; raises HTTPException.
Rules = Callable[[str, str, bytes | None], None]

INTERNAL_ERROR = "internal error"
# Everything comes from this server. The page's own scripts and styles are inline.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_WITHHELD = ("access-control-", "server")  # no other page may read the answers
_MORE = {401: {"www-authenticate": 'Basic realm="efficientnet_east"'}, 503: {"retry-after": "2"}}

logger = logging.getLogger(__name__)


class JsonLine(JSONResponse):
    """One line of JSON."""

    def render(self, content: Any) -> bytes:
        """Encode the values; names of files may hold broken Unicode."""
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def refusal(status: int, reason: str) -> JsonLine:
    """Make the answer to a request that is refused."""
    return JsonLine({"error": reason}, status, _MORE.get(status))


class RequestGuard:
    """ASGI middleware that checks requests and puts security headers on all answers.

    Args:
      app: the application.
      limits: what is accepted.
      rules: called with method and path before the body is read, and again with the body.
    """

    def __init__(self, app: ASGIApp, limits: Limits, rules: Rules | None = None) -> None:
        self._app, self._limits, self._rules = app, limits, rules or (lambda method, path, body: None)
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; everything but HTTP and the server's own start and end is ignored."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] != "http":
            return
        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                _set_headers(MutableHeaders(scope=message))
            await send(message)

        try:
            await self._pass_on(Request(scope, receive), send_guarded)
        except HTTPException as refused:
            await refusal(refused.status_code, refused.detail)(scope, receive, send_guarded)
        except Exception as error:  # the client learns nothing of it, and the server goes on
            logger.error("%s %r: %r", scope["method"], scope["path"], error)
            if not begun:
                await refusal(500, INTERNAL_ERROR)(scope, receive, send_guarded)

    async def _pass_on(self, request: Request, send: Send) -> None:
        method, path = request.method, request.scope["path"]
        check_origin(request.headers, self._limits.hosts)
        if self._limits.password:
            check_password(request.headers, self._limits.password)
        self._rules(method, path, None)
        if method in ("GET", "HEAD"):
            await self._app(request.scope, request.receive, send)
            return
        if self._uploads >= self._limits.uploads:
            raise HTTPException(503, "too many uploads at the moment")
        self._uploads += 1
        try:
            bodies = [await self._read(request)]  # nobody else holds it, for it may be large
            self._rules(method, path, bodies[0])
            await self._app(request.scope, _replay(bodies, request.receive), send)
        finally:
            self._uploads -= 1

    async def _read(self, request: Request) -> bytes:
        """Read the whole body, unless it is too large or too slow; one that says so itself is not read."""
        most, seconds = self._limits.upload_bytes, self._limits.upload_seconds
        too_large = HTTPException(413, f"more than {most / MEGABYTE:g} megabytes")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise too_large
        body = bytearray()  # a list of the pieces would fragment the memory
        try:
            async with asyncio.timeout(seconds):
                async for piece in request.stream():
                    body += piece
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise HTTPException(408, f"the upload takes longer than {seconds:g} seconds") from None
        except ClientDisconnect:
            raise HTTPException(400, "the upload was broken off") from None
        return bytes(body)


def check_origin(headers: Headers, hosts: tuple[str, ...]) -> None:
    """Refuse requests that another page makes its reader's browser send.

    Somebody else's DNS may give a name to this machine, and a page under that name would look like our own.
    So names must be known. Numeric addresses cannot be given to others.

    Args:
      headers: of the request.
      hosts: names that are known.

    Raises:
      HTTPException: the request is another page's, or for another host.
    """
    host, origin = (",".join(headers.getlist(name)) for name in ("host", "origin"))
    name = host_name(host)
    if name not in ("localhost", *(known.lower() for known in hosts)) and not _is_address(name):
        raise HTTPException(421, "unknown host name; the option allow_host adds one")
    if "origin" in headers and origin.partition("://")[2].lower() != host.lower():
        raise HTTPException(403, "requests from other pages are not answered")
    if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
        raise HTTPException(403, "requests from other pages are not answered")


def check_password(headers: Headers, password: str) -> None:
    """Refuse requests without the password, by HTTP basic authentication; any user name will do.

    Raises:
      HTTPException: the password is missing or wrong.
    """
    kind, _, encoded = headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        given = b""
    if kind.lower() != "basic" or not hmac.compare_digest(given, password.encode()):
        raise HTTPException(401, "a password is needed")


def host_name(host: str) -> str:
    """Take the name out of the header `Host`, such as `localhost:7860` or `[::1]:7860`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def _replay(bodies: list[bytes], receive: Receive) -> Receive:
    """Give a body that has been read once more; after it comes the end of the connection."""

    async def replayed() -> Message:
        if not bodies:
            return await receive()
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    return replayed


def _set_headers(headers: MutableHeaders) -> None:
    for name in [name for name in headers.keys() if name.startswith(_WITHHELD)]:  # noqa: SIM118  (no dict)
        del headers[name]
    headers.update(_HEADERS)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
