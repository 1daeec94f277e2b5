from .colour import BAND_PIXELS, WHITE, YCBCR, ImagePlanes, Plane, check_image
from .decoding import Header
from .encoding import FORMATS
from .metadata import png_chunk, upright_exif
from .reading import (
    IMAGE_SUFFIXES,
    decode_header,
    decode_image,
    find_images,
    open_image,
    read_header,
    read_image,
)
from .resize import cubic, imresize
from .rows import Banded, Image, Rows, size_of
from .writing import check_fits, check_format, encode_image, write_image, writes_bands

__all__ = [
    "BAND_PIXELS",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "WHITE",
    "YCBCR",
    "Banded",
    "Header",
    "Image",
    "ImagePlanes",
    "Plane",
    "Rows",
    "check_fits",
    "check_format",
    "check_image",
    "cubic",
    "decode_header",
    "decode_image",
    "encode_image",
    "find_images",
    "imresize",
    "open_image",
    "png_chunk",
    "read_header",
    "read_image",
    "size_of",
    "upright_exif",
    "write_image",
    "writes_bands",
]
