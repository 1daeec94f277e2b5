"""Estimates of a model's latency: measured when it is opened, then learned from real images."""

import math
from dataclasses import dataclass, field
from time import perf_counter
from typing import Self

import numpy as np

from hfdn_deploy.images import Image
from hfdn_deploy.tiling import STEP, area, count_tiles
from hfdn_deploy.upscaler import Upscaler

# The time of the largest tile. Only between two tiles can a job be stopped or others run.
_STEP_SECONDS = 0.4
# The side of a tile. In smaller tiles, halos cost more (see `python -m benchmarks tiling`).
_SMALLEST, _LARGEST = 128, 2048
# Sides of the images that are timed.
_PROBES = 16, 64
# The weight of a new image in the average; the seconds below which it weighs proportionally less;
# and the largest factor by which it may seem slower or faster than the average.
_NEWS, _TELLING, _ODD = 0.3, 0.02, 2.0
# The least seconds between two timings of a model that refuses images.
_DOUBT = 5.0


@dataclass
class Pace:
    """An estimate of the time to upscale an image of any size."""

    call: float
    """Seconds of a run, independent of its size."""
    pixel: float
    """Seconds per low-resolution pixel."""
    halo: int
    """Low-resolution pixels around a tile."""
    side: int
    """Side of the largest tile, in low-resolution pixels."""
    factor: float = 1.0
    """Running average of measured over estimated time of real images."""
    timed: float = field(default_factory=perf_counter)
    """When a small image was last timed."""

    @classmethod
    def measure(cls, up: Upscaler, side: int | None) -> Self:
        """Time two small images.

        Args:
            up: the model.
            side: side of the tiles; None to choose it by the time of a tile.
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
        """Return the number of tiles of an image, unless memory requires more."""
        return count_tiles(height, width, self.side, self.halo)

    def seconds(self, height: int, width: int) -> float:
        """Return the expected seconds for an image now."""
        return self.factor * self.quiet_seconds(height, width)

    def learn(self, height: int, width: int, seconds: float) -> None:
        """Update the average with the measured seconds of an image."""
        expected = self.quiet_seconds(height, width)
        seen = min(max(seconds / expected, self.factor / _ODD), self.factor * _ODD)
        self.factor += _NEWS * min(1.0, expected / _TELLING) * (seen - self.factor)

    def probe(self) -> Image | None:
        """Return an image to time, or None if the last timing is recent.

        The machine may have been busy at the last timing.
        """
        if perf_counter() < self.timed + _DOUBT:
            return None
        self.timed = perf_counter()
        return _square(_PROBES[-1])

    def quiet_seconds(self, height: int, width: int) -> float:
        """Return the expected seconds on a machine as busy as when the model was opened."""
        tiles = self.tiles(height, width)
        # Each tile is run twice: up to the global pooling, and from there on.
        runs = 1 if tiles == 1 else 2 * tiles
        return runs * self.call + area(height, width, self.side, self.halo, self.halo) * self.pixel


def _seconds(up: Upscaler, side: int) -> float:
    """Return the least seconds of three runs of a square image, after a warm-up run."""
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
