"""SAFMN (Sun et al., ICCV 2023): features modulated by themselves at four resolutions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfdn_deploy.network import conv3x3

WIDTH = 36
LEVELS = 4
BLOCKS = 8


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH, 1, 1))
        self.bias = nn.Parameter(torch.zeros(WIDTH, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        deviation = (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight * (centred / deviation) + self.bias


class FeatureModulation(nn.Module):
    """Four groups of channels at full, half, quarter and eighth size, multiplied by the input.

    ONNX has no operator for the authors' adaptive pooling. Pooling by an integer factor is equal
    if height and width are multiples of 8; otherwise it leaves out the last pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        part = WIDTH // LEVELS
        self.depthwise = nn.ModuleList(
            nn.Conv2d(part, part, 3, padding=1, groups=part) for _ in range(LEVELS)
        )
        self.fusion = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for level, (conv, part) in enumerate(zip(self.depthwise, x.chunk(LEVELS, 1), strict=True)):
            if level == 0:
                parts.append(conv(part))
            else:
                small = conv(F.max_pool2d(part, 2**level))
                parts.append(F.interpolate(small, x.shape[-2:], mode="nearest"))
        return x * F.gelu(self.fusion(torch.cat(parts, 1)))


class Block(nn.Module):
    """Feature modulation and a convolutional channel mixer, each added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(), ChannelNorm()
        self.modulation = FeatureModulation()
        self.expand = conv3x3(WIDTH, 2 * WIDTH)
        self.reduce = nn.Conv2d(2 * WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.modulation(self.norm1(x))
        out: Tensor = x + self.reduce(F.gelu(self.expand(self.norm2(x))))
        return out


class SAFMN(nn.Module):
    """RGB (N, 3, H, W) to (N, 3, sH, sW), for at least 8×8 pixels."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.first = conv3x3(3, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.last = conv3x3(WIDTH, 3 * scale**2)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, lr: Tensor) -> Tensor:
        first = self.first(lr)
        image: Tensor = self.shuffle(self.last(first + self.blocks(first)))
        return image
