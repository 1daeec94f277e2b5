"""LCSCNet (Yang et al., TIP 2019): units with a plain and a linearly compressed branch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfdn_deploy.network import BicubicUpscale, conv3x3

WIDTH = 64
UNITS = 8
# Output channels of the 3×3 convolutions, by block: 0.75 to 0.5 of the width.
NEW = (48, 46, 44, 42, 40, 38, 36, 34, 32)


class Unit(nn.Module):
    """A 3×3 convolution behind a ReLU, beside a 1×1 that compresses the input linearly."""

    def __init__(self, new: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(WIDTH, WIDTH - new, 1)
        self.conv = conv3x3(WIDTH, new)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.linear(x), self.conv(F.relu(x))], 1)


class LCSCNet(nn.Module):
    """Luma (N, 1, H, W) to (N, 1, sH, sW).

    One shared reconstruction at full size turns the output of each of the nine blocks into an
    image. The images are blended one after another with weights per pixel, and the bicubic image
    is added.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.base = BicubicUpscale(scale)
        self.first = conv3x3(1, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Unit(new) for _ in range(UNITS))) for new in NEW
        )
        self.reconstruct1 = conv3x3(WIDTH, WIDTH)
        self.reconstruct2 = conv3x3(WIDTH, WIDTH)
        self.reconstruct3 = conv3x3(WIDTH, 1)
        self.blend = nn.ModuleList(nn.Conv2d(2, 1, 1) for _ in NEW[1:])

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the image (N, 1, sH, sW) of features (N, 64, H, W)."""
        x = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        x = F.relu(self.reconstruct2(F.relu(self.reconstruct1(x))))
        image: Tensor = self.reconstruct3(x)
        return image

    def forward(self, lr: Tensor) -> Tensor:
        x = self.first(lr)
        images = []
        for block in self.blocks:
            x = block(x)
            images.append(self.reconstruct(x))
        image = images[0]
        for blend, other in zip(self.blend, images[1:], strict=True):
            weight = torch.sigmoid(blend(torch.cat([image, other], 1)))
            image = other + weight * (image - other)
        total: Tensor = image + self.base(lr)
        return total
