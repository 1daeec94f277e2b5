"""The routes: a FastAPI application around a `Service`."""

import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Annotated, Any, get_args

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import WithJsonSchema

from hfdn_deploy import __version__
from hfdn_deploy.errors import HFDNError
from hfdn_deploy.service.limits import RequestError
from hfdn_deploy.service.middleware import AliasMiddleware, CountMiddleware, DrainMiddleware
from hfdn_deploy.service.openapi import HEALTH, enum, refusals, upscaling
from hfdn_deploy.service.pictures import Format
from hfdn_deploy.service.service import Service
from hfdn_deploy.service.uploads import read_picture

logger = logging.getLogger(__name__)

_PAGES = {
    "/": ("index.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/common.js": ("common.js", "text/javascript"),
    "/docs.js": ("docs.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Only this service's own files; images that the page creates are blobs.
_POLICY = "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'"


def create_app(service: Service) -> FastAPI:
    """Return the application, which closes the service when it shuts down.

    Routes: POST /v1/upscale, GET /v1/models, /livez, /readyz, /healthz, /metrics, /openapi.json,
    and the pages / and /docs. If the service has a token, /v1/upscale, /v1/models and /metrics
    require it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="HFDN super-resolution",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,  # clients behind a proxy may be unable to reach the new address
        docs_url=None,  # FastAPI's own page loads scripts from the network
        redoc_url=None,
    )
    app.add_middleware(DrainMiddleware)
    app.add_middleware(CountMiddleware, count=service.metrics.answered)
    app.add_middleware(AliasMiddleware)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HFDNError, _answer_error)
    app.add_exception_handler(Exception, _answer_failure)
    token = service.settings.token
    protected = [Depends(_token_check(token))] if token else []
    unauthorized = refusals(401) if token else {}
    known = service.models.describe()
    scales = enum("integer", (model["scale"] for model in known))
    precisions = enum("string", (model["precision"] for model in known))
    formats = enum("string", get_args(Format))

    @app.post(
        "/v1/upscale",
        dependencies=[*protected, Depends(_only("scale", "precision", "format"))],
        response_class=Response,
        **upscaling(bool(token)),
    )
    async def upscale(
        request: Request,
        scale: Annotated[
            int | None, WithJsonSchema(scales), Query(description="default: the first model's")
        ] = None,
        precision: Annotated[
            str | None,
            WithJsonSchema(precisions),
            Query(description="default: that of the first model with this scale"),
        ] = None,
        format: Annotated[
            Format | None, WithJsonSchema(formats), Query(description="default: the image's own")
        ] = None,
    ) -> Response:
        """Upscale an image, sent as the body or as the file `image` of a form."""
        answer = await service.upscale(
            partial(read_picture, request, service.limits),
            partial(_gone, request),
            service.models.choose(scale, precision),
            format,
        )
        stages = (f"{name};dur={value:.1f}" for name, value in answer.milliseconds.items())
        model = answer.model
        headers = {
            "Server-Timing": ", ".join(stages),
            "HFDN-Model": f"x{model.scale} {model.precision} {model.backend}",
            "Cache-Control": "no-store",
        }
        return Response(answer.data, media_type=f"image/{answer.format}", headers=headers)

    @app.get(
        "/v1/models",
        dependencies=[*protected, Depends(_only())],
        responses={**unauthorized, **refusals(422)},
    )
    async def models() -> dict[str, Any]:
        """List the models, the default first, and the limits."""
        return {"models": service.models.describe(), "limits": vars(service.limits)}

    @app.get("/livez", responses=HEALTH)
    async def livez() -> Response:
        """Report whether the service works; restart it if it does not."""
        return _health(service.dead)

    @app.get("/readyz", responses=HEALTH)
    async def readyz() -> Response:
        """Report whether the service accepts another request now."""
        return _health(service.unready)

    @app.get("/healthz", responses=HEALTH)
    async def healthz() -> Response:
        """Report the same as /livez, for tools that expect this address."""
        return _health(service.dead)

    @app.get(
        "/metrics",
        dependencies=protected,
        response_class=PlainTextResponse,
        responses=unauthorized,
    )
    async def metrics() -> Response:
        """Return the counters in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    for route, (name, kind) in _PAGES.items():
        app.get(route, include_in_schema=False)(_static(name, kind))
    return app


def _health(wrong: str) -> Response:
    if wrong:
        return JSONResponse({"status": "degraded", "reason": wrong}, 503)
    return JSONResponse({"status": "ok"})


def _static(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    """Return a handler that sends a file of the package, which is read once."""
    content = files("hfdn_deploy.service").joinpath("page", name).read_bytes()
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}

    async def send() -> Response:
        return Response(content, media_type=kind, headers=headers)

    return send


def _only(*names: str) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that refuses unknown and repeated query parameters."""
    known = f"use {', '.join(names)}" if names else "this address takes none"

    async def check(request: Request) -> None:
        given = [name for name, _ in request.query_params.multi_items()]
        for name in given:
            if name not in names:
                raise RequestError(422, f"parameter {name!r:.40} is unknown; {known}.")
            if given.count(name) > 1:
                raise RequestError(422, f"parameter {name} is repeated; send it once.")

    return check


def _token_check(token: str) -> Callable[..., Awaitable[None]]:
    bearer = HTTPBearer(auto_error=False, description="the token of the service")

    async def check(
        shown: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        given = shown.credentials if shown else ""
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise HTTPException(
                401,
                "the bearer token is missing or wrong; send it as Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


async def _gone(request: Request) -> None:
    """Return when the client disconnects; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _answer_error(_: Request, error: Exception) -> Response:
    if isinstance(error, RequestError):
        status, headers = error.status, error.headers
    else:
        logger.error("%s", error)
        status, headers = 500, None
    return JSONResponse({"detail": str(error)}, status, headers)


async def _answer_failure(_: Request, error: Exception) -> Response:
    """Return a 500 without details; the server logs the traceback."""
    return JSONResponse({"detail": "the service failed; see its log for the reason."}, 500)


async def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{e['loc'][-1]} is {e['input']!r:.40}: {e['msg']}" for e in error.errors())
    return JSONResponse({"detail": f"{wrong}; see /docs."}, 422)
