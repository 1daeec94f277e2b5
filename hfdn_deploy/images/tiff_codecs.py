"""TIFFs in compressions that neither Pillow nor OpenCV decodes, by tifffile and imagecodecs."""

from functools import cache
from typing import BinaryIO

import numpy as np
from PIL.TiffImagePlugin import COMPRESSION_INFO

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.codecs import check_installed, libtiff_decodes
from hfdn_deploy.images.rows import Pixels

# Compressions that every libtiff decodes: none, fax, LZW, JPEG, deflate and PackBits.
_COMMON = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946}
_NAMES = {
    9: "JBIG", 10: "JBIG", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000",
    34661: "JBIG", 34676: "SGILog", 34677: "SGILog", 34712: "JPEG 2000", 34887: "LERC",
    34892: "JPEG", 34925: "LZMA", 34926: "ZSTD", 34927: "WebP", 34933: "PNG", 34934: "JPEG XR",
    50000: "ZSTD", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip


@cache
def pillow_compressions() -> frozenset[int]:
    """Return the numbers of the compressions that this Pillow decodes."""
    return frozenset(_COMMON | {number for number in COMPRESSION_INFO if libtiff_decodes(number)})


def check_codec(compression: int, stored: str) -> None:
    """Refuse a compression that the installed tifffile and imagecodecs do not decode.

    Args:
        compression: its number.
        stored: the depth, for the message, such as "16-bit".

    Raises:
        InputError: the codec is unknown, or not installed.
    """
    name = f" ({_NAMES[compression]})" if compression in _NAMES else ""
    kind = f"{'an' if stored[0] == '8' else 'a'} {stored} TIFF in compression {compression}{name}"
    check_installed(kind, "codecs", "tifffile", "imagecodecs")
    from tifffile import TIFF

    try:
        TIFF.DECOMPRESSORS[compression]
    except KeyError:
        raise InputError(f"is {kind}, which is unsupported; save it with deflate or LZW") from None


def decode_by_codecs(file: BinaryIO) -> Pixels:
    """Decode the pixels of the first image, (H, W, C)."""
    from tifffile import TiffFile

    file.seek(0)
    with TiffFile(file) as tiff:
        page = tiff.pages.first
        return np.reshape(page.asarray(maxworkers=1), (page.imagelength, page.imagewidth, -1))


def without_unspecified(pixels: Pixels, channels: int) -> Pixels:
    """Return pixels (H, W) or (H, W, channels) without samples beyond these channels."""
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if channels == 1 else pixels[..., :channels]
