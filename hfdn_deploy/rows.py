"""Pictures read a band of rows at a time, as their rows are wanted.

No library that is at hand reads a PNG or a TIFF in parts. But parts of one are themselves
pictures: rows of a PNG under the row above them, and strips or tiles of a TIFF. So each is given
to the decoder that reads whole pictures, as a small file with the header of the large one.
"""

import io
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from hfdn_deploy import decoding
from hfdn_deploy.decoding import Header
from hfdn_deploy.errors import InputError
from hfdn_deploy.metadata import png_chunk

Pixels = NDArray[Any]

# Decoded at once, if a row, a strip or a row of tiles is no more.
_BAND_BYTES = 2**20

_PIECE = 2**16

# What a TIFF's decoder must know: TIFF 6.0, and its technical notes 1 and 2 for tiles and JPEG.
_SHARED = (
    TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.BITSPERSAMPLE, TiffImagePlugin.COMPRESSION,
    TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, TiffImagePlugin.FILLORDER,
    TiffImagePlugin.SAMPLESPERPIXEL, TiffImagePlugin.PLANAR_CONFIGURATION,
    TiffImagePlugin.PREDICTOR, TiffImagePlugin.COLORMAP, TiffImagePlugin.EXTRASAMPLES,
    TiffImagePlugin.SAMPLEFORMAT, TiffImagePlugin.JPEGTABLES, TiffImagePlugin.YCBCRSUBSAMPLING,
    TiffImagePlugin.REFERENCEBLACKWHITE, TiffImagePlugin.ROWSPERSTRIP, TiffImagePlugin.TILEWIDTH,
    TiffImagePlugin.TILELENGTH,
)  # fmt: skip
_OLD_JPEG = 6


class Rows:
    """An image of which only the rows that were asked for last are in memory.

    Rows are wanted from top to bottom, some again and again; who goes back further has the file
    read from its start. One thread at a time may ask.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        bands: Callable[[], Iterator[Pixels]],
    ) -> None:
        """Prepare to read.

        Args:
            shape: (H, W) or (H, W, C).
            dtype: of the pixels.
            bands: gives all rows from top to bottom, as often as it is called.
        """
        self.shape = shape
        self.dtype = dtype
        self._bands = bands
        self._rest: Iterator[Pixels] = iter(())
        self._kept: Pixels = np.empty((0, *shape[1:]), dtype)
        self._top = shape[0]  # so that the first row that is asked for opens the file

    def __getitem__(self, region: tuple[slice, slice]) -> Pixels:
        """Pixels (h, w) or (h, w, C) of these rows and columns; leave them as they are.

        Raises:
            InputError: the file is truncated or damaged, or cannot be read any more.
        """
        start, stop, _ = region[0].indices(self.shape[0])
        if start < self._top:
            self._rest, self._kept, self._top = self._bands(), self._kept[:0], 0
        bottom = self._top + len(self._kept)
        if stop > bottom:
            parts = [self._kept[start - self._top :]]
            for band in self._rest:
                parts.append(band[max(0, start - bottom) :])
                bottom += len(band)
                if bottom >= stop:
                    break
            else:
                raise InputError("the rows of the image end too early; read it anew.")
            self._kept, self._top = np.concatenate(parts), start
        return self._kept[start - self._top : stop - self._top, region[1]]


def bands(file: BinaryIO, header: Header) -> Iterator[Pixels] | None:
    """The pixels, as `decoding.decode` gives them, in bands of rows from top to bottom.

    Args:
        file: open for reading and seeking.
        header: of this file.

    Returns:
        The bands; None where the rows cannot be had one after the other, or make no sense alone:
        of other formats, of interlaced, turned or transparent pictures, or those with planes.
        Taking them raises what `decoding.decode` raises, and EOFError.
    """
    if header.orientation != 1 or header.channels not in (1, 3):
        return None
    if header.format == "PNG":
        return _png_bands(file, header)
    return _tiff_bands(file) if header.format == "TIFF" else None


def _decode(data: bytes) -> Pixels:
    file = io.BytesIO(data)
    return decoding.decode(file, *decoding.read_header(file))


def _png_bands(file: BinaryIO, header: Header) -> Iterator[Pixels] | None:
    file.seek(8)
    start = file.read(8 + 13)
    depth, colour, *_, interlaced = start[16:]
    if depth < 8 or colour not in (0, 2) or interlaced:
        return None
    return _png_rows(file, header, start[16:])


def _png_rows(file: BinaryIO, header: Header, kind: bytes) -> Iterator[Pixels]:
    """Bands of a PNG, whose header says behind the size that it is of this kind."""
    dtype = np.dtype(header.dtype).newbyteorder(">")
    width = header.width * header.channels * dtype.itemsize
    count = max(1, _BAND_BYTES // width)
    stream = _Inflated(file)
    above = bytes(width)  # (PNG specification, 9.2)
    for top in range(0, header.height, count):
        rows = stream.read(min(count, header.height - top) * (1 + width))
        size = struct.pack(">II", header.width, 1 + len(rows) // (1 + width))
        pixels = _decode(
            b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", size + kind)
            + png_chunk(b"IDAT", zlib.compress(b"\0" + above + rows, 0))
            + png_chunk(b"IEND", b"")
        )[1:]
        above = pixels[-1].astype(dtype).tobytes()
        yield pixels


class _Inflated:
    """What the IDAT chunks of a PNG hold, inflated as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._packed = _idat(file)
        self._inflater = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            packed = self._inflater.unconsumed_tail or next(self._packed, b"")
            part = self._inflater.decompress(packed, size)
            if not packed and not part:
                raise EOFError("the pixels end too early")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _idat(file: BinaryIO) -> Iterator[bytes]:
    """The data of a PNG's IDAT chunks, in pieces."""
    file.seek(8)
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind != b"IDAT":
            file.seek(length + 4, 1)
            continue
        check = zlib.crc32(kind)
        while length:
            piece = file.read(min(length, _PIECE))
            if not piece:
                return
            check = zlib.crc32(piece, check)
            length -= len(piece)
            yield piece
        if file.read(4) != struct.pack(">I", check):
            raise EOFError("a chunk is damaged")


