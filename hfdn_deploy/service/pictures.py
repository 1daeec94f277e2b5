"""Decoding and encoding of images; too large images are refused before they are decoded."""

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

# Names in error messages; their suffixes choose the formats.
_NAMES: dict[Format, Path] = {
    "png": Path("image.png"),
    "jpeg": Path("image.jpg"),
    "webp": Path("image.webp"),
}


def decode(
    data: bytes, check_size: Callable[[int, int], object], scale: int, form: Format | None
) -> tuple[Image, Format, Metadata]:
    """Decode an image within the limits whose result fits the format of the answer.

    Args:
        data: content of the file.
        check_size: called with width and height before decoding; refuses the image by raising.
        scale: the model's scale.
        form: format of the answer; None for that of the image.

    Returns:
        The image, as from `hfdn_deploy.images.read_image`, the format of the answer, and the
        colour metadata.

    Raises:
        RequestError: 415, the file is not a PNG, JPEG or WebP; 422, the format cannot hold the
            result; 413, the image has too many pixels; 400, the image is damaged or of an
            unsupported kind.
    """
    own = _format(data)
    try:
        with ImageReader(data, "the image") as reader:
            header = reader.header
            check_size(header.width, header.height)
            form = form or own
            _check_result(form, scale, header)
            return reader.read(), form, header.metadata.colour
    except ImageTooLargeError:
        raise RequestError(
            413, "the image has far too many pixels; send a smaller image."
        ) from None
    except InputError as error:
        raise RequestError(400, str(error)) from None


def _format(data: bytes) -> Format:
    kind = format_of(data)
    for form in get_args(Format):
        if kind is not None and kind.name.lower() == form:
            return cast(Format, form)
    raise RequestError(415, "the body is not a supported image; send a PNG, JPEG or WebP.")


def _check_result(form: Format, scale: int, header: Header) -> None:
    width, height = scale * header.width, scale * header.height
    try:
        check_fits(_NAMES[form], width, height, header.channels, header.dtype)
    except InputError as error:
        raise RequestError(422, str(error)) from None


def encode(image: Image, form: Format, colour: Metadata) -> bytes:
    """Encode an image with the colour metadata of its original.

    Raises:
        RequestError: 422, the format cannot hold the image.
    """
    try:
        return encode_image(image, _NAMES[form], colour)
    except InputError as error:
        raise RequestError(422, str(error)) from None
