"""TIFF, also a band of rows at a time, for which Pillow and OpenCV have no way.

To be read, strips or tiles become a small TIFF, for the decoder of whole images.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from PIL import TiffImagePlugin, TiffTags
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import TiffImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.exif import ICC_PROFILE, IPTC, PHOTOSHOP, XMP, tags_of_tiff
from hfdn_deploy.images.format import CHANNELS, Format, Header, turn_upright
from hfdn_deploy.images.metadata import Metadata, metadata_of, valid_aspect, valid_dpi
from hfdn_deploy.images.rows import Banded, Pixels
from hfdn_deploy.images.tiff_parts import (
    check_parts,
    parts_in_a_band,
    read_directory,
    small_tiffs,
)
from hfdn_deploy.images.tiff_writing import write_tiff

_SIGNED = 2
# What OpenCV decodes: nothing, LZW, deflate by both its numbers, and PackBits (TIFF 6.0).
_DEEP_COMPRESSIONS = (1, 5, 8, 32946, 32773)
_HORIZONTAL_DIFFERENCES = 2
# Of compressions: none and PackBits, where decoders take no notice of a predictor.
_UNPREDICTED = (1, 32773)
_NO_UNIT = 1


class Tiff(Format):
    """TIFF: Pillow reads pixels of 8 bits, OpenCV those of 16 bits and floats."""

    name = "TIFF"
    suffixes = (".tif", ".tiff")
    signature = rb"II[*+]\0|MM\0[*+]"
    pillow = TiffImageFile
    dtypes = ("uint8", "uint16", "float32")
    # Offsets have 32 bits; some room is left for the tags.
    max_bytes = 2**32 - 2**24
    if_too_large = "choose .png, or cut it up"
    holds = frozenset(("icc", "exif", "xmp", "photoshop", "iptc", "dpi", "aspect"))
    banded = True

    def _read_header(self) -> Header:
        if self._file.read(4) == b"MM\0+":  # which Pillow takes for another TIFF
            raise InputError("is a big-endian BigTIFF, which is not read; save it as little-endian")
        self._tags = tags = read_directory(self._file)
        size = width, height = tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]
        if not all(isinstance(side, int) and side > 0 for side in size):
            raise InputError("is damaged; copy it anew")
        orientation = tags.get(Base.Orientation, 1)
        orientation = orientation if orientation in range(1, 9) else 1
        if orientation > 4:
            width, height = height, width
        frames = 2 if tags.next else 1
        metadata = self._metadata(orientation)
        channels, dtype = self._read_pixel_kind()
        return Header(self.name, width, height, channels, dtype, orientation, frames, metadata)

    def _metadata(self, orientation: int) -> Metadata:
        try:
            found = tags_of_tiff(self._file)
        except ValueError:
            return Metadata(lost=("the metadata of its original is damaged, and left out",))
        metadata, _ = metadata_of(
            found.exif,
            found.values.get(XMP),
            turn=orientation,
            icc=found.values.get(ICC_PROFILE),
            photoshop=found.values.get(PHOTOSHOP),
            iptc=found.values.get(IPTC),
            lost=found.lost,
        )
        unit = self._tags.get(Base.ResolutionUnit, 2)
        density = [self._tags.get(tag) for tag in (Base.XResolution, Base.YResolution)]
        if unit == _NO_UNIT:
            return replace(metadata, aspect=_aspect(density))
        inch = {2: 1.0, 3: 2.54}.get(unit, math.nan)
        dpi = valid_dpi([float(value) * inch if value else 0 for value in density])
        return replace(metadata, dpi=dpi)

    def _read_pixel_kind(self) -> tuple[int, str]:
        """Channels and dtype."""
        tags = self._tags
        bits = set(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        kind = set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
        if max(bits) <= 8 and _SIGNED not in kind:
            self._file.seek(0)
            return CHANNELS[self._open_pillow().mode], "uint8"
        photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0)
        samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
        planar = samples > 1 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
        dtype = {(16, 1): "uint16", (32, 3): "float32"}.get((min(bits), min(kind)))
        if dtype is None or len(bits) > 1 or len(kind) > 1:
            names = {1: "unsigned", _SIGNED: "signed", 3: "float"}
            stored = f"{max(bits)}-bit {names.get(min(kind), 'unknown')}"
            raise InputError(f"holds {stored} pixels; convert it to 8 or 16 bits or 32-bit floats")
        # OpenCV gives wrong pixels for the other layouts, without a word.
        extra = tags.get(TiffImagePlugin.EXTRASAMPLES, ())
        if (photometric, samples) not in ((1, 1), (1, 2), (2, 3), (2, 4)) or planar or 1 in extra:
            raise InputError(
                f"is a {max(bits)}-bit TIFF of a layout that is not read; save it as grey or RGB "
                "with pixels interleaved and alpha not premultiplied"
            )
        compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
        if compression not in _DEEP_COMPRESSIONS:
            raise InputError(
                f"is a {max(bits)}-bit TIFF in compression {compression}, which is read of 8 bits "
                "alone; save it with deflate or LZW"
            )
        return samples, dtype

    def decode(self) -> Pixels:
        """Decode all pixels; see `Format`.

        OpenCV decodes those of 16 bits and floats, but not from the file itself: of a damaged one
        it may see other tags than those that were checked, and return what was in memory before.
        """
        check_parts(self._tags)
        if self.header.dtype == "uint8":
            return np.ascontiguousarray(self._decode_by_pillow())  # which turns it upright, too
        pixels = self._decode_grey_alpha() if self.header.channels == 2 else self._decode_deep()
        return np.ascontiguousarray(turn_upright(pixels, self.header.orientation))

    def _decode_by_pillow(self) -> Pixels:
        # It would otherwise be turned once more by what its XMP says.
        self._pillow.info.pop("xmp", None)
        # What its tags lead to would be parsed, too; where that is damaged, pixels are not.
        exif = self._pillow.getexif()
        for tag in set(TiffTags.TAGS_V2_GROUPS) & set(exif):
            del exif[tag]
        return super()._decode_by_pillow()

    def _decode_deep(self) -> Pixels:
        """Pixels of 16 bits or floats, as they are stored."""
        height = self._tags[TiffImagePlugin.IMAGELENGTH]
        self._tags.setdefault(TiffImagePlugin.ROWSPERSTRIP, height)
        return next(self._bands(height))

    def _decode_grey_alpha(self) -> Pixels:
        """Deep grey and alpha (H, W, 2); the tags are used up.

        OpenCV reads no such file, but it is one of grey that is twice as wide, except for the
        differences from the left neighbour (TIFF 6.0, section 14), which are added up here.
        """
        tags = self._tags
        width = tags[TiffImagePlugin.IMAGEWIDTH]
        predictor = tags.pop(TiffImagePlugin.PREDICTOR, 1)
        if tags.get(TiffImagePlugin.COMPRESSION, 1) in _UNPREDICTED:
            predictor = 1
        if predictor not in (1, _HORIZONTAL_DIFFERENCES):
            raise InputError(
                "holds grey, alpha and differences of floats; save it without a predictor"
            )
        # Differences begin anew in each tile.
        block = tags.get(TiffImagePlugin.TILEWIDTH, width)
        for tag in {TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.TILEWIDTH} & set(tags):
            tags.tagtype[tag] = TiffTags.LONG
            tags[tag] *= 2
        for tag in {TiffImagePlugin.BITSPERSAMPLE, TiffImagePlugin.SAMPLEFORMAT} & set(tags):
            tags[tag] = tags[tag][:1]
        tags[TiffImagePlugin.SAMPLESPERPIXEL] = 1
        tags.pop(TiffImagePlugin.EXTRASAMPLES, None)
        pixels = self._decode_deep()
        pixels = pixels.reshape(len(pixels), width, 2)
        if predictor == _HORIZONTAL_DIFFERENCES:
            integers = pixels.view(f"u{pixels.itemsize}")
            for left in range(0, width, block):
                part = integers[:, left : left + block]
                np.cumsum(part, axis=1, dtype=part.dtype, out=part)
        return pixels

    def bands(self) -> Iterator[Pixels] | None:
        """None for planes, large strips, and YCbCr outside JPEG."""
        count = parts_in_a_band(self._tags)
        return self._bands(count) if count else None

    def _bands(self, count: int) -> Iterator[Pixels]:
        """Bands of so many strips, or rows of tiles, as they are stored."""
        for data in small_tiffs(self._file, self._tags, count):
            small = Tiff(io.BytesIO(data))
            check_parts(small._tags)
            deep = small.header.dtype != "uint8"
            yield small._decode_by_opencv() if deep else small._decode_by_pillow()

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image as its rows come."""
        write_tiff(file, image, metadata)


def _aspect(density: list[Any]) -> tuple[int, int] | None:
    """Densities without a unit as whole numbers of the same ratio."""
    try:
        x, y = (Fraction(float(value)).limit_denominator(1000) for value in density)
        ratio = x / y
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return valid_aspect(ratio.numerator, ratio.denominator)
