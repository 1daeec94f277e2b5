"""Additions to /openapi.json that FastAPI cannot derive from the routes' signatures."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field

from hfdn_deploy.service.uploads import FIELD

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_IMAGES = {f"image/{form}": _BINARY for form in ("png", "jpeg", "webp")}
_FORM = {
    "schema": {
        "type": "object",
        "required": [FIELD],
        "properties": {FIELD: _BINARY["schema"]},
        "additionalProperties": False,
    }
}
_REFUSALS = {
    400: "the body has no image, or a damaged one",
    401: "the bearer token is missing or wrong",
    408: "the body arrived too slowly",
    413: "the image has too many bytes or pixels for the limits, the memory or the time",
    415: "the body is not a PNG, JPEG or WebP",
    422: "unknown parameter, scale, precision or format, or the format cannot hold the image",
    429: "the queue is full",
    500: "the backend failed",
    503: "the image was not done in time, or there are too many connections",
}


class Error(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="what is wrong, and what to do")


def _object(name: str, *names: str) -> dict[str, Any]:
    fields = {name: {"type": "string"} for name in (name, *names)}
    return {"schema": {"type": "object", "required": list(fields), "properties": fields}}


HEALTH: dict[int | str, dict[str, Any]] = {
    200: {"description": "yes", "content": {"application/json": _object("status")}},
    503: {
        "description": "no, for the reason given",
        "content": {"application/json": _object("status", "reason")},
    },
}
"""The answers of the health routes."""


def _header(kind: str, text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": kind}}


_LATER = {"Retry-After": _header("integer", "seconds after which to retry")}
_HEADERS = {
    401: {"WWW-Authenticate": _header("string", "the scheme, Bearer")},
    429: _LATER,
    503: _LATER,
}
# The server itself refuses excess connections, in plain text.
_CONTENT = {503: {"text/plain": {"schema": {"type": "string"}}}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of a route by their statuses."""
    return {
        status: {
            "model": Error,
            "description": _REFUSALS[status],
            "headers": _HEADERS.get(status, {}),
            "content": _CONTENT.get(status, {}),
        }
        for status in statuses
    }


def upscaling(has_token: bool) -> dict[str, Any]:
    """Return the description of /v1/upscale as arguments of FastAPI's `post`."""
    headers = {
        "Server-Timing": _header("string", "milliseconds of each stage"),
        "HFDN-Model": _header("string", "the model's scale, precision and backend"),
    }
    statuses = [status for status in _REFUSALS if status != 401 or has_token]
    return {
        "responses": {
            200: {"description": "the upscaled image", "content": _IMAGES, "headers": headers},
            **refusals(*statuses),
        },
        "openapi_extra": {
            "requestBody": {"required": True, "content": {"multipart/form-data": _FORM, **_IMAGES}}
        },
    }


def enum(kind: str, values: Iterable[int | str]) -> dict[str, Any]:
    """Return the schema of a parameter with these values, listed once each."""
    return {"type": kind, "enum": list(dict.fromkeys(values))}
