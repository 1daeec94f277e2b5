"""Photoshop's image resources, which contain IPTC in JPEG (Photoshop File Formats, 2019)."""

import struct
from collections.abc import Iterator

_SIGNATURE = b"8BIM"
_IPTC = 0x0404
_THUMBNAILS = (0x0409, 0x040C)


def joined_iptc(resources: bytes, iptc: bytes) -> bytes:
    """Return the resources with these IPTC records added, unless they already have some."""
    if any(number == _IPTC for number, _ in _split(resources)):
        return resources
    head = _SIGNATURE + struct.pack(">HHI", _IPTC, 0, len(iptc))
    return head + iptc + b"\0" * (len(iptc) % 2) + resources


def split_iptc(resources: bytes) -> tuple[bytes, bytes]:
    """Return the IPTC records in the resources (empty if none), and the other resources."""
    found, others = b"", b""
    for number, data in _split(resources):
        if number == _IPTC and not found:
            start = 6 + (data[6] + 2) // 2 * 2
            (size,) = struct.unpack_from(">I", data, start)
            found = data[start + 4 : start + 4 + size]
        else:
            others += data
    return found, others


def without_thumbnails(resources: bytes) -> bytes:
    """Return the resources without thumbnails, which are not upright in a turned image."""
    return b"".join(data for number, data in _split(resources) if number not in _THUMBNAILS)


def _split(resources: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and stored bytes of each resource; other bytes at the end as number 0."""
    place = 0
    while resources[place : place + 4] == _SIGNATURE and place + 12 <= len(resources):
        number, name = struct.unpack_from(">HB", resources, place + 4)
        start = place + 6 + (name + 2) // 2 * 2
        if start + 4 > len(resources):
            break
        (size,) = struct.unpack_from(">I", resources, start)
        end = start + 4 + (size + 1) // 2 * 2
        yield number, resources[place:end]
        place = end
    if place < len(resources):
        yield 0, resources[place:]
