"""Bytes of a request to an image and back; too large ones are refused before they are decoded."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast, get_args

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import (
    Header,
    Image,
    ImageReader,
    ImageTooLargeError,
    Metadata,
    check_fits,
    encode_image,
    format_of,
)
from hfdn_deploy.service.limits import RequestError

Format = Literal["png", "jpeg", "webp"]

# Names for errors, by whose suffixes the formats are chosen.
_NAMES: dict[Format, Path] = {
    "png": Path("picture.png"),
    "jpeg": Path("picture.jpg"),
    "webp": Path("picture.webp"),
}


def decode(
    data: bytes, check_size: Callable[[int, int], object], scale: int, form: Format | None
) -> tuple[Image, Format, Metadata]:
    """Decode an image that is within the limits and whose result its format will hold.

    Args:
        data: the file.
        check_size: refuses an image for its width and height before it is decoded.
        scale: of the result.
        form: to answer in; None for its own.

    Returns:
        The image, as `hfdn_deploy.images.read_image` gives it, the format to answer in: this, or
        its own, and what its colours mean.

    Raises:
        RequestError: 415, no PNG, JPEG or WebP; 422, the format cannot hold
            the result; 400, damaged, or a kind of image that is not read.
    """
    own = _format(data)
    try:
        with ImageReader(data, "the picture") as reader:
            header = reader.header
            check_size(header.width, header.height)
            form = form or own
            _check_result(form, scale, header)
            return reader.read(), form, header.metadata.colour
    except ImageTooLargeError:
        raise RequestError(
            413, "the picture has far too many pixels; send a smaller one."
        ) from None
    except InputError as error:
        raise RequestError(400, str(error)) from None


def _format(data: bytes) -> Format:
    kind = format_of(data)
    for form in get_args(Format):
        if kind is not None and kind.name.lower() == form:
            return cast(Format, form)
    raise RequestError(415, "the body is no picture that can be read; send a PNG, JPEG or WebP.")


def _check_result(form: Format, scale: int, header: Header) -> None:
    width, height = scale * header.width, scale * header.height
    try:
        check_fits(_NAMES[form], width, height, header.channels, header.dtype)
    except InputError as error:
        raise RequestError(422, str(error)) from None


def encode(image: Image, form: Format, colour: Metadata) -> bytes:
    """The file of an image whose colours mean the same as its original's.

    Raises:
        RequestError: 422, the format cannot hold this image.
    """
    try:
        return encode_image(image, _NAMES[form], colour)
    except InputError as error:
        raise RequestError(422, str(error)) from None
