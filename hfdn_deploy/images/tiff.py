"""TIFF, whole or one band of rows at a time, which Pillow and OpenCV cannot do.

A band is read by wrapping its strips or tiles in a small TIFF that is decoded whole.
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
from hfdn_deploy.images.format import CHANNELS, Format, Header, decode_by_opencv, turn_upright
from hfdn_deploy.images.metadata import Metadata, metadata_of, valid_aspect, valid_dpi
from hfdn_deploy.images.rows import Banded, Pixels
from hfdn_deploy.images.tiff_codecs import (
    check_codec,
    decode_by_codecs,
    pillow_compressions,
    without_unspecified,
)
from hfdn_deploy.images.tiff_parts import (
    check_parts,
    parts_in_a_band,
    read_directory,
    small_tiffs,
)
from hfdn_deploy.images.tiff_writing import write_tiff

_SIGNED = 2
# Compressions that OpenCV decodes: none, LZW, deflate (both numbers) and PackBits (TIFF 6.0).
_DEEP_COMPRESSIONS = (1, 5, 8, 32946, 32773)
_HORIZONTAL_DIFFERENCES = 2
# Compressions with which decoders ignore a predictor: none and PackBits.
_UNPREDICTED = (1, 32773)
_NO_UNIT = 1
_UNSPECIFIED, _ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 0, 1, 2


class Tiff(Format):
    """TIFF: Pillow reads 8 bits, OpenCV other depths, tifffile further compressions."""

    name = "TIFF"
    suffixes = (".tif", ".tiff")
    signature = rb"II[*+]\0|MM\0[*+]"
    pillow = TiffImageFile
    dtypes = ("uint8", "uint16", "float32")
    # Offsets have 32 bits; some room is left for the tags.
    max_bytes = 2**32 - 2**24
    if_too_large = "choose .png, or split it into smaller images"
    holds = frozenset(("icc", "exif", "xmp", "photoshop", "iptc", "dpi", "aspect"))
    banded = True
    _by_codecs = False
    """Whether tifffile and imagecodecs decode the pixels."""
    _double = False
    """Whether grey and alpha are decoded as a grey image of twice the width."""

    def _read_header(self) -> Header:
        if self._file.read(4) == b"MM\0+":  # Pillow takes it for a classic TIFF
            raise InputError("is a big-endian BigTIFF, which is unsupported; save it little-endian")
        self._tags = tags = read_directory(self._file)
        size = width, height = tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]
        if not all(isinstance(side, int) and side > 0 for side in size):
            raise InputError("is damaged; copy it again")
        orientation = tags.get(Base.Orientation, 1)
        orientation = orientation if orientation in range(1, 9) else 1
        if orientation > 4:
            width, height = height, width
        frames = 2 if tags.next else 1
        metadata = self._metadata(orientation)
        channels, dtype = self._read_pixel_kind()
        if hasattr(self, "_profile"):  # it does not apply once the pixels are sRGB
            metadata = replace(metadata, icc=None)
        return Header(self.name, width, height, channels, dtype, orientation, frames, metadata)

    def _metadata(self, orientation: int) -> Metadata:
        try:
            found = tags_of_tiff(self._file)
        except ValueError:
            return Metadata(lost=("the metadata of the source is damaged and left out",))
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
        """Return channels and dtype, and choose the decoder."""
        tags = self._tags
        bits = set(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        kind = set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
        photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0)
        samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
        extra = tags.get(TiffImagePlugin.EXTRASAMPLES, ())
        compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
        if _UNSPECIFIED in extra:
            self.notes.append("samples without a stated meaning, such as masks, are left out")
        deep = max(bits) > 8 or _SIGNED in kind
        self._by_codecs = compression not in (_DEEP_COMPRESSIONS if deep else pillow_compressions())
        if bits in ({2}, {4}) and (photometric, samples, extra) == (1, 2, (_UNASSOCIATED_ALPHA,)):
            self._double = True
            return 2, "uint8"
        planar = samples > 1 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
        if (photometric, samples, extra, planar) == (1, 2, (_ASSOCIATED_ALPHA,), True):
            raise InputError(  # Pillow would read an alpha of 0
                "holds grey and premultiplied alpha in planes, which is unsupported; save it with "
                "pixels interleaved"
            )
        if not deep and not self._by_codecs:
            return CHANNELS[self._open_pillow().mode], "uint8"
        stored = f"{max(bits)}-bit"
        dtype = {(8, 1): "uint8", (16, 1): "uint16", (32, 3): "float32"}.get((min(bits), min(kind)))
        if dtype is None or len(bits) > 1 or len(kind) > 1:
            names = {1: "unsigned", _SIGNED: "signed", 3: "float"}
            stored += f" {names.get(min(kind), 'unknown')}"
            raise InputError(
                f"holds {stored} pixels, which are unsupported; convert it to 8 or 16 bits or "
                "32-bit floats"
            )
        # OpenCV returns wrong pixels for other layouts, without an error.
        if (photometric, samples) not in ((1, 1), (1, 2), (2, 3), (2, 4)) or planar or 1 in extra:
            raise InputError(
                f"is a {stored} TIFF of an unsupported layout; save it as grey or RGB with pixels "
                "interleaved and alpha not premultiplied"
            )
        if self._by_codecs:
            check_codec(compression, stored)
        self._double = samples == 2 and not self._by_codecs
        return samples - (extra[:1] == (_UNSPECIFIED,)), dtype

    def decode(self) -> Pixels:
        """Decode all pixels; see `Format`.

        OpenCV does not get the file itself: in a damaged file it may see other tags than those
        checked here, and return uninitialized memory.
        """
        check_parts(self._tags)
        if self._double:
            pixels = self._decode_grey_alpha()
        elif self._by_codecs:
            pixels = decode_by_codecs(self._file)
        elif self.header.dtype == "uint8":
            return np.ascontiguousarray(self._decode_by_pillow())  # Pillow also turns it upright
        else:
            pixels = self._decode_deep()
        pixels = without_unspecified(pixels, self.header.channels)
        return np.ascontiguousarray(turn_upright(pixels, self.header.orientation))

    def _decode_by_pillow(self) -> Pixels:
        # Otherwise Pillow would turn it once more, by the orientation in XMP.
        self._pillow.info.pop("xmp", None)
        # Pillow would parse the directories below, which may be damaged when pixels are not.
        exif = self._pillow.getexif()
        for tag in set(TiffTags.TAGS_V2_GROUPS) & set(exif):
            del exif[tag]
        return super()._decode_by_pillow()

    def _decode_deep(self) -> Pixels:
        """Decode pixels of 16 bits or floats, as they are stored."""
        height = self._tags[TiffImagePlugin.IMAGELENGTH]
        self._tags.setdefault(TiffImagePlugin.ROWSPERSTRIP, height)
        return next(self._bands(height))

    def _decode_grey_alpha(self) -> Pixels:
        """Decode grey and alpha (H, W, 2) that Pillow does not read; the tags are changed.

        No decoder reads such a file, so it is decoded as a grey image of twice the width.
        Differences from the left neighbour (TIFF 6.0, section 14) are added up here.
        """
        tags = self._tags
        width = tags[TiffImagePlugin.IMAGEWIDTH]
        predictor = tags.pop(TiffImagePlugin.PREDICTOR, 1)
        if tags.get(TiffImagePlugin.COMPRESSION, 1) in _UNPREDICTED:
            predictor = 1
        if predictor not in (1, _HORIZONTAL_DIFFERENCES):
            raise InputError(
                "holds grey and alpha with a predictor for floats, which is unsupported; save it "
                "without a predictor"
            )
        # Differences start again in each tile.
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
        """Return bands; None for planes, large strips, YCbCr outside JPEG, CMYK and L*a*b*."""
        if self._by_codecs or self._double or hasattr(self, "_profile"):
            return None
        count = parts_in_a_band(self._tags)
        return self._bands(count) if count else None

    def _bands(self, count: int) -> Iterator[Pixels]:
        """Yield bands of `count` strips, or rows of tiles, as they are stored."""
        for data in small_tiffs(self._file, self._tags, count):
            small = Tiff(io.BytesIO(data))
            check_parts(small._tags)
            dtype = small.header.dtype
            deep = dtype != "uint8"
            pixels = decode_by_opencv(data, dtype) if deep else small._decode_by_pillow()
            yield without_unspecified(pixels, small.header.channels)

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image band by band."""
        write_tiff(file, image, metadata)


def _aspect(density: list[Any]) -> tuple[int, int] | None:
    """Return densities without a unit as whole numbers of the same ratio."""
    try:
        x, y = (Fraction(float(value)).limit_denominator(1000) for value in density)
        ratio = x / y
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return valid_aspect(ratio.numerator, ratio.denominator)
