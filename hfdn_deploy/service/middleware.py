"""ASGI middleware: draining of request bodies, aliases of paths, and a count of answers."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The longest time to read and discard a refused body.
DRAIN_SECONDS = 1.0

# Prefixes of the API's paths: the versioned ones, and those for operators.
API = ("/v1/", "/healthz", "/livez", "/readyz", "/metrics")


class DrainMiddleware:
    """Middleware that reads the rest of a request's body before the answer starts.

    A server that answers before it has read the body closes the connection, and a client that is
    still sending gets a broken pipe instead of the answer. A client that waits for "100 Continue"
    sends nothing, so it is answered at once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as an ASGI application."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        waits = any(name == b"expect" for name, _ in scope["headers"])
        ended = False

        async def receive_noting_the_end() -> Message:
            nonlocal ended, waits
            waits = False  # the server has sent "100 Continue"
            message = await receive()
            ended = ended or not message.get("more_body", False)
            return message

        async def send_after_the_end(message: Message) -> None:
            if message["type"] == "http.response.start" and not waits:
                with suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_SECONDS):
                        while not ended:
                            await receive_noting_the_end()
            await send(message)

        await self.app(scope, receive_noting_the_end, send_after_the_end)


class AliasMiddleware:
    """Middleware that serves HEAD as GET without a body, and ignores a final slash of API paths."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as an ASGI application."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        is_head = scope["method"] == "HEAD"
        path = scope["path"]
        # Pages keep the slash, because relative links depend on it.
        if path.startswith(API):
            path = path.removesuffix("/")

        async def send_the_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        method = "GET" if is_head else scope["method"]
        await self.app(
            {**scope, "method": method, "path": path}, receive, send_the_head if is_head else send
        )


class CountMiddleware:
    """Middleware that passes the path and the status of every answer to a function."""

    def __init__(self, app: ASGIApp, count: Callable[[str, int], None]) -> None:
        self.app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as an ASGI application."""

        async def send_counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope["path"], message["status"])
            await send(message)

        await self.app(scope, receive, send_counting)
