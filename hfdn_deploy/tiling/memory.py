"""How much memory an upscaling takes, and the largest tile that a budget allows."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
import psutil

from hfdn_deploy import tiling
from hfdn_deploy.backends import Backend, TilingBackend
from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.images import BAND_PIXELS

# Bytes for each pixel of a band that is put together, by its channels.
_BAND = {1: 12, 2: 40, 3: 44, 4: 72}
# Bytes of luma: a plane, and the sum of the eight with two that are turned.
_LUMA, _ENSEMBLE = 4, 12
# Copies as floats while the colour of visible pixels flows into transparent ones.
_BLEEDING = 6

# The largest side that is chosen where the whole does not fit, by `Tiling.keeps`. Larger tiles
# have less halo, but take no less time: `python -m benchmarks tiling`.
_LARGEST = {True: 256, False: 384}
# Time of tiles whose features are computed twice as a multiple of those that keep them, at least.
_TWICE = 1.25


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut into tiles."""

    side: int
    """Of a tile without its halo, in low-resolution pixels."""
    keeps: bool
    """Whether all tiles' features stay in memory; else they are computed twice."""


@dataclass(frozen=True)
class Footprint:
    """The upscaling of one picture."""

    height: int
    """In low-resolution pixels; so is `width`."""
    width: int
    backend: TilingBackend
    """One whose memory was measured."""
    channels: int = 1
    ensemble: bool = False
    number: int = 1
    """Pictures of this size at once; in tiles they take turns."""
    held: int = 0
    """Bytes of the results, as far as they are not written as they come."""

    def need(self, way: Tiling | None) -> int:
        """Bytes at the peak, in tiles or (None) whole."""
        size = self.height, self.width
        scale, halo, split = self.backend.scale, self.backend.halo, self.backend.split
        tile, features = size, 0
        if way is not None and way.keeps and split:
            # What takes the most are the heads, which need less around a tile.
            tile = tiling.window(*size, way.side, halo, split.halo)
            area = tiling.area(*size, way.side, halo, split.halo)
            # A single tile is run whole.
            features = 0 if tile == size else area * split.memory
        elif way is not None:
            tile = tiling.window(*size, way.side, halo, halo)
        number = self.number if way is None else 1
        rows = self.height if self.ensemble else tile[0]
        pixels = number * rows * self.width * scale**2
        luma = pixels * (_ENSEMBLE if self.ensemble else _LUMA)
        band = min(pixels, BAND_PIXELS) * _BAND[self.channels]
        alpha = self.number * math.prod(size) * self.channels * 4 * _BLEEDING
        # As rows of tiles are done, their features go and their results come.
        first = rows / self.height
        changing = (features, features * (1 - first) + band + self.held * first, band + self.held)
        return (
            number * math.prod(tile) * (self.backend.memory or 0)
            + self.backend.overhead
            + luma
            + (alpha if self.channels in (2, 4) else 0)
            + int(max(changing))
        )

    def fastest(self, budget: int) -> Tiling | None:
        """The fastest way within a budget in bytes; None if the whole fits.

        Raises:
            InputError: not even small tiles fit.
        """
        if self.need(None) <= budget:
            return None
        ways = [way for keeps in (True, False) if (way := self._largest(keeps, budget))]
        if not ways:
            raise self._refusal(Tiling(tiling.STEP, keeps=False), budget)
        return min(ways, key=self._work)

    def _largest(self, keeps: bool, budget: int) -> Tiling | None:
        """The largest tiles within a budget; None if there are none."""
        if keeps and not self.backend.split:
            return None
        for side in range(_LARGEST[keeps], 0, -tiling.STEP):
            way = Tiling(side, keeps)
            if self.need(way) <= budget:
                return way
        return None

    def _work(self, way: Tiling) -> float:
        """Pixels that are computed, each that is computed twice as `_TWICE`."""
        halo = self.backend.halo
        pixels = tiling.area(self.height, self.width, way.side, halo, halo)
        return pixels * (1 if way.keeps else _TWICE)

    def check(self, way: Tiling | None, budget: int) -> None:
        """Refuse what would not fit, before the system kills the process for it.

        Raises:
            InputError: it needs more than `budget` bytes.
        """
        if self.need(way) > budget:
            raise self._refusal(way, budget)

    def _refusal(self, way: Tiling | None, budget: int) -> InputError:
        how = f"in tiles of {way.side}" if way else "whole"
        smallest = way is not None and way.side == tiling.STEP
        advice = "a smaller image" if smallest else "a smaller tile, image"
        return InputError(
            f"{self.width}×{self.height} pixels at scale {self.backend.scale} need about "
            f"{gibibytes(self.need(way))} of memory {how}, and {gibibytes(budget)} may be used; "
            f"use {advice} or scale, or allow more."
        )


