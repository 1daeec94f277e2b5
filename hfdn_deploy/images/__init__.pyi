from .animation import Animation, holds_animation, write_animation
from .colour import BAND_PIXELS, WHITE, ImagePlanes, check_image, check_shape
from .exif import upright_exif
from .format import Header
from .frames import Frames
from .metadata import Metadata
from .opencv import cv2
from .png_chunks import png_chunk
from .reading import (
    ImageReader,
    ImageTooLargeError,
    decode_header,
    decode_image,
    find_images,
    open_image,
    read_header,
    read_image,
)
from .registry import FORMATS, IMAGE_SUFFIXES, SIGNATURE_BYTES, format_of
from .resize import cubic, imresize
from .resize_bands import resize_image, resize_planes
from .rows import Banded, Image, Plane, Rows, size_of
from .writing import check_fits, check_format, encode_image, write_image, writes_bands

__all__ = [
    "BAND_PIXELS",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "SIGNATURE_BYTES",
    "WHITE",
    "Animation",
    "Banded",
    "Frames",
    "Header",
    "Image",
    "ImagePlanes",
    "ImageReader",
    "ImageTooLargeError",
    "Metadata",
    "Plane",
    "Rows",
    "check_fits",
    "check_format",
    "check_image",
    "check_shape",
    "cubic",
    "cv2",
    "decode_header",
    "decode_image",
    "encode_image",
    "find_images",
    "format_of",
    "holds_animation",
    "imresize",
    "open_image",
    "png_chunk",
    "read_header",
    "read_image",
    "resize_image",
    "resize_planes",
    "size_of",
    "upright_exif",
    "write_animation",
    "write_image",
    "writes_bands",
]
