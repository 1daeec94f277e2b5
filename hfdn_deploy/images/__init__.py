"""Image files to arrays and back: RGB order, dtype and channels as stored, upright."""

from hfdn_deploy.images.decoding import Header
from hfdn_deploy.images.reading import (
    IMAGE_SUFFIXES,
    decode_header,
    decode_image,
    find_images,
    open_image,
    read_header,
    read_image,
)
from hfdn_deploy.images.rows import Banded, Image, Rows
from hfdn_deploy.images.writing import (
    check_fits,
    check_format,
    encode_image,
    write_image,
    writes_bands,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "Banded",
    "Header",
    "Image",
    "Rows",
    "check_fits",
    "check_format",
    "decode_header",
    "decode_image",
    "encode_image",
    "find_images",
    "open_image",
    "read_header",
    "read_image",
    "write_image",
    "writes_bands",
]
