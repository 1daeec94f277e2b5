"""The chunks of a PNG (PNG specification, 5.3), and the metadata in them."""

import math
import re
import struct
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

from hfdn_deploy.images.metadata import Metadata, upright_exif, upright_xmp, valid_dpi

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp\0"
# Text that is EXIF or XMP in disguise, and would contradict what is written.
_STALE = re.compile(rb"XML:com\.adobe\.xmp\0|Raw profile type (exif|APP1|xmp)\0")
_LARGEST_TEXT = 2**24
# Samples of a pixel by colour type, and first column and row, and their steps, of each pass of an
# interlaced image (PNG specification, 11.2.1 and 8.2).
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = [
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
]  # fmt: skip
_INCHES_PER_METRE = 1 / 0.0254


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk as it stands in the file."""
    check = struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
    return struct.pack(">I", len(data)) + kind + data + check


def walk_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The kind of each chunk and the length of its data, at which the file stands."""
    place = len(SIGNATURE)
    file.seek(place)
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        yield kind, length
        place += len(start) + length + 4
        file.seek(place)


def filtered_bytes(width: int, height: int, kind: bytes) -> int:
    """Bytes of all rows, each behind the byte of its filter (PNG specification, 7.2 and 8).

    Args:
        width, height: in pixels, as they are stored.
        kind: the header chunk behind them.
    """
    depth, colour, *_, interlaced = kind
    passes = _ADAM7 if interlaced else [(0, 0, 1, 1)]
    total = 0
    for left, top, across, down in passes:
        columns, rows = math.ceil((width - left) / across), math.ceil((height - top) / down)
        if columns > 0 and rows > 0:
            total += rows * (1 + math.ceil(columns * depth * _SAMPLES[colour] / 8))
    return total


def read_metadata(file: BinaryIO, icc: bytes | None, dpi: Any) -> tuple[Metadata, int]:
    """Metadata and orientation from a PNG's chunks, and what Pillow made of two of them.

    Raises:
        EOFError: a chunk is longer than the file, for which OpenCV would set memory aside.
    """
    chunks = _read_chunks(file)
    texts = [(kind, data) for kind in _TEXT for data in chunks.get(kind, ())]
    raw = next(filter(None, chain(chunks.get(b"eXIf", ()), map(_raw_exif, texts))), b"")
    exif, orientation = upright_exif(raw)
    xmp = upright_xmp(next(filter(None, (_xmp(data) for _, data in texts)), None))
    kept = [(kind, data) for kind in _COLOUR for data in chunks.get(kind, ())[:1]]
    kept += [(kind, data) for kind, data in texts if not _STALE.match(data)]
    damaged = bool(raw) and exif is None
    return Metadata(icc, exif, xmp, valid_dpi(dpi), tuple(kept), damaged), orientation


def metadata_chunks(metadata: Metadata) -> bytes:
    """The chunks for metadata, which stand behind a PNG's header."""
    chunks = list(metadata.png_chunks)
    if metadata.icc:
        chunks.insert(0, (b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP + b"\0\0\0\0" + metadata.xmp))
    if metadata.dpi:
        density = (round(value * _INCHES_PER_METRE) for value in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", *density, 1)))
    return b"".join(png_chunk(kind, data) for kind, data in chunks)


def _read_chunks(file: BinaryIO) -> dict[bytes, list[bytes]]:
    """The intact chunks by kind, in order, but for the pixels."""
    chunks: dict[bytes, list[bytes]] = {}
    size = file.seek(0, 2)
    for kind, length in walk_chunks(file):
        if file.tell() + length + 4 > size:
            raise EOFError("a chunk runs over the end")
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            continue
        data = file.read(length)
        if file.read(4) == struct.pack(">I", zlib.crc32(kind + data)):
            chunks.setdefault(kind, []).append(data)
    return chunks


def _xmp(text: bytes) -> bytes:
    """The XMP packet that a text chunk is; empty if it is none (PNG specification, 11.3.3.4)."""
    if not text.startswith(_XMP) or text.count(b"\0") < 5:
        return b""
    compressed = text[len(_XMP)]
    # Two bytes on compression, language and translated keyword, then the text.
    packet = text[len(_XMP) + 2 :].split(b"\0", 2)[-1]
    return _inflated(packet) if compressed else packet


def _raw_exif(chunk: tuple[bytes, bytes]) -> bytes:
    """The EXIF that a text chunk of ImageMagick's is, in hexadecimal digits; empty if none."""
    kind, data = chunk
    keyword, _, text = data.partition(b"\0")
    if kind == b"iTXt" or keyword not in (b"Raw profile type exif", b"Raw profile type APP1"):
        return b""
    # A byte on compression; name, length and digits stand in lines.
    lines = (_inflated(text[1:]) if kind == b"zTXt" else text).split()
    try:
        return bytes.fromhex(b"".join(lines[2:]).decode()).removeprefix(b"Exif\0\0")
    except ValueError:
        return b""


def _inflated(packed: bytes) -> bytes:
    """Compressed text; empty if it is damaged or would be vast."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(packed, _LARGEST_TEXT)
    except zlib.error:
        return b""
    return text if inflater.eof else b""
