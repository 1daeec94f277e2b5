"""EXIF: its bytes are kept, and patched where they must change (EXIF 2.32, section 4.6).

Maker notes contain offsets from the start of the block, so nothing in it may move.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL.ExifTags import IFD, Base

from hfdn_deploy.images.ifd import (
    LONG,
    SHORT,
    Directory,
    Entry,
    Layout,
    Order,
    Tag,
    in_classic_types,
    read_ifd,
    read_layout,
    read_number,
    read_values,
    write_ifd,
)

ICC_PROFILE, XMP, IPTC, PHOTOSHOP = 34675, 700, 33723, 34377
_MAKER_NOTE, _INTEROP = 37500, 40965
_EXIF_SIDES: dict[int, int] = {Base.ExifImageWidth: 0, Base.ExifImageHeight: 1}
_TIFF_SIDES: dict[int, int] = {Base.ImageWidth: 0, Base.ImageLength: 1}

# Tags of a TIFF on the storage of its pixels: TIFF 6.0 and its supplements.
_OF_STORAGE = frozenset((
    *range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 317,
    *range(320, 348), *range(512, 522), *range(529, 533), 559, 32932, 32995, 32996, 32997, 32998,
    33421, 33422, 34016, 34022, 37439, 37724, 50674, *range(50706, 51200),
))  # fmt: skip
# Those of them that hold more than the image, with their names in warnings.
_MORE = {330: "smaller copies", 37724: "Photoshop's layers", 50839: "ImageJ's data"}
# The map of pixels to the ground (GeoTIFF), which does not fit a larger image.
_OF_GEOREFERENCE = frozenset((33550, 33920, 33922, 34264, 34735, 34736, 34737))
_ELSEWHERE = frozenset((ICC_PROFILE, XMP, IPTC, PHOTOSHOP))

# Maker notes keep their place if they end within this many bytes, which a JPEG can hold.
_LARGEST_IN_PLACE = 65_000
_LARGEST_BLOCK = 2**27


def upright_exif(raw: bytes | None) -> tuple[bytes | None, int]:
    """Return EXIF with orientation 1, and the orientation 1 to 8 that it had.

    If the image must be turned, the thumbnail is unlinked. The length of the block does not change.

    Returns:
        None in place of EXIF that cannot be read.
    """
    block = bytearray((raw or b"").removeprefix(b"Exif\0\0"))
    file = io.BytesIO(block)
    try:
        layout = _classic(file)
        root = read_ifd(file, layout, layout.root)
    except ValueError:
        return None, 1
    orientation = 1
    for entry in root.entries:
        if entry.tag == Base.Orientation:
            number = read_number(file, layout, entry)
            if number is not None and 1 < number <= 8:
                orientation = number
            if number != 1:
                _patch(block, layout, entry, 1)
    if orientation != 1 and root.next_place + 4 <= len(block):
        block[root.next_place : root.next_place + 4] = bytes(4)
    return bytes(block), orientation


def resized_exif(block: bytes, width: int, height: int) -> bytes:
    """Return EXIF with this size in pixels wherever it states a size.

    A TIFF stores other bytes behind the block. So in a truncated block, a directory is ended where
    it is truncated, and a size is written even if its old value is in the missing part.
    """
    patched, size = bytearray(block), (width, height)
    file = io.BytesIO(block)
    layout = _classic(file)
    directories = list(_sized(file, layout))
    for directory, _ in directories:
        struct.pack_into(f"{layout.order}H", patched, directory.place, directory.number)
    for directory, sides in directories:
        for entry in directory.entries + directory.outside:
            if entry.tag in sides:
                _patch(patched, layout, entry, size[sides[entry.tag]])
    return bytes(patched)


def without_orientation(block: bytes) -> bytes:
    """Return EXIF without the orientation; only tags behind it in its directory move."""
    file = io.BytesIO(block)
    layout = _classic(file)
    root = read_ifd(file, layout, layout.root)
    for entry in reversed(root.entries):
        if entry.tag == Base.Orientation:
            end = root.next_place + 4
            block = block[: entry.place] + block[entry.place + 12 : end] + bytes(12) + block[end:]
            (count,) = struct.unpack_from(f"{layout.order}H", block, layout.root)
            number = struct.pack(f"{layout.order}H", count - 1)
            block = block[: layout.root] + number + block[layout.root + 2 :]
    return block


def _sized(file: BinaryIO, layout: Layout) -> Iterator[tuple[Directory, dict[int, int]]]:
    root = read_ifd(file, layout, layout.root)
    yield root, _TIFF_SIDES
    for directory in _below(file, layout, root, IFD.Exif):
        yield directory, _EXIF_SIDES
    for directory in _below(file, layout, root, IFD.GPSInfo):
        yield directory, {}


def _below(file: BinaryIO, layout: Layout, above: Directory, tag: int) -> Iterator[Directory]:
    """Yield the directories that a tag points to; unreadable ones are skipped."""
    for entry in above.entries:
        if entry.tag == tag:
            try:
                yield read_ifd(file, layout, read_number(file, layout, entry) or 0)
            except ValueError:
                continue


def _patch(block: bytearray, layout: Layout, entry: Entry, number: int) -> None:
    """Set a tag to one whole number, whatever its type and count were."""
    short = number < 2**16 and entry.kind != LONG
    kind, form = (SHORT, "HHIHxx") if short else (LONG, "HHII")
    struct.pack_into(layout.order + form, block, entry.place, entry.tag, kind, 1, number)


def _classic(file: BinaryIO) -> Layout:
    layout = read_layout(file)
    if layout.big:
        raise ValueError("EXIF cannot be a BigTIFF")
    return layout


@dataclass(frozen=True)
class TiffTags:
    """The tags in the first directory of a TIFF that describe the image, not its storage."""

    exif: bytes | None
    """An EXIF block in the byte order and with the orientation of the TIFF."""
    values: dict[int, bytes]
    """ICC profile, XMP, IPTC and Photoshop's resources by tag."""
    lost: tuple[str, ...]
    """Warnings about metadata that cannot be carried over."""