class TileChoice:
    """In which tiles a backend upscales pictures: those asked for, or what fits into memory."""

    def __init__(
        self, backend: Backend, tile: int | Literal["auto"] | None, max_memory: int | None
    ) -> None:
        """Take the choice; what it means is said at `Upscaler.load`.

        Raises:
            InputError: there is no such tile or amount of memory.
            BackendError: the backend cannot respect it.
        """
        if isinstance(tile, np.integer):
            tile = int(tile)
        if isinstance(tile, bool) or not (
            tile in ("auto", None) or (isinstance(tile, int) and tile > 0)
        ):
            raise InputError(f"tile is {tile!r}; give its side in pixels, 'auto' or None.")
        if max_memory is not None and not (isinstance(max_memory, Real) and max_memory > 0):
            raise InputError(f"max_memory is {max_memory!r}; give bytes, or None.")
        self._backend = backend if isinstance(backend, TilingBackend) else None
        if isinstance(tile, int) and not self._backend:
            raise BackendError(f"{backend.name} runs no tiles; leave tile at 'auto' or None.")
        most = self._largest_side()
        if isinstance(tile, int) and most is not None and tile > most:
            raise InputError(
                f"{backend.name} runs tiles of at most {most} pixels, not {tile}; give a smaller "
                "one, or 'auto'."
            )
        if max_memory is not None and not (self._backend and self._backend.memory):
            raise BackendError(
                f"nobody measured how much memory {backend.name} takes; leave max_memory out, or "
                "give a tile's side instead."
            )
        self._tile = tile
        # Asked once: later, what earlier pictures left to the engine for the next would not count.
        free = psutil.virtual_memory().available
        self._budget = free // 2 if max_memory is None else max_memory
        # Who says how large the tiles are may know better than to leave half.
        self._limit = free if max_memory is None else max_memory

    def tiling(
        self, shape: tuple[int, ...], ensemble: bool, held: int, number: int
    ) -> Tiling | None:
        """How a picture is cut; None if it is upscaled whole. See `Upscaler.tile_for`."""
        backend = self._backend
        if not backend:
            return None
        if not backend.memory:
            fits = backend.largest is None or max(shape[:2]) <= backend.largest
            automatic = None if fits else self._largest_side()
            side = automatic if self._tile == "auto" else self._tile
            return side if side is None else Tiling(side, keeps=False)
        height, width, channels = (*shape, 1)[:3]
        job = Footprint(height, width, backend, channels, ensemble, number, held)
        if self._tile == "auto":
            return job.fastest(self._budget)
        if self._tile and backend.split:
            keeping = Tiling(self._tile, keeps=True)
            if job.need(keeping) <= self._budget:
                return keeping
        way = Tiling(self._tile, keeps=False) if self._tile else None
        job.check(way, self._limit)
        return way

    def _largest_side(self) -> int | None:
        """Of a tile without its halo; None if memory alone decides."""
        backend = self._backend
        if not backend or backend.largest is None:
            return None
        return backend.largest - 2 * backend.halo


def gibibytes(size: int) -> str:
    """A number of bytes as people read it."""
    if size < 2**30 / 10:
        return f"{size / 2**20:.2g} MiB"
    return f"{size / 2**30:.2g} GiB" if size < 10 * 2**30 else f"{size / 2**30:.0f} GiB"
