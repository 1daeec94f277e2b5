"""Pictures in tiles, exactly: a plan of the tiles, their statistics, and the stitching.

A tile alone would come out wrong, for the channel attention pools over the whole picture. So
there are two passes: the first sums up what is pooled, each pixel once; the second upscales
every tile with the mean given. Around what is kept of a tile it reads a halo, everything that
can reach the kept pixels; at the picture's border it reads up to the border and no further, so
that the network's own border behaviour is found there and nowhere else.

Tiles go in rows from top to bottom, and the result comes as a band for each row of them, so that
nobody needs to hold it. Of the source they need no more than slices: an array serves, and so does
what makes luma of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends import Backend, TilingBackend
from hfdn_deploy.errors import BackendError

Region = tuple[slice, slice]
"""Rows and columns."""

# Sides are rounded up to this many pixels: pictures of many sizes then share shapes of tiles,
# which engines compile and capture, for a few per cent of work.
STEP = 16


class Source(Protocol):
    """A luma plane (H, W) in [0, 1] that is read in slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, region: Region) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Tile:
    """A part of a picture that is upscaled in one go; in low-resolution pixels."""

    read: Region
    """The kept pixels and the halo around them."""
    kept: Region
    """The pixels that this tile is for; over all tiles, every pixel once."""

    @property
    def kept_in_read(self) -> Region:
        """The kept pixels, counted from the first that is read."""
        rows, columns = (
            slice(kept.start - read.start, kept.stop - read.start)
            for kept, read in zip(self.kept, self.read, strict=True)
        )
        return rows, columns

    @property
    def pixels(self) -> int:
        """How many are kept."""
        return math.prod(part.stop - part.start for part in self.kept)


def plan(height: int, width: int, side: int, halo: int) -> list[Tile]:
    """Tiles that cover a picture, all of one shape, in rows from top to bottom.

    Args:
        height: of the picture, in low-resolution pixels; so are all that follow.
        width: of the picture.
        side: the largest side of a tile, without its halo.
        halo: how far away a pixel can reach a kept one.
    """
    rows, columns = (_spans(length, side, halo) for length in (height, width))
    return [
        Tile((read_rows, read_columns), (kept_rows, kept_columns))
        for read_rows, kept_rows in rows
        for read_columns, kept_columns in columns
    ]


def window(height: int, width: int, side: int, halo: int) -> tuple[int, int]:
    """Height and width of what each tile of `plan` reads."""
    rows, columns = (_read_length(length, side, halo) for length in (height, width))
    return rows, columns


def _read_length(length: int, side: int, halo: int) -> int:
    """How much each tile reads along one axis: all of it, if one tile will do."""
    inner = length - 2 * halo
    count = -(-inner // side)
    if count <= 1:
        return length
    even = -(-inner // count)
    return min(side, -(-even // STEP) * STEP) + 2 * halo


def _spans(length: int, side: int, halo: int) -> list[tuple[slice, slice]]:
    """What tiles read and keep along one axis.

    The first and the last keep what lies towards the border, too. They are spread evenly, and
    the last is moved back to end at the border.
    """
    size = _read_length(length, side, halo)
    if size == length:
        return [(slice(0, length), slice(0, length))]
    count, step = -(-(length - 2 * halo) // side), size - 2 * halo
    starts = [min(i * step, length - size) for i in range(count)]
    edges = [0, *(start + halo for start in starts[1:]), length]
    return [
        (slice(start, start + size), slice(first, last))
        for start, first, last in zip(starts, edges, edges[1:], strict=False)
    ]


def upscale_whole(backend: Backend, lumas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Upscale luma planes (N, H, W) in one go, to (N, sH, sW).

    Raises:
        BackendError: the engine failed, or gave a wrong shape or NaN.
    """
    lr = np.ascontiguousarray(lumas[:, None], np.float32)
    return _checked(backend.run(lr), lr, backend.scale)


def upscale(
    backend: TilingBackend,
    source: Source,
    tiles: Sequence[Tile],
    count: Callable[[int], object] = lambda pixels: None,
) -> Iterator[NDArray[np.float32]]:
    """Upscale a luma plane in tiles.

    Args:
        backend: the network.
        source: (H, W) in [0, 1].
        tiles: as `plan` gives them for the backend's halo.
        count: called after each tile of several, in each pass (the first if the network pools),
            with the number of low-resolution pixels that it is for.

    Returns:
        Bands (rows, sW) from top to bottom, together (sH, sW), not clipped.

    Raises:
        BackendError: the engine failed, or gave a wrong shape or NaN.
    """
    if len(tiles) == 1:
        (whole,) = tiles
        yield upscale_whole(backend, source[whole.read][None])[0]
        return
    pooled = pooled_mean(backend, source, tiles, count) if backend.pools else None
    scale, width = backend.scale, source.shape[1]
    for (top, bottom), row in groupby(tiles, lambda t: (t.kept[0].start, t.kept[0].stop)):
        band = np.empty((scale * (bottom - top), scale * width), np.float32)
        for tile in row:
            lr = _read(source, tile.read)
            (sr,) = _checked(backend.run_tile(lr, pooled), lr, scale)
            rows, columns = (_scaled(part, scale) for part in tile.kept_in_read)
            band[:, _scaled(tile.kept[1], scale)] = sr[rows, columns]
            count(tile.pixels)
        yield band


def pooled_mean(
    backend: TilingBackend,
    source: Source,
    tiles: Sequence[Tile],
    count: Callable[[int], object] = lambda pixels: None,
) -> NDArray[np.float32]:
    """The mean (1, C, 1, 1) over the whole picture of what the network pools.

    Args and errors as for `upscale`.
    """
    total: NDArray[np.float64] | float = 0.0
    for tile in tiles:
        lr = _read(source, tile.read)
        inside = np.zeros_like(lr)
        inside[0, 0][tile.kept_in_read] = 1
        # Of many tiles' sums, fp32 would lose the last digits.
        total += backend.pooled_sums(lr, inside).astype(np.float64)
        count(tile.pixels)
    return np.asarray(total / math.prod(source.shape), np.float32)


def _read(source: Source, region: Region) -> NDArray[np.float32]:
    return np.ascontiguousarray(source[region][None, None], np.float32)


def _checked(sr: NDArray[np.float32], lr: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """What a backend gave, as planes (N, sH, sW).

    Raises:
        BackendError: it has another shape than it should, NaN or infinity.
    """
    number, _, height, width = lr.shape
    if sr.shape != (number, 1, scale * height, scale * width):
        raise BackendError(f"the backend gave shape {sr.shape} for {width}×{height} pixels.")
    if not np.isfinite(sr).all():
        raise BackendError("the backend gave NaN or infinity; export and verify the model.")
    return np.asarray(sr[:, 0])


def _scaled(part: slice, scale: int) -> slice:
    return slice(scale * part.start, scale * part.stop)
