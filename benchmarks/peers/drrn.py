"""DRRN B1U25 (Tai et al., CVPR 2017): one residual unit applied 25 times."""

from torch import Tensor, nn
from torch.nn import functional as F

from hfdn_deploy.network import BicubicUpscale, conv3x3

WIDTH = 128
UNITS = 25


class PreActivation(nn.Module):
    """Batch normalisation and ReLU, applied before a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(x))


class DRRN(nn.Module):
    """Luma (N, 1, H, W) to (N, 1, sH, sW), on the bicubic image.

    All units share two convolutions; each has its own normalisations and adds to the block's
    first features.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.base = BicubicUpscale(scale)
        self.before_first = PreActivation(1)
        self.first = conv3x3(1, WIDTH)
        self.before_a = nn.ModuleList(PreActivation(WIDTH) for _ in range(UNITS))
        self.before_b = nn.ModuleList(PreActivation(WIDTH) for _ in range(UNITS))
        self.conv_a = conv3x3(WIDTH, WIDTH)
        self.conv_b = conv3x3(WIDTH, WIDTH)
        self.before_last = PreActivation(WIDTH)
        self.last = conv3x3(WIDTH, 1)

    def forward(self, lr: Tensor) -> Tensor:
        image: Tensor = self.base(lr)
        first = x = self.first(self.before_first(image))
        for before_a, before_b in zip(self.before_a, self.before_b, strict=True):
            x = first + self.conv_b(before_b(self.conv_a(before_a(x))))
        out: Tensor = image + self.last(self.before_last(x))
        return out
