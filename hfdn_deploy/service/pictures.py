"""Bytes of a request to an image and back; too large ones are refused before they are decoded."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image as Pillow

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import Image, check_fits, decode_image, encode_image
from hfdn_deploy.service.limits import Limits, RequestError

Format = Literal["png", "jpeg", "webp"]

# Names for errors, by whose suffixes the formats are chosen.
_NAMES: dict[Format, Path] = {
    "png": Path("picture.png"),
    "jpeg": Path("picture.jpg"),
    "webp": Path("picture.webp"),
}
# Pillow's names. The last is a JPEG with further pictures behind it, as some phones write.
_FORMATS: dict[str, Format] = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "MPO": "jpeg"}


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels."""

    format: Format
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """Format and size of a picture, without decoding it.

    Raises:
        RequestError: 415, no PNG, JPEG or WebP; 413, larger than any sane picture.
    """
    try:
        with Pillow.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
            return Header(_FORMATS[str(opened.format)], *opened.size)
    except Pillow.DecompressionBombError:
        raise RequestError(
            413, "the picture has far too many pixels; send a smaller one."
        ) from None
    except Exception:  # what its parsers raise on broken files shares no base class but this
        raise RequestError(
            415, "the body is no picture that can be read; send a PNG, JPEG or WebP."
        ) from None


def decode(data: bytes, limits: Limits, scale: int, form: Format | None) -> tuple[Image, Format]:
    """Decode a picture that is within the limits and whose result its format will hold.

    Returns:
        The image, as `hfdn_deploy.images.read_image` gives it, and the format to answer in: this,
        or its own.

    Raises:
        RequestError: 415 or 413, by the header; 400, the pixels are damaged; 422, the format
            cannot hold the result.
    """
    header = read_header(data)
    limits.check_size(header.width, header.height, scale)
    try:
        image = decode_image(data, "the picture")
    except InputError as error:
        raise RequestError(400, str(error)) from None
    # Sorted, as a camera's note may have turned the picture.
    if sorted(image.shape[:2]) != sorted((header.height, header.width)):
        raise RequestError(400, "the picture has another size than it says; save it anew.")
    form = form or header.format
    height, width, channels = (*image.shape, 1)[:3]
    try:
        check_fits(_NAMES[form], scale * width, scale * height, channels, image.dtype.name)
    except InputError as error:
        raise RequestError(422, str(error)) from None
    return image, form


def encode(image: Image, form: Format) -> bytes:
    """The file of an image.

    Raises:
        RequestError: 422, the format cannot hold this image.
    """
    try:
        return encode_image(image, _NAMES[form])
    except InputError as error:
        raise RequestError(422, str(error)) from None
