"""How much memory an upscaling takes, and the largest tile that a budget allows."""

import math
from dataclasses import dataclass

from hfdn_deploy import tiling
from hfdn_deploy.colour import BAND_PIXELS
from hfdn_deploy.errors import InputError

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


def gibibytes(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{size / 2**30:.2g} GiB" if size < 10 * 2**30 else f"{size / 2**30:.0f} GiB"
