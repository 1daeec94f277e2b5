"""Arrays to the bytes of an image file, metadata included."""

import io
import logging
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from PIL.ExifTags import IFD

from hfdn_deploy.metadata import Metadata, png_chunks

logger = logging.getLogger(__name__)

Pixels = NDArray[Any]

DEFAULT_QUALITY = {"JPEG": 95, "AVIF": 90}
"""What a lossy file is written with; a WebP is lossless unless a quality is asked for."""


@dataclass(frozen=True)
class Format:
    """What a file format can hold."""

    name: str
    """As Pillow calls it."""
    dtypes: tuple[str, ...] = ("uint8",)
    alpha: bool = True
    largest: int = 2**31 - 1
    """Pixels a side."""
    lossy: bool = False
    metadata: bool = True
    """Whether it holds more than the resolution."""


_JPEG = Format("JPEG", alpha=False, largest=65500, lossy=True)
_TIFF = Format("TIFF", dtypes=("uint8", "uint16", "float32"))
FORMATS = {
    ".png": Format("PNG", dtypes=("uint8", "uint16")),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format("WEBP", largest=16383, lossy=True),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": Format("BMP", alpha=False, metadata=False),
    ".avif": Format("AVIF", largest=32768, lossy=True),
}
"""By suffix."""

# A TIFF's offsets have 32 bits; some room is left for its tags.
_TIFF_BYTES = 2**32 - 2**24
_STRIP_BYTES = 2**20
_JPEG_SEGMENT = 65_000
_HORIZONTAL_DIFFERENCES = 2
_UNASSOCIATED_ALPHA = 2


def encode(path: Path, pixels: Pixels, metadata: Metadata, quality: int | None = None) -> bytes:
    """A whole file.

    Args:
        path: where they will go; its suffix names a format that holds such pixels.
        pixels: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), contiguous.
        metadata: what the format has no place for is left out, with a warning where it matters.
        quality: 1 to 100 for JPEG, WebP and AVIF; None: `DEFAULT_QUALITY`, WebP lossless.

    Raises:
        Exception: whatever the encoder raises where a limit of the format is passed.
    """
    kind = FORMATS[path.suffix.lower()]
    pixels = _as_written(kind, pixels)
    metadata = _fitting(path, kind, pixels, metadata)
    if kind.name == "TIFF":
        return _tiff(pixels, metadata)
    if kind.name == "PNG":
        data = _png(pixels)
        header = 8 + 25  # signature and IHDR
        return data[:header] + png_chunks(metadata) + data[header:]
    options: dict[str, Any] = {
        "dpi": metadata.dpi,
        "icc_profile": metadata.icc,
        "exif": metadata.exif and b"Exif\0\0" + metadata.exif,
        "xmp": metadata.xmp,
    }
    options = {name: value for name, value in options.items() if value}
    if kind.name == "WEBP":
        lossless = {"lossless": True, "quality": 70, "exact": True}
        options |= lossless if quality is None else {"quality": quality}
    elif kind.lossy:
        # Without subsampling: colour is half of what one sees.
        options |= {"quality": quality or DEFAULT_QUALITY[kind.name]}
        options |= {"subsampling": 0 if kind.name == "JPEG" else "4:4:4"}
    return _by_pillow(pixels, kind.name, **options)


