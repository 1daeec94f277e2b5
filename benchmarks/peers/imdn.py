"""IMDN (Hui et al., ACM MM 2019): information multi-distillation."""

import torch
from torch import Tensor, nn

from hfdn_deploy.network import activate, conv3x3

WIDTH = 64
KEPT = WIDTH // 4
"""Channels that each step of a block sets aside."""
BLOCKS = 6


class ContrastAttention(nn.Module):
    """A gate for each channel, computed from the channel's mean plus its standard deviation."""

    def __init__(self, width: int, narrow: int) -> None:
        """Build the attention for `width` channels, with a bottleneck of `narrow` channels."""
        super().__init__()
        self.squeeze = nn.Conv2d(width, narrow, 1)
        self.excite = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        deviation = (x - mean).square().mean((2, 3), keepdim=True).sqrt()
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean + deviation))))
        return x * gate


class MultiDistillationBlock(nn.Module):
    """Four 3×3 convolutions, of which three set channels aside; attention; a 1×1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv3x3(WIDTH, WIDTH)
        self.conv2 = conv3x3(WIDTH - KEPT, WIDTH)
        self.conv3 = conv3x3(WIDTH - KEPT, WIDTH)
        self.conv4 = conv3x3(WIDTH - KEPT, KEPT)
        self.attention = ContrastAttention(WIDTH, WIDTH // 16)
        self.fusion = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        rest = x
        for conv in (self.conv1, self.conv2, self.conv3):
            aside, rest = torch.split(activate(conv(rest)), [KEPT, WIDTH - KEPT], 1)
            kept.append(aside)
        features = torch.cat([*kept, self.conv4(rest)], 1)
        out: Tensor = x + self.fusion(self.attention(features))
        return out


class IMDN(nn.Module):
    """RGB (N, 3, H, W) to (N, 3, sH, sW)."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.first = conv3x3(3, WIDTH)
        self.blocks = nn.ModuleList(MultiDistillationBlock() for _ in range(BLOCKS))
        self.fusion = nn.Conv2d(BLOCKS * WIDTH, WIDTH, 1)
        self.smooth = conv3x3(WIDTH, WIDTH)
        self.last = conv3x3(WIDTH, 3 * scale**2)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, lr: Tensor) -> Tensor:
        first = x = self.first(lr)
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        fused = activate(self.fusion(torch.cat(features, 1)))
        image: Tensor = self.shuffle(self.last(first + self.smooth(fused)))
        return image
