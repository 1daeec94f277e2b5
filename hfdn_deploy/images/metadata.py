"""What a picture file says beside its pixels, and carrying it over to the upscaled picture."""

import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, BinaryIO

from PIL.ExifTags import IFD, Base
from PIL.Image import Exif

# Of a TIFF's tags only these describe the picture; the others describe the file.
_DESCRIPTIVE = frozenset(
    (
        Base.ImageDescription, Base.Make, Base.Model, Base.Orientation, Base.XResolution,
        Base.YResolution, Base.ResolutionUnit, Base.Software, Base.DateTime, Base.Artist,
        Base.HostComputer, Base.Copyright, Base.Rating, Base.RatingPercent, Base.XPTitle,
        Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject, IFD.Exif, IFD.GPSInfo,
    )
)  # fmt: skip
_TIFF_XMP, _TIFF_ICC = 700, 34675

_PNG_COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_PNG_XMP = b"XML:com.adobe.xmp\0"
# Text that is EXIF or XMP in disguise, and would contradict what is written.
_PNG_STALE = re.compile(rb"XML:com\.adobe\.xmp\0|Raw profile type (exif|APP1|xmp)\0")
_LARGEST_TEXT = 2**24
_INCHES_PER_METRE = 1 / 0.0254


@dataclass(frozen=True)
class Metadata:
    """All of it as bytes that go into a file, and safe to write: it was parsed or is opaque."""

    icc: bytes | None = None
    """ICC colour profile."""
    exif: bytes | None = None
    """EXIF as a TIFF block; its orientation is 1, and it has no thumbnail."""
    xmp: bytes | None = None
    """XMP packet; its orientation is 1."""
    dpi: tuple[float, float] | None = None
    """Dots per inch, horizontal and vertical."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """Text and colour chunks of a PNG by type, which only a PNG can hold."""
    damaged: bool = False
    """Whether there was EXIF that cannot be parsed."""


def for_size(metadata: Metadata, width: int, height: int) -> Metadata:
    """The same, with EXIF that names this size in pixels, if it named one."""
    if metadata.exif is None:
        return metadata
    exif = Exif()
    exif.load(metadata.exif)
    details = exif.get_ifd(IFD.Exif)
    for tag, side in ((Base.ExifImageWidth, width), (Base.ExifImageHeight, height)):
        if tag in details:
            details[tag] = side
    return replace(metadata, exif=_block(exif))


def upright_exif(raw: bytes | None) -> tuple[bytes | None, int]:
    """EXIF with orientation 1 and without a thumbnail, and the orientation 1 to 8 it had.

    EXIF that cannot be parsed is left out: the picture is none the worse. So are tags about the
    file rather than the picture, which would contradict those of a TIFF that they go into.
    """
    if not raw:
        return None, 1
    exif = Exif()
    try:
        exif.load(raw)
        for tag in set(exif) - _DESCRIPTIVE:
            del exif[tag]
        return _upright(exif)
    except Exception:  # Pillow's parser raises nearly anything
        return None, 1


def tiff_metadata(tags: Exif) -> Metadata:
    """Metadata from a TIFF's tags, which are used up."""
    try:
        for tag in set(tags) - _DESCRIPTIVE - {_TIFF_XMP, _TIFF_ICC}:
            del tags[tag]
        icc, xmp = (_bytes(tags.get(tag)) for tag in (_TIFF_ICC, _TIFF_XMP))
        for tag in {_TIFF_XMP, _TIFF_ICC} & set(tags):
            del tags[tag]
        inch = {2: 1.0, 3: 2.54}.get(tags.get(Base.ResolutionUnit, 2), math.nan)
        density = (tags.get(tag) for tag in (Base.XResolution, Base.YResolution))
        dpi = valid_dpi([float(value) * inch if value else 0 for value in density])
        exif, _ = _upright(tags)
    except Exception:  # as above
        return Metadata(damaged=True)
    return Metadata(icc, exif, upright_xmp(xmp), dpi)


