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

# Pixels more transparent than this give way to the colour of their neighbours.
_OPAQUE_ENOUGH = 0.1


@dataclass(frozen=True)
class Planes:
    """An image taken apart; all planes are float32."""

    luma: Plane
    """(H, W), in [0, 1]."""
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
    _check(image)
    pixels = image.reshape(*image.shape[:2], -1).astype(np.float32)
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
    if planes.chroma is None:
        pixels = luma[..., None]
    else:
        chroma = cv2.resize(planes.chroma, (width, height), interpolation=cv2.INTER_CUBIC)
        inverse = np.linalg.inv(YCBCR / 255)
        matrix = np.column_stack([inverse, -inverse @ (YCBCR_OFFSET / 255)])
        pixels = np.asarray(cv2.transform(cv2.merge([luma, *cv2.split(chroma)]), matrix))
    if planes.alpha is not None:
        alpha = cv2.resize(planes.alpha, (width, height), interpolation=cv2.INTER_CUBIC)
        pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
    pixels = np.clip(pixels, 0, 1)
    if like.dtype != np.float32:
        pixels *= np.float32(WHITE[like.dtype.name])
        pixels = np.rint(pixels, out=pixels).astype(like.dtype)
    return pixels.reshape(height, width, *like.shape[2:])


def _check(image: Image) -> None:
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 2, 3, 4)):
        raise InputError(
            f"an image of shape {image.shape} is neither (H, W) nor (H, W, 1 to 4 channels)."
        )
    if 0 in image.shape:
        raise InputError(f"an image of shape {image.shape} has no pixel.")
    if image.dtype.name not in WHITE:
        raise InputError(f"pixels are {image.dtype}; convert them to uint8, uint16 or float32.")
    if image.dtype == np.float32:
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"float pixels run from {low:g} to {high:g}; scale them to 0..1, without NaN."
            )


def _bleed(colour: Plane, alpha: Plane) -> Plane:
    """Let the colour of visible pixels flow into the (nearly) transparent ones around.

    What lies under transparency is arbitrary, often black; resampling would draw it into the
    visible edge as a halo. The fill is the alpha-weighted (premultiplied) mean over the
    smallest pyramid cell that holds anything visible.
    """
    keep = np.minimum(alpha / _OPAQUE_ENOUGH, 1)[..., None]
    if keep.all() and keep.min() == 1:
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
