"""The chunks of a PNG (PNG specification, 5.3), and the metadata in them."""

import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from hfdn_deploy.images.metadata import Chunk, Metadata, metadata_of, valid_aspect, valid_dpi

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GAMMA = (b"gAMA", b"cHRM", b"sRGB")
# RGB in full range; these bytes follow primaries and transfer.
_RGB = b"\0\1"
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
STILL = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""The chunks that the pixels of a still image need."""
_OF_PIXELS = (*STILL, b"acTL", b"fcTL", b"fdAT")
_AS_THEY_ARE = (b"tIME",)
_XMP = b"XML:com.adobe.xmp\0"
_XMP_OF_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
# ImageMagick stores profiles as texts of hexadecimal digits.
_RAW = b"Raw profile type "
_RAW_KINDS = (b"exif", b"APP1", b"xmp", b"iptc", b"8bim", b"icc", b"icm")
# Texts that hold other metadata, which is written in its own chunk.
_REWRITTEN = re.compile(re.escape(_XMP) + rb"|" + _RAW + rb"(" + rb"|".join(_RAW_KINDS) + rb")\0")
_DENSITY = struct.Struct(">IIB")
_METRE = 1
_LARGEST_TEXT = 2**26
# Samples of a pixel by colour type; first column and row, and their steps, of each pass of an
# interlaced image (PNG specification, 11.2.1 and 8.2).
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = [
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
]  # fmt: skip
_INCHES_PER_METRE = 1 / 0.0254


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk as it is stored: length, type, data and checksum."""
    check = struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
    return struct.pack(">I", len(data)) + kind + data + check


def walk_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield type and length of each chunk, with the file positioned at its data."""
    place = len(SIGNATURE)
    file.seek(place)
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        yield kind, length
        place += len(start) + length + 4
        file.seek(place)


def filtered_bytes(width: int, height: int, kind: bytes) -> int:
    """Return the bytes of all rows with their filter types (PNG specification, 7.2 and 8).

    Args:
        width, height: in pixels, as they are stored.
        kind: the other fields of the header chunk.
    """
    depth, colour, *_, interlaced = kind
    passes = _ADAM7 if interlaced else [(0, 0, 1, 1)]
    total = 0
    for left, top, across, down in passes:
        columns, rows = math.ceil((width - left) / across), math.ceil((height - top) / down)
        if columns > 0 and rows > 0:
            total += rows * (1 + math.ceil(columns * depth * _SAMPLES[colour] / 8))
    return total


def read_metadata(file: BinaryIO) -> tuple[Metadata, int]:
    """Read metadata and orientation from a PNG's chunks.

    Raises:
        EOFError: a chunk is longer than the file; OpenCV would allocate its length.
    """
    chunks = _read_chunks(file)
    texts = [(kind, data) for kind in _TEXT for data in chunks.get(kind, ())]
    raw = {kind: data for chunk in reversed(texts) for kind, data in _raw_profile(chunk)}
    kept = [(kind, data) for kind, data in texts if not _REWRITTEN.match(data)]
    kept += [(kind, data) for kind in _AS_THEY_ARE for data in chunks.get(kind, ())[:1]]
    app1 = raw.get(b"APP1", b"")
    is_xmp = app1.startswith(_XMP_OF_JPEG)
    exif = [*chunks.get(b"eXIf", ()), raw.get(b"exif"), None if is_xmp else app1]
    xmp = [*(_xmp(data) for _, data in texts), raw.get(b"xmp")]
    xmp.append(app1.removeprefix(_XMP_OF_JPEG) if is_xmp else None)
    icc = [_icc(data) for data in chunks.get(b"iCCP", ())] + [raw.get(b"icc"), raw.get(b"icm")]
    return metadata_of(
        next(filter(None, exif), None),
        next(filter(None, xmp), None),
        icc=next(filter(None, icc), None),
        cicp=_cicp(next(iter(chunks.get(b"cICP", ())), b"")),
        gamma=tuple((kind, data) for kind in _GAMMA for data in chunks.get(kind, ())[:1]),
        photoshop=raw.get(b"iptc") or raw.get(b"8bim"),
        texts=tuple(kept),
        **_density(next(iter(chunks.get(b"pHYs", ())), b"")),
    )


def metadata_chunks(metadata: Metadata) -> bytes:
    """Return the chunks for metadata, to be written behind a PNG's header."""
    chunks = [*metadata.gamma, *metadata.texts]
    if metadata.cicp:
        chunks.insert(0, (b"cICP", bytes(metadata.cicp) + _RGB))
    if metadata.icc:
        chunks.insert(0, (b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP + b"\0\0\0\0" + metadata.xmp))
    if metadata.photoshop:
        chunks.append((b"zTXt", _raw_text(b"iptc", metadata.photoshop)))
    if metadata.dpi:
        density = (round(value * _INCHES_PER_METRE) for value in metadata.dpi)
        chunks.append((b"pHYs", _DENSITY.pack(*density, _METRE)))
    elif metadata.aspect:
        chunks.append((b"pHYs", _DENSITY.pack(*metadata.aspect, 0)))
    return b"".join(png_chunk(kind, data) for kind, data in chunks)


