"""Upscaling luma on a backend: whole, in tiles or as an ensemble, in bands of rows."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.backends import Backend
from hfdn_deploy.errors import BackendError
from hfdn_deploy.images import Banded, Plane
from hfdn_deploy.tiling.joining import LumaSource, upscale, upscale_images, upscale_whole
from hfdn_deploy.tiling.memory import WORTH_PREPARING, Plan
from hfdn_deploy.tiling.tiles import cut

CLOSED = "this upscaler is closed; load a new one."

Progress = Callable[[int, int], object]
"""Called with the number of pixels that are done, and their total number."""


class LumaUpscaler:
    """Upscales luma by plans; the results are not clipped."""

    def __init__(self, backend: Backend, ensemble: bool) -> None:
        """Wrap an opened backend; with `ensemble`, average over eight flips and rotations."""
        self.backend = backend
        self.ensemble = ensemble
        self.closed = False

    def bands(
        self, source: LumaSource, plan: Plan, progress: Progress | None = None
    ) -> Iterator[Plane]:
        """Upscale a plane (H, W) to bands of rows, from top to bottom, in all (sH, sW).

        Raises:
            BackendError: the backend failed, gave a wrong shape or NaN, or is closed.
        """
        count = _counter(progress, self.work(source.shape))
        if not self.ensemble:
            yield from self._bands(source, plan, count)
            return
        luma = source[:, :]
        total = np.zeros([self.backend.scale * length for length in luma.shape], np.float32)
        for turns in range(4):
            for flip in (1, -1):
                turned = np.rot90(luma, turns)[:, ::flip]
                sr = self._joined(turned.shape, self._bands(turned, plan, count))
                total += np.rot90(sr[:, ::flip], -turns)
        total /= 8
        yield total

    def work(self, shape: tuple[int, ...]) -> int:
        """Return the pixels to compute for a plane (H, W), counting repeated ones each time."""
        tiling = self.backend.tiling
        passes = 2 if tiling and tiling.pools else 1
        return math.prod(shape) * passes * (8 if self.ensemble else 1)

    def plane(self, luma: LumaSource, plan: Plan, progress: Progress | None = None) -> Plane:
        """Upscale a plane (H, W) to (sH, sW); errors as for `bands`."""
        return self._joined(luma.shape, self.bands(luma, plan, progress))

    def whole(self, lumas: Plane) -> Plane:
        """Upscale planes (N, H, W) whole in a single run, to (N, sH, sW); errors as for `bands`."""
        self._check_open()
        return upscale_whole(self.backend, lumas)

    def images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Upscale RGB images (N, H, W, 3) whole in a single run, as `upscale_images`."""
        self._check_open()
        return upscale_images(self.backend, images)

    def _bands(
        self, source: LumaSource, plan: Plan, count: Callable[[int], object]
    ) -> Iterator[Plane]:
        tiling = self.backend.tiling
        if plan.side is None or tiling is None:
            yield self.whole(source[:, :][None])[0]
            return
        height, width = source.shape
        if height * width > WORTH_PREPARING:
            tiling = tiling.repeated
        tiles = cut(height, width, plan.side, tiling.halo)
        split = tiling.split if plan.keeps else None
        self._check_open()
        for band in upscale(tiling, source, tiles, count, split):
            yield band
            self._check_open()  # the caller may have closed it meanwhile

    def _check_open(self) -> None:
        if self.closed:
            raise BackendError(CLOSED)

    def _joined(self, shape: tuple[int, ...], bands: Iterator[Plane]) -> Plane:
        """Join the bands of upscaled luma, made from this shape, to one array."""
        height, width = (self.backend.scale * length for length in shape)
        return Banded((height, width), np.dtype(np.float32), bands).whole()


def _counter(progress: Progress | None, total: int) -> Callable[[int], object]:
    """Return a function that adds up pixels and reports the sum."""
    done = 0

    def count(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress:
            progress(done, total)

    return count
