"""Image files to arrays: the header first, the pixels only when they are wanted.

Pillow reads the headers and all pixels of 8 bits; OpenCV those of 16 bits and floats, which
Pillow does not or would cut down to 8.
"""

import io
import math
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    TiffTags,
    WebPImagePlugin,
)
from PIL.ExifTags import Base
from PIL.Image import Exif
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import metadata as md
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.rows import Pixels

# The first bytes of a file, and who reads it. The classes are named so that no other of Pillow's
# many readers ever sees a stranger's file.
_FORMATS = {
    "PNG": (rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    "JPEG": (rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    "WebP": (rb"RIFF....WEBP", WebPImagePlugin.WebPImageFile),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", TiffImagePlugin.TiffImageFile),
    "BMP": (rb"BM", BmpImagePlugin.BmpImageFile),
    "AVIF": (rb"....ftyp.{0,48}avi[fs]", AvifImagePlugin.AvifImageFile),
}
_PREFIX = 64

# Channels by Pillow's mode; a colour or palette entry may be transparent besides.
_CHANNELS = {"1": 1, "L": 1, "I;16": 1, "LA": 2, "P": 3, "RGB": 3, "RGBX": 3, "YCbCr": 3}
_CHANNELS |= {"PA": 4, "RGBA": 4}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}

_SIGNED = 2
# What OpenCV decodes: nothing, LZW, deflate by both its numbers, and PackBits (TIFF 6.0).
_DEEP_COMPRESSIONS = (1, 5, 8, 32946, 32773)
# Pixels of a TIFF's tile that are decoded whatever the size of the picture.
_LARGEST_TILE = 2**24


@dataclass(frozen=True)
class Header:
    """What a file says about its picture before any pixel is decoded."""

    format: str
    """PNG, JPEG, WebP, TIFF, BMP or AVIF."""
    width: int
    height: int
    """In pixels, as the picture is looked at: the orientation is applied."""
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    dtype: str
    """uint8, uint16 or float32."""
    orientation: int
    """1 to 8 (EXIF 2.32, 4.6.4): what turns the stored pixels upright."""
    frames: int
    """Pictures in the file; the first is taken."""
    metadata: Metadata


def parse_header(file: BinaryIO) -> tuple[Header, ImageFile | None]:
    """The header, and Pillow's unread image if it is to decode the pixels.

    Raises:
        InputError: a kind of picture that is not read; the message goes behind the file's name.
        Exception: whatever a damaged file makes Pillow raise.
    """
    prefix = file.read(_PREFIX)
    found = [name for name, (start, _) in _FORMATS.items() if re.match(start, prefix, re.DOTALL)]
    if not found:
        raise InputError("is no image that can be decoded: no PNG, JPEG, WebP, TIFF, BMP or AVIF")
    name = found[0]
    reader = _FORMATS[name][1]
    file.seek(0)
    if name == "TIFF":
        return _read_tiff_header(file)
    try:
        image = reader(file, "")
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        raise InputError(
            "holds a text or profile of more than 1 MiB, which is not read; save it without"
        ) from None
    info: dict[Any, Any] = image.info
    if image.mode not in _CHANNELS:
        raise InputError(f"holds {image.mode} pixels; convert it to RGB with its colour profile")
    channels = _CHANNELS[image.mode]
    dtype = "uint8"
    if name == "PNG":
        chunks = md.read_png_chunks(file)
        file.seek(8 + 8 + 8)
        depth, colour_type = file.read(2)
        dtype = "uint16" if depth == 16 else "uint8"
        channels = 2 if colour_type == 4 else channels  # where Pillow says RGBA of 16 bits
        if depth in (2, 4) and image.mode == "L" and "transparency" in info:
            # Pillow stretches the pixels to 8 bits, but not the one that is transparent.
            info["transparency"] *= 255 // (2**depth - 1)
        data, orientation = md.png_metadata(chunks, info.get("icc_profile"), info.get("dpi"))
    else:
        if name == "AVIF" and (bits := _avif_depth(file)) > 8:
            raise InputError(f"has {bits} bits a channel; convert it to 8 bits or a 16-bit PNG")
        exif, orientation = md.upright_exif(info.get("exif"))
        data = Metadata(
            info.get("icc_profile"),
            exif,
            md.upright_xmp(info.get("xmp")),
            md.valid_dpi(info.get("dpi")),
            damaged=bool(info.get("exif")) and exif is None,
        )
    if channels in (1, 3) and "transparency" in info:
        channels += 1
    width, height = image.size if orientation < 5 else reversed(image.size)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and dtype == "uint16":  # of which OpenCV reads another picture than Pillow
        raise InputError("is an animated PNG of 16 bits; save its first picture by itself")
    header = Header(name, width, height, channels, dtype, orientation, frames, data)
    return header, image


def decode(file: BinaryIO, header: Header, image: ImageFile | None) -> Pixels:
    """Pixels, upright: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGBA.

    Args:
        file: the file that the header came from; of a deep TIFF, what
            `tiff.read_deep` makes of it.
        header, image: from `parse_header`.

    Raises:
        InputError: damaged; the message goes behind the file's name.
        Exception: whatever a damaged file makes Pillow and OpenCV raise.
    """
    if header.format == "TIFF":
        check_tiff_parts(read_tiff_directory(file))
    if header.dtype != "uint8":
        pixels = _decode_deep(file, header, image)
    else:
        assert image is not None
        if header.format == "TIFF":
            # It would otherwise be turned once more by what its XMP says.
            image.info.pop("xmp", None)
            # What its tags lead to would be parsed, too; where that is damaged, pixels are not.
            exif = image.getexif()
            for tag in set(TiffTags.TAGS_V2_GROUPS) & set(exif):
                del exif[tag]
        image.load()
        mode = _MODES[header.channels]
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    if header.format != "TIFF":  # which Pillow has turned
        pixels = turn_upright(pixels, header.orientation)
    return np.ascontiguousarray(pixels)


def decode_part(data: bytes) -> Pixels:
    """The pixels of a whole file, as `decode` gives them; it raises the same."""
    file = io.BytesIO(data)
    return decode(file, *parse_header(file))


def read_tiff_directory(file: BinaryIO) -> ImageFileDirectory_v2:
    """The tags of a TIFF's first picture."""
    file.seek(0)
    directory = ImageFileDirectory_v2(file.read(16 if _is_bigtiff(file) else 8))
    file.seek(directory.next)
    directory.load(file)
    return directory


def check_tiff_parts(tags: ImageFileDirectory_v2) -> None:
    """Refuse missing strips and tiles, which Pillow leaves black, and tiles far too large.

    Raises:
        InputError: so it is; the message goes behind the file's name.
        Exception: whatever damaged tags raise.
    """
    width, height = tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]
    if TiffImagePlugin.STRIPOFFSETS in tags:
        places = tags[TiffImagePlugin.STRIPOFFSETS]
        parts = math.ceil(height / tags.get(TiffImagePlugin.ROWSPERSTRIP, height))
    elif TiffImagePlugin.TILEOFFSETS in tags:
        places = tags[TiffImagePlugin.TILEOFFSETS]
        wide, tall = tags[TiffImagePlugin.TILEWIDTH], tags[TiffImagePlugin.TILELENGTH]
        if wide * tall > max(_LARGEST_TILE, 2 * width * height):
            raise InputError(f"has tiles of {wide}×{tall} pixels; save it with smaller ones")
        parts = math.ceil(width / wide) * math.ceil(height / tall)
    else:
        return
    if tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2:
        parts *= tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if len(places) < parts:
        raise InputError("lacks some of its strips or tiles; copy it anew")


