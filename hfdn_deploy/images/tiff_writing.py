"""Writing of TIFF, band by band."""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import TiffImagePlugin as Tags

from hfdn_deploy.images import rows
from hfdn_deploy.images.exif import ICC_PROFILE, IPTC, PHOTOSHOP, XMP, image_tags
from hfdn_deploy.images.ifd import BYTE, LONG, RATIONAL, SHORT, UNDEFINED, Order, Tag, write_ifd
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.rows import Banded, Pixels, size_of

# TIFF 6.0: compression by deflate, differences from the left neighbour, straight alpha.
_DEFLATE = 8
_HORIZONTAL_DIFFERENCES = 2
_UNASSOCIATED_ALPHA = 2
_NO_UNIT, _INCH = 1, 2


def write_tiff(file: BinaryIO, image: Banded, metadata: Metadata) -> None:
    """Write an image band by band, in deflated strips.

    Integers are stored as differences from their left neighbour (TIFF 6.0, section 14). The tags
    come first and their length does not depend on the strips' sizes, so they are written again
    once the sizes are known.
    """
    height, width, channels = size_of(image)
    count = max(1, rows.BAND_BYTES // (width * channels * image.dtype.itemsize))
    sizes = [0] * -(-height // count)
    head = _Head(image, metadata, count)
    file.write(head.with_strips(sizes))
    for i, strip in enumerate(_strips(image, count)):
        pixels = strip.reshape(-1, width, channels)
        if image.dtype.kind == "u":
            pixels = np.diff(pixels, axis=1, prepend=pixels.dtype.type(0))
        packed = zlib.compress(pixels.astype(image.dtype.newbyteorder(head.order)).tobytes())
        sizes[i] = len(packed)
        file.write(packed)
    file.seek(0)
    file.write(head.with_strips(sizes))


def _strips(image: Banded, count: int) -> Iterator[Pixels]:
    """Yield the image in bands of `count` rows; the last may be shorter."""
    rest: Pixels | None = None
    for band in image.rows():
        joined = band if rest is None else np.concatenate([rest, band])
        whole = len(joined) // count * count
        yield from (joined[top : top + count] for top in range(0, whole, count))
        rest = joined[whole:]
    if rest is not None and len(rest):
        yield rest


class _Head:
    """The bytes in front of the strips: EXIF at its old offsets, then the tags."""

    def __init__(self, image: Banded, metadata: Metadata, rows_per_strip: int) -> None:
        self.order: Order = "<"
        self._block = bytes(8)
        self._tags: dict[int, Tag] = {}
        if metadata.exif:
            self._block = metadata.exif + b"\0" * (len(metadata.exif) % 2)
            self.order, described = image_tags(metadata.exif)
            self._tags = {tag.number: tag for tag in described}
        self._describe(metadata)
        height, width, channels = size_of(image)
        integers = image.dtype.kind == "u"
        self._numbers(Tags.IMAGEWIDTH, LONG, width)
        self._numbers(Tags.IMAGELENGTH, LONG, height)
        self._numbers(Tags.BITSPERSAMPLE, SHORT, *[8 * image.dtype.itemsize] * channels)
        self._numbers(Tags.SAMPLEFORMAT, SHORT, *[1 if integers else 3] * channels)
        self._numbers(Tags.SAMPLESPERPIXEL, SHORT, channels)
        self._numbers(Tags.PHOTOMETRIC_INTERPRETATION, SHORT, 1 if channels < 3 else 2)
        self._numbers(Tags.PLANAR_CONFIGURATION, SHORT, 1)
        if channels in (2, 4):
            self._numbers(Tags.EXTRASAMPLES, SHORT, _UNASSOCIATED_ALPHA)
        self._numbers(Tags.COMPRESSION, SHORT, _DEFLATE)
        if integers:
            self._numbers(Tags.PREDICTOR, SHORT, _HORIZONTAL_DIFFERENCES)
        self._numbers(Tags.ROWSPERSTRIP, LONG, rows_per_strip)

    def _describe(self, metadata: Metadata) -> None:
        if Tags.X_RESOLUTION not in self._tags and (density := metadata.dpi or metadata.aspect):
            for tag, value in zip((Tags.X_RESOLUTION, Tags.Y_RESOLUTION), density, strict=True):
                self._numbers(tag, RATIONAL, round(value * 1000), 1000)
            self._numbers(Tags.RESOLUTION_UNIT, SHORT, _INCH if metadata.dpi else _NO_UNIT)
        for number, kind, data in (
            (ICC_PROFILE, UNDEFINED, metadata.icc),
            (XMP, BYTE, metadata.xmp),
            (PHOTOSHOP, UNDEFINED, metadata.photoshop),
            (IPTC, UNDEFINED, metadata.iptc),
        ):
            if data:
                self._tags[number] = Tag(number, kind, data)

    def _numbers(self, number: int, kind: int, *values: int) -> None:
        form = f"{self.order}{len(values)}{'H' if kind == SHORT else 'I'}"
        self._tags[number] = Tag(number, kind, struct.pack(form, *values))

    def with_strips(self, sizes: list[int]) -> bytes:
        """Return the bytes for strips of these sizes in bytes; their number is constant."""
        self._numbers(Tags.STRIPBYTECOUNTS, LONG, *sizes)
        self._numbers(Tags.STRIPOFFSETS, LONG, *sizes)
        place = len(self._block)
        start = place + len(self._directory())
        self._numbers(Tags.STRIPOFFSETS, LONG, *np.cumsum([start, *sizes[:-1]]).tolist())
        mark = b"II" if self.order == "<" else b"MM"
        head = mark + struct.pack(f"{self.order}HI", 42, place)
        return head + self._block[8:] + self._directory()

    def _directory(self) -> bytes:
        return write_ifd(self.order, list(self._tags.values()), len(self._block))
