"""Transparency: the colour under it, and the luma at its edges."""

from collections.abc import Callable

import numpy as np

from hfdn_deploy.images.opencv import cv2
from hfdn_deploy.images.rows import Plane

# Below this alpha a pixel is invisible.
VISIBLE = 1 / 255

# Below this alpha a pixel takes on the colour of its neighbours.
_OPAQUE_ENOUGH = 0.1


def respect_alpha(
    sr: Plane, lr: Plane, alpha: Plane, enlarge: Callable[[Plane, Plane | None], Plane]
) -> Plane:
    """Return the network's luma, with premultiplied resampling at the edges of transparency.

    The network sees straight luma, so it would sharpen edges that are hardly visible, such as
    that of a faint shadow. Its detail is weighted by the evenness of alpha among the visible
    pixels around: fully where alpha is constant, less where alpha varies.

    Args:
        sr: the network's luma (sH, sW).
        lr: its input (H, W).
        alpha: (H, W) in [0, 1].
        enlarge: upscales a plane bicubically, premultiplied by the alpha given.
    """
    window = np.ones((5, 5), np.uint8)
    least = cv2.erode(np.where(alpha < _OPAQUE_ENOUGH, np.float32(1), alpha), window)
    most = cv2.dilate(alpha, window)
    evenness = np.minimum(least / np.maximum(most, VISIBLE), 1)
    detail = sr - enlarge(lr, None)
    even = np.clip(enlarge(evenness, None), 0, 1)
    return np.asarray(enlarge(lr, alpha) + even * detail, np.float32)


def bleed(colour: Plane, alpha: Plane) -> Plane:
    """Extend the colour of visible pixels into the (nearly) transparent ones around them.

    The colour under transparency is arbitrary, often black; resampling would mix it into the
    visible edge as a halo. The fill is the alpha-weighted (premultiplied) mean over the smallest
    pyramid cell with a visible pixel.

    Args:
        colour: (H, W, C), straight.
        alpha: (H, W) in [0, 1].
    """
    keep = np.minimum(alpha / _OPAQUE_ENOUGH, 1)[..., None]
    if keep.min() == 1:
        return colour
    weight = alpha[..., None]
    return np.asarray(keep * colour + (1 - keep) * _pyramid_mean(colour * weight, weight))


def _pyramid_mean(premultiplied: Plane, alpha: Plane) -> Plane:
    """Return straight colour (H, W, C): the mean of visible pixels nearby, else of wider cells."""
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