def upright_xmp(xmp: Any) -> bytes | None:
    """An XMP packet whose orientation, if it has one, is 1."""
    data = _bytes(xmp)
    return data and re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[0-9]", rb"\g<1>1", data)


def valid_dpi(dpi: Any) -> tuple[float, float] | None:
    """Two densities that make sense, or None."""
    try:
        x, y = map(float, dpi)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return (x, y) if all(1 <= value < 1e5 for value in (x, y)) else None


def read_png_chunks(file: BinaryIO) -> dict[bytes, list[bytes]]:
    """The intact chunks of a PNG by type, in order, except for the pixels, which are skipped.

    Raises:
        EOFError: a chunk is longer than the file, for which OpenCV would set memory aside.
    """
    chunks: dict[bytes, list[bytes]] = {}
    size = file.seek(0, 2)
    file.seek(8)
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if file.tell() + length + 4 > size:
            raise EOFError("a chunk runs over the end")
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            file.seek(length + 4, 1)
            continue
        data = file.read(length)
        if file.read(4) == struct.pack(">I", zlib.crc32(kind + data)):
            chunks.setdefault(kind, []).append(data)
    return chunks


def png_metadata(
    chunks: Mapping[bytes, list[bytes]], icc: bytes | None, dpi: Any
) -> tuple[Metadata, int]:
    """Metadata and orientation from a PNG's chunks, and what Pillow made of two of them."""
    texts = [(kind, data) for kind in _PNG_TEXT for data in chunks.get(kind, ())]
    raw = next(filter(None, chain(chunks.get(b"eXIf", ()), map(_raw_exif, texts))), b"")
    exif, orientation = upright_exif(raw)
    xmp = upright_xmp(next(filter(None, (_xmp(data) for _, data in texts)), None))
    kept = [(kind, data) for kind in _PNG_COLOUR for data in chunks.get(kind, ())[:1]]
    kept += [(kind, data) for kind, data in texts if not _PNG_STALE.match(data)]
    damaged = bool(raw) and exif is None
    return Metadata(icc, exif, xmp, valid_dpi(dpi), tuple(kept), damaged), orientation


def png_chunks(metadata: Metadata) -> bytes:
    """What goes into a PNG behind its header."""
    chunks = list(metadata.png_chunks)
    if metadata.icc:
        chunks.insert(0, (b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", _PNG_XMP + b"\0\0\0\0" + metadata.xmp))
    if metadata.dpi:
        density = (round(value * _INCHES_PER_METRE) for value in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", *density, 1)))
    return b"".join(png_chunk(kind, data) for kind, data in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG as it stands in the file (PNG specification, 5.3)."""
    check = struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
    return struct.pack(">I", len(data)) + kind + data + check


def _xmp(text: bytes) -> bytes:
    """The XMP packet that a text chunk is; empty if it is none (PNG specification, 11.3.3.4)."""
    if not text.startswith(_PNG_XMP) or text.count(b"\0") < 5:
        return b""
    compressed = text[len(_PNG_XMP)]
    # Two bytes on compression, language and translated keyword, then the text.
    packet = text[len(_PNG_XMP) + 2 :].split(b"\0", 2)[-1]
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


def _upright(exif: Exif) -> tuple[bytes, int]:
    orientation = exif.get(Base.Orientation, 1)
    if Base.Orientation in exif:
        exif[Base.Orientation] = 1
    return _block(exif), orientation if orientation in range(1, 9) else 1


def _block(exif: Exif) -> bytes:
    return exif.tobytes().removeprefix(b"Exif\0\0")


def _bytes(value: Any) -> bytes | None:
    """A tag's value if it is bytes, which Pillow may give as text or as a tuple of numbers."""
    if isinstance(value, str):
        value = value.encode()
    elif isinstance(value, tuple) and all(v in range(256) for v in value):
        value = bytes(value)
    return value if isinstance(value, bytes) and value else None
