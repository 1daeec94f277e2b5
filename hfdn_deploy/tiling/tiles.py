"""The tiles of an image: where they are cut and what each reads around the pixels it keeps."""

import math
from dataclasses import dataclass

Region = tuple[slice, slice]
"""Rows and columns."""

# Sides are rounded up to this many pixels: images of many sizes then share shapes of tiles,
# which backends compile and capture, for a few per cent of work.
STEP = 16


@dataclass(frozen=True)
class Tile:
    """A part of an image that is upscaled in one go; in low-resolution pixels."""

    read: Region
    """The kept pixels and the halo around them."""
    kept: Region
    """The pixels that this tile is for; over all tiles, every pixel once."""

    @property
    def kept_in_read(self) -> Region:
        """The kept pixels, counted from the first that is read."""
        return within(self.kept, self.read)

    def narrowed(self, by: int) -> "Tile":
        """The same with a halo that is smaller by so many pixels; tiles of one shape keep one."""
        rows, columns = (_narrowed(*span, by) for span in zip(self.read, self.kept, strict=True))
        return Tile((rows, columns), self.kept)

    @property
    def pixels(self) -> int:
        """How many are kept."""
        return math.prod(part.stop - part.start for part in self.kept)


def cut(height: int, width: int, side: int, halo: int) -> list[Tile]:
    """Tiles that cover an image, all of one shape, in rows from top to bottom.

    Args:
        height: of the image, in low-resolution pixels; so are all that follow.
        width: of the image.
        side: the largest side of a tile, without its halo.
        halo: how far away a pixel can reach a kept one.
    """
    rows, columns = (_spans(length, side, halo) for length in (height, width))
    return [
        Tile((read_rows, read_columns), (kept_rows, kept_columns))
        for read_rows, kept_rows in rows
        for read_columns, kept_columns in columns
    ]


def window(height: int, width: int, side: int, halo: int, around: int) -> tuple[int, int]:
    """Height and width of a tile of `cut` when its halo is narrowed to `around` pixels."""
    rows, columns = (_narrow(length, side, halo, around) for length in (height, width))
    return rows, columns


def count_tiles(height: int, width: int, side: int, halo: int) -> int:
    """How many tiles `cut` makes."""
    return _cut(height, side, halo)[0] * _cut(width, side, halo)[0]


def area(height: int, width: int, side: int, halo: int, around: int) -> int:
    """How many pixels the tiles of `cut` have when their halos are narrowed to `around` pixels."""
    tile = window(height, width, side, halo, around)
    return count_tiles(height, width, side, halo) * math.prod(tile)


def _narrow(length: int, side: int, halo: int, around: int) -> int:
    count, size = _cut(length, side, halo)
    return size if count == 1 else size - halo + around


def _narrowed(read: slice, kept: slice, by: int) -> slice:
    """What is read along one axis; all that lies towards a border stays."""
    if kept.start > read.start:
        return slice(read.start + by, read.stop)
    return slice(read.start, read.stop - by if kept.stop < read.stop else read.stop)


def _cut(length: int, side: int, halo: int) -> tuple[int, int]:
    """How many tiles there are along one axis, and how much each reads."""
    inner = length - 2 * halo
    count = -(-inner // side)
    if count <= 1:
        return 1, length
    even = -(-inner // count)
    return count, min(side, -(-even // STEP) * STEP) + 2 * halo


def _spans(length: int, side: int, halo: int) -> list[tuple[slice, slice]]:
    """What tiles read and keep along one axis.

    The first and the last keep what lies towards the border, too. They are spread evenly, and
    the last is moved back to end at the border.
    """
    count, size = _cut(length, side, halo)
    if count == 1:
        return [(slice(0, length), slice(0, length))]
    step = size - 2 * halo
    starts = [min(i * step, length - size) for i in range(count)]
    edges = [0, *(start + halo for start in starts[1:]), length]
    return [
        (slice(start, start + size), slice(first, last))
        for start, first, last in zip(starts, edges, edges[1:], strict=False)
    ]


def within(inner: Region, outer: Region) -> Region:
    """A region, counted from the first row and column of another around it."""
    rows, columns = (
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip(inner, outer, strict=True)
    )
    return rows, columns
