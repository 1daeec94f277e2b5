"""PNG a band of rows at a time, for which Pillow and OpenCV have no way.

To be read, rows become a small PNG under the row above them, for the decoder of whole pictures.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.images import rows
from hfdn_deploy.images.decoding import Header, decode_part
from hfdn_deploy.images.metadata import Metadata, png_chunk, png_chunks
from hfdn_deploy.images.rows import Banded, Pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_READ_BYTES = 2**16

# A PNG's colour type by channels, and the filter that guesses a pixel from three neighbours (PNG
# specification, 11.2.1 and 9.4). It and this level of zlib's give Pillow's size in half the time.
_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
_PAETH = 4
_LEVEL = 4


def bands(file: BinaryIO, header: Header) -> Iterator[Pixels] | None:
    """The pixels, as `decoding.decode` gives them, in bands of rows from top to bottom.

    Args:
        file: open for reading and seeking.
        header: of this file, whose picture is upright and opaque.

    Returns:
        The bands; None where rows cannot be had one after the other or make no sense alone:
        palettes and interlaced pictures. Taking them raises what `decoding.decode` raises, and
        EOFError.
    """
    file.seek(8)
    start = file.read(8 + 13)
    depth, colour, *_, interlaced = start[16:]
    width = header.width * header.channels * depth // 8
    if depth < 8 or colour not in (0, 2) or interlaced or width > rows.LARGEST_PART:
        return None
    return _rows(file, header, width, start[16:])


def _rows(file: BinaryIO, header: Header, width: int, kind: bytes) -> Iterator[Pixels]:
    """Bands of a PNG with rows of `width` bytes, whose header is of this kind behind the size."""
    count = max(1, rows.BAND_BYTES // width)
    stream = _Inflated(file)
    above = bytes(width)  # (PNG specification, 9.2)
    for top in range(0, header.height, count):
        filtered = stream.read(min(count, header.height - top) * (1 + width))
        size = struct.pack(">II", header.width, 1 + len(filtered) // (1 + width))
        pixels = decode_part(
            _SIGNATURE
            + png_chunk(b"IHDR", size + kind)
            + png_chunk(b"IDAT", zlib.compress(b"\0" + above + filtered, 0))
            + png_chunk(b"IEND", b"")
        )[1:]
        above = pixels[-1].astype(pixels.dtype.newbyteorder(">")).tobytes()
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
            # Behind the end of its stream zlib would keep all that it is given.
            if not part and (self._inflater.eof or not packed):
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
            piece = file.read(min(length, _READ_BYTES))
            if not piece:
                return
            check = zlib.crc32(piece, check)
            length -= len(piece)
            yield piece
        if file.read(4) != struct.pack(">I", check):
            raise EOFError("a chunk is damaged")


def write(file: BinaryIO, image: Banded, metadata: Metadata) -> None:
    """Write an image of uint8 or uint16 as its rows come."""
    height, width, channels = (*image.shape, 1)[:3]
    depth = 8 * image.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR[channels], 0, 0, 0)
    file.write(_SIGNATURE + png_chunk(b"IHDR", header) + png_chunks(metadata))
    packer = zlib.compressobj(_LEVEL, strategy=zlib.Z_FILTERED)
    above = np.zeros((1, width * channels * image.dtype.itemsize), np.uint8)
    for band in image.rows():
        big_endian = np.ascontiguousarray(band, image.dtype.newbyteorder(">"))
        known = np.concatenate([above, big_endian.view(np.uint8).reshape(len(band), -1)])
        above = known[-1:]
        if packed := packer.compress(_paeth(known, channels * image.dtype.itemsize)):
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
