"""Arrays to image files, metadata included.

PNG and TIFF are written as their rows come; the other formats have limits that keep whole images
small.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image as PillowImage

from hfdn_deploy.images import png, tiff
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.rows import Banded, Pixels

logger = logging.getLogger(__name__)

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
    bytes: int = 2**63
    """Of all pixels."""
    lossy: bool = False
    metadata: bool = True
    """Whether it holds more than the resolution."""
    banded: bool = False
    """Whether it is written as its rows come, none of them held for longer."""


_JPEG = Format("JPEG", alpha=False, largest=65500, lossy=True)
# Offsets in a TIFF and the size of a BMP have 32 bits; some room is left for what else is there.
_TIFF = Format("TIFF", ("uint8", "uint16", "float32"), bytes=2**32 - 2**24, banded=True)
FORMATS = {
    ".png": Format("PNG", dtypes=("uint8", "uint16"), banded=True),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format("WEBP", largest=16383, lossy=True),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": Format("BMP", alpha=False, metadata=False, bytes=2**32 - 2**24),
    ".avif": Format("AVIF", largest=32768, lossy=True),
}
"""By suffix."""

_JPEG_SEGMENT = 65_000


def encode(
    file: BinaryIO, path: Path, image: Banded, metadata: Metadata, quality: int | None = None
) -> None:
    """Write a whole file.

    Args:
        file: empty, and open for writing and seeking.
        path: where it will be; its suffix names a format that holds such pixels.
        image: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), in the machine's byte order.
        metadata: what the format has no place for is left out, with a warning where it matters.
        quality: 1 to 100 for JPEG, WebP and AVIF; None: `DEFAULT_QUALITY`, WebP lossless.

    Raises:
        Exception: whatever the encoder raises where a limit of the format is passed.
    """
    kind = FORMATS[path.suffix.lower()]
    image = _as_written(kind, image)
    metadata = _fitting(path, kind, image, metadata)
    if kind.name == "TIFF":
        tiff.write(file, image, metadata)
        return
    if kind.name == "PNG":
        png.write(file, image, metadata)
        return
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
    PillowImage.fromarray(image.whole()).save(file, kind.name, **options)


def _as_written(kind: Format, image: Banded) -> Banded:
    """An image with the channels that the file will have: grey becomes colour where it must."""
    height, width, channels = (*image.shape, 1)[:3]
    only_colour = kind.name == "WEBP" or (
        channels == 2
        and (kind.name == "AVIF" or (kind.name, image.dtype.name) == ("PNG", "uint16"))
    )
    if channels > 2 or not only_colour:
        return image
    coloured = (_coloured(band.reshape(*band.shape[:2], channels)) for band in image.rows())
    return Banded((height, width, channels + 2), image.dtype, coloured)


def _coloured(pixels: Pixels) -> Pixels:
    grey, alpha = np.split(pixels, [1], axis=2)
    return np.concatenate([grey, grey, grey, alpha], axis=2)


def _fitting(path: Path, kind: Format, image: Banded, metadata: Metadata) -> Metadata:
    """What of the metadata this file can hold; what is lost against expectation is said."""
    if metadata.damaged:
        logger.warning("%s: the EXIF of its original cannot be read and is left out", path)
    if not kind.metadata:
        metadata = Metadata(dpi=metadata.dpi)
    space = b"GRAY" if len(image.shape) == 2 or image.shape[2] == 2 else b"RGB "
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
