"""The HTTP server: uvicorn, with time limits for clients that hang."""

import asyncio
import logging
import os
import socket
import threading
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.service.app import create_app
from hfdn_deploy.service.service import Service, Settings

logger = logging.getLogger(__name__)

_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


# Shares of the shutdown time by which running jobs must finish, answers must be sent, and the
# process is killed. The rest is for the interpreter to exit.
_FINISHING, _SENDING, _LEAVING = 0.6, 0.75, 0.9
# The least rate at which a client must read an answer, in bytes per second.
_LEAST_RATE = 2**14


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol, with time limits in two places where uvicorn waits forever.

    A client that sends incomplete headers gets a 408, and a client that sends nothing is
    disconnected; so is a client that reads less than 16 KiB of its answer per second. All this
    happens after one to two times `patience` seconds.
    """

    def __init__(self, *args: Any, patience: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience = patience
        self._before: tuple[bool, object, int] = (False, None, 0)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._check()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def _check(self) -> None:
        """Close the connection if it has made no progress since the last check."""
        idle = self.cycle is None or self.cycle.response_complete
        unsent = self.transport.get_write_buffer_size()
        was_idle, cycle, left = self._before
        if left and cycle is self.cycle and left - unsent < self._patience * _LEAST_RATE:
            self.transport.abort()
        elif idle and was_idle and cycle is self.cycle and not unsent:
            if self.conn.trailing_data[0]:
                self.transport.write(_TIMEOUT)
            self.transport.close()
        self._before = idle, self.cycle, unsent
        self._timer = self.loop.call_later(self._patience, self._check)


class BoundedServer(uvicorn.Server):
    """uvicorn's server, which ends within a fixed time after a signal, whatever runs."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop listening, and start the shutdown timers; a second signal stops running jobs."""
        if self.should_exit:
            # uvicorn would drop running requests; stopped jobs still get an answer.
            self._service.batcher.stop()
            return
        seconds = self._service.limits.shutdown_seconds
        for share, action in ((_FINISHING, self._service.batcher.stop), (_LEAVING, _leave)):
            timer = threading.Timer(share * seconds, action)
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)


def _leave() -> None:
    """End the process although a thread hangs in a backend or a decoder."""
    logger.error("running jobs did not end in time; the process is killed.")
    os._exit(BackendError.exit_code)


def make_server(service: Service) -> BoundedServer:
    """Return a server of the application, to be run with a socket."""
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
        # The type is int, but fractions of a second work as well.
        timeout_graceful_shutdown=cast(int, _SENDING * limits.shutdown_seconds),
    )
    return BoundedServer(config, service)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 stands for any free port.

    Raises:
        InputError: the address is not one of this machine, or it is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen on {host}, port {port} ({error}); choose another --host or --port."
        ) from None


def serve(settings: Settings, host: str, port: int) -> None:
    """Open the models and serve until SIGINT or SIGTERM; then finish running requests.

    Clients that connect before the models are open wait.

    Raises:
        InputError: as `listen`.
        HFDNError: as `Service`.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with listen(host, port) as sock, Service(settings) as service:
        name = f"[{host}]" if ":" in host else host
        logger.info("serving on http://%s:%d (Ctrl-C stops it)", name, sock.getsockname()[1])
        # uvicorn raises the signal again after its shutdown, which is not an error here.
        with suppress(KeyboardInterrupt):
            make_server(service).run(sockets=[sock])
