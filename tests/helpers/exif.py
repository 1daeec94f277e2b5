"""EXIF as cameras write it, with maker notes and other data at fixed offsets."""

import struct
from typing import Literal

COMMENT = b"UNICODE\0" + "Schritte: 20, \u00e9".encode("utf-16-be")
ARTIST = "J\u00fcrgen".encode() + b"\0"
NOTE_TEXT = b"IMG:TestCam JPEG".ljust(32, b"\0")
_ENTRY = 12


def camera_exif(order: Literal["<", ">"], orientation: int, width: int, height: int) -> bytes:
    """Return an EXIF block, without its thumbnail directory if the orientation was applied.

    Args:
        order: byte order.
        orientation: 1 to 8; -1 for an orientation that was applied.
        width, height: size in pixels, stored in the block.
    """

    def short(value: int) -> bytes:
        return struct.pack(f"{order}HH", value, 0)

    def number(value: int) -> bytes:
        return struct.pack(f"{order}I", value)

    ascii_, short_kind, long_kind, undefined = 2, 3, 4, 7
    places = _places()
    note = (
        struct.pack(f"{order}H", 1)
        + struct.pack(f"{order}HHII", 6, ascii_, 32, places["note"] + 18)
        + bytes(4)
        + NOTE_TEXT
    )
    root = [
        (0x010F, ascii_, 6, number(places["make"])),
        (0x0112, short_kind, 1, short(abs(orientation))),
        (0x013B, ascii_, len(ARTIST), number(places["artist"])),
        (0x8769, long_kind, 1, number(places["exif"])),
    ]
    exif = [
        (0x927C, undefined, len(note), number(places["note"])),
        (0x9286, undefined, len(COMMENT), number(places["comment"])),
        (0xA002, short_kind, 1, short(width)),
        (0xA003, long_kind, 1, number(height)),
        (0xA005, long_kind, 1, number(places["interop"])),
    ]
    interop = [(0x0001, ascii_, 4, b"R03\0")]
    thumbnail = [(0x0103, short_kind, 1, short(6)), (0x0201, long_kind, 1, number(8))]
    block = bytearray(places["end"])

    def directory(place: int, entries: list[tuple[int, int, int, bytes]], after: int) -> None:
        parts = [struct.pack(f"{order}HHI4s", *entry) for entry in entries]
        data = struct.pack(f"{order}H", len(entries)) + b"".join(parts) + number(after)
        block[place : place + len(data)] = data

    block[:8] = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, places["root"])
    directory(places["root"], root, 0 if orientation < 0 else places["thumbnail"])
    directory(places["exif"], exif, 0)
    directory(places["interop"], interop, 0)
    directory(places["thumbnail"], thumbnail, 0)
    for name, data in (
        ("make", b"Canon\0"), ("artist", ARTIST), ("note", note), ("comment", COMMENT)
    ):  # fmt: skip
        block[places[name] : places[name] + len(data)] = data
    return bytes(block)


def _places() -> dict[str, int]:
    sizes = {
        "root": 2 + 4 * _ENTRY + 4, "make": 6, "artist": 8, "exif": 2 + 5 * _ENTRY + 4,
        "note": 18 + 32, "comment": len(COMMENT), "interop": 2 + _ENTRY + 4,
        "thumbnail": 2 + 2 * _ENTRY + 4, "end": 0,
    }  # fmt: skip
    place, places = 8, {}
    for name, size in sizes.items():
        places[name] = place
        place += size + size % 2
    return places


NOTE_PLACE = _places()["note"]
"""Offset of the maker notes in the block."""
