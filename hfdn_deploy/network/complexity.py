"""Parameters and multiply-accumulates of a network, in the two conventions in use.

*Paper's convention*: the HR image measures 1080×720; a convolution or transposed convolution
counts weights and bias once per output pixel; global pooling counts its input elements.
*True MACs*: the HR image measures 1280×720; weights only, and a transposed convolution once per
input pixel, as it is computed. The fixed bicubic base is free in both.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PAPER_HR_PIXELS = 1080 * 720
TRUE_HR_PIXELS = 1280 * 720


@dataclass(frozen=True)
class Complexity:
    """The cost of a network."""

    parameters: int
    macs_paper: int
    """Multiply-accumulates in the paper's convention (1080×720 HR)."""
    macs_true: int
    """Multiply-accumulates actually computed for the weights (1280×720 HR)."""


def count_complexity(network: nn.Module, scale: int) -> Complexity:
    """Count parameters and MACs of `network`, which maps (1, 1, H, W) to (1, 1, sH, sW)."""
    network = copy.deepcopy(network).to("meta")
    paper, _ = _macs(network, PAPER_HR_PIXELS // scale**2)
    _, true = _macs(network, TRUE_HR_PIXELS // scale**2)
    return Complexity(sum(p.numel() for p in network.parameters()), paper, true)


def _macs(network: nn.Module, lr_pixels: int) -> tuple[int, int]:
    """Return MACs (paper's convention, true) for an input of `lr_pixels` pixels."""
    paper = true = 0

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal paper, true
        pixels_in, pixels_out = (t.shape[-2] * t.shape[-1] for t in (inputs[0], output))
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            biases = 0 if layer.bias is None else layer.bias.numel()
            computed_at = pixels_in if isinstance(layer, nn.ConvTranspose2d) else pixels_out
            paper += (layer.weight.numel() + biases) * pixels_out
            true += layer.weight.numel() * computed_at
        else:
            paper += inputs[0].numel()

    counted = (nn.Conv2d, nn.ConvTranspose2d, nn.AdaptiveAvgPool2d)
    handles = [m.register_forward_hook(hook) for m in network.modules() if isinstance(m, counted)]
    network(torch.empty(1, 1, 1, lr_pixels, device="meta"))
    for handle in handles:
        handle.remove()
    return paper, true
