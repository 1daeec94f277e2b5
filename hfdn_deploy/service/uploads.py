"""Reading of a request's body, with limits on size and time, and without temporary files."""

import asyncio
from collections.abc import AsyncGenerator

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from hfdn_deploy.service.limits import Limits, RequestError

FIELD = "image"

# nginx's status for a client that disconnected. The answer is never read, but it is counted.
CLIENT_GONE = 499


async def read_picture(request: Request, limits: Limits) -> bytes:
    """Return the bytes of the image: a form's file `image`, or the whole body if not a form.

    Raises:
        RequestError: 413, the body has too many bytes; 408, it arrived too slowly; 400, the form
            is broken or there is no image; 499, the client disconnected.
    """
    if int(request.headers.get("content-length", 0)) > limits.body_bytes:
        raise _too_large(limits)
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/")
    try:
        async with asyncio.timeout(limits.upload_seconds):
            body = _bounded(request, limits)
            data = await _read_form(request, body, limits) if is_form else await _join(body)
    except TimeoutError:
        raise RequestError(
            408, f"the body did not arrive within {limits.upload_seconds:g} s; send it faster."
        ) from None
    except ClientDisconnect:
        raise RequestError(CLIENT_GONE, "the client disconnected while sending.") from None
    if not data:
        raise RequestError(
            400, f"there is no image; send one as the body or as the form's file {FIELD!r}."
        )
    return data


async def _bounded(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limits.body_bytes:
            raise _too_large(limits)
        yield chunk


async def _join(body: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([chunk async for chunk in body])


async def _read_form(request: Request, body: AsyncGenerator[bytes, None], limits: Limits) -> bytes:
    parser = MultiPartParser(request.headers, body, max_files=1, max_fields=0)
    parser.spool_max_size = limits.body_bytes + 1  # avoids a temporary file
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:  # which Starlette has caught since 1.7
        raise RequestError(
            400,
            f"the form cannot be used ({str(error).rstrip('.')}); send one file {FIELD!r}, and "
            "scale, precision and format in the query.",
        ) from None
    try:
        file = form.get(FIELD)
        return await file.read() if isinstance(file, UploadFile) else b""
    finally:
        await form.close()


def _too_large(limits: Limits) -> RequestError:
    return RequestError(
        413, f"the body is larger than {limits.body_bytes:,} bytes; send a smaller image."
    )
