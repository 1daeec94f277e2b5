"""RLFN (Kong et al., CVPR workshops 2022): residual blocks without distillation."""

from torch import Tensor, nn

from benchmarks.peers.rfdn import SpatialAttention
from hfdn_deploy.network import activate, conv3x3

WIDTH = 52
NARROW = 16
BLOCKS = 6


class LocalFeatureBlock(nn.Module):
    """Three 3×3 convolutions added to the input, then a 1×1 and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(WIDTH, WIDTH) for _ in range(3))
        self.fusion = nn.Conv2d(WIDTH, WIDTH, 1)
        self.attention = SpatialAttention(WIDTH, NARROW, coarse_convs=1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs:
            y = activate(conv(y))
        out: Tensor = self.attention(self.fusion(x + y))
        return out


class RLFN(nn.Module):
    """RGB (N, 3, H, W) to (N, 3, sH, sW), for at least 15×15 pixels."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.first = conv3x3(3, WIDTH)
        self.blocks = nn.Sequential(*(LocalFeatureBlock() for _ in range(BLOCKS)))
        self.smooth = conv3x3(WIDTH, WIDTH)
        self.last = conv3x3(WIDTH, 3 * scale**2)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, lr: Tensor) -> Tensor:
        first = self.first(lr)
        image: Tensor = self.shuffle(self.last(first + self.smooth(self.blocks(first))))
        return image