def tags_of_tiff(file: BinaryIO) -> TiffTags:
    """Collect the tags of a TIFF that describe its image.

    Raises:
        ValueError: the directory cannot be read.
    """
    layout = read_layout(file)
    root = read_ifd(file, layout, layout.root)
    lost: list[str] = []
    if any(entry.tag in _OF_GEOREFERENCE for entry in root.entries):
        lost.append("the georeference, which is for another size, is left out")
    if more := [_MORE[entry.tag] for entry in root.entries if entry.tag in _MORE]:
        lost.append(f"{' and '.join(more)} of the source are left out")
    values = {e.tag: read_values(file, e) for e in root.entries if e.tag in _ELSEWHERE}
    block = _Block(file, layout)
    tags = [block.tag(entry) for entry in root.entries if _describes(entry)]
    for pointer in (IFD.Exif, IFD.GPSInfo):
        if any(entry.tag == pointer for entry in root.entries):
            if place := block.add_below(root, pointer):
                tags.append(block.pointer(pointer, place))
            else:
                lost.append("the EXIF of the source is damaged and left out")
    if block.moved:
        lost.append("the maker notes have moved, and parts of them may be unreadable")
    exif = block.finish([tag for tag in tags if tag]) if any(tags) else None
    return TiffTags(exif, values, tuple(lost))


def _describes(entry: Entry) -> bool:
    left_out = entry.tag in _OF_STORAGE | _OF_GEOREFERENCE | _ELSEWHERE
    return not left_out and entry.tag not in (IFD.Exif, IFD.GPSInfo)


class _Block:
    """An EXIF block assembled from a TIFF's directories."""

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self._file, self._layout = file, layout
        mark = b"II" if layout.order == "<" else b"MM"
        self._data = bytearray(mark + struct.pack(f"{layout.order}HI", 42, 0))
        self._values = 0
        self.moved = False

    def tag(self, entry: Entry) -> Tag | None:
        """Return a tag with its values; None if EXIF cannot hold them."""
        self._values += entry.size
        if self._values > _LARGEST_BLOCK:
            raise ValueError("the EXIF is far too long")
        data = read_values(self._file, entry)
        return in_classic_types(Tag(entry.tag, entry.kind, data), self._layout.order)

    def pointer(self, number: int, place: int) -> Tag:
        """Return a tag that points to a directory."""
        return Tag(number, LONG, struct.pack(f"{self._layout.order}I", place))

    def add_below(self, above: Directory, pointer: int) -> int:
        """Add the directory that a tag points to; return its place, or 0 if it is unreadable."""
        below = next(_below(self._file, self._layout, above, pointer), None)
        if below is None:
            return 0
        tags: list[Tag | None] = []
        for entry in below.entries:
            if entry.tag == _MAKER_NOTE and entry.size > 4:
                tags.append(self._maker_note(entry))
            elif entry.tag == _INTEROP and pointer == IFD.Exif:
                if place := self.add_below(below, _INTEROP):
                    tags.append(self.pointer(_INTEROP, place))
            else:
                tags.append(self.tag(entry))
        return self._add([tag for tag in tags if tag])

    def _maker_note(self, entry: Entry) -> Tag:
        """Add maker notes, at their old place if it is free and near the start."""
        tag = self.tag(entry)
        assert tag is not None
        place = entry.value
        free = len(self._data) <= place and place + entry.size <= _LARGEST_IN_PLACE
        if not free:
            self.moved = True
            place = len(self._data)
        self._data += bytes(place - len(self._data)) + tag.data + b"\0" * (len(tag.data) % 2)
        return Tag(tag.number, tag.kind, tag.data, place)

    def _add(self, tags: list[Tag]) -> int:
        self._data += b"\0" * (len(self._data) % 2)
        place = len(self._data)
        self._data += write_ifd(self._layout.order, tags, place)
        return place

    def finish(self, tags: list[Tag]) -> bytes:
        """Add the first directory, with these tags, and return the block."""
        struct.pack_into(f"{self._layout.order}I", self._data, 4, self._add(tags))
        return bytes(self._data)


def image_tags(block: bytes) -> tuple[Order, list[Tag]]:
    """Return the byte order of EXIF, and its tags for a TIFF that contains the block.

    Their values lie in the block, at offsets from its start.
    """
    file = io.BytesIO(block)
    layout = _classic(file)
    tags = []
    for entry in read_ifd(file, layout, layout.root).entries:
        if _describes(entry) or entry.tag in (IFD.Exif, IFD.GPSInfo):
            data = read_values(file, entry)
            tags.append(Tag(entry.tag, entry.kind, data, entry.value))
    return layout.order, tags
