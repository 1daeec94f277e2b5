"""How much memory an upscaling takes, and the largest tile that a budget allows."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import psutil

from hfdn_deploy import tiling
from hfdn_deploy.backends import Backend, TilingBackend
from hfdn_deploy.colour import BAND_PIXELS
from hfdn_deploy.errors import BackendError, InputError

# Bytes for each pixel of a band that is put together, by its channels.
_BAND = {1: 12, 2: 40, 3: 44, 4: 72}
# Bytes of luma: a plane, and the sum of the eight with two that are turned.
_LUMA, _ENSEMBLE = 4, 12
# Copies as floats while the colour of visible pixels flows into transparent ones.
_BLEEDING = 6

# The largest side that is chosen where the whole does not fit. Larger tiles have less halo, but
# take no less time: `python -m benchmarks tiling`.
_LARGEST = 384


@dataclass(frozen=True)
class Job:
    """The upscaling of one picture."""

    height: int
    """In low-resolution pixels; so is `width`."""
    width: int
    scale: int
    halo: int
    memory: int
    """`TilingBackend.memory`."""
    channels: int = 1
    ensemble: bool = False
    number: int = 1
    """Pictures of this size at once; in tiles they take turns."""
    held: int = 0
    """Bytes of the results, as far as they are not written as they come."""

    def need(self, side: int | None) -> int:
        """Bytes at the peak, in tiles of this side or (None) whole."""
        size = self.height, self.width
        read = size if side is None else tiling.window(*size, side, self.halo)
        number = self.number if side is None else 1
        large = self.scale**2
        result = number * math.prod(size) * large
        rows = self.height if self.ensemble else read[0]
        luma = number * rows * self.width * large * (_ENSEMBLE if self.ensemble else _LUMA)
        band = min(result, BAND_PIXELS) * _BAND[self.channels]
        alpha = self.number * math.prod(size) * self.channels * 4 * _BLEEDING
        return (
            number * math.prod(read) * self.memory
            + luma
            + band
            + (alpha if self.channels in (2, 4) else 0)
            + self.held
        )

    def largest_side(self, budget: int) -> int | None:
        """The largest side of a tile within a budget in bytes; None if the whole fits.

        Raises:
            InputError: not even small tiles fit.
        """
        if self.need(None) <= budget:
            return None
        for side in range(_LARGEST, 0, -tiling.STEP):
            if self.need(side) <= budget:
                return side
        raise self._refusal(tiling.STEP, budget)

    def check(self, side: int | None, budget: int) -> None:
        """Refuse what would not fit, before the system kills the process for it.

        Raises:
            InputError: it needs more than `budget` bytes.
        """
        if self.need(side) > budget:
            raise self._refusal(side, budget)

    def _refusal(self, side: int | None, budget: int) -> InputError:
        how = "whole" if side is None else f"in tiles of {side}"
        advice = "a smaller tile, image" if side != tiling.STEP else "a smaller image"
        return InputError(
            f"{self.width}×{self.height} pixels at scale {self.scale} need about "
            f"{gibibytes(self.need(side))} of memory {how}, and {gibibytes(budget)} may be used; "
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
        if max_memory is not None and not max_memory > 0:
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
        free = free // 2 if tile == "auto" else free
        self._budget = free if max_memory is None else max_memory

    def side(self, shape: tuple[int, ...], ensemble: bool, held: int, number: int) -> int | None:
        """See `Upscaler.tile_for`."""
        backend = self._backend
        if not backend:
            return None
        if not backend.memory:
            fits = backend.largest is None or max(shape[:2]) <= backend.largest
            automatic = None if fits else self._largest_side()
            return automatic if self._tile == "auto" else self._tile
        height, width, channels = (*shape, 1)[:3]
        job = Job(
            height, width, backend.scale, backend.halo, backend.memory, channels,
            ensemble, number, held,
        )  # fmt: skip
        if self._tile == "auto":
            return job.largest_side(self._budget)
        job.check(self._tile, self._budget)
        return self._tile

    def _largest_side(self) -> int | None:
        """Of a tile without its halo; None if memory alone decides."""
        backend = self._backend
        if not backend or backend.largest is None:
            return None
        return backend.largest - 2 * backend.halo


def gibibytes(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{size / 2**30:.2g} GiB" if size < 10 * 2**30 else f"{size / 2**30:.0f} GiB"
