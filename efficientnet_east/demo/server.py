"""The server: uvicorn around an application, with time limits for silent connections."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from efficientnet_east.errors import UserError

CONNECTIONS = 200
SILENT_SECONDS = 10.0  # for the head of a request, and after an answer
_GOODBYE_SECONDS = 2


class Server(uvicorn.Server):
    """Serves until it is told to stop; Ctrl-C and SIGTERM end it in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals as uvicorn does, but do not raise them again: files are cleaned up afterwards."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        try:
            before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        except ValueError:  # not the main thread
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """128 plus the signal that ended it; 0 without one."""
        return 128 + self._captured_signals[0] if self._captured_signals else 0


def make(app: ASGIApp, silent_seconds: float = SILENT_SECONDS) -> Server:
    """Make a server for an application; `run(sockets=[...])` starts it.

    Args:
      app: the application.
      silent_seconds: after which a connection without a request is closed.
    """

    class Impatient(_Impatient):
        seconds = silent_seconds

    config = uvicorn.Config(
        app, http=Impatient, ws="none", lifespan="on", log_level="error", access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS,
        timeout_keep_alive=int(max(1, silent_seconds)), timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )  # fmt: skip
    return Server(config)


class _Impatient(H11Protocol):
    """Close connections on which no request has been in work for some time.

    Uvicorn waits for ever for the rest of a request's head, and for what a refused upload still sends.
    """

    seconds = SILENT_SECONDS
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._stop_if_busy()

    def on_response_complete(self) -> None:
        self._wait()
        super().on_response_complete()
        self._stop_if_busy()  # with a request that was sent along with the last one

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_if_busy(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def listen(host: str, port: int, others: int = 0) -> socket.socket:
    """Listen at a port.

    Args:
      host: name or address of the interface.
      port: 0 takes any free one.
      others: how many of the next ports to try if it is taken.

    Returns:
      The listening socket.

    Raises:
      UserError: there is no such interface, or no port is free.
    """
    for candidate in range(port, port + others + 1) if port else (0,):
        try:
            family = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, candidate), family=family, backlog=128)
        except (OSError, OverflowError, UnicodeError) as error:
            problem = error
    where = f"cannot listen at {host}, {port} ({problem})"
    raise UserError("host, port", where, "expected a free port of this machine")


def serve(server: Server, listening: socket.socket, ready: Callable[[], None]) -> int:
    """Serve until a signal ends the server.

    Args:
      server: of `make`.
      listening: of `listen`.
      ready: called when the server accepts requests.

    Returns:
      The exit code.
    """
    startup = server.startup

    async def started(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        ready()

    server.startup = started  # type: ignore[method-assign]
    server.run(sockets=[listening])
    return server.exit_code
