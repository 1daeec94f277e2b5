"""Images that are not in memory whole: their rows come, or are asked for, in bands."""

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
"""Read or written at once, if a row, a strip or a row of tiles is no more."""
LARGEST_PART = 2**26
"""Bytes of a row, a strip or a row of tiles beyond which an image is read whole."""


@dataclass(frozen=True)
class Banded:
    """An image that comes in bands of rows, from top to bottom, once."""

    shape: tuple[int, ...]
    """Of the whole: (H, W) or (H, W, C)."""
    dtype: np.dtype[Any]
    bands: Iterator[Pixels]

    def whole(self) -> Pixels:
        """All of the bands in one array.

        Raises:
            InputError: bands were taken before.
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
        """The bands; an error at the end if they do not make the whole.

        Raises:
            InputError: bands were taken before.
        """
        missing = self.shape[0]
        for band in self.bands:
            missing -= len(band)
            yield band
        if missing:
            raise InputError(f"{missing} rows of the image were taken before; upscale it anew.")


class Rows:
    """An image of which only the rows that were asked for last are in memory.

    Rows are wanted from top to bottom, some again and again; who goes back further has the file
    read from its start. One thread at a time may ask.
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
            bands: gives all rows from top to bottom, as often as it is called.
        """
        self.shape = shape
        self.dtype = dtype
        self._bands = bands
        self._rest: Iterator[Pixels] = iter(())
        self._kept: Pixels = np.empty((0, *shape[1:]), dtype)
        self._top = shape[0]  # so that the first row that is asked for opens the file

    def __getitem__(self, region: tuple[slice, slice]) -> Pixels:
        """Pixels (h, w) or (h, w, C) of these rows and columns; leave them as they are.

        Raises:
            InputError: the file is truncated or damaged, or cannot be read any more.
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
                raise InputError("the rows of the image end too early; read it anew.")
            self._kept, self._top = np.concatenate(parts), start
        return self._kept[start - self._top : stop - self._top, region[1]]


def size_of(image: Image | Rows | Banded | tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of an image, or of a shape: (H, W) has one channel."""
    shape = image if isinstance(image, tuple) else image.shape
    height, width, channels = (*shape, 1)[:3]
    return height, width, channels
