"""TIFF a band of rows at a time, for which Pillow and OpenCV have no way.

To be read, strips or tiles become a small TIFF, for the decoder of whole pictures.
"""

import io
import math
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image as PillowImage
from PIL import TiffImagePlugin, TiffTags
from PIL.ExifTags import IFD
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import rows
from hfdn_deploy.images.decoding import (
    Header,
    check_tiff_parts,
    decode_part,
    read_tiff_directory,
    turn_upright,
)
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.rows import Banded, Pixels

_HORIZONTAL_DIFFERENCES = 2
# Of compressions: none and PackBits, where decoders take no notice of a predictor.
_UNPREDICTED = (1, 32773)
_UNASSOCIATED_ALPHA = 2

_TRUNCATED = "is truncated or damaged; copy it anew"

_T4_OPTIONS = 292

# What a TIFF's decoder must know: TIFF 6.0, and its technical notes 1 and 2 for tiles and JPEG.
_SHARED = (
    TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.BITSPERSAMPLE, TiffImagePlugin.COMPRESSION,
    TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, TiffImagePlugin.FILLORDER,
    TiffImagePlugin.SAMPLESPERPIXEL, TiffImagePlugin.PLANAR_CONFIGURATION,
    TiffImagePlugin.PREDICTOR, TiffImagePlugin.COLORMAP, TiffImagePlugin.EXTRASAMPLES,
    TiffImagePlugin.SAMPLEFORMAT, TiffImagePlugin.JPEGTABLES, TiffImagePlugin.YCBCRSUBSAMPLING,
    TiffImagePlugin.REFERENCEBLACKWHITE, TiffImagePlugin.ROWSPERSTRIP, TiffImagePlugin.TILEWIDTH,
    TiffImagePlugin.TILELENGTH, _T4_OPTIONS,
)  # fmt: skip
_OLD_JPEG, _JPEG = 6, 7
_YCBCR = 6
# Of strips and tiles: where they are, their bytes, and their height.
_STRIPS = (
    TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS, TiffImagePlugin.ROWSPERSTRIP
)  # fmt: skip
_TILES = (
    TiffImagePlugin.TILEOFFSETS, TiffImagePlugin.TILEBYTECOUNTS, TiffImagePlugin.TILELENGTH
)  # fmt: skip


