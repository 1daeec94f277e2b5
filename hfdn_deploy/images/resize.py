"""Bicubic resampling equal to MATLAB's `imresize`, which the published tables use.

Source: Keys, "Cubic convolution interpolation for digital image processing", 1981, with
a = -0.5. When shrinking, the kernel is stretched by the factor (antialiasing). Pixels beyond the
edge mirror those inside, with the edge pixel repeated.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic kernel with a = -0.5 at the distances `x` (any shape, in pixels)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=256)
def weights(
    length: int, out_length: int, scale: float, anchor: float = 0.5
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return source indices and weights, both (out_length, taps), for one axis.

    Args:
        length, out_length: pixels before and after.
        scale: factor > 0.
        anchor: position of the sample within a pixel; 0.5 is the centre.
    """
    stretch = max(1.0, 1 / scale)
    # Output i lies at source coordinate (i + anchor) / scale - anchor.
    centre = (np.arange(out_length) + anchor) / scale - anchor
    taps = int(np.ceil(4 * stretch)) + 2
    left = np.floor(centre - 2 * stretch).astype(np.int64)
    index = left[:, None] + np.arange(taps)
    weight = cubic((centre[:, None] - index) / stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    mirror = index % (2 * length)
    mirror = np.where(mirror < length, mirror, 2 * length - 1 - mirror)
    used = np.any(weight != 0, axis=0)
    return mirror[:, used], weight[:, used]


def imresize(image: NDArray[np.generic], scale: float) -> NDArray[np.float64]:
    """Resize an image by `scale`, as MATLAB's `imresize(image, scale)` on doubles does.

    Args:
        image: (H, W) or (H, W, C), any real dtype and range.
        scale: factor > 0; the output measures ceil(H * scale) by ceil(W * scale).

    Returns:
        float64 array in the input's range, neither rounded nor clipped.
    """
    result = np.asarray(image, dtype=np.float64)
    for axis in (0, 1):
        length = result.shape[axis]
        index, weight = weights(length, int(np.ceil(length * scale)), scale)
        moved = np.moveaxis(result, axis, 0)
        # One tap at a time: the gathered (out, taps, ...) array would be `taps` times larger.
        summed = np.zeros((len(index), *moved.shape[1:]))
        tail = (slice(None),) + (None,) * (moved.ndim - 1)
        for tap in range(index.shape[1]):
            summed += weight[:, tap][tail] * moved[index[:, tap]]
        result = np.moveaxis(summed, 0, axis)
    return np.ascontiguousarray(result)