def pixel_chunks(file: BinaryIO, kinds: tuple[bytes, ...] = _OF_PIXELS) -> bytes:
    """Return a PNG with only chunks of these kinds, by default those that its pixels need."""
    parts = [SIGNATURE]
    for kind, length in walk_chunks(file):
        if kind in kinds:
            file.seek(-8, 1)
            parts.append(file.read(8 + length + 4))
    return b"".join(parts)


def comment_text(comment: bytes) -> Chunk:
    """Return the text chunk for a comment, in UTF-8 or else Latin-1, of another format."""
    comment = comment.replace(b"\0", b"")
    with suppress(UnicodeDecodeError):
        if not comment.decode().isascii():
            return b"iTXt", b"Comment\0\0\0\0\0" + comment
    return b"tEXt", b"Comment\0" + comment


def comment_of(chunk: Chunk) -> bytes | None:
    """Return the comment in a text chunk; None if the text is not a comment."""
    kind, data = chunk
    if not data.startswith(b"Comment\0"):
        return None
    text = data[len(b"Comment\0") :]
    if kind == b"zTXt":
        return _inflated(text[1:])
    return _international(text) if kind == b"iTXt" else text


def _read_chunks(file: BinaryIO) -> dict[bytes, list[bytes]]:
    """Read the intact chunks by type, in order, without pixels."""
    chunks: dict[bytes, list[bytes]] = {}
    size = file.seek(0, 2)
    for kind, length in walk_chunks(file):
        if file.tell() + length + 4 > size:
            raise EOFError("a chunk runs past the end")
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            continue
        data = file.read(length)
        if file.read(4) == struct.pack(">I", zlib.crc32(kind + data)):
            chunks.setdefault(kind, []).append(data)
    return chunks


def _xmp(text: bytes) -> bytes:
    """Return the XMP packet in a text chunk, or empty (PNG specification, 11.3.3.4)."""
    return _international(text[len(_XMP) :]) if text.startswith(_XMP) else b""


def _international(text: bytes) -> bytes:
    """Return the text of an iTXt chunk, given without its keyword; empty if it is damaged."""
    if text.count(b"\0") < (3 if text[:1] == b"\1" else 4):
        return b""
    # Two bytes for compression, language and translated keyword, then the text.
    packet = text[2:].split(b"\0", 2)[-1]
    return _inflated(packet) if text[0] else packet


def _icc(data: bytes) -> bytes:
    """Return the profile in an iCCP chunk, which is behind its name and a byte for compression."""
    return _inflated(data.partition(b"\0")[2][1:])


def _raw_profile(chunk: Chunk) -> Iterator[Chunk]:
    """Yield kind and bytes of the profile in a text chunk of ImageMagick, if it holds one."""
    kind, data = chunk
    keyword, _, text = data.partition(b"\0")
    name = keyword.removeprefix(_RAW)
    if kind == b"iTXt" or name == keyword or name not in _RAW_KINDS:
        return
    # A byte for compression, then lines: name, length and digits.
    lines = (_inflated(text[1:]) if kind == b"zTXt" else text).split()
    try:
        yield name, bytes.fromhex(b"".join(lines[2:]).decode())
    except ValueError:
        return


def _raw_text(kind: bytes, data: bytes) -> bytes:
    """Return the data of a zTXt chunk that holds a profile in ImageMagick's form."""
    digits = data.hex().encode()
    lines = [digits[i : i + 72] for i in range(0, len(digits), 72)]
    text = b"\n".join([b"", kind, b"%8d" % len(data), *lines, b""])
    return _RAW + kind + b"\0\0" + zlib.compress(text)


def _cicp(data: bytes) -> tuple[int, int] | None:
    return (data[0], data[1]) if len(data) == 4 and data[2:] == _RGB else None


def _density(data: bytes) -> dict[str, Any]:
    """Return the field of `Metadata` for a pHYs chunk."""
    if len(data) != _DENSITY.size:
        return {}
    x, y, unit = _DENSITY.unpack(data)
    if unit != _METRE:
        return {"aspect": valid_aspect(x, y)}
    return {"dpi": valid_dpi((x / _INCHES_PER_METRE, y / _INCHES_PER_METRE))}


def _inflated(packed: bytes) -> bytes:
    """Return text decompressed; empty if it is damaged or larger than `_LARGEST_TEXT`."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(packed, _LARGEST_TEXT)
    except zlib.error:
        return b""
    return text if inflater.eof else b""
