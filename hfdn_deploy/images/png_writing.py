"""Writing of PNG, band by band or frame by frame."""

import struct
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.images.frames import Frames
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.png_chunks import SIGNATURE, metadata_chunks, png_chunk
from hfdn_deploy.images.rows import Banded, Pixels, size_of

# A PNG's colour type by channels, and the filter that predicts a pixel from three neighbours (PNG
# specification, 11.2.1 and 9.4). With zlib's level 4 it gives Pillow's size in half the time.
COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
PAETH = 4
_LEVEL = 4
_SECOND = 1000
"""Milliseconds."""
_MOST = 2**16 - 1
"""Largest numerator or denominator of a duration."""


def write_png(file: BinaryIO, image: Banded, metadata: Metadata) -> None:
    """Write an image band by band; see `Format`."""
    height, width, channels = size_of(image)
    depth = 8 * image.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, COLOUR[channels], 0, 0, 0)
    file.write(SIGNATURE + png_chunk(b"IHDR", header) + metadata_chunks(metadata))
    packer = zlib.compressobj(_LEVEL, strategy=zlib.Z_FILTERED)
    above = np.zeros((1, width * channels * image.dtype.itemsize), np.uint8)
    for band in image.rows():
        big_endian = np.ascontiguousarray(band, image.dtype.newbyteorder(">"))
        known = np.concatenate([above, big_endian.view(np.uint8).reshape(len(band), -1)])
        above = known[-1:]
        if packed := packer.compress(_paeth(known, channels * image.dtype.itemsize)):
            file.write(png_chunk(b"IDAT", packed))
    file.write(png_chunk(b"IDAT", packer.flush()) + png_chunk(b"IEND", b""))


def write_apng(file: BinaryIO, frames: Frames, metadata: Metadata) -> None:
    """Write an animation (PNG specification, 11.3.6); of each frame only the area that changes."""
    height, width, channels = frames.shape
    number = len(frames.milliseconds)
    head = struct.pack(">IIBBBBB", width, height, 8, COLOUR[channels], 0, 0, 0)
    file.write(SIGNATURE + png_chunk(b"IHDR", head) + metadata_chunks(metadata))
    file.write(png_chunk(b"acTL", struct.pack(">II", number, frames.plays)))
    sequence, before = 0, None
    for pixels, duration in zip(frames.pixels, frames.durations(), strict=True):
        left, top, part = _changed(before, pixels)
        size = (part.shape[1], part.shape[0], left, top)
        control = struct.pack(">5IHHBB", sequence, *size, *_fraction(duration), 0, 0)
        file.write(png_chunk(b"fcTL", control))
        flat = np.ascontiguousarray(part).reshape(len(part), -1)
        packer = zlib.compressobj(_LEVEL, strategy=zlib.Z_FILTERED)
        packed = packer.compress(_paeth(np.pad(flat, ((1, 0), (0, 0))), channels)) + packer.flush()
        if before is None:
            file.write(png_chunk(b"IDAT", packed))
        else:
            sequence += 1
            file.write(png_chunk(b"fdAT", struct.pack(">I", sequence) + packed))
        sequence += 1
        before = pixels
    file.write(png_chunk(b"IEND", b""))


def _changed(before: Pixels | None, pixels: Pixels) -> tuple[int, int, Pixels]:
    """Return left and top of the smallest rectangle around all changes, and its pixels."""
    if before is None:
        return 0, 0, pixels
    changes = np.any(before != pixels, axis=2)
    down, across = np.flatnonzero(changes.any(1)), np.flatnonzero(changes.any(0))
    if not len(down):
        return 0, 0, pixels[:1, :1]
    top, left = int(down[0]), int(across[0])
    return left, top, pixels[top : down[-1] + 1, left : across[-1] + 1]


def _fraction(milliseconds: int) -> tuple[int, int]:
    """Return numerator and denominator of seconds; a longer duration is limited to the largest."""
    if milliseconds <= _MOST:
        return milliseconds, _SECOND
    return min(_MOST, round(milliseconds / 10)), _SECOND // 10


def _paeth(rows: NDArray[np.uint8], pixel: int) -> bytes:
    """Filter rows by Paeth's predictor (PNG specification, 9.4).

    Args:
        rows: (1 + N, bytes): the row above, then the rows to filter.
        pixel: bytes per pixel.
    """
    padded = np.pad(rows, ((0, 0), (pixel, 0)))
    left, above, corner = padded[1:, :-pixel], padded[:-1, pixel:], padded[:-1, :-pixel]
    by_left = above.astype(np.int16) - corner
    by_above = left.astype(np.int16) - corner
    by_corner = np.abs(by_left + by_above)
    by_left, by_above = np.abs(by_left), np.abs(by_above)
    guess = np.where(by_above <= by_corner, above, corner)
    guess = np.where((by_left <= by_above) & (by_left <= by_corner), left, guess)
    filtered = np.full((len(rows) - 1, 1 + rows.shape[1]), PAETH, np.uint8)
    np.subtract(rows[1:], guess, out=filtered[:, 1:])
    return filtered.tobytes()
