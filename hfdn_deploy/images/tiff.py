"""TIFF, also a band of rows at a time, for which Pillow and OpenCV have no way.

To be read, strips or tiles become a small TIFF, for the decoder of whole images.
"""

import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image as PillowImage
from PIL import TiffImagePlugin, TiffTags
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import rows
from hfdn_deploy.images.format import CHANNELS, Format, Header, turn_upright
from hfdn_deploy.images.metadata import Metadata, tiff_metadata
from hfdn_deploy.images.rows import Banded, Pixels, size_of
from hfdn_deploy.images.tiff_parts import (
    check_parts,
    is_bigtiff,
    parts_in_a_band,
    read_directory,
    save_tags,
    small_tiffs,
)

_SIGNED = 2
# What OpenCV decodes: nothing, LZW, deflate by both its numbers, and PackBits (TIFF 6.0).
_DEEP_COMPRESSIONS = (1, 5, 8, 32946, 32773)
_HORIZONTAL_DIFFERENCES = 2
# Of compressions: none and PackBits, where decoders take no notice of a predictor.
_UNPREDICTED = (1, 32773)
_UNASSOCIATED_ALPHA = 2


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
        exif = PillowImage.Exif()
        self._file.seek(0)
        if not is_bigtiff(self._file):  # which Pillow's EXIF does not know
            exif.load_from_fp(self._file)
        metadata = tiff_metadata(exif)
        channels, dtype = self._read_pixel_kind()
        return Header(self.name, width, height, channels, dtype, orientation, frames, metadata)

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
        """Write an image as its rows come, in deflated strips.

        Integers are differences from their left neighbour (TIFF 6.0, section 14). The tags stand
        in front and are as long whatever the strips' sizes, so they are written again when those
        are known.
        """
        height, width, channels = size_of(image)
        count = max(1, rows.BAND_BYTES // (width * channels * image.dtype.itemsize))
        sizes = [0] * -(-height // count)
        file.write(_tags(image, metadata, count, sizes))
        for i, strip in enumerate(_strips(image, count)):
            pixels = strip.reshape(-1, width, channels)
            if image.dtype.kind == "u":
                pixels = np.diff(pixels, axis=1, prepend=pixels.dtype.type(0))
            packed = zlib.compress(pixels.astype(image.dtype.newbyteorder("<")).tobytes())
            sizes[i] = len(packed)
            file.write(packed)
        file.seek(0)
        file.write(_tags(image, metadata, count, sizes))


def _strips(image: Banded, count: int) -> Iterator[Pixels]:
    """The image in bands of so many rows, but for the last."""
    rest: Pixels | None = None
    for band in image.rows():
        joined = band if rest is None else np.concatenate([rest, band])
        whole = len(joined) // count * count
        yield from (joined[top : top + count] for top in range(0, whole, count))
        rest = joined[whole:]
    if rest is not None and len(rest):
        yield rest


def _tags(image: Banded, metadata: Metadata, count: int, sizes: list[int]) -> bytes:
    """What stands in front of the strips; Pillow writes the tags."""
    height, width, channels = size_of(image)
    integers = image.dtype.kind == "u"
    tags = ImageFileDirectory_v2(prefix=b"II")
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
    tags[TiffImagePlugin.ROWSPERSTRIP] = count
    tags.tagtype[TiffImagePlugin.STRIPOFFSETS] = tags.tagtype[TiffImagePlugin.STRIPBYTECOUNTS] = (
        TiffTags.LONG
    )
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = tuple(sizes)
    # Counted from the end of the tags, whose length Pillow adds.
    tags[TiffImagePlugin.STRIPOFFSETS] = tuple(np.cumsum([0, *sizes[:-1]]).tolist())
    return save_tags(tags)
