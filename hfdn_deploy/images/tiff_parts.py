"""The tags of a TIFF, and a few of its strips or tiles at a time as a small TIFF."""

import io
import math
import os
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import TiffImagePlugin, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import rows

# Pixels of a tile that is accepted whatever the size of the image.
_LARGEST_TILE = 2**24

_TRUNCATED = "is truncated or damaged; copy it again"

_T4_OPTIONS = 292

# Tags that a decoder needs: TIFF 6.0, and its technical notes 1 and 2 for tiles and JPEG.
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
# Tags of strips and tiles: their places, their sizes in bytes, and their height.
_STRIPS = (
    TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS, TiffImagePlugin.ROWSPERSTRIP
)  # fmt: skip
_TILES = (
    TiffImagePlugin.TILEOFFSETS, TiffImagePlugin.TILEBYTECOUNTS, TiffImagePlugin.TILELENGTH
)  # fmt: skip


def read_directory(file: BinaryIO) -> ImageFileDirectory_v2:
    """Read the tags of a TIFF's first image."""
    file.seek(0)
    directory = ImageFileDirectory_v2(file.read(16 if is_bigtiff(file) else 8))
    file.seek(directory.next)
    directory.load(file)
    return directory


def is_bigtiff(file: BinaryIO) -> bool:
    """Return whether a file, positioned at its start, is a little-endian BigTIFF."""
    start = file.read(4)
    file.seek(0)
    return start == b"II+\0"


def check_parts(tags: ImageFileDirectory_v2) -> None:
    """Refuse missing strips and tiles, which Pillow leaves black, and tiles far too large.

    Raises:
        InputError: strips or tiles are missing, or tiles are too large.
        Exception: the tags are damaged; they raise anything.
    """
    width, height = tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]
    if TiffImagePlugin.STRIPOFFSETS in tags:
        places = tags[TiffImagePlugin.STRIPOFFSETS]
        parts = math.ceil(height / tags.get(TiffImagePlugin.ROWSPERSTRIP, height))
    elif TiffImagePlugin.TILEOFFSETS in tags:
        places = tags[TiffImagePlugin.TILEOFFSETS]
        wide, tall = tags[TiffImagePlugin.TILEWIDTH], tags[TiffImagePlugin.TILELENGTH]
        if wide * tall > max(_LARGEST_TILE, 2 * width * height):
            raise InputError(f"has tiles of {wide}×{tall} pixels; save it with smaller tiles")
        parts = math.ceil(width / wide) * math.ceil(height / tall)
    else:
        return
    if tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2:
        parts *= tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if len(places) < parts:
        raise InputError("lacks some of its strips or tiles; copy it again")


def parts_in_a_band(tags: ImageFileDirectory_v2) -> int | None:
    """Return how many strips or rows of tiles to decode at once; None to decode all.

    All must be decoded at once for planes, for large strips, and for YCbCr outside JPEG, of which
    the decoder refuses a single subsampled row.

    Raises:
        InputError: as for `check_parts`.
        Exception: the tags are damaged; they raise anything.
    """
    where, sizes, length = _parts(tags)
    if not {where, sizes, length} <= set(tags):
        return None
    check_parts(tags)
    compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
    ycbcr = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _YCBCR
    tall = min(tags[length], tags[TiffImagePlugin.IMAGELENGTH])
    bits = tags[TiffImagePlugin.IMAGEWIDTH] * _bits(tags)
    if (
        tall * bits > 8 * rows.LARGEST_PART
        or tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) != 1
        or compression == _OLD_JPEG
        or (ycbcr and compression != _JPEG)
    ):
        return None
    count: int = max(1, rows.BAND_BYTES * 8 // (tall * bits))
    return count


def small_tiffs(file: BinaryIO, tags: ImageFileDirectory_v2, count: int) -> Iterator[bytes]:
    """Yield small TIFFs of `count` strips, or rows of tiles, each, from top to bottom.

    Raises:
        InputError: the file is too short.
        Exception: the tags are damaged; they raise anything.
    """
    where, sizes, length = _parts(tags)
    places = list(zip(tags[where], _sizes(tags), strict=True))
    most = file.seek(0, os.SEEK_END)
    height, width = tags[TiffImagePlugin.IMAGELENGTH], tags[TiffImagePlugin.IMAGEWIDTH]
    tall = min(tags[length], height)
    across = math.ceil(width / tags[TiffImagePlugin.TILEWIDTH]) if where in _TILES else 1
    down = math.ceil(height / tall)
    for top in range(0, down, count):
        # The tags may list more parts than the image has.
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
            start = len(save_tags(small))
            small[where] = tuple(start + offset for offset in small[where])
        yield b"".join([save_tags(small), *parts])


def _parts(tags: ImageFileDirectory_v2) -> tuple[int, int, int]:
    return _TILES if TiffImagePlugin.TILEOFFSETS in tags else _STRIPS


def _sizes(tags: ImageFileDirectory_v2) -> list[int]:
    """Return the bytes of each strip or tile.

    They are computed if pixels are not compressed: some files state wrong sizes, which decoders of
    whole images do not use.
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
    """Return the bits of a pixel; some files state the bits of a single sample for all."""
    bits: tuple[int, ...] = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    samples: int = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    return sum(bits) if len(bits) >= samples else bits[0] * samples


def save_tags(tags: ImageFileDirectory_v2) -> bytes:
    """Return the start of a TIFF. Pillow adds its length to the places of strips, not of tiles."""
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue()
