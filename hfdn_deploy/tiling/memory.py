"""How much memory an upscaling takes, and the largest tile that a budget allows."""

import math
from dataclasses import dataclass

from hfdn_deploy.backends import Tiling
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import BAND_PIXELS
from hfdn_deploy.tiling.tiles import STEP, area, count_tiles, window

# Bytes for each pixel of a band that is put together, by its channels.
_BAND = {1: 12, 2: 40, 3: 44, 4: 72}
# Bytes of luma: a plane, and the sum of the eight with two that are turned.
_LUMA, _ENSEMBLE = 4, 12
# Copies as floats while the colour of visible pixels flows into transparent ones.
_BLEEDING = 6
# Copies as floats of a band that is resized, by its channels: its planes, narrowed, and joined.
_RESIZED = {1: 3, 2: 7, 3: 9, 4: 17}

# The largest side that is chosen where the whole does not fit, by `Plan.keeps`. Larger tiles
# have less halo, but take no less time: `python -m benchmarks tiling`.
_LARGEST = {True: 256, False: 384}
# Time of tiles whose features are computed twice as a multiple of those that keep them, at least.
_TWICE = 1.25

WORTH_PREPARING = 1_000_000
"""Low-resolution pixels of one shape, in images or tiles, from which on preparing for it pays.

Images of one size take some 7 s, of which it saves 2; the tiles of one image 9 s, and it saves 1.
"""


@dataclass(frozen=True)
class Plan:
    """How an image is upscaled: whole, or in tiles."""

    side: int | None = None
    """Of a tile without its halo, in low-resolution pixels; None for the image whole."""
    keeps: bool = False
    """Whether all tiles' features stay in memory; else they are computed twice."""


WHOLE = Plan()


@dataclass(frozen=True)
class Footprint:
    """The upscaling of one image, or of several of one size at once."""

    height: int
    """In low-resolution pixels; so is `width`."""
    width: int
    tiling: Tiling
    """Of a backend whose memory was measured."""
    channels: int = 1
    ensemble: bool = False
    number: int = 1
    """Images of this size at once; in tiles they take turns."""
    held: int = 0
    """Bytes of the results, as far as they are not written as they come."""
    beside: int = 0
    """Bytes that other steps take meanwhile."""

    def need(self, plan: Plan) -> int:
        """Bytes at the peak."""
        size = self._size
        scale, halo = self.tiling.scale, self.tiling.halo
        tile, features, number = size, 0, self.number
        if plan.side is not None:
            number = 1
            split = self.tiling.split if plan.keeps else None
            # Of tiles that keep their features, the heads take the most, and read less around.
            around = split.halo if split else halo
            tile = window(*size, plan.side, halo, around)
            # A single tile is run whole.
            if split and tile != size:
                features = area(*size, plan.side, halo, around) * split.memory
        rows = self.height if self.ensemble else tile[0]
        pixels = number * rows * self.width * scale**2
        luma = pixels * (_ENSEMBLE if self.ensemble else _LUMA)
        band = min(pixels, BAND_PIXELS) * _BAND[self.channels]
        # As rows of tiles are done, their features go and their results come.
        first = rows / self.height
        changing = (features, features * (1 - first) + band + self.held * first, band + self.held)
        return (
            number * math.prod(tile) * (self.tiling.memory or 0)
            + self.tiling.overhead
            + luma
            + self.beside
            + int(max(changing))
        )

    def fastest(self, budget: int, largest: int | None = None) -> Plan:
        """The fastest plan within a budget in bytes: whole if that fits.

        Args:
            budget: bytes.
            largest: side of a tile beyond which nothing is run in one go; None for any size.

        Raises:
            InputError: not even small tiles fit.
        """
        tiles = count_tiles(*self._size, largest, self.tiling.halo) if largest else 1
        if tiles == 1 and self.need(WHOLE) <= budget:
            return WHOLE
        found = (self._largest(keeps, budget, largest) for keeps in (True, False))
        plans = [plan for plan in found if plan]
        if not plans:
            raise self._refusal(Plan(STEP), budget)
        return min(plans, key=self._work)

    @property
    def _size(self) -> tuple[int, int]:
        return self.height, self.width

    def _largest(self, keeps: bool, budget: int, largest: int | None) -> Plan | None:
        """The largest tiles within a budget; None if there are none."""
        if keeps and not self.tiling.split:
            return None
        for side in range(min(_LARGEST[keeps], largest or _LARGEST[keeps]), 0, -STEP):
            plan = Plan(side, keeps)
            if self.need(plan) <= budget:
                return plan
        return None

    def _work(self, plan: Plan) -> float:
        """Pixels that are computed, each that is computed twice as `_TWICE`."""
        halo = self.tiling.halo
        pixels = area(self.height, self.width, plan.side or 1, halo, halo)
        return pixels * (1 if plan.keeps else _TWICE)

    def check(self, plan: Plan, budget: int) -> None:
        """Refuse what would not fit, before the system kills the process for it.

        Raises:
            InputError: it needs more than `budget` bytes.
        """
        if self.need(plan) > budget:
            raise self._refusal(plan, budget)

    def _refusal(self, plan: Plan, budget: int) -> InputError:
        how = "whole" if plan.side is None else f"in tiles of {plan.side}"
        advice = "a smaller image" if plan.side == STEP else "a smaller tile, image"
        return InputError(
            f"{self.width}×{self.height} pixels at scale {self.tiling.scale} need about "
            f"{gibibytes(self.need(plan))} of memory {how}, and {gibibytes(budget)} may be used; "
            f"use {advice} or scale, or allow more."
        )


def bleeding(height: int, width: int, channels: int) -> int:
    """Bytes while the colour of visible pixels flows into transparent ones, if there can be any."""
    return height * width * channels * 4 * _BLEEDING if channels in (2, 4) else 0


def resizing(height: int, width: int, channels: int) -> int:
    """Bytes to resize an image that comes in bands of rows; the largest copies are of a band."""
    return min(height * width, BAND_PIXELS) * 4 * _RESIZED[channels]


def gibibytes(size: int) -> str:
    """A number of bytes as people read it."""
    if size < 2**30 / 10:
        return f"{size / 2**20:.2g} MiB"
    return f"{size / 2**30:.2g} GiB" if size < 10 * 2**30 else f"{size / 2**30:.0f} GiB"
