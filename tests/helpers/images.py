"""Unusual image files."""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: NDArray[Any], colour_type: int, depth: int, *chunks: bytes) -> bytes:
    """Return a PNG of exactly this kind; below 8 bits it is one row of two packed pixels."""
    height, width = (1, 2) if depth < 8 else pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{max(1, depth // 8)}").tobytes() for row in pixels)
    parts = [
        chunk(b"IHDR", header),
        *chunks,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel, by the colour type of a PNG."""


def raw_png(size: tuple[int, int], kind: tuple[int, int, int], filtered: bytes) -> bytes:
    """Return a PNG with any number of rows, each preceded by its filter byte.

    Args:
        size: width and height in the header.
        kind: depth, colour type, and 1 if interlaced.
        filtered: the rows before compression.
    """
    depth, colour, interlaced = kind
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)
    palette = (bytes(range(192)) * 4)[: 3 * 2**depth]
    parts = [
        chunk(b"IHDR", header),
        chunk(b"PLTE", palette) if colour == 3 else b"",
        chunk(b"IDAT", zlib.compress(filtered)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep(photo: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    """Return the photograph in this dtype, with all of its bits in use."""
    noise = np.random.default_rng(0).random(photo.shape)
    if dtype == "float32":
        return ((photo + noise) / 256).astype(dtype)
    large: NDArray[Any] = photo.astype(dtype) * 256 + (noise * 256).astype(dtype)
    return large.astype(dtype)