def _by_pillow(pixels: Pixels, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return file.getvalue()


def _as_written(kind: Format, pixels: Pixels) -> Pixels:
    """Pixels with the channels that the file will have: grey becomes colour where it must."""
    shape = (*pixels.shape, 1)[:3]
    only_colour = kind.name == "WEBP" or (
        shape[2] == 2
        and (kind.name == "AVIF" or (kind.name, pixels.dtype.name) == ("PNG", "uint16"))
    )
    if only_colour and shape[2] < 3:
        grey, alpha = np.split(pixels.reshape(shape), [1], axis=2)
        pixels = np.concatenate([grey, grey, grey, alpha], axis=2)
    return pixels


def _fitting(path: Path, kind: Format, pixels: Pixels, metadata: Metadata) -> Metadata:
    """What of the metadata this file can hold; what is lost against expectation is said."""
    if metadata.damaged:
        logger.warning("%s: the EXIF of its original cannot be read and is left out", path)
    if not kind.metadata:
        metadata = Metadata(dpi=metadata.dpi)
    space = b"GRAY" if pixels.ndim == 2 or pixels.shape[2] == 2 else b"RGB "
    if metadata.icc and metadata.icc[16:20] != space:
        logger.warning("%s: the colour profile is for other channels and is left out", path)
        metadata = replace(metadata, icc=None)
    if kind.name == "JPEG":
        if len(metadata.exif or b"") > _JPEG_SEGMENT:
            logger.warning("%s: the EXIF is too long for a JPEG and is left out", path)
            metadata = replace(metadata, exif=None)
        if len(metadata.xmp or b"") > _JPEG_SEGMENT:
            logger.warning("%s: the XMP is too long for a JPEG and is left out", path)
            metadata = replace(metadata, xmp=None)
    return metadata


def _png(pixels: Pixels) -> bytes:
    if pixels.dtype == np.uint8:
        return _by_pillow(pixels, "PNG")
    if pixels.ndim == 3:
        order = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        pixels = np.asarray(cv2.cvtColor(pixels, order))
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _tiff(pixels: Pixels, metadata: Metadata) -> bytes:
    """Deflated strips; integers as differences from their left neighbour (TIFF 6.0, section 14).

    Pillow writes the tags; it knows no RGB of more than 8 bits.
    """
    height, width, channels = (*pixels.shape, 1)[:3]
    if pixels.nbytes > _TIFF_BYTES:
        raise ValueError("more than 4 GiB")
    integers = pixels.dtype.kind == "u"
    rows = max(1, _STRIP_BYTES // (width * channels * pixels.itemsize))
    strips = []
    for top in range(0, height, rows):
        strip = pixels[top : top + rows].reshape(-1, width, channels).copy()
        if integers:
            strip[:, 1:] -= pixels[top : top + rows].reshape(-1, width, channels)[:, :-1]
        strips.append(zlib.compress(strip.astype(strip.dtype.newbyteorder("<")).tobytes()))
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        for tag in exif:
            tags[tag] = exif.get_ifd(tag) if tag in (IFD.Exif, IFD.GPSInfo) else exif[tag]
    if metadata.dpi:
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = metadata.dpi
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2
    if metadata.icc:
        tags[TiffImagePlugin.ICCPROFILE] = metadata.icc
    if metadata.xmp:
        tags.tagtype[TiffImagePlugin.XMP] = 1
        tags[TiffImagePlugin.XMP] = metadata.xmp
    tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH] = width, height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (8 * pixels.itemsize,) * channels
    tags[TiffImagePlugin.SAMPLEFORMAT] = (1 if integers else 3,) * channels
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if channels < 3 else 2
    tags[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
    if channels in (2, 4):
        tags[TiffImagePlugin.EXTRASAMPLES] = _UNASSOCIATED_ALPHA
    tags[TiffImagePlugin.COMPRESSION] = 8
    if integers:
        tags[TiffImagePlugin.PREDICTOR] = _HORIZONTAL_DIFFERENCES
    tags[TiffImagePlugin.ROWSPERSTRIP] = rows
    sizes = [len(strip) for strip in strips]
    tags.tagtype[TiffImagePlugin.STRIPOFFSETS] = tags.tagtype[TiffImagePlugin.STRIPBYTECOUNTS] = 4
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = tuple(sizes)
    # Counted from the end of the tags, whose length Pillow adds.
    tags[TiffImagePlugin.STRIPOFFSETS] = tuple(np.cumsum([0, *sizes[:-1]]).tolist())
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue() + b"".join(strips)
