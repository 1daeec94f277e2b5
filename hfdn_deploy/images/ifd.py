"""Image file directories, the tags of TIFF files and of EXIF (TIFF 6.0, section 2)."""

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

# Bytes of a value by type (TIFF 6.0, section 2; BigTIFF adds 16 to 18).
_SIZES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
    17: 8, 18: 8,
}  # fmt: skip
BYTE, SHORT, LONG, RATIONAL, UNDEFINED, IFD = 1, 3, 4, 5, 7, 13
_LONG8, _IFD8 = 16, 18
Order = Literal["<", ">"]
LARGEST_VALUE = 2**26
"""Bytes of the values of a tag; more are taken for damage."""


@dataclass(frozen=True)
class Layout:
    """The storage of directories in a file."""

    order: Order
    """Byte order, "<" or ">" as in `struct`."""
    big: bool
    """Whether the file is a BigTIFF."""
    root: int
    """Place of the first directory."""


@dataclass(frozen=True)
class Entry:
    """A tag in a directory."""

    tag: int
    kind: int
    """Number of its type."""
    count: int
    """Number of values."""
    place: int
    """Place of the entry in the file."""
    value: int
    """Place of the values."""

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return self.count * _SIZES[self.kind]


@dataclass(frozen=True)
class Directory:
    """A directory of a file."""

    entries: list[Entry]
    """Entries of a known type with values inside the file."""
    outside: list[Entry]
    """Entries of a known type with values outside the file."""
    place: int
    number: int
    """Number of entries; in a truncated directory, of those that exist."""
    next: int
    """Place of the next directory; 0 for none."""
    next_place: int
    """Place of the field `next`."""


@dataclass(frozen=True)
class Tag:
    """A tag to write, with its values."""

    number: int
    kind: int
    data: bytes
    """In the byte order of the directory."""
    place: int | None = None
    """Place of the values if they are already in the file; None to write them."""


def read_layout(file: BinaryIO) -> Layout:
    """Read the start of a TIFF file or of an EXIF block.

    Raises:
        ValueError: the file is neither.
    """
    file.seek(0)
    start = file.read(16)
    orders: dict[bytes, Order] = {b"II": "<", b"MM": ">"}
    order = orders.get(start[:2])
    if order is None or len(start) < 8:
        raise ValueError("not a TIFF")
    (version,) = struct.unpack(f"{order}H", start[2:4])
    if version == 43 and len(start) == 16:
        return Layout(order, True, struct.unpack(f"{order}Q", start[8:])[0])
    if version != 42:
        raise ValueError("not a TIFF")
    return Layout(order, False, struct.unpack(f"{order}I", start[4:8])[0])


def read_ifd(file: BinaryIO, layout: Layout, place: int) -> Directory:
    """Read a directory.

    Raises:
        ValueError: it does not start inside the file, or has too many tags.
    """
    number, entry, offset = ("Q", "HHQ8s", "Q") if layout.big else ("H", "HHI4s", "I")
    end = file.seek(0, io.SEEK_END)
    if place < 8:
        raise ValueError("a directory lies outside the file")
    (count,) = _unpack(file, place, layout.order + number)
    if count > 2**16:
        raise ValueError("a directory has too many tags")
    start, place = place, place + struct.calcsize(number)
    size = struct.calcsize("=" + entry)
    file.seek(place)
    data = file.read(count * size)
    data = data[: len(data) // size * size]
    inside: list[Entry] = []
    outside: list[Entry] = []
    for i, (tag, kind, values, inline) in enumerate(struct.iter_unpack(layout.order + entry, data)):
        if kind not in _SIZES:
            continue
        where = place + i * size
        value = where + size - len(inline)
        if values * _SIZES[kind] > len(inline):
            (value,) = struct.unpack(layout.order + offset, inline)
        entries = inside if value + values * _SIZES[kind] <= end else outside
        entries.append(Entry(tag, kind, values, where, value))
    try:
        (following,) = _unpack(file, place + len(data), layout.order + offset)
    except ValueError:  # some writers leave it out
        following = 0
    following_place = place + len(data)
    return Directory(inside, outside, start, len(data) // size, following, following_place)


def read_values(file: BinaryIO, entry: Entry) -> bytes:
    """Read the values of an entry as they are stored.

    Raises:
        ValueError: they are larger than `LARGEST_VALUE`.
    """
    if entry.size > LARGEST_VALUE:
        raise ValueError("a tag is far too long")
    file.seek(entry.value)
    return file.read(entry.size)


def read_number(file: BinaryIO, layout: Layout, entry: Entry) -> int | None:
    """Read the first value of an entry; None if it is empty or not of whole numbers."""
    form = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
    if not entry.count or entry.kind not in form:
        return None
    number: int = _unpack(file, entry.value, layout.order + form[entry.kind])[0]
    return number


def write_ifd(order: Order, tags: list[Tag], place: int) -> bytes:
    """Return a directory to be written at the even `place`, with its values behind it."""
    tags = sorted(tags, key=lambda tag: tag.number)
    after = place + 2 + 12 * len(tags) + 4
    entries, values = [], b""
    for tag in tags:
        inline = tag.data.ljust(4, b"\0")
        if len(tag.data) > 4:
            where = tag.place
            if where is None:
                where = after + len(values)
                values += tag.data + b"\0" * (len(tag.data) % 2)
            inline = struct.pack(f"{order}I", where)
        count = len(tag.data) // _SIZES[tag.kind]
        entries.append(struct.pack(f"{order}HHI4s", tag.number, tag.kind, count, inline))
    number = struct.pack(f"{order}H", len(tags))
    return b"".join([number, *entries, bytes(4), values])


def in_classic_types(tag: Tag, order: Order) -> Tag | None:
    """Return a tag without BigTIFF's types; None if its numbers do not fit into 32 bits."""
    if tag.kind < _LONG8:
        return tag
    numbers = struct.unpack(f"{order}{len(tag.data) // 8}Q", tag.data)
    if max(numbers, default=0) >= 2**32:
        return None
    kind = IFD if tag.kind == _IFD8 else LONG
    return Tag(tag.number, kind, struct.pack(f"{order}{len(numbers)}I", *numbers))


def _unpack(file: BinaryIO, place: int, form: str) -> tuple[int, ...]:
    file.seek(place)
    data = file.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise ValueError("the file is cut off")
    return struct.unpack(form, data)
