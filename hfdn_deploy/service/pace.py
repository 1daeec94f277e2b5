"""How long a model takes on this machine: measured when it is opened, then by what it does."""

import math
from dataclasses import dataclass, field
from time import perf_counter
from typing import Self

import numpy as np

from hfdn_deploy.images import Image
from hfdn_deploy.tiling import STEP, area, count_tiles
from hfdn_deploy.upscaler import Upscaler

# Between two tiles work can be stopped, and others have their turn.
_STEP_SECONDS = 0.4
# Smaller tiles would take longer for their halos; `python -m benchmarks tiling`.
_SMALLEST, _LARGEST = 128, 2048
# Sides of the images that are timed.
_PROBES = 16, 64
# Share in the average of the last image, and of one that took less than so many seconds; and by how
# much one may seem slower or faster than the average.
_NEWS, _TELLING, _ODD = 0.3, 0.02, 2.0
# Seconds between two times that a model is timed because of what it refuses.
_DOUBT = 5.0


@dataclass
class Pace:
    """What an image of any size will take."""

    call: float
    """Seconds of a run, whatever its size; so `pixel` are those of a low-resolution pixel."""
    pixel: float
    halo: int
    """Low-resolution pixels around a tile."""
    side: int
    """Of the largest tile that is run in one go."""
    factor: float = 1.0
    """By what real images took longer than these say, averaged over the last ones."""
    timed: float = field(default_factory=perf_counter)
    """When a small image was last timed."""

    @classmethod
    def measure(cls, up: Upscaler, side: int | None) -> Self:
        """Time two small images.

        Args:
            up: the model.
            side: of the tiles that were asked for; None to choose it by the time a tile takes.
        """
        small, large = (_seconds(up, probe) for probe in _PROBES)
        areas = [probe**2 for probe in _PROBES]
        pixel = max(large - small, large / 2) / (areas[1] - areas[0])
        call = max(small - pixel * areas[0], small / 2)
        halo = up.backend.tiling.halo if up.backend.tiling else 0
        if side is None:
            window = math.sqrt(max(_STEP_SECONDS - call, 0.0) / pixel)
            side = min(max(int(window - 2 * halo) // STEP * STEP, _SMALLEST), _LARGEST)
        return cls(call, pixel, halo, side)

    def tiles(self, height: int, width: int) -> int:
        """In how many an image is upscaled, unless memory asks for more."""
        return count_tiles(height, width, self.side, self.halo)

    def seconds(self, height: int, width: int) -> float:
        """What an image is expected to take now."""
        return self.factor * self.quiet_seconds(height, width)

    def learn(self, height: int, width: int, seconds: float) -> None:
        """Take into account what an image took."""
        expected = self.quiet_seconds(height, width)
        seen = min(max(seconds / expected, self.factor / _ODD), self.factor * _ODD)
        self.factor += _NEWS * min(1.0, expected / _TELLING) * (seen - self.factor)

    def probe(self) -> Image | None:
        """An image to time, now and then: the machine may have been busy when it was last done."""
        if perf_counter() < self.timed + _DOUBT:
            return None
        self.timed = perf_counter()
        return _square(_PROBES[-1])

    def quiet_seconds(self, height: int, width: int) -> float:
        """What an image would take if the machine were as it was when the model was opened."""
        tiles = self.tiles(height, width)
        # Each tile is run twice, up to what is pooled and from there.
        runs = 1 if tiles == 1 else 2 * tiles
        return runs * self.call + area(height, width, self.side, self.halo, self.halo) * self.pixel


def _seconds(up: Upscaler, side: int) -> float:
    """What a square image takes when its size has been met before, and nothing disturbs it."""
    image = _square(side)
    up(image)
    times = []
    for _ in range(3):
        start = perf_counter()
        up(image)
        times.append(perf_counter() - start)
    return min(times)


def _square(side: int) -> Image:
    return np.zeros((side, side, 3), np.uint8)
