"""Pictures in tiles, exactly: a plan of the tiles, their statistics, and the stitching.

A tile alone would come out wrong, for the channel attention pools over the whole picture. So
there are two passes: the first sums up what is pooled, each pixel once; the second upscales
every tile with the mean given, from the picture or, where memory allows, from what the first has
computed. Around what is kept of a tile it reads a halo, everything that can reach the kept
pixels; at the picture's border it reads up to the border and no further, so that the network's
own border behaviour is found there and nowhere else.

Tiles go in rows from top to bottom, and the result comes as a band for each row of them, so that
nobody needs to hold it. Of the source they need no more than slices: an array serves, and so does
what makes luma of them.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends import Backend, Features, SplitNetwork, TilingBackend
from hfdn_deploy.errors import BackendError

Region = tuple[slice, slice]
"""Rows and columns."""

# Sides are rounded up to this many pixels: pictures of many sizes then share shapes of tiles,
# which engines compile and capture, for a few per cent of work.
STEP = 16


class LumaSource(Protocol):
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
        return _within(self.kept, self.read)

    def narrowed(self, halo: int) -> "Tile":
        """The same with a smaller halo."""
        rows, columns = (_narrowed(*span, halo) for span in zip(self.read, self.kept, strict=True))
        return Tile((rows, columns), self.kept)

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


def window(height: int, width: int, side: int, halo: int, around: int) -> tuple[int, int]:
    """Height and width of the largest tile of `plan` with only `around` pixels of its halo."""
    rows, columns = (_largest(length, side, halo, around) for length in (height, width))
    return rows, columns


def area(height: int, width: int, side: int, halo: int, around: int) -> int:
    """How many pixels the tiles of `plan` have, with only `around` pixels of their halo."""
    # Where two tiles meet, each reads so much of the other.
    rows, columns = (
        length + 2 * around * (_cut(length, side, halo)[0] - 1) for length in (height, width)
    )
    return rows * columns


def _largest(length: int, side: int, halo: int, around: int) -> int:
    """The first or last tile's length along one axis: at the border it keeps its halo."""
    count, size = _cut(length, side, halo)
    return size if count == 1 else size - halo + around


def _narrowed(read: slice, kept: slice, halo: int) -> slice:
    return slice(max(read.start, kept.start - halo), min(read.stop, kept.stop + halo))


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


def upscale_whole(backend: Backend, lumas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Upscale luma planes (N, H, W) in one go, to (N, sH, sW).

    Raises:
        BackendError: the engine failed, or gave a wrong shape or NaN.
    """
    lr = np.ascontiguousarray(lumas[:, None], np.float32)
    return _checked(backend.run(lr), lr, backend.scale)


def upscale(
    backend: TilingBackend,
    source: LumaSource,
    tiles: Sequence[Tile],
    count: Callable[[int], object] = lambda pixels: None,
    split: SplitNetwork | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Upscale a luma plane in tiles.

    Args:
        backend: the network.
        source: (H, W) in [0, 1].
        tiles: as `plan` gives them for the backend's halo.
        count: called after each tile of several, in each pass (the first if the network pools),
            with the number of low-resolution pixels that it is for.
        split: of the backend, to keep the features of all tiles from the first pass for the
            second; None to compute them again.

    Returns:
        Bands (rows, sW) from top to bottom, together (sH, sW), not clipped.

    Raises:
        BackendError: the engine failed, or gave a wrong shape or NaN.
    """
    if len(tiles) == 1:
        (whole,) = tiles
        yield upscale_whole(backend, source[whole.read][None])[0]
        return
    if split is None:
        results = _from_picture(backend, source, tiles, count)
    else:
        results = _from_features(split, source, tiles, count)
    scale, width = backend.scale, source.shape[1]
    for rows, row in groupby(results, lambda result: result[0].kept[0]):
        band = np.empty((scale * (rows.stop - rows.start), scale * width), np.float32)
        for tile, lr, sr in row:
            (plane,) = _checked(sr, lr, scale)
            inner, columns = (_scaled(part, scale) for part in tile.kept_in_read)
            band[:, _scaled(tile.kept[1], scale)] = plane[inner, columns]
            count(tile.pixels)
        yield band


TileResult = tuple[Tile, NDArray[np.float32], NDArray[np.float32]]
"""A tile, what was read of it, and that upscaled; (1, 1, h, w) and (1, 1, sh, sw)."""


def _from_picture(
    backend: TilingBackend,
    source: LumaSource,
    tiles: Sequence[Tile],
    count: Callable[[int], object],
) -> Iterator[TileResult]:
    pooled = pooled_mean(backend, source, tiles, count) if backend.pools else None
    for tile in tiles:
        lr = _read(source, tile.read)
        yield tile, lr, backend.run_tile(lr, pooled)


def _from_features(
    split: SplitNetwork, source: LumaSource, tiles: Sequence[Tile], count: Callable[[int], object]
) -> Iterator[TileResult]:
    kept: deque[Features] = deque()
    narrowed = [tile.narrowed(split.halo) for tile in tiles]

    def trunk(lr: NDArray[np.float32], inside: NDArray[np.float32]) -> NDArray[np.float32]:
        sums, features = split.trunk(lr, inside)
        tile = len(kept)
        region = _within(narrowed[tile].read, tiles[tile].read)
        kept.append({name: np.ascontiguousarray(x[..., *region]) for name, x in features.items()})
        return sums

    pooled = _mean(trunk, source, tiles, count)
    for tile in narrowed:
        lr = _read(source, tile.read)
        yield tile, lr, split.heads(lr, kept.popleft(), pooled)


def pooled_mean(
    backend: TilingBackend,
    source: LumaSource,
    tiles: Sequence[Tile],
    count: Callable[[int], object] = lambda pixels: None,
) -> NDArray[np.float32]:
    """The mean (1, C, 1, 1) over the whole picture of what the network pools.

    Args and errors as for `upscale`.
    """
    return _mean(backend.pooled_sums, source, tiles, count)


def _mean(
    sums: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]],
    source: LumaSource,
    tiles: Sequence[Tile],
    count: Callable[[int], object],
) -> NDArray[np.float32]:
    """The mean from the sums of each tile, asked for in order; see `TilingBackend.pooled_sums`."""
    total: NDArray[np.float64] | float = 0.0
    for tile in tiles:
        lr = _read(source, tile.read)
        inside = np.zeros_like(lr)
        inside[0, 0][tile.kept_in_read] = 1
        # Of many tiles' sums, fp32 would lose the last digits.
        total += sums(lr, inside).astype(np.float64)
        count(tile.pixels)
    return np.asarray(total / math.prod(source.shape), np.float32)


def _within(inner: Region, outer: Region) -> Region:
    """A region, counted from the first row and column of another around it."""
    rows, columns = (
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip(inner, outer, strict=True)
    )
    return rows, columns


def _read(source: LumaSource, region: Region) -> NDArray[np.float32]:
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
