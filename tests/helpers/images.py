"""Image files of unusual kinds."""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: NDArray[Any], colour_type: int, depth: int, *chunks: bytes) -> bytes:
    """Return a PNG of exactly this kind; what has less than 8 bits is two pixels, `packed`."""
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


def deep(photo: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    """Return the photograph with all bits of this dtype in use."""
    noise = np.random.default_rng(0).random(photo.shape)
    if dtype == "float32":
        return ((photo + noise) / 256).astype(dtype)
    large: NDArray[Any] = photo.astype(dtype) * 256 + (noise * 256).astype(dtype)
    return large.astype(dtype)
