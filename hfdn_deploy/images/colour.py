"""Conversion of image arrays to the planes that are upscaled, and back.

The network sees only luma, in [0, 1]. For a colour image it is BT.601 luma in studio range
(16/255 to 235/255), as in training; a grey image is its own luma.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from hfdn_deploy.errors import InputError
from hfdn_deploy.images.alpha import VISIBLE, bleed, respect_alpha
from hfdn_deploy.images.opencv import cv2
from hfdn_deploy.images.rows import Image, Plane, Rows
from hfdn_deploy.machine import threads
from hfdn_deploy.ycbcr import FROM_RGB, TO_RGB

# OpenCV would use all CPUs of the machine, not only those this process may use.
if _threads := threads():
    cv2.setNumThreads(min(_threads, cv2.getNumThreads()))

# The value of a dtype that represents 1.0.
WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
# OpenCV's names; its conversions to integers clip, and round halves to even.
_DEPTHS = {"uint8": cv2.CV_8U, "uint16": cv2.CV_16U, "float32": cv2.CV_32F}

# Approximate pixels of a band: its planes take ten times the memory of its pixels.
BAND_PIXELS = 2**20
# Each thread keeps the memory of two planes: getting new pages took longer than filling them.
_kept = threading.local()

# Low-resolution rows around a row of the result that it depends on: bicubic over 5×5 of alpha.
_MARGIN = 4


@dataclass(frozen=True)
class _Planes:
    """The float32 planes of some rows of an image."""

    luma: Plane
    """(H, W), in [0, 1]."""
    chroma: Plane | None
    """(H, W, 2) Cb and Cr; None for grey."""
    alpha: Plane | None
    """(H, W) in [0, 1]; None for an image without alpha."""


class ImagePlanes:
    """An image split into planes: the caller reads luma, upscales it, and passes it back.

    Regions are split when they are read and bands joined when their luma arrives, so that no
    plane of a large image is ever held whole.
    """

    def __init__(self, image: Image | Rows) -> None:
        """Check the range of floats, and fill in the colour of transparent pixels.

        Args:
            image: one that `check_image` accepts: (H, W) or (H, W, 1) grey, (H, W, 2) grey and
                alpha, (H, W, 3) RGB or (H, W, 4) RGBA with straight alpha; uint8, uint16, or
                float32 in [0, 1]. `Rows` are checked when they are read.

        Raises:
            InputError: floats outside [0, 1].
        """
        self._like = self._pixels = image
        self._white = WHITE[image.dtype.name]
        self.shape = image.shape[:2]
        self._has_alpha = image.shape[2:] in ((2,), (4,))
        if isinstance(image, Rows):
            return
        if image.dtype.name == "float32":
            _check_range(image)
        if self._has_alpha and image[..., -1].min() < self._white:
            pixels = image.astype(np.float32) * np.float32(1 / self._white)
            colour = bleed(pixels[..., :-1], np.ascontiguousarray(pixels[..., -1]))
            self._pixels = np.concatenate([colour, pixels[..., -1:]], axis=2)
            self._white = 1.0

    def __getitem__(self, region: tuple[slice, slice]) -> Plane:
        """Return the luma (h, w) of a region, in [0, 1], the network's input."""
        return self._take_apart(*region).luma

    @property
    def luma(self) -> Plane:
        """Luma (H, W) of the whole image, in [0, 1]."""
        return self[:, :]

    def floats(self) -> Iterator[Plane]:
        """Yield the image itself as float32 in [0, 1], in bands of rows from top to bottom."""
        height, width = self.shape
        step = max(1, BAND_PIXELS // width)
        for start in range(0, height, step):
            yield self._floats(slice(start, min(start + step, height)), slice(None))

    def with_luma(self, bands: Iterable[Plane], dtype: DTypeLike | None = None) -> Iterator[Image]:
        """Yield the upscaled image, in bands of rows from top to bottom.

        Chroma and alpha are upscaled here, bicubically.

        Args:
            bands: upscaled luma (rows, sW), together (sH, sW); values outside [0, 1] are clipped.
            dtype: of the result: uint8, uint16 or float32; by default the image's.
        """
        height, width = self.shape
        top = 0
        for band in bands:
            scale = band.shape[1] // width
            step = max(1, BAND_PIXELS // band.shape[1])
            for start in range(0, band.shape[0], step):
                luma = band[start : start + step]
                first, last = top // scale, -(-(top + luma.shape[0]) // scale)
                around = slice(max(first - _MARGIN, 0), min(last + _MARGIN, height))
                above = top - scale * around.start
                yield self._put_together(
                    luma,
                    self._take_apart(around, slice(None)),
                    scale,
                    slice(above, above + luma.shape[0]),
                    self._like.dtype if dtype is None else dtype,
                )
                top += luma.shape[0]

    def _floats(self, rows: slice, columns: slice) -> Plane:
        region = self._pixels[rows, columns]
        if isinstance(self._pixels, Rows) and region.dtype.name == "float32":
            _check_range(region)
        pixels: Plane = region.astype(np.float32)
        if self._white != 1:
            pixels *= np.float32(1 / self._white)
        return pixels

    def _take_apart(self, rows: slice, columns: slice) -> _Planes:
        pixels = self._floats(rows, columns)
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        alpha = None
        if self._has_alpha:
            alpha = np.ascontiguousarray(pixels[..., -1])
            pixels = pixels[..., :-1]
        if pixels.shape[2] == 1:
            return _Planes(np.ascontiguousarray(pixels[..., 0]), None, alpha)
        ycbcr: Plane = np.asarray(cv2.transform(pixels, FROM_RGB), np.float32)
        luma, chroma = (np.ascontiguousarray(ycbcr[..., part]) for part in (0, slice(1, 3)))
        return _Planes(luma, chroma, alpha)

    def _put_together(
        self, luma: Plane, planes: _Planes, scale: int, rows: slice, dtype: DTypeLike
    ) -> Image:
        """Join upscaled luma with the rows of the other planes that belong to it."""
        translucent = planes.alpha if planes.alpha is not None and planes.alpha.min() < 1 else None

        def enlarge(plane: Plane, alpha: Plane | None = None) -> Plane:
            return _enlarge(plane, scale, alpha)[rows]

        if translucent is not None:
            luma = respect_alpha(luma, planes.luma, translucent, enlarge)
        pixels = self._coloured(luma, planes, dtype, partial(enlarge, alpha=translucent))
        if planes.alpha is not None:
            alpha = quantized(enlarge(planes.alpha), dtype)
            pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
        shape = *pixels.shape[:2], *self._like.shape[2:]
        return pixels.reshape(shape).astype(dtype, copy=False)  # to the byte order of dtype

    def _coloured(
        self, luma: Plane, planes: _Planes, dtype: DTypeLike, enlarge: Callable[[Plane], Plane]
    ) -> Image:
        if planes.chroma is None:
            return quantized(luma, dtype)[..., None]
        dtype = np.dtype(dtype)
        # The conversion is linear, so the share of chroma in R, G and B is enlarged instead of
        # chroma, and luma, which has the same weight in each, is added to it.
        white = WHITE[dtype.name]
        added = enlarge(np.asarray(cv2.transform(planes.chroma, white * TO_RGB[:, 1:]), np.float32))
        grey = cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB, dst=_memory("grey", (*luma.shape, 3)))
        depth = _DEPTHS[dtype.name]
        pixels = np.asarray(cv2.addWeighted(added, 1, grey, white * TO_RGB[0, 0], 0, dtype=depth))
        return pixels if dtype.name != "float32" else np.clip(pixels, 0, 1, out=pixels)


def _memory(name: str, shape: tuple[int, ...]) -> Plane:
    """Return a plane in memory that this thread keeps under a name; a later call reuses it."""
    size = math.prod(shape)
    flat: Plane | None = getattr(_kept, name, None)
    if flat is None or flat.size < size:
        flat = np.empty(size, np.float32)
        setattr(_kept, name, flat)
    return flat[:size].reshape(shape)


def quantized(pixels: Plane, dtype: DTypeLike) -> Image:
    """Return floats, clipped to [0, 1], as uint8, uint16 or float32."""
    dtype = np.dtype(dtype)
    if dtype.name == "float32":
        return np.clip(pixels, 0, 1)
    flat = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    white, depth = WHITE[dtype.name], _DEPTHS[dtype.name]
    levels = cv2.multiply(flat, white, dtype=depth)  # type: ignore[call-overload]
    return np.asarray(levels, dtype).reshape(pixels.shape)


def check_image(image: Image | Rows) -> None:
    """Refuse an image that `ImagePlanes` cannot split, by its type, shape and dtype alone.

    Raises:
        InputError: not an array, an invalid shape or dtype, or no pixels.
    """
    if not isinstance(image, np.ndarray | Rows):
        raise InputError(f"an image is a NumPy array, not {type(image).__name__}; convert it.")
    check_shape(image.shape)
    if image.dtype.name not in WHITE:
        raise InputError(f"pixels are {image.dtype}; convert them to uint8, uint16 or float32.")


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse the shape of an array that is not an image.

    Raises:
        InputError: neither (H, W) nor (H, W, C) with one to four channels, or no pixels.
    """
    if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (2,), (3,), (4,)):
        raise InputError(
            f"an image of shape {shape} is neither (H, W) nor (H, W, 1 to 4 channels); reshape it."
        )
    if min(shape) < 1:
        raise InputError(f"an image of shape {shape} has no pixels; use a larger one.")


def _check_range(pixels: Image) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"float pixels range from {low!r} to {high!r}; scale them to 0..1, without NaN."
        )


def _enlarge(plane: Plane, scale: int, alpha: Plane | None = None) -> Plane:
    """Enlarge a plane bicubically, premultiplied by alpha if it is given.

    The kernel is OpenCV's (a = -0.75), for speed; `imresize` has the kernel of the protocol.
    """
    size = (scale * plane.shape[1], scale * plane.shape[0])
    if plane.ndim == 3 and alpha is None:
        out = _memory("enlarged", (*size[::-1], plane.shape[2]))
        return np.asarray(cv2.resize(plane, size, dst=out, interpolation=cv2.INTER_CUBIC))
    straight = cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC)
    if alpha is None:
        return np.asarray(straight, np.float32)
    opacity = cv2.resize(alpha, size, interpolation=cv2.INTER_CUBIC)
    trailing = (..., *[None] * (plane.ndim - 2))
    weighted = cv2.resize(plane * alpha[trailing], size, interpolation=cv2.INTER_CUBIC)
    visible = opacity[trailing] > VISIBLE
    quotient = weighted / np.where(visible, opacity[trailing], 1)
    return np.asarray(np.where(visible, quotient, straight), np.float32)
