"""Transparency: the colour under it, and the luma at its edges."""

from collections.abc import Callable

import cv2
import numpy as np

from hfdn_deploy.images.rows import Plane

# Pixels more transparent than this show nothing.
VISIBLE = 1 / 255

# Pixels more transparent than this give way to the colour of their neighbours.
_OPAQUE_ENOUGH = 0.1


def respect_alpha(
    sr: Plane, lr: Plane, alpha: Plane, enlarge: Callable[[Plane, Plane | None], Plane]
) -> Plane:
    """The network's luma with edges of transparency as premultiplied resampling has them.

    The network sees straight luma and would sharpen an edge there that hardly shows, such as
    that of a faint shadow. Where alpha is even its detail counts in full, and less the more
    alpha varies among the visible pixels around.
    """
    window = np.ones((5, 5), np.uint8)
    least = cv2.erode(np.where(alpha < _OPAQUE_ENOUGH, np.float32(1), alpha), window)
    most = cv2.dilate(alpha, window)
    evenness = np.minimum(least / np.maximum(most, VISIBLE), 1)
    detail = sr - enlarge(lr, None)
    even = np.clip(enlarge(evenness, None), 0, 1)
    return np.asarray(enlarge(lr, alpha) + even * detail, np.float32)


def bleed(colour: Plane, alpha: Plane) -> Plane:
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
