"""The segments of a JPEG in front of its pixels (ITU-T T.81, B.1.1), and the metadata in them."""

import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from hfdn_deploy.images.metadata import Metadata, metadata_of, valid_aspect, valid_dpi
from hfdn_deploy.images.xmp import extension_of

_LARGEST = 65_533
"""Largest data of a segment in bytes, without its two bytes of length."""
_APP0, _APP1, _APP2, _APP13, _APP14, _COMMENT, _SCAN = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDA
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
# Followed by the GUID, the size of the whole, and the place of this part.
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_PLACE = struct.Struct(">32sII")
_ICC = b"ICC_PROFILE\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
# The index of further images, which the caller counts.
_INDEX = b"MPF\0"
# Segments on the kind and compression of the file itself, which are not carried over.
_OF_THE_FILE = (
    b"JFIF\0", b"JFXX\0", b"SPIFF\0", b"Adobe\0", _ICC,
    b"urn:iso:std:iso:ts:21496:-1\0",
)  # fmt: skip
# A marker inside a scan that is neither stuffing nor a restart (ITU-T T.81, B.1.1.2).
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_END = 0xD9
# The density (unit, across, down) in a file that starts with a JFIF segment, and its place.
_DENSITY = struct.Struct(">BHH")
_DENSITY_PLACE = 13


def read_metadata(file: BinaryIO, info: dict[Any, Any]) -> tuple[Metadata, int]:
    """Return metadata and orientation from a JPEG's segments, and from Pillow's `info`."""
    exif, xmp, photoshop = b"", b"", b""
    comments, others = [], []
    parts: list[tuple[bytes, int, bytes]] = []
    indexed = False
    for marker, data in _walk(file):
        if marker == _COMMENT:
            comments.append(data)
        elif marker == _APP1 and data.startswith(_EXIF):
            exif += data[len(_EXIF) :]
        elif marker == _APP1 and data.startswith(_XMP):
            xmp = xmp or data[len(_XMP) :]
        elif marker == _APP1 and data.startswith(_EXTENDED_XMP) and len(data) > 75:
            start = len(_EXTENDED_XMP)
            guid, _, place = _PLACE.unpack_from(data, start)
            parts.append((guid, place, data[start + _PLACE.size :]))
        elif marker == _APP13 and data.startswith(_PHOTOSHOP):
            photoshop += data[len(_PHOTOSHOP) :]
        elif data.startswith(_INDEX):
            indexed = True
        elif not data.startswith(_OF_THE_FILE):
            others.append((bytes([marker]), data))
    extended = {place: part for guid, place, part in parts if guid == extension_of(xmp)}
    lost: tuple[str, ...] = ()
    if not indexed and (behind := _bytes_behind(file)):
        lost = (f"{behind} bytes behind the pixels of the source (other images?) are left out",)
    unit, density = info.get("jfif_unit"), info.get("jfif_density", (0, 0))
    # Pillow assumes 72 if there is EXIF without a density.
    dpi = info.get("dpi") if unit or info.get("dpi") != (72, 72) else None
    return metadata_of(
        exif,
        xmp,
        extended_xmp=b"".join(extended[place] for place in sorted(extended)) or None,
        icc=info.get("icc_profile"),
        photoshop=photoshop or None,
        comments=tuple(comments),
        segments=tuple(others),
        dpi=valid_dpi(dpi),
        aspect=valid_aspect(*density) if unit == 0 else None,
        lost=lost,
    )


def _walk(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield marker and data of application segments and comments before the first scan."""
    for marker, _, size in _places(file):
        yield marker, file.read(size)


def _places(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yield what `walk_segments` yields, for application segments and comments only."""
    for marker, place, size in walk_segments(file):
        if _APP0 <= marker <= _APP0 + 15 or marker == _COMMENT:
            yield marker, place, size


def walk_segments(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yield each segment before the first scan, with the file positioned at its data.

    Returns:
        Marker, place of the data in the file, and bytes of the data.
    """
    place = 2
    while True:
        file.seek(place)
        some = file.read(64)
        if not some:
            return
        if not some.startswith(b"\xff"):  # the last segment was longer than its length
            place += some.find(b"\xff") if b"\xff" in some else len(some)
            continue
        file.seek(place)
        while (byte := file.read(1)) == b"\xff":  # fill bytes before a marker
            continue
        length = file.read(2)
        if len(length) < 2 or byte[0] == _SCAN:
            return
        place, size = file.tell(), max(0, int.from_bytes(length) - 2)
        yield byte[0], place, size
        place += size


def pixel_segments(file: BinaryIO) -> bytes:
    """Return a JPEG without the segments that its pixels do not need."""
    file.seek(0)
    data = file.read()
    kept, end = [], 0
    for marker, start, size in _places(file):
        kept.append(data[end : start - 4])
        end = start + size
        if marker in (_APP0, _APP14):
            kept.append(data[start - 4 : end])
    return b"".join([*kept, data[end:]])


def _bytes_behind(file: BinaryIO) -> int:
    """Count the bytes behind the image, without padding; the file is inside its first scan."""
    data, place = file.read(), 0
    while found := _MARKER.search(data, place):
        place = found.end()
        if found[0][1] == _END:
            return len(data[place:].strip(b"\0\r\n "))
        place += int.from_bytes(data[place : place + 2])
    return 0


def metadata_segments(metadata: Metadata) -> bytes:
    """Return the segments for metadata, to be written behind the JFIF segment.

    EXIF and XMP must each fit into one segment.
    """
    segments: list[tuple[int, bytes]] = []
    if metadata.exif:
        segments.append((_APP1, _EXIF + metadata.exif))
    if metadata.xmp:
        segments.append((_APP1, _XMP + metadata.xmp))
    if metadata.extended_xmp and metadata.xmp:
        whole, guid = metadata.extended_xmp, extension_of(metadata.xmp) or b""
        step = _LARGEST - len(_EXTENDED_XMP) - _PLACE.size
        for place in range(0, len(whole), step):
            head = _EXTENDED_XMP + _PLACE.pack(guid, len(whole), place)
            segments.append((_APP1, head + whole[place : place + step]))
    segments += _in_parts(_APP13, _PHOTOSHOP, metadata.photoshop or b"")
    segments += _icc(metadata.icc or b"")
    segments += [(marker[0], data) for marker, data in metadata.segments]
    segments += [(_COMMENT, comment[:_LARGEST]) for comment in metadata.comments]
    return b"".join(_segment(marker, data) for marker, data in segments)


def _in_parts(marker: int, head: bytes, data: bytes) -> Iterable[tuple[int, bytes]]:
    step = _LARGEST - len(head)
    return [(marker, head + data[i : i + step]) for i in range(0, len(data), step)]


def _icc(profile: bytes) -> list[tuple[int, bytes]]:
    """Split a profile into segments numbered from 1 (ICC.1:2010, B.4)."""
    step = _LARGEST - len(_ICC) - 2
    parts = [profile[i : i + step] for i in range(0, len(profile), step)]
    return [(_APP2, _ICC + bytes([i, len(parts)]) + part) for i, part in enumerate(parts, 1)]


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data


def write_aspect(file: BinaryIO, aspect: tuple[int, int]) -> None:
    """Write the pixel aspect ratio into a JPEG that starts with a JFIF segment."""
    file.seek(_DENSITY_PLACE)
    file.write(_DENSITY.pack(0, *aspect))
    file.seek(0, 2)
