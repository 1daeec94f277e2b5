"""TSCN (Hui et al., ICPR 2018): a coarse full-size image that is then refined."""

import torch
from torch import Tensor, nn

from hfdn_deploy.network import activate, conv3x3

WIDTH = 64
NARROW = 48
MODULES = 4
REFINEMENTS = 3

# Kernel, stride and padding of the transposed convolution, by scale.
DECONVOLUTION = {2: (4, 2, 1), 3: (5, 3, 1), 4: (8, 4, 2)}


class FusionModule(nn.Module):
    """Multi-path information fusion: a 1×1 over the input and the outputs of both halves."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (self._half() for _ in range(2))
        self.fusion = nn.Conv2d(3 * WIDTH, WIDTH, 1)

    @staticmethod
    def _half() -> nn.Sequential:
        grouped = nn.Conv2d(NARROW, NARROW, 3, padding=1, groups=4)
        convs = (conv3x3(WIDTH, NARROW), grouped, conv3x3(NARROW, WIDTH))
        return nn.Sequential(*(layer for conv in convs for layer in (conv, nn.LeakyReLU(0.05))))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        fused: Tensor = self.fusion(torch.cat([x, first, self.second(first)], 1))
        return activate(fused)


class Refinement(nn.Module):
    """A grouped and a plain 3×3 convolution, added to half of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=8)
        self.plain = conv3x3(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x + activate(self.plain(activate(self.grouped(x))))


class TSCN(nn.Module):
    """Luma (N, 1, H, W) to (N, 1, sH, sW), without a bicubic base."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.first = conv3x3(1, WIDTH)
        self.second = conv3x3(WIDTH, WIDTH)
        self.fusions = nn.ModuleList(FusionModule() for _ in range(MODULES))
        self.fusion = nn.Conv2d((MODULES + 1) * WIDTH, WIDTH, 1)
        kernel, stride, padding = DECONVOLUTION[scale]
        self.upscale = nn.ConvTranspose2d(WIDTH, WIDTH, kernel, stride, padding)
        self.coarse = conv3x3(WIDTH, 1)
        self.refine_first = conv3x3(1, WIDTH)
        self.refine = nn.Sequential(*(Refinement() for _ in range(REFINEMENTS)))
        self.refine_last = conv3x3(WIDTH, 1)

    def forward(self, lr: Tensor) -> Tensor:
        features = [activate(self.second(activate(self.first(lr))))]
        for fuse in self.fusions:
            features.append(fuse(features[-1]))
        fused = activate(self.fusion(torch.cat(features, 1)))
        coarse: Tensor = self.coarse(activate(self.upscale(fused)))
        refined = self.refine(activate(self.refine_first(coarse)))
        image: Tensor = coarse + self.refine_last(refined)
        return image
