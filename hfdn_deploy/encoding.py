"""Arrays to image files, metadata included.

PNG and TIFF are written band by band, for which Pillow has no way; the other formats have limits
that keep whole images small.
"""

import io
import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import TiffImagePlugin
from PIL.ExifTags import IFD

from hfdn_deploy.errors import InputError
from hfdn_deploy.metadata import Metadata, png_chunk, png_chunks

logger = logging.getLogger(__name__)

Pixels = NDArray[Any]

DEFAULT_QUALITY = {"JPEG": 95, "AVIF": 90}
"""What a lossy file is written with; a WebP is lossless unless a quality is asked for."""


@dataclass(frozen=True)
class Banded:
    """An image that comes in bands of rows, from top to bottom, once."""

    shape: tuple[int, ...]
    """Of the whole: (H, W) or (H, W, C)."""
    dtype: np.dtype[Any]
    bands: Iterator[Pixels]

    def whole(self) -> Pixels:
        """All of the bands in one array.

        Raises:
            InputError: bands were taken before.
        """
        first = next(rows := self.rows())
        if first.shape == self.shape:
            return first
        pixels = np.empty(self.shape, self.dtype)
        top = 0
        for band in chain([first], rows):
            pixels[top : top + len(band)] = band
            top += len(band)
        return pixels

    def rows(self) -> Iterator[Pixels]:
        """The bands; an error at the end if they do not make the whole.

        Raises:
            InputError: bands were taken before.
        """
        missing = self.shape[0]
        for band in self.bands:
            missing -= len(band)
            yield band
        if missing:
            raise InputError(f"{missing} rows of the image were taken before; upscale it anew.")


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
# A TIFF's offsets have 32 bits; some room is left for its tags.
_TIFF = Format("TIFF", ("uint8", "uint16", "float32"), bytes=2**32 - 2**24, banded=True)
FORMATS = {
    ".png": Format("PNG", dtypes=("uint8", "uint16"), banded=True),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format("WEBP", largest=16383, lossy=True),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": Format("BMP", alpha=False, metadata=False),
    ".avif": Format("AVIF", largest=32768, lossy=True),
}
"""By suffix."""

_STRIP_BYTES = 2**20
_JPEG_SEGMENT = 65_000
_HORIZONTAL_DIFFERENCES = 2
_UNASSOCIATED_ALPHA = 2

# A PNG's colour type by channels, and the filter that guesses a pixel from three neighbours (PNG
# specification, 11.2.1 and 9.4). It and this level of zlib's give Pillow's size in half the time.
_PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
_PAETH = 4
_PNG_LEVEL = 4


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
        _write_tiff(file, image, metadata)
        return
    if kind.name == "PNG":
        _write_png(file, image, metadata)
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


def _write_png(file: BinaryIO, image: Banded, metadata: Metadata) -> None:
    height, width, channels = (*image.shape, 1)[:3]
    depth = 8 * image.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, _PNG_COLOUR[channels], 0, 0, 0)
    file.write(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunks(metadata))
    packer = zlib.compressobj(_PNG_LEVEL, strategy=zlib.Z_FILTERED)
    above = np.zeros((1, width * channels * image.dtype.itemsize), np.uint8)
    for band in image.rows():
        big_endian = np.ascontiguousarray(band, image.dtype.newbyteorder(">"))
        rows = np.concatenate([above, big_endian.view(np.uint8).reshape(len(band), -1)])
        above = rows[-1:]
        if packed := packer.compress(_paeth(rows, channels * image.dtype.itemsize)):
            file.write(png_chunk(b"IDAT", packed))
    file.write(png_chunk(b"IDAT", packer.flush()) + png_chunk(b"IEND", b""))


def _paeth(rows: NDArray[np.uint8], pixel: int) -> bytes:
    """Rows but the first, filtered by Paeth's predictor (PNG specification, 9.4).

    Args:
        rows: (1 + N, bytes): the row above, then those to filter.
        pixel: bytes of one.
    """
    padded = np.pad(rows, ((0, 0), (pixel, 0)))
    left, above, corner = padded[1:, :-pixel], padded[:-1, pixel:], padded[:-1, :-pixel]
    by_left = above.astype(np.int16) - corner
    by_above = left.astype(np.int16) - corner
    by_corner = np.abs(by_left + by_above)
    by_left, by_above = np.abs(by_left), np.abs(by_above)
    guess = np.where(by_above <= by_corner, above, corner)
    guess = np.where((by_left <= by_above) & (by_left <= by_corner), left, guess)
    filtered = np.full((len(rows) - 1, 1 + rows.shape[1]), _PAETH, np.uint8)
    np.subtract(rows[1:], guess, out=filtered[:, 1:])
    return filtered.tobytes()


def _write_tiff(file: BinaryIO, image: Banded, metadata: Metadata) -> None:
    """Deflated strips; integers as differences from their left neighbour (TIFF 6.0, section 14).

    The tags stand in front and are as long whatever the strips' sizes, so they are written again
    when those are known.
    """
    height, width, channels = (*image.shape, 1)[:3]
    rows = max(1, _STRIP_BYTES // (width * channels * image.dtype.itemsize))
    sizes = [0] * -(-height // rows)
    file.write(_tiff_tags(image, metadata, rows, sizes))
    for i, strip in enumerate(_strips(image, rows)):
        pixels = strip.reshape(-1, width, channels)
        if image.dtype.kind == "u":
            pixels = np.diff(pixels, axis=1, prepend=pixels.dtype.type(0))
        packed = zlib.compress(pixels.astype(image.dtype.newbyteorder("<")).tobytes())
        sizes[i] = len(packed)
        file.write(packed)
    file.seek(0)
    file.write(_tiff_tags(image, metadata, rows, sizes))


def _strips(image: Banded, rows: int) -> Iterator[Pixels]:
    """The image in bands of so many rows, but for the last."""
    rest: Pixels | None = None
    for band in image.rows():
        joined = band if rest is None else np.concatenate([rest, band])
        whole = len(joined) // rows * rows
        yield from (joined[top : top + rows] for top in range(0, whole, rows))
        rest = joined[whole:]
    if rest is not None and len(rest):
        yield rest


def _tiff_tags(image: Banded, metadata: Metadata, rows: int, sizes: list[int]) -> bytes:
    """What stands in front of the strips; Pillow writes the tags."""
    height, width, channels = (*image.shape, 1)[:3]
    integers = image.dtype.kind == "u"
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    if metadata.exif:
        exif = PillowImage.Exif()
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
    tags[TiffImagePlugin.BITSPERSAMPLE] = (8 * image.dtype.itemsize,) * channels
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
    tags.tagtype[TiffImagePlugin.STRIPOFFSETS] = tags.tagtype[TiffImagePlugin.STRIPBYTECOUNTS] = 4
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = tuple(sizes)
    # Counted from the end of the tags, whose length Pillow adds.
    tags[TiffImagePlugin.STRIPOFFSETS] = tuple(np.cumsum([0, *sizes[:-1]]).tolist())
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue()
