"""IDN (Hui et al., CVPR 2018): four blocks that distil part of their channels."""

import torch
from torch import Tensor, nn

from hfdn_deploy.network import BicubicUpscale, activate, conv3x3

WIDTH = 64
KEPT = 16
"""Channels that bypass the second half of a block."""
BLOCKS = 4
GROUPS = 4


def grouped(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3×3 convolution in four groups."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=GROUPS)


class DistillationBlock(nn.Module):
    """An enhancement unit of six 3×3 convolutions, and a 1×1 compression."""

    def __init__(self) -> None:
        super().__init__()
        self.upper = nn.ModuleList([conv3x3(WIDTH, 48), grouped(48, 32), conv3x3(32, WIDTH)])
        self.lower = nn.ModuleList([conv3x3(48, WIDTH), grouped(WIDTH, 48), conv3x3(48, 80)])
        self.compression = nn.Conv2d(WIDTH + KEPT, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.upper:
            y = activate(conv(y))
        kept, y = torch.split(y, [KEPT, WIDTH - KEPT], 1)
        for conv in self.lower:
            y = activate(conv(y))
        out: Tensor = self.compression(y + torch.cat([x, kept], 1))
        return activate(out)


class IDN(nn.Module):
    """Luma (N, 1, H, W) to (N, 1, sH, sW): a 17×17 transposed convolution, plus bicubic."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.base = BicubicUpscale(scale)
        self.first = conv3x3(1, WIDTH)
        self.second = conv3x3(WIDTH, WIDTH)
        self.blocks = nn.Sequential(*(DistillationBlock() for _ in range(BLOCKS)))
        # The authors' layer omits the last scale - 1 rows and columns.
        self.upscale = nn.ConvTranspose2d(WIDTH, 1, 17, scale, 8, output_padding=scale - 1)

    def forward(self, lr: Tensor) -> Tensor:
        x = activate(self.second(activate(self.first(lr))))
        image: Tensor = self.base(lr) + self.upscale(self.blocks(x))
        return image
