"""RFDN (Liu et al., ECCV workshops 2020): residual feature distillation."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers.imdn import ContrastAttention
from hfdn_deploy.network import activate, conv3x3


class SpatialAttention(nn.Module):
    """Enhanced spatial attention (ESA): a gate computed at a sixth of the size.

    Valid for sizes of at least 15×15.
    """

    def __init__(self, width: int, narrow: int, coarse_convs: int) -> None:
        """Build a gate for `width` channels, with `coarse_convs` convolutions of `narrow` ones."""
        super().__init__()
        self.reduce = nn.Conv2d(width, narrow, 1)
        self.fine = nn.Conv2d(narrow, narrow, 1)
        self.shrink = nn.Conv2d(narrow, narrow, 3, stride=2)
        self.coarse = nn.ModuleList(conv3x3(narrow, narrow) for _ in range(coarse_convs))
        self.expand = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        coarse = F.max_pool2d(self.shrink(reduced), 7, 3)
        for i, conv in enumerate(self.coarse):
            coarse = conv(coarse if i == 0 else torch.relu(coarse))
        coarse = F.interpolate(coarse, x.shape[-2:], mode="bilinear", align_corners=False)
        gate = torch.sigmoid(self.expand(coarse + self.fine(reduced)))
        return x * gate


class DistillationBlock(nn.Module):
    """Three shallow residual blocks, each beside a distilling 1×1, then attention.

    The paper's block uses IMDN's attention and adds its input; the enhanced block uses ESA and
    does not add its input.
    """

    def __init__(self, width: int, enhanced: bool) -> None:
        super().__init__()
        self.enhanced = enhanced
        kept = width // 2
        self.distil = nn.ModuleList(nn.Conv2d(width, kept, 1) for _ in range(3))
        self.refine = nn.ModuleList(conv3x3(width, width) for _ in range(3))
        self.last = conv3x3(width, kept)
        self.fusion = nn.Conv2d(4 * kept, width, 1)
        self.attention = (
            SpatialAttention(width, width // 4, coarse_convs=3)
            if enhanced
            else ContrastAttention(width, width // 4)
        )

    def forward(self, x: Tensor) -> Tensor:
        x_in, kept = x, []
        for distil, refine in zip(self.distil, self.refine, strict=True):
            kept.append(activate(distil(x)))
            x = activate(x + refine(x))
        features = torch.cat([*kept, activate(self.last(x))], 1)
        out: Tensor = self.attention(self.fusion(features))
        return out if self.enhanced else x_in + out


class RFDN(nn.Module):
    """RGB (N, 3, H, W) to (N, 3, sH, sW); the enhanced network needs at least 15×15 pixels."""

    def __init__(
        self, scale: int, width: int = 48, blocks: int = 6, enhanced: bool = False
    ) -> None:
        """Build the paper's network; the AIM 2020 winner is enhanced: width 50, 4 blocks."""
        super().__init__()
        self.first = conv3x3(3, width)
        self.blocks = nn.ModuleList(DistillationBlock(width, enhanced) for _ in range(blocks))
        self.fusion = nn.Conv2d(blocks * width, width, 1)
        self.smooth = conv3x3(width, width)
        self.last = conv3x3(width, 3 * scale**2)
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