def _is_bigtiff(file: BinaryIO) -> bool:
    start = file.read(4)
    file.seek(0)
    return start == b"II+\0"


def _read_tiff_header(file: BinaryIO) -> tuple[Header, ImageFile | None]:
    tags = Exif()
    if file.read(4) == b"MM\0+":  # which Pillow takes for another TIFF
        raise InputError("is a big-endian BigTIFF, which is not read; save it as little-endian")
    directory = read_tiff_directory(file)
    bits = set(directory.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    kind = set(directory.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
    photometric = directory.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0)
    samples = directory.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    planar = samples > 1 and directory.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
    size = width, height = (
        directory[TiffImagePlugin.IMAGEWIDTH],
        directory[TiffImagePlugin.IMAGELENGTH],
    )
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise InputError("is damaged; copy it anew")
    frames = 2 if directory.next else 1
    file.seek(0)
    if not _is_bigtiff(file):  # which Pillow's EXIF does not know
        tags.load_from_fp(file)
    data = md.tiff_metadata(tags)
    orientation = directory.get(Base.Orientation, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    if orientation > 4:
        width, height = height, width
    if max(bits) <= 8 and _SIGNED not in kind:
        file.seek(0)
        image = TiffImagePlugin.TiffImageFile(file, "")
        if image.mode not in _CHANNELS:
            raise InputError(f"holds {image.mode} pixels; convert it to RGB with its profile")
        channels = _CHANNELS[image.mode]
        return Header("TIFF", width, height, channels, "uint8", orientation, frames, data), image
    dtype = {(16, 1): "uint16", (32, 3): "float32"}.get((min(bits), min(kind)))
    if dtype is None or len(bits) > 1 or len(kind) > 1:
        names = {1: "unsigned", _SIGNED: "signed", 3: "float"}
        stored = f"{max(bits)}-bit {names.get(min(kind), 'unknown')}"
        raise InputError(f"holds {stored} pixels; convert it to 8 or 16 bits or 32-bit floats")
    # OpenCV gives wrong pixels for the other layouts, without a word.
    extra = directory.get(TiffImagePlugin.EXTRASAMPLES, ())
    if (photometric, samples) not in ((1, 1), (1, 2), (2, 3), (2, 4)) or planar or 1 in extra:
        raise InputError(
            f"is a {max(bits)}-bit TIFF of a layout that is not read; save it as grey or RGB with "
            "pixels interleaved and alpha not premultiplied"
        )
    compression = directory.get(TiffImagePlugin.COMPRESSION, 1)
    if compression not in _DEEP_COMPRESSIONS:
        raise InputError(
            f"is a {max(bits)}-bit TIFF in compression {compression}, which is read of 8 bits "
            "alone; save it with deflate or LZW"
        )
    return Header("TIFF", width, height, samples, dtype, orientation, frames, data), None


def _decode_deep(file: BinaryIO, header: Header, image: ImageFile | None) -> Pixels:
    """16-bit and float pixels, as they are stored."""
    file.seek(0)
    pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != header.dtype:
        raise InputError("is truncated or damaged; copy it anew")
    if pixels.ndim == 3:
        order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        pixels = cv2.cvtColor(pixels, order)
    if header.channels == 2 and pixels.ndim == 2:
        assert image is not None
        alpha = np.where(pixels == image.info["transparency"], 0, 65535).astype(np.uint16)
        return np.dstack([pixels, alpha])
    return np.asarray(pixels[..., [0, 3]] if header.channels == 2 else pixels)


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the turn of a camera; what the numbers mean: EXIF 2.32, 4.6.4, orientation."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _avif_depth(file: BinaryIO) -> int:
    """Bits a channel by the pixel information box (ISO/IEC 23008-12, 6.5.6); 8 without one."""
    file.seek(0)
    found = re.search(rb"pixi....(.)(.)", file.read(1 << 16), re.DOTALL)
    return found[2][0] if found and 1 <= found[1][0] <= 4 else 8