def bands(file: BinaryIO, header: Header) -> Iterator[Pixels] | None:
    """As `png.bands`; None for planes, large strips, and YCbCr.

    YCbCr in JPEG has rows, but the decoder refuses a single subsampled one of other compressions.
    """
    tags = read_tiff_directory(file)
    where, sizes, length = _parts(tags)
    if not {where, sizes, length} <= set(tags):
        return None
    check_tiff_parts(tags)
    compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
    ycbcr = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _YCBCR
    tall = min(tags[length], header.height)
    bits = header.width * _bits(tags)
    if (
        tall * bits > 8 * rows.LARGEST_PART
        or tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) != 1
        or compression == _OLD_JPEG
        or (ycbcr and compression != _JPEG)
    ):
        return None
    return _rows(file, tags, max(1, rows.BAND_BYTES * 8 // (tall * bits)))


def read_deep(file: BinaryIO, header: Header) -> Pixels:
    """Pixels of 16 bits or floats, upright, as `decode` gives them.

    OpenCV decodes them, but not from the file itself: of a damaged one it may see other tags than
    those that were checked, and return what was in memory before.

    Raises:
        InputError: damaged; the message goes behind the file's name.
        Exception: whatever a damaged file makes the decoders raise.
    """
    tags = read_tiff_directory(file)
    check_tiff_parts(tags)
    pixels = _grey_alpha(file, tags) if header.channels == 2 else _whole(file, tags)
    return np.ascontiguousarray(turn_upright(pixels, header.orientation))


def _grey_alpha(file: BinaryIO, tags: ImageFileDirectory_v2) -> Pixels:
    """Deep grey and alpha (H, W, 2), by tags that are used up.

    OpenCV reads no such file, but it is one of grey that is twice as wide, except for the
    differences from the left neighbour (TIFF 6.0, section 14), which are added up here.
    """
    width = tags[TiffImagePlugin.IMAGEWIDTH]
    predictor = tags.pop(TiffImagePlugin.PREDICTOR, 1)
    if tags.get(TiffImagePlugin.COMPRESSION, 1) in _UNPREDICTED:
        predictor = 1
    if predictor not in (1, _HORIZONTAL_DIFFERENCES):
        raise InputError("holds grey, alpha and differences of floats; save it without a predictor")
    # Differences begin anew in each tile.
    block = tags.get(TiffImagePlugin.TILEWIDTH, width)
    for tag in {TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.TILEWIDTH} & set(tags):
        tags.tagtype[tag] = TiffTags.LONG
        tags[tag] *= 2
    for tag in {TiffImagePlugin.BITSPERSAMPLE, TiffImagePlugin.SAMPLEFORMAT} & set(tags):
        tags[tag] = tags[tag][:1]
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = 1
    tags.pop(TiffImagePlugin.EXTRASAMPLES, None)
    pixels = _whole(file, tags)
    pixels = pixels.reshape(len(pixels), width, 2)
    if predictor == _HORIZONTAL_DIFFERENCES:
        integers = pixels.view(f"u{pixels.itemsize}")
        for left in range(0, width, block):
            part = integers[:, left : left + block]
            np.cumsum(part, axis=1, dtype=part.dtype, out=part)
    return pixels


def _whole(file: BinaryIO, tags: ImageFileDirectory_v2) -> Pixels:
    """All pixels as they are stored."""
    height = tags[TiffImagePlugin.IMAGELENGTH]
    tags.setdefault(TiffImagePlugin.ROWSPERSTRIP, height)
    return next(_rows(file, tags, height))


def _rows(file: BinaryIO, tags: ImageFileDirectory_v2, count: int) -> Iterator[Pixels]:
    """Bands of so many strips, or rows of tiles."""
    where, sizes, length = _parts(tags)
    places = list(zip(tags[where], _sizes(tags), strict=True))
    most = file.seek(0, os.SEEK_END)
    height, width = tags[TiffImagePlugin.IMAGELENGTH], tags[TiffImagePlugin.IMAGEWIDTH]
    tall = min(tags[length], height)
    across = math.ceil(width / tags[TiffImagePlugin.TILEWIDTH]) if where in _TILES else 1
    down = math.ceil(height / tall)
    for top in range(0, down, count):
        # There may be more of them than the picture has.
        wanted = places[top * across : min(top + count, down) * across]
        if sum(size for _, size in wanted) > most:
            raise InputError(_TRUNCATED)
        parts = []
        for offset, size in wanted:
            file.seek(offset)
            parts.append(file.read(size))
            if len(parts[-1]) < size:
                raise InputError(_TRUNCATED)
        small = ImageFileDirectory_v2(prefix=tags.prefix)
        for tag in set(_SHARED) & set(tags):
            small.tagtype[tag] = tags.tagtype[tag]
            small[tag] = tags[tag]
        small[TiffImagePlugin.IMAGELENGTH] = min((top + count) * tall, height) - top * tall
        small.tagtype[where] = small.tagtype[sizes] = TiffTags.LONG
        small[sizes] = tuple(map(len, parts))
        small[where] = tuple(np.cumsum([0, *small[sizes][:-1]]).tolist())
        if where in _TILES:
            start = len(_saved(small))
            small[where] = tuple(start + offset for offset in small[where])
        yield decode_part(b"".join([_saved(small), *parts]))


def _parts(tags: ImageFileDirectory_v2) -> tuple[int, int, int]:
    return _TILES if TiffImagePlugin.TILEOFFSETS in tags else _STRIPS


def _sizes(tags: ImageFileDirectory_v2) -> list[int]:
    """Bytes of each strip or tile.

    Of pixels that are not compressed they are computed: files give them wrong, and decoders that
    read the whole do not ask.
    """
    where, sizes, length = _parts(tags)
    if tags.get(TiffImagePlugin.COMPRESSION, 1) != 1:
        return list(tags[sizes])
    height, number = tags[TiffImagePlugin.IMAGELENGTH], len(tags[where])
    if where in _TILES:
        width, rows_of_each = tags[TiffImagePlugin.TILEWIDTH], [tags[length]] * number
    else:
        width = tags[TiffImagePlugin.IMAGEWIDTH]
        rows_of_each = [min(tags[length], max(0, height - i * tags[length])) for i in range(number)]
    row = math.ceil(width * _bits(tags) / 8)
    return [row * tall for tall in rows_of_each]


def _bits(tags: ImageFileDirectory_v2) -> int:
    """Of a pixel; some files give those of one of its samples for all."""
    bits: tuple[int, ...] = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    samples: int = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    return sum(bits) if len(bits) >= samples else bits[0] * samples


def _saved(tags: ImageFileDirectory_v2) -> bytes:
    """The start of a TIFF. To strips' places, not to tiles', Pillow adds its length."""
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue()


def write(file: BinaryIO, image: Banded, metadata: Metadata) -> None:
    """Write an image as its rows come, in deflated strips.

    Integers are differences from their left neighbour (TIFF 6.0, section 14). The tags stand in
    front and are as long whatever the strips' sizes, so they are written again when those are
    known.
    """
    height, width, channels = (*image.shape, 1)[:3]
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
    height, width, channels = (*image.shape, 1)[:3]
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
    return _saved(tags)
