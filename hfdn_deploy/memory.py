"""How much memory an upscaling takes, and the largest tile that a budget allows."""

from dataclasses import dataclass

from hfdn_deploy import tiling
from hfdn_deploy.backends import MemoryNeed
from hfdn_deploy.errors import InputError

# Bytes for each pixel of the result, by its channels: the planes that it is put together from.
_PICTURE = {1: 12, 2: 40, 3: 44, 4: 72}
# The sum of the eight, and one that is added to it.
_ENSEMBLE = 8


@dataclass(frozen=True)
class Job:
    """The upscaling of one picture."""

    height: int
    """In low-resolution pixels; so is `width`."""
    width: int
    scale: int
    halo: int
    memory: MemoryNeed
    channels: int = 1
    ensemble: bool = False
    number: int = 1
    """Pictures of this size at once; in tiles they take turns."""

    def need(self, side: int | None) -> int:
        """Bytes at the peak, in tiles of this side or (None) whole."""
        whole = self._pixels * self.memory.whole
        if side is None:
            return self._held + whole
        height, width = tiling.window(self.height, self.width, side, self.halo)
        if (height, width) == (self.height, self.width):
            return self._held + whole
        return self._held + height * width * self.memory.tile

    @property
    def _pixels(self) -> int:
        return self.number * self.height * self.width

    @property
    def _held(self) -> int:
        """Bytes of the pictures' planes, however small the tiles."""
        planes = _PICTURE[self.channels] + (_ENSEMBLE if self.ensemble else 0)
        return self._pixels * self.scale**2 * planes

    def largest_side(self, budget: int) -> int | None:
        """The largest side of a tile within a budget in bytes; None if the whole fits.

        Raises:
            InputError: not even small tiles fit.
        """
        if self.need(None) <= budget:
            return None
        if self._held > budget:  # before trying the millions of tiles of an absurd size
            raise self._refusal(tiling.STEP, budget)
        largest = -(-max(self.height, self.width) // tiling.STEP) * tiling.STEP
        for side in range(largest, 0, -tiling.STEP):
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
