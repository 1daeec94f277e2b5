"""Exact upscaling in tiles: pooled statistics of the whole image, and joining of the tiles.

A tile alone would give a wrong result, because channel attention pools over the whole image. So
there are two passes: the first sums the pooled features, each pixel once; the second upscales every
tile with the mean, from the image or, if memory allows, from the features of the first pass.
Around its kept pixels a tile reads a halo, all pixels that can influence them. At the image's
border it reads only up to the border, so that the network's padding takes effect there and nowhere
else.

Tiles run in rows from top to bottom, and each row of tiles gives a band of the result, so the
result need not be in memory as a whole. The source is only read in slices: it is an array, or an
object that makes luma on demand.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends import Backend, Features, SplitNetwork, Tiling
from hfdn_deploy.errors import BackendError
from hfdn_deploy.tiling.tiles import Region, Tile, within


class LumaSource(Protocol):
    """A luma plane (H, W) in [0, 1], read in slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, region: Region) -> NDArray[np.float32]: ...


def upscale_whole(backend: Backend, lumas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Upscale luma planes (N, H, W) in a single run, to (N, sH, sW).

    Raises:
        BackendError: the backend failed, or gave a wrong shape or NaN.
    """
    lr = np.ascontiguousarray(lumas[:, None], np.float32)
    return _checked(backend.run(lr), lr, backend.scale)


def upscale_images(backend: Backend, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Upscale RGB images (N, H, W, 3) in a single run, to (N, sH, sW, 3).

    The backend must take images. For images on a device, the result is on the device.

    Raises:
        BackendError: the backend failed, or gave a wrong shape.
    """
    if isinstance(images, np.ndarray):
        images = np.ascontiguousarray(images)
    number, height, width, channels = images.shape
    upscaled = backend.run_images(images)
    if upscaled.shape != (number, backend.scale * height, backend.scale * width, channels):
        raise BackendError(f"the backend gave shape {upscaled.shape} for {width}×{height} pixels.")
    return upscaled


def upscale(
    tiling: Tiling,
    source: LumaSource,
    tiles: Sequence[Tile],
    count: Callable[[int], object] = lambda pixels: None,
    split: SplitNetwork | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Upscale a luma plane in tiles.

    Args:
        tiling: the tiling of the backend.
        source: (H, W) in [0, 1].
        tiles: from `cut`, for the halo of the tiling.
        count: called after each of several tiles, in each pass (there is a first pass only if the
            network pools), with the number of low-resolution pixels that the tile keeps.
        split: the split of the tiling, to keep the features of all tiles from the first pass for
            the second; None to compute them again.

    Returns:
        Bands (rows, sW) from top to bottom, in all (sH, sW), not clipped.

    Raises:
        BackendError: the backend failed, or gave a wrong shape or NaN.
    """
    if len(tiles) == 1:
        (whole,) = tiles
        lr = _read(source, whole.read)
        yield _checked(tiling.run_tile(lr, None), lr, tiling.scale)[0]
        return
    if split is None:
        results = _from_image(tiling, source, tiles, count)
    else:
        narrowed = [tile.narrowed(tiling.halo - split.halo) for tile in tiles]
        results = _from_features(split, source, tiles, narrowed, count)
    scale, width = tiling.scale, source.shape[1]
    for rows, row in groupby(results, lambda result: result[0].kept[0]):
        band = np.empty((scale * (rows.stop - rows.start), scale * width), np.float32)
        for tile, lr, sr in row:
            (plane,) = _checked(sr, lr, scale)
            inner, columns = (_scaled(part, scale) for part in tile.kept_in_read)
            band[:, _scaled(tile.kept[1], scale)] = plane[inner, columns]
            count(tile.pixels)
        yield band


TileResult = tuple[Tile, NDArray[np.float32], NDArray[np.float32]]
"""A tile, its input (1, 1, h, w) and its upscaled output (1, 1, sh, sw)."""


def _from_image(
    tiling: Tiling,
    source: LumaSource,
    tiles: Sequence[Tile],
    count: Callable[[int], object],
) -> Iterator[TileResult]:
    pooled = pooled_mean(tiling, source, tiles, count) if tiling.pools else None
    for tile in tiles:
        lr = _read(source, tile.read)
        yield tile, lr, tiling.run_tile(lr, pooled)


def _from_features(
    split: SplitNetwork,
    source: LumaSource,
    tiles: Sequence[Tile],
    narrowed: Sequence[Tile],
    count: Callable[[int], object],
) -> Iterator[TileResult]:
    kept: deque[Features] = deque()

    def trunk(lr: NDArray[np.float32], inside: NDArray[np.float32]) -> NDArray[np.float32]:
        sums, features = split.trunk(lr, inside)
        tile = len(kept)
        region = within(narrowed[tile].read, tiles[tile].read)
        kept.append({name: np.ascontiguousarray(x[..., *region]) for name, x in features.items()})
        return sums

    pooled = _mean(trunk, source, tiles, count)
    for tile in narrowed:
        lr = _read(source, tile.read)
        yield tile, lr, split.heads(lr, kept.popleft(), pooled)


def pooled_mean(
    tiling: Tiling,
    source: LumaSource,
    tiles: Sequence[Tile],
    count: Callable[[int], object] = lambda pixels: None,
) -> NDArray[np.float32]:
    """Return the mean (1, C, 1, 1) over the whole image of the features that the network pools.

    Args and errors as for `upscale`.
    """
    return _mean(tiling.pooled_sums, source, tiles, count)


def _mean(
    sums: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]],
    source: LumaSource,
    tiles: Sequence[Tile],
    count: Callable[[int], object],
) -> NDArray[np.float32]:
    """Return the mean from the sums of each tile, in order; see `Tiling.pooled_sums`."""
    total: NDArray[np.float64] | float = 0.0
    for tile in tiles:
        lr = _read(source, tile.read)
        inside = np.zeros_like(lr)
        inside[0, 0][tile.kept_in_read] = 1
        # Adding the sums of many tiles in fp32 would lose digits.
        total += sums(lr, inside).astype(np.float64)
        count(tile.pixels)
    return np.asarray(total / math.prod(source.shape), np.float32)


def _read(source: LumaSource, region: Region) -> NDArray[np.float32]:
    return np.ascontiguousarray(source[region][None, None], np.float32)


def _checked(sr: NDArray[np.float32], lr: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Return the output of a backend as planes (N, sH, sW).

    Raises:
        BackendError: the output has a wrong shape, NaN or infinity.
    """
    number, _, height, width = lr.shape
    if sr.shape != (number, 1, scale * height, scale * width):
        raise BackendError(f"the backend gave shape {sr.shape} for {width}×{height} pixels.")
    if not np.isfinite(sr).all():
        raise BackendError("the backend gave NaN or infinity; export and verify the model.")
    return np.asarray(sr[:, 0])


def _scaled(part: slice, scale: int) -> slice:
    return slice(scale * part.start, scale * part.stop)
