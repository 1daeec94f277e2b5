"""The protocol of the published super-resolution tables: luma, degradation, PSNR, SSIM.

All luma here is BT.601 studio range on the 8-bit scale: black 16, white 235, peak 255.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import Image, cv2, find_images, imresize, read_image
from hfdn_deploy.ycbcr import YCBCR

PEAK = 255.0
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
# Leaves a window for SSIM at every scale, after cropping to a multiple and cutting the border.
MINIMUM_SIDE = SSIM_WINDOW + 3 * 4


def luma8(image: Image) -> NDArray[np.uint8]:
    """Return luma of an 8-bit image: colour is converted and rounded, grey is kept.

    Args:
        image: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; alpha is
            ignored.

    Raises:
        InputError: the image does not have 8 bits.
    """
    if image.dtype != np.uint8:
        raise InputError(f"the protocol is for 8-bit images, not {image.dtype}; convert them.")
    if image.ndim == 2 or image.shape[2] == 2:
        return image.reshape(*image.shape[:2], -1)[..., 0].astype(np.uint8)
    luma = 16 + image[..., :3].astype(np.float64) @ np.array(YCBCR[0]) / PEAK
    return to_levels(luma)


def crop_to_multiple(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Cut (H, W, ...) at the bottom and right until both sides are multiples of `scale`."""
    height, width = (side - side % scale for side in image.shape[:2])
    return image[:height, :width]


def degrade(hr: NDArray[np.uint8], scale: int) -> NDArray[np.float64]:
    """Return the low-resolution luma of the published tables: antialiased bicubic, not rounded.

    Args:
        hr: (H, W) luma 0..255, both sides multiples of `scale`.

    Returns:
        (H / scale, W / scale) luma, which may overshoot 0..255 slightly.
    """
    return imresize(hr, 1 / scale)


def to_levels(luma: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round luma on the 8-bit scale to whole levels and clip to 0..255."""
    return np.clip(np.round(luma), 0, PEAK).astype(np.uint8)


def psnr(a: Image, b: Image, border: int = 0) -> float:
    """Return the PSNR in dB of two (H, W) images 0..255, with `border` pixels cut off.

    Peak signal-to-noise ratio: 10 log10(255² / mean squared error); infinite for equal images.
    """
    difference = _inner(a, border) - _inner(b, border)
    error = float(np.mean(difference**2))
    return float("inf") if error == 0 else 10 * float(np.log10(PEAK**2 / error))


def ssim(a: Image, b: Image, border: int = 0) -> float:
    """Return the structural similarity (mean over the image) of two (H, W) images 0..255.

    Wang et al., "Image quality assessment: from error visibility to structural similarity",
    2004: Gaussian window 11×11 with σ = 1.5, K1 = 0.01, K2 = 0.03, only whole windows count.

    Raises:
        InputError: the images inside the border are smaller than the window.
    """
    x, y = _inner(a, border), _inner(b, border)
    if min(x.shape) < SSIM_WINDOW:
        raise InputError(
            f"SSIM needs {SSIM_WINDOW}×{SSIM_WINDOW} pixels inside the border; use larger images."
        )
    inner = slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2))

    def blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
        window = (SSIM_WINDOW, SSIM_WINDOW)
        return np.asarray(cv2.GaussianBlur(image, window, SSIM_SIGMA), np.float64)[inner, inner]

    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2 * vxy + c2) / (vx + vy + c2)
    return float(np.mean(luminance * structure))


def _inner(image: Image, border: int) -> NDArray[np.float64]:
    height, width = image.shape
    return image[border : height - border, border : width - border].astype(np.float64)


def load_luma_set(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Return every image of a folder as 8-bit luma (H, W), by file name, sorted.

    Raises:
        InputError: the folder has no image, or an image is unreadable, too small or not 8 bits.
    """
    paths = find_images(folder)
    if not paths:
        raise InputError(f"{folder} contains no image; name a folder of images.")
    images = {}
    for path in paths:
        image = read_image(path)
        try:
            images[path.name] = luma8(image)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if min(images[path.name].shape) < MINIMUM_SIDE:
            raise InputError(
                f"{path} has a side of less than {MINIMUM_SIDE} pixels; use larger images."
            )
    return images
