"""A model of memory use, and the fastest plan that a budget allows."""

import math
from dataclasses import dataclass

from hfdn_deploy.backends import Tiling
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import BAND_PIXELS
from hfdn_deploy.tiling.tiles import STEP, area, count_tiles, window

# Bytes per pixel to assemble a band of the result, by channels.
_BAND = {1: 12, 2: 40, 3: 44, 4: 72}
# Bytes of luma per pixel: one plane; for an ensemble, the sum and two rotated planes.
_LUMA, _ENSEMBLE = 4, 12
# Copies as floats while the colour of visible pixels spreads into transparent pixels.
_BLEEDING = 6
# Copies as floats of a band that is resized, by channels: planes, narrowed planes, joined.
_RESIZED = {1: 3, 2: 7, 3: 9, 4: 17}

# The largest side to choose if the whole image does not fit, by `Plan.keeps`. Larger tiles have
# less halo, but are not faster: `python -m benchmarks tiling`.
_LARGEST = {True: 256, False: 384}
# Least time of tiles that compute features twice, relative to tiles that keep them.
_TWICE = 1.25

WORTH_PREPARING = 1_000_000
"""Low-resolution pixels of one shape, in images or tiles, above which preparing for it pays.

So many pixels take 7 s as images of one size, of which preparing saves 2 s, and 9 s as the tiles of
one image, of which it saves 1 s.
"""


@dataclass(frozen=True)
class Plan:
    """How an image is upscaled: whole, or in tiles."""

    side: int | None = None
    """Side of a tile without its halo, in low-resolution pixels; None to run the image whole."""
    keeps: bool = False
    """Whether the features of all tiles stay in memory; else they are computed twice."""


WHOLE = Plan()


@dataclass(frozen=True)
class Footprint:
    """The memory use of upscaling one image, or several of one size at once."""

    height: int
    """In low-resolution pixels, like `width`."""
    width: int
    tiling: Tiling
    """The tiling of a backend whose memory use was measured."""
    channels: int = 1
    ensemble: bool = False
    number: int = 1
    """Images of this size at once; in tiles they run one by one."""
    held: int = 0
    """Bytes of the results that stay in memory, rather than being written band by band."""
    beside: int = 0
    """Bytes that other steps use at the same time."""

    def need(self, plan: Plan) -> int:
        """Return the peak memory in bytes."""
        size = self._size
        scale, halo = self.tiling.scale, self.tiling.halo
        tile, features, number = size, 0, self.number
        if plan.side is not None:
            number = 1
            split = self.tiling.split if plan.keeps else None
            # With kept features, the heads need the most memory, and their halo is smaller.
            around = split.halo if split else halo
            tile = window(*size, plan.side, halo, around)
            # A single tile covers the whole image.
            if split and tile != size:
                features = area(*size, plan.side, halo, around) * split.memory
        rows = self.height if self.ensemble else tile[0]
        pixels = number * rows * self.width * scale**2
        luma = pixels * (_ENSEMBLE if self.ensemble else _LUMA)
        band = min(pixels, BAND_PIXELS) * _BAND[self.channels]
        # After each row of tiles, its features are freed and its result is added.
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
        """Return the fastest plan within a budget in bytes: whole if that fits.

        Args:
            budget: bytes.
            largest: limit of a tile's side; None for any.

        Raises:
            InputError: not even the smallest tiles fit.
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
        """Return the plan with the largest tiles within a budget; None if none fit."""
        if keeps and not self.tiling.split:
            return None
        for side in range(min(_LARGEST[keeps], largest or _LARGEST[keeps]), 0, -STEP):
            plan = Plan(side, keeps)
            if self.need(plan) <= budget:
                return plan
        return None

    def _work(self, plan: Plan) -> float:
        """Return the pixels to compute, weighted by `_TWICE` if they are computed twice."""
        halo = self.tiling.halo
        pixels = area(self.height, self.width, plan.side or 1, halo, halo)
        return pixels * (1 if plan.keeps else _TWICE)

    def check(self, plan: Plan, budget: int) -> None:
        """Refuse a plan that would not fit, before the system kills the process.

        Raises:
            InputError: the plan needs more than `budget` bytes.
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
    """Return the bytes to spread visible colour into transparent pixels; 0 without alpha."""
    return height * width * channels * 4 * _BLEEDING if channels in (2, 4) else 0


def resizing(height: int, width: int, channels: int) -> int:
    """Return the bytes to resize an image in bands of rows; the largest copies are of a band."""
    return min(height * width, BAND_PIXELS) * 4 * _RESIZED[channels]


def gibibytes(size: int) -> str:
    """Format a number of bytes as MiB or GiB."""
    if size < 2**30 / 10:
        return f"{size / 2**20:.2g} MiB"
    return f"{size / 2**30:.2g} GiB" if size < 10 * 2**30 else f"{size / 2**30:.0f} GiB"
