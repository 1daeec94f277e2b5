"""The paper's three ablation tables, with an equal, short budget for each network.

At such a budget most differences are smaller than those between seeds, so every difference is
printed with its uncertainty.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hfdn_deploy.network import HFDN, HFDNConfig
from training.data import Luma, Patches
from training.loop import Trainer, validate
from training.recipe import Recipe

# What the paper varies, by field of the configuration: the published PSNR by value, of which the
# last is the full HFDN's.
TABLES = {
    "attention": {"none": "34.16", "ca": "34.19", "sa": "34.17", "ca+sa": "34.21"},
    "dense": {
        "plain": "27.98 / 25.49", "concat": "28.02 / 25.53", "adaptive": "28.26 / 25.54"
    },
    "supervision": {
        "d": "27.87 / 25.48", "s+d": "28.00 / 25.52", "s+m+d": "28.26 / 25.54"
    },
}  # fmt: skip
# Scale and sets of the published figures.
PUBLISHED_ON = {
    "attention": "×3, Set5",
    "dense": "×4, Set14 / Urban100",
    "supervision": "×4, Set14 / Urban100",
}


def variants(scale: int) -> dict[HFDNConfig, str]:
    """Return the distinct networks of the three tables and a folder name for each."""
    full = HFDNConfig(scale)
    found = {full: "full"}
    for field, choices in TABLES.items():
        for choice in choices:
            found.setdefault(_changed(full, field, choice), f"{field}-{choice}")
    return found


def _changed(config: HFDNConfig, field: str, choice: str) -> HFDNConfig:
    return HFDNConfig.from_dict({**config.to_dict(), field: choice})


def run(
    scale: int,
    recipe: Recipe,
    seeds: int,
    patches: Patches,
    validation: Sequence[Luma],
    folder: Path,
    device: str,
) -> dict[HFDNConfig, list[float]]:
    """Train every variant with every seed and return PSNR in dB on the held-out images.

    Finished runs in `folder` are reused; other runs are resumed or started.
    """
    results: dict[HFDNConfig, list[float]] = {config: [] for config in variants(scale)}
    for seed in range(seeds):
        for config, name in variants(scale).items():
            torch.manual_seed(seed)
            seeded = replace(recipe, seed=seed)
            trainer = Trainer(HFDN(config).to(device), seeded, folder / f"{name}-{seed}")
            trainer.run(patches, validation, every=recipe.steps)
            results[config].append(validate(trainer.best, validation))
    return results


def markdown(results: Mapping[HFDNConfig, Sequence[float]]) -> str:
    """Return the tables in Markdown, beside the paper's figures.

    A difference beyond two standard errors counts as real. The standard error is estimated from the
    spread between seeds, pooled over all networks.
    """
    full = next(config for config in results if config == HFDNConfig(config.scale))
    seeds = len(results[full])
    deviation = math.nan
    if seeds > 1:
        deviation = math.sqrt(np.mean([np.var(values, ddof=1) for values in results.values()]))
    error = deviation * math.sqrt(2 / seeds)
    lines = []
    for field, choices in TABLES.items():
        lines += [
            f"| {field} | PSNR by seed | mean | against full | real? "
            f"| paper: {PUBLISHED_ON[field]} |",
            "|---|---|---|---|---|---|",
        ]
        for choice, published in choices.items():
            values = results[_changed(full, field, choice)]
            difference = float(np.mean(values) - np.mean(results[full]))
            real = "yes" if abs(difference) > 2 * error else "no"
            shown = f"{difference:+.3f} ± {2 * error:.3f}"
            if choice == getattr(full, field):
                shown = real = ""
            elif math.isnan(error):
                shown, real = f"{difference:+.3f}", "unknown: one seed"
            listed = ", ".join(f"{value:.3f}" for value in values)
            lines.append(
                f"| {choice} | {listed} | {np.mean(values):.3f} | {shown} | {real} | {published} |"
            )
        lines.append("")
    return "\n".join(lines)