def _tiff_bands(file: BinaryIO) -> Iterator[Pixels] | None:
    directory = decoding.read_tiff_directory(file)
    tiled = TiffImagePlugin.TILEOFFSETS in directory
    length = TiffImagePlugin.TILELENGTH if tiled else TiffImagePlugin.ROWSPERSTRIP
    where = TiffImagePlugin.TILEOFFSETS if tiled else TiffImagePlugin.STRIPOFFSETS
    sizes = TiffImagePlugin.TILEBYTECOUNTS if tiled else TiffImagePlugin.STRIPBYTECOUNTS
    if (
        not {length, where, sizes} <= set(directory)
        or directory.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) != 1
        or directory.get(TiffImagePlugin.COMPRESSION, 1) == _OLD_JPEG
    ):
        return None
    return _tiff_rows(file, directory, length, where, sizes)


def _tiff_rows(
    file: BinaryIO, directory: ImageFileDirectory_v2, length: int, where: int, sizes: int
) -> Iterator[Pixels]:
    """Bands of a TIFF whose strips or tiles have their height and places in these tags."""
    height, width = (
        directory[tag] for tag in (TiffImagePlugin.IMAGELENGTH, TiffImagePlugin.IMAGEWIDTH)
    )
    across = math.ceil(width / directory.get(TiffImagePlugin.TILEWIDTH, width))
    rows = min(directory[length], height)
    bits = sum(directory.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    band = rows * max(1, _BAND_BYTES * 8 // (rows * width * bits))
    places = list(zip(directory[where], directory[sizes], strict=True))
    if len(places) != across * math.ceil(height / rows):
        raise InputError("is damaged; copy it anew")
    most = file.seek(0, os.SEEK_END)
    for top in range(0, height, band):
        bottom = min(top + band, height)
        wanted = places[top // rows * across : math.ceil(bottom / rows) * across]
        if sum(size for _, size in wanted) > most:
            raise InputError("is truncated or damaged; copy it anew")
        parts = []
        for offset, size in wanted:
            file.seek(offset)
            parts.append(file.read(size))
        small = ImageFileDirectory_v2(prefix=directory.prefix)
        for tag in _SHARED:
            if tag in directory:
                small.tagtype[tag] = directory.tagtype[tag]
                small[tag] = directory[tag]
        small[TiffImagePlugin.IMAGELENGTH] = bottom - top
        small.tagtype[where] = small.tagtype[sizes] = TiffTags.LONG
        small[sizes] = tuple(map(len, parts))
        small[where] = tuple(np.cumsum([0, *small[sizes][:-1]]).tolist())
        if where == TiffImagePlugin.TILEOFFSETS:
            start = len(_saved(small))
            small[where] = tuple(start + offset for offset in small[where])
        yield _decode(_saved(small) + b"".join(parts))


def _saved(tags: ImageFileDirectory_v2) -> bytes:
    """The start of a TIFF. To strips' places, not to tiles', Pillow adds its length."""
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue()
