"""Image arrays to the planes that are upscaled, and back.

The network sees luma alone, on [0, 1]. For colour that is BT.601 studio range (16/255 to
235/255), as in training; a grey image is its own luma.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import Image

Plane = NDArray[np.float32]

# The largest value of a dtype, which stands for 1.0.
WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}

# Rows Y, Cb, Cr on the 8-bit scale for R, G, B in [0, 1] (ITU-R BT.601; MATLAB's rgb2ycbcr).
YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
YCBCR_OFFSET = np.array([16.0, 128.0, 128.0])

# Pixels more transparent than this show nothing.
_VISIBLE = 1 / 255

# Pixels more transparent than this give way to the colour of their neighbours.
_OPAQUE_ENOUGH = 0.1


@dataclass(frozen=True)
class Planes:
    """An image taken apart; all planes are float32."""

    luma: Plane
    """(H, W), in [0, 1]: what the network is to read."""
    chroma: Plane | None
    """(H, W, 2) Cb and Cr, or None for grey."""
    alpha: Plane | None
    """(H, W) in [0, 1], or None where there is none."""


def split(image: Image) -> Planes:
    """Take an image apart into luma, chroma and alpha.

    Args:
        image: (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4)
            RGBA with straight alpha; uint8, uint16, or float32 in [0, 1].

    Raises:
        InputError: another shape or dtype, no pixel, or floats outside [0, 1].
    """
    check(image)
    pixels = np.asarray(image).reshape(*image.shape[:2], -1).astype(np.float32)
    if image.dtype.name == "float32":
        _check_range(pixels)
    pixels *= np.float32(1 / WHITE[image.dtype.name])
    alpha = None
    if pixels.shape[2] in (2, 4):
        alpha = np.ascontiguousarray(pixels[..., -1])
        pixels = _bleed(pixels[..., :-1], alpha)
    if pixels.shape[2] == 1:
        return Planes(np.ascontiguousarray(pixels[..., 0]), None, alpha)
    matrix = np.column_stack([YCBCR, YCBCR_OFFSET]) / 255
    ycbcr = cv2.transform(np.ascontiguousarray(pixels), matrix)
    return Planes(np.ascontiguousarray(ycbcr[..., 0]), np.ascontiguousarray(ycbcr[..., 1:]), alpha)


def merge(luma: Plane, planes: Planes, like: Image) -> Image:
    """Put an upscaled luma plane and the low-resolution image's other planes together.

    Args:
        luma: (sH, sW) in [0, 1]; values beyond are clipped.
        planes: what `split` gave; chroma and alpha are upscaled here, bicubically.
        like: the low-resolution image, for the dtype and the channels.
    """
    height, width = luma.shape
    translucent = planes.alpha if planes.alpha is not None and planes.alpha.min() < 1 else None
    if translucent is not None:
        luma = _respect_alpha(luma, planes.luma, translucent)
    if planes.chroma is None:
        pixels = luma[..., None]
    else:
        chroma = _enlarge(planes.chroma, luma.shape, translucent)
        inverse = np.linalg.inv(YCBCR / 255)
        matrix = np.column_stack([inverse, -inverse @ (YCBCR_OFFSET / 255)])
        pixels = np.asarray(cv2.transform(cv2.merge([luma, *cv2.split(chroma)]), matrix))
    if planes.alpha is not None:
        alpha = _enlarge(planes.alpha, luma.shape)
        pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
    pixels = np.clip(pixels, 0, 1)
    if like.dtype.name != "float32":
        pixels *= np.float32(WHITE[like.dtype.name])
        np.rint(pixels, out=pixels)
    return pixels.astype(like.dtype, copy=False).reshape(height, width, *like.shape[2:])


def check(image: Image) -> None:
    """Refuse what `split` cannot take apart, without looking at a pixel.

    Raises:
        InputError: no array, another shape or dtype, or no pixel.
    """
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image is a NumPy array, not {type(image).__name__}; convert it.")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 2, 3, 4)):
        raise InputError(
            f"an image of shape {image.shape} is neither (H, W) nor (H, W, 1 to 4 channels)."
        )
    if 0 in image.shape:
        raise InputError(f"an image of shape {image.shape} has no pixel.")
    if image.dtype.name not in WHITE:
        raise InputError(f"pixels are {image.dtype}; convert them to uint8, uint16 or float32.")


def _check_range(pixels: Plane) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"float pixels run from {low!r} to {high!r}; scale them to 0..1, without NaN."
        )


def _enlarge(plane: Plane, shape: tuple[int, ...], alpha: Plane | None = None) -> Plane:
    """Bicubic enlargement to `shape`, premultiplied where there is alpha.

    OpenCV's kernel (a = -0.75), which is the fast one; the protocol's is in `imresize`.
    """
    size = (shape[1], shape[0])
    straight = cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC)
    if alpha is None:
        return np.asarray(straight, np.float32)
    opacity = cv2.resize(alpha, size, interpolation=cv2.INTER_CUBIC)
    trailing = (..., *[None] * (plane.ndim - 2))
    weighted = cv2.resize(plane * alpha[trailing], size, interpolation=cv2.INTER_CUBIC)
    visible = opacity[trailing] > _VISIBLE
    quotient = weighted / np.where(visible, opacity[trailing], 1)
    return np.asarray(np.where(visible, quotient, straight), np.float32)


def _respect_alpha(sr: Plane, lr: Plane, alpha: Plane) -> Plane:
    """The network's luma with edges of transparency as premultiplied resampling has them.

    The network sees straight luma and would sharpen an edge there that hardly shows, such as
    that of a faint shadow. Where alpha is even its detail counts in full, and less the more
    alpha varies among the visible pixels around.
    """
    window = np.ones((5, 5), np.uint8)
    least = cv2.erode(np.where(alpha < _OPAQUE_ENOUGH, np.float32(1), alpha), window)
    most = cv2.dilate(alpha, window)
    evenness = np.minimum(least / np.maximum(most, _VISIBLE), 1)
    evenness = cv2.resize(evenness, (sr.shape[1], sr.shape[0]))
    detail = sr - _enlarge(lr, sr.shape)
    return np.asarray(_enlarge(lr, sr.shape, alpha) + evenness * detail, np.float32)


def _bleed(colour: Plane, alpha: Plane) -> Plane:
    """Let the colour of visible pixels flow into the (nearly) transparent ones around.

    What lies under transparency is arbitrary, often black; resampling would draw it into the
    visible edge as a halo. The fill is the alpha-weighted (premultiplied) mean over the
    smallest pyramid cell that holds anything visible.
    """
    keep = np.minimum(alpha / _OPAQUE_ENOUGH, 1)[..., None]
    if keep.min() == 1:
        return colour
    weight = alpha[..., None]
    return np.asarray(keep * colour + (1 - keep) * _pyramid_mean(colour * weight, weight))


def _pyramid_mean(premultiplied: Plane, alpha: Plane) -> Plane:
    """Straight colour for every pixel: the mean of near visible ones, or of ever wider cells."""
    height, width = alpha.shape[:2]
    if height * width == 1:
        return np.asarray(premultiplied / np.maximum(alpha, 1e-6))
    half = ((width + 1) // 2, (height + 1) // 2)

    def shrink(plane: Plane) -> Plane:
        small = cv2.resize(plane, half, interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.float32).reshape(half[1], half[0], -1)

    wide = _pyramid_mean(shrink(premultiplied), shrink(alpha))
    wide = np.asarray(cv2.resize(wide, (width, height)), np.float32).reshape(height, width, -1)
    window = (5, 5)
    near = np.asarray(cv2.blur(premultiplied, window), np.float32).reshape(height, width, -1)
    weight = np.asarray(cv2.blur(alpha, window), np.float32).reshape(height, width, 1)
    visible = np.minimum(weight / _OPAQUE_ENOUGH, 1)
    return np.asarray(visible * near / np.maximum(weight, 1e-6) + (1 - visible) * wide)
