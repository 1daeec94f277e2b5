"""Recipes: the numbers that define a training run, and named sets of them."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Loss, batches, optimiser and schedule of a run; the defaults are the paper's."""

    steps: int = 1_000_000
    """Optimiser steps if `minutes` is None. The paper does not give a number."""
    minutes: float | None = None
    """Minutes of training; if set, the schedule follows the clock."""
    batch: int = 16
    """Patches per step."""
    patch: int = 96
    """Side of an HR patch in pixels; a multiple of the scale."""
    sizes: tuple[float, ...] = (1.0,)
    """Relative sizes at which each training image is used."""
    optimiser: str = "adam"
    """Either "adam" or "soap"."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the optimiser's first and second moment."""
    rate: float = 1e-4
    """Highest learning rate."""
    final_rate: float = 1e-5
    """Learning rate at the end, reached along a half cosine."""
    warmup: float = 0.0
    """Share of the run, from its start, in which the rate rises linearly."""
    clip: float = math.inf
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the exponential moving average of the weights, which is evaluated and saved."""
    auxiliary: float = 1.0
    """Weight of the loss on each supervised image before the last, whose weight is 1."""
    ssim: float = 1.0
    """Weight of 1 - SSIM, added to the pixel loss."""
    pixel: str = "l1"
    """The pixel loss: "l1", or "psnr" for the logarithm of each patch's mean squared error."""
    bf16: bool = True
    """Compute the network in bfloat16; weights, loss and optimiser stay fp32."""
    seed: int = 0
    """Seed of the initial weights and of the batches."""

    def done(self, step: int, seconds: float) -> float:
        """Return the completed share of the run, 1 or more at its end.

        Args:
            step: steps taken by the run.
            seconds: time since this process began training.
        """
        return step / self.steps if self.minutes is None else seconds / (60 * self.minutes)

    def rate_at(self, done: float) -> float:
        """Return the learning rate after the share `done` (0 to 1) of the run."""
        if done < self.warmup:
            # Not zero, so that the first step has an effect.
            return self.rate * max(done / self.warmup, 0.01)
        decayed = (done - self.warmup) / (1 - self.warmup)
        return (
            self.final_rate + (self.rate - self.final_rate) * (1 + math.cos(math.pi * decayed)) / 2
        )


FAST = replace(
    Recipe(),
    steps=6000,
    # Smaller copies have finer detail and less noise of JPEG files (Dong et al., "Accelerating the
    # Super-Resolution Convolutional Neural Network", ECCV 2016).
    sizes=(1.0, 0.9, 0.8, 0.7, 0.6),
    optimiser="soap",
    betas=(0.95, 0.95),
    rate=2e-3,
    warmup=0.05,
    clip=0.5,
    auxiliary=0.1,
    ssim=0.0,
)

RECIPES = {
    "paper": Recipe(),
    "fast": FAST,
    # For weights from "fast" (--init).
    "finish": replace(FAST, steps=1500, rate=4e-4, pixel="psnr"),
}
