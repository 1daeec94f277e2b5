"""How to train: every number that shapes a run, and the two named sets of them."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """A training schedule; the defaults are the paper's."""

    steps: int = 1_000_000
    """Optimiser steps. The paper does not say how many."""
    batch: int = 16
    """Patches a step."""
    patch: int = 96
    """Side of an HR patch in pixels; a multiple of the scale."""
    rate: float = 1e-4
    """Adam's highest learning rate."""
    final_rate: float = 1e-5
    """Adam's learning rate at the last step, reached along a half cosine."""
    warmup: int = 0
    """Steps over which the rate first rises linearly."""
    clip: float = math.inf
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the exponential moving average, which is what is evaluated and saved."""
    auxiliary: float = 1.0
    """Weight of the loss on each supervised image before the last, whose weight is 1."""
    ssim: float = 1.0
    """Weight of 1 - SSIM beside the pixel loss."""
    pixel: str = "l1"
    """The pixel loss: "l1", or "psnr", the logarithm of each patch's mean square error."""

    def rate_at(self, step: int) -> float:
        """The learning rate of step 0 … steps - 1."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - 1 - self.warmup)
        return self.final_rate + (self.rate - self.final_rate) * (1 + math.cos(math.pi * done)) / 2


FAST = replace(Recipe(), steps=6000, rate=1e-3, warmup=200, clip=0.5, auxiliary=0.1, ssim=0.0)

RECIPES = {
    "paper": Recipe(),
    "fast": FAST,
    # Behind "fast", from its weights (--init).
    "finish": replace(FAST, steps=1500, rate=2e-4, pixel="psnr"),
}
