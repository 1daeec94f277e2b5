"""Training loss: a pixel loss and SSIM over the supervised images."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hfdn_deploy.bench import SSIM_SIGMA, SSIM_WINDOW
from training.recipe import Recipe

# Keeps the logarithm of a perfect patch finite, at 50 dB.
SMALLEST_ERROR = 1e-5


def loss(images: list[Tensor], target: Tensor, recipe: Recipe) -> Tensor:
    """Return the weighted sum over the supervised images of pixel loss + ssim · (1 - SSIM).

    The pixel loss "psnr" is that of L. Chen et al., "Simple baselines for image restoration",
    2022, up to a constant factor. PSNR is averaged over images, so each patch contributes its own
    logarithm.

    Args:
        images: the supervised images, each (N, 1, H, W) in [0, 1]; the last is the output.
        target: the original (N, 1, H, W).
        recipe: the pixel loss and the weights.

    Returns:
        A scalar.
    """
    total = torch.zeros((), device=target.device)
    for image in images:
        if recipe.pixel == "l1":
            term = F.l1_loss(image.float(), target)
        else:
            errors = F.mse_loss(image.float(), target, reduction="none").mean((1, 2, 3))
            term = torch.log(errors + SMALLEST_ERROR).mean()
        if recipe.ssim:
            term = term + recipe.ssim * (1 - ssim(image.float(), target))
        total = total + (1.0 if image is images[-1] else recipe.auxiliary) * term
    return total


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean structural similarity of (N, 1, H, W) images in [0, 1], differentiable.

    Window and constants are those of `hfdn_deploy.bench.suite.quality.ssim`, for a peak of 1.
    """
    distance = torch.arange(SSIM_WINDOW, device=a.device) - SSIM_WINDOW // 2
    row = torch.exp(-(distance**2) / (2 * SSIM_SIGMA**2))
    row = row / row.sum()

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, row.view(1, 1, 1, -1)), row.view(1, 1, -1, 1))

    c1, c2 = 0.01**2, 0.03**2
    # In bfloat16 the variances would be lost to rounding.
    with torch.autocast(a.device.type, enabled=False):
        ma, mb = blur(a), blur(b)
        va, vb, vab = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
        luminance = (2 * ma * mb + c1) / (ma * ma + mb * mb + c1)
        return (luminance * (2 * vab + c2) / (va + vb + c2)).mean()
