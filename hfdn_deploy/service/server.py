"""The HTTP server: uvicorn, with bounds on what a client that hangs may hold."""

import asyncio
import logging
import socket
from contextlib import suppress
from functools import partial
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hfdn_deploy.errors import InputError
from hfdn_deploy.service.app import create_app
from hfdn_deploy.service.service import Service

logger = logging.getLogger(__name__)

_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol, which waits forever in two places where this one does not.

    A client that sends half a request's headers, or nothing, is answered 408 or left; one that
    takes none of its answer is cut off. Both after one to two times `patience` seconds.
    """

    def __init__(self, *args: Any, patience: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience = patience
        self._before: object = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._check()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def _check(self) -> None:
        """Compare with the last look: what should have moved on meanwhile has to."""
        idle = self.cycle is None or self.cycle.response_complete
        unsent = self.transport.get_write_buffer_size()
        now = (idle, self.cycle, unsent)
        if now == self._before and unsent:
            self.transport.abort()
        elif now == self._before and idle:
            if self.conn.trailing_data[0]:
                self.transport.write(_TIMEOUT)
            self.transport.close()
        self._before = now
        self._timer = self.loop.call_later(self._patience, self._check)


def make_server(service: Service) -> uvicorn.Server:
    """A server of the application, to be run with a socket."""
    limits = service.limits
    config = uvicorn.Config(
        create_app(service),
        http=cast(Any, partial(BoundedProtocol, patience=limits.upload_seconds)),
        ws="none",
        lifespan="on",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        # Each of these ends by itself, so nothing that was taken is cut off.
        timeout_graceful_shutdown=int(2 * limits.upload_seconds + limits.answer_seconds) + 10,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 for any free one.

    Raises:
        InputError: no such address here, or it is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen on {host}, port {port} ({error}); choose another --host or --port."
        ) from None


def serve(service: Service, host: str, port: int) -> None:
    """Serve until ctrl-C or SIGTERM, finish what was taken, and close the service.

    Raises:
        InputError: as `listen`.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with listen(host, port) as sock:
        name = f"[{host}]" if ":" in host else host
        logger.info("serving on http://%s:%d (ctrl-C ends it)", name, sock.getsockname()[1])
        # uvicorn passes the signal on when it has shut down, which is no error here.
        with suppress(KeyboardInterrupt):
            make_server(service).run(sockets=[sock])
