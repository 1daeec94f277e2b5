"""Images that are not held in memory whole: their rows arrive, or are requested, in bands."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.errors import InputError

Image = NDArray[np.integer[Any] | np.floating[Any]]
"""(H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA."""
Pixels = NDArray[Any]
"""Some rows of an image."""
Plane = NDArray[np.float32]
"""One channel (H, W), or several (H, W, C)."""

BAND_BYTES = 2**20
"""Bytes read or written at once, unless one row, strip or row of tiles is larger."""
LARGEST_PART = 2**26
"""Largest row, strip or row of tiles in bytes; if one is larger, the image is read whole."""


@dataclass(frozen=True)
class Banded:
    """An image whose bands of rows can be taken once, from top to bottom."""

    shape: tuple[int, ...]
    """Of the whole image: (H, W) or (H, W, C)."""
    dtype: np.dtype[Any]
    bands: Iterator[Pixels]

    def whole(self) -> Pixels:
        """Return all bands in one array.

        Raises:
            InputError: some bands were already taken.
        """
        first = next(rows := self.rows())
        if first.shape == self.shape:
            return first
        pixels = np.empty(self.shape, self.dtype)
        top = 0
        for band in chain([first], rows):
            pixels[top : top + len(band)] = band
            top += len(band)
        return pixels

    def rows(self) -> Iterator[Pixels]:
        """Yield the bands, and check at the end that no row is missing.

        Raises:
            InputError: some bands were already taken.
        """
        missing = self.shape[0]
        for band in self.bands:
            missing -= len(band)
            yield band
        if missing:
            raise InputError(f"{missing} rows of the image were already taken; upscale it again.")


class Rows:
    """An image with only the most recently requested rows in memory.

    It is made for requests from top to bottom that overlap. A request above the rows in memory
    reads the file from its start. Not thread-safe.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        bands: Callable[[], Iterator[Pixels]],
    ) -> None:
        """Prepare to read.

        Args:
            shape: (H, W) or (H, W, C).
            dtype: of the pixels.
            bands: returns all rows from top to bottom, each time it is called.
        """
        self.shape = shape
        self.dtype = dtype
        self._bands = bands
        self._rest: Iterator[Pixels] = iter(())
        self._kept: Pixels = np.empty((0, *shape[1:]), dtype)
        self._top = shape[0]  # so that the first request opens the file

    def __getitem__(self, region: tuple[slice, slice]) -> Pixels:
        """Return pixels (h, w) or (h, w, C) of these rows and columns; do not write to them.

        Raises:
            InputError: the file is truncated or damaged, or can no longer be read.
        """
        start, stop, _ = region[0].indices(self.shape[0])
        if start < self._top:
            self._rest, self._kept, self._top = self._bands(), self._kept[:0], 0
        bottom = self._top + len(self._kept)
        if stop > bottom:
            parts = [self._kept[start - self._top :]]
            for band in self._rest:
                parts.append(band[max(0, start - bottom) :])
                bottom += len(band)
                if bottom >= stop:
                    break
            else:
                raise InputError("the rows of the image end too early; read it again.")
            self._kept, self._top = np.concatenate(parts), start
        return self._kept[start - self._top : stop - self._top, region[1]]


def size_of(image: Image | Rows | Banded | tuple[int, ...]) -> tuple[int, int, int]:
    """Return height, width and channels of an image or a shape; (H, W) has one channel."""
    shape = image if isinstance(image, tuple) else image.shape
    height, width, channels = (*shape, 1)[:3]
    return height, width, channels
