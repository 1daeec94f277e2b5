"""AWSRN-S (Wang et al., 2019): one local fusion block, and branches of 3×3 to 9×9 at the end."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

WIDTH = 32
EXPANDED = 128
UNITS = 4
KERNELS = (3, 5, 7, 9)
# Mean of the training images, from the authors' code.
RGB_MEAN = (0.4488, 0.4371, 0.4040)


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """Return a convolution with weight normalisation that keeps height and width."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    weight_norm(layer)
    return layer


class Unit(nn.Module):
    """A wide residual unit whose two summands have learned weights."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = conv(WIDTH, EXPANDED)
        self.reduce = conv(EXPANDED, WIDTH)
        self.weights = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        new, old = self.weights.unbind()
        out: Tensor = new * self.reduce(F.relu(self.expand(x))) + old * x
        return out


class AWSRN(nn.Module):
    """RGB (N, 3, H, W) to (N, 3, sH, sW)."""

    mean: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        outputs = 3 * scale**2
        self.register_buffer("mean", torch.tensor(RGB_MEAN).view(1, 3, 1, 1), persistent=False)
        self.first = conv(3, WIDTH)
        self.units = nn.ModuleList(Unit() for _ in range(UNITS))
        self.fusion = conv(UNITS * WIDTH, WIDTH)
        self.weights = nn.Parameter(torch.ones(2))
        self.branches = nn.ModuleList(conv(WIDTH, outputs, kernel) for kernel in KERNELS)
        self.branch_weights = nn.Parameter(torch.full((len(KERNELS),), 1 / len(KERNELS)))
        self.skip = conv(3, outputs)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, lr: Tensor) -> Tensor:
        lr = 2 * (lr - self.mean)
        first = x = self.first(lr)
        features = []
        for unit in self.units:
            x = unit(x)
            features.append(x)
        new, old = self.weights.unbind()
        x = new * self.fusion(torch.cat(features, 1)) + old * first
        image: Tensor = self.shuffle(self.skip(lr))
        for weight, branch in zip(self.branch_weights.unbind(), self.branches, strict=True):
            image = image + self.shuffle(weight * branch(x))
        return image / 2 + self.mean
