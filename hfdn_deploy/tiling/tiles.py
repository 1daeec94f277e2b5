"""The tiles of an image: the pixels that each keeps, and the halo that it reads around them."""

import math
from dataclasses import dataclass

Region = tuple[slice, slice]
"""Rows and columns."""

# Sides are rounded up to a multiple of this, so that images of many sizes share shapes of tiles,
# which backends compile and capture. It costs a few per cent of work.
STEP = 16


@dataclass(frozen=True)
class Tile:
    """A part of an image that is upscaled in a single run; in low-resolution pixels."""

    read: Region
    """The kept pixels and the halo around them."""
    kept: Region
    """The pixels that the tile contributes; over all tiles, every pixel once."""

    @property
    def kept_in_read(self) -> Region:
        """The kept pixels, relative to the first pixel that is read."""
        return within(self.kept, self.read)

    def narrowed(self, by: int) -> "Tile":
        """Return the tile with a halo `by` pixels smaller; tiles of one shape stay of one shape."""
        rows, columns = (_narrowed(*span, by) for span in zip(self.read, self.kept, strict=True))
        return Tile((rows, columns), self.kept)

    @property
    def pixels(self) -> int:
        """The number of kept pixels."""
        return math.prod(part.stop - part.start for part in self.kept)


def cut(height: int, width: int, side: int, halo: int) -> list[Tile]:
    """Return the tiles that cover an image, all of one shape, in rows from top to bottom.

    Args:
        height, width: of the image; all arguments are in low-resolution pixels.
        side: the largest side of a tile, without its halo.
        halo: the largest distance at which a pixel influences a kept pixel.
    """
    rows, columns = (_spans(length, side, halo) for length in (height, width))
    return [
        Tile((read_rows, read_columns), (kept_rows, kept_columns))
        for read_rows, kept_rows in rows
        for read_columns, kept_columns in columns
    ]


def window(height: int, width: int, side: int, halo: int, around: int) -> tuple[int, int]:
    """Return height and width of the tiles of `cut` with their halo narrowed to `around` pixels."""
    rows, columns = (_narrow(length, side, halo, around) for length in (height, width))
    return rows, columns


def count_tiles(height: int, width: int, side: int, halo: int) -> int:
    """Return the number of tiles that `cut` makes."""
    return _cut(height, side, halo)[0] * _cut(width, side, halo)[0]


def area(height: int, width: int, side: int, halo: int, around: int) -> int:
    """Return the pixels of the tiles of `cut` with their halos narrowed to `around` pixels."""
    tile = window(height, width, side, halo, around)
    return count_tiles(height, width, side, halo) * math.prod(tile)


def _narrow(length: int, side: int, halo: int, around: int) -> int:
    count, size = _cut(length, side, halo)
    return size if count == 1 else size - halo + around


def _narrowed(read: slice, kept: slice, by: int) -> slice:
    """Narrow what is read along one axis, except up to a border of the image."""
    if kept.start > read.start:
        return slice(read.start + by, read.stop)
    return slice(read.start, read.stop - by if kept.stop < read.stop else read.stop)


def _cut(length: int, side: int, halo: int) -> tuple[int, int]:
    """Return the number of tiles along one axis, and the length that each reads."""
    inner = length - 2 * halo
    count = -(-inner // side)
    if count <= 1:
        return 1, length
    even = -(-inner // count)
    return count, min(side, -(-even // STEP) * STEP) + 2 * halo


def _spans(length: int, side: int, halo: int) -> list[tuple[slice, slice]]:
    """Return what the tiles read and keep along one axis.

    The first and the last also keep the pixels up to the border. The tiles are spread evenly, and
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
    """Return a region relative to the first row and column of a region around it."""
    rows, columns = (
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip(inner, outer, strict=True)
    )
    return rows, columns
