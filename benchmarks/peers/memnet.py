"""MemNet M6R6 (Tai et al., ICCV 2017): six memory blocks of six recursions, each reconstructed."""

import torch
from torch import Tensor, nn

from benchmarks.peers.drrn import PreActivation
from hfdn_deploy.network import BicubicUpscale, conv3x3

WIDTH = 64
BLOCKS = 6
RECURSIONS = 6


class MemoryBlock(nn.Module):
    """One residual unit applied six times, and a 1×1 gate over all results and all memories.

    The recursions share two convolutions; each has its own normalisations.
    """

    def __init__(self, memories: int) -> None:
        """Build a block that follows `memories` kept features."""
        super().__init__()
        self.before_a = nn.ModuleList(PreActivation(WIDTH) for _ in range(RECURSIONS))
        self.before_b = nn.ModuleList(PreActivation(WIDTH) for _ in range(RECURSIONS))
        self.conv_a = conv3x3(WIDTH, WIDTH)
        self.conv_b = conv3x3(WIDTH, WIDTH)
        inputs = (RECURSIONS + memories) * WIDTH
        self.before_gate = PreActivation(inputs)
        self.gate = nn.Conv2d(inputs, WIDTH, 1)

    def forward(self, memories: list[Tensor]) -> Tensor:
        x = memories[-1]
        results = []
        for before_a, before_b in zip(self.before_a, self.before_b, strict=True):
            x = x + self.conv_b(before_b(self.conv_a(before_a(x))))
            results.append(x)
        out: Tensor = self.gate(self.before_gate(torch.cat([*results, *memories], 1)))
        return out


class MemNet(nn.Module):
    """Luma (N, 1, H, W) to (N, 1, sH, sW), on the bicubic image.

    One shared convolution turns each block's output into an image; the result is the weighted sum
    of these images.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.base = BicubicUpscale(scale)
        self.before_first = PreActivation(1)
        self.first = conv3x3(1, WIDTH)
        self.blocks = nn.ModuleList(MemoryBlock(i + 1) for i in range(BLOCKS))
        self.before_last = nn.ModuleList(PreActivation(WIDTH) for _ in range(BLOCKS))
        self.last = conv3x3(WIDTH, 1)
        self.weights = nn.Parameter(torch.full((BLOCKS,), 1 / BLOCKS))

    def forward(self, lr: Tensor) -> Tensor:
        image: Tensor = self.base(lr)
        memories = [self.first(self.before_first(image))]
        for block in self.blocks:
            memories.append(block(memories))
        images = [
            weight * (image + self.last(before(memory)))
            for weight, before, memory in zip(
                self.weights.unbind(), self.before_last, memories[1:], strict=True
            )
        ]
        return torch.stack(images).sum(0)
